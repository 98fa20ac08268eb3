// What the plans of both passes begin with: the layer, its cell, its masks.
#pragma once

#include "core/rnn.h"
#include "cpu/base/gemm.h"
#include "cpu/base/storage.h"
#include "cpu/rnn/cell_options.h"
#include "cpu/rnn/moments.h"
#include "cpu/rnn/team.h"

namespace seqfast::cpu::SEQFAST_ISA {

template <class Real, class Storage, class Args>
struct PassPlan {
    static constexpr int lanes = kLanes<Real>;

    const Args& args;
    RnnSizes sizes;
    const RnnOptions& options;
    CellTraits traits;
    CellColumns columns;
    CellOptions<Real> cell_options;
    MaskDrawer<Real> drawer;
    bool peephole;
    bool given_product;  // the input is the product with weight_ih
    Team team;
    Barrier* barriers;  // [1 + row_groups]; the first is everybody's
    size_t workspace;

    PassPlan(const Args& given, int threads)
        : args(given),
          sizes(given.sizes),
          options(given.options),
          traits(traits_of(given.options.cell)),
          columns(CellColumns::of(traits)),
          cell_options(cell_options_of<Real, Storage>(given.options,
                                                      given.weights[0].weight_peephole != nullptr)),
          drawer(args.options, sizes),
          peephole(given.weights[0].weight_peephole != nullptr),
          given_product(given.weights[0].weight_ih == nullptr) {
        sizes.threads = threads;
    }

    bool resets_at(int64_t time, int64_t row) const {
        return args.reset && args.reset[time * sizes.batch + row];
    }
    // Blocks of units kept of a step, the normalised product's behind the cell's.
    int64_t saved_columns() const {
        return traits.saved() + (options.layer_norm ? columns.gates : 0);
    }
    const Storage* peephole_weights(int64_t direction) const {
        return static_cast<const Storage*>(args.weights[direction].weight_peephole);
    }
    // Of all units.
    int64_t vectors() const { return ceil_div(sizes.hidden_size, lanes); }
};

}  // namespace seqfast::cpu::SEQFAST_ISA
