// Weights as the products of a forward pass read them, packed in each call or once for many.
#pragma once

#include "cpu/rnn/forward/plan.h"

namespace seqfast::cpu::SEQFAST_ISA {

// f(block, v, first, count): every vector of units whose weights this thread packs; the threads
// that share these units share the packing.
template <class Real, class Storage, class F>
void for_each_packed(const ForwardPlan<Real, Storage>& plan, const Place& place,
                     const ForwardShare<Real>& own, F&& f) {
    const Range part = part_of(own.blocks.size(), plan.team.row_groups, place.row_group);
    for (int64_t b = own.blocks.begin + part.begin; b < own.blocks.begin + part.end; ++b) {
        for (int64_t v = 0; v < plan.vectors_of(b); ++v) {
            const int64_t first = plan.first_unit(b) + v * kLanes<Real>;
            f(b, v, first, static_cast<int>(smaller(kLanes<Real>, plan.sizes.hidden_size - first)));
        }
    }
}

// One column of one vector of units; `weight` points at its first unit's row.
template <class Real, class Storage>
void pack_column(const ForwardPlan<Real, Storage>& plan, Real* panel, int64_t vectors,
                 int64_t vector, const Storage* weight, int64_t size, int count) {
    Real* to = panel + vector * kLanes<Real>;
    if (plan.paired) {
        pack_transposed_vector(to, vectors * kLanes<Real>, reinterpret_cast<const Real*>(weight),
                               size / 2, count);
    } else {
        pack_transposed_vector(to, vectors * kLanes<Real>, weight, size, count);
    }
}

// The weights of a block's vector of units, each column by pack(panel, vectors, vector, whether it
// is of weight_ih, its first row).
template <class Real, class Storage, class Pack>
void for_each_column(const ForwardPlan<Real, Storage>& plan, const ForwardShare<Real>& own,
                     int64_t block, int64_t v, int64_t first, Pack&& pack) {
    const CellColumns& columns = plan.columns;
    const int64_t units = plan.sizes.hidden_size, outputs = plan.sizes.output_size();
    const int64_t unit_vectors = plan.vectors_of(block);
    for (int c = 0; c < columns.gates && !plan.given_product; ++c) {
        pack(plan.panel(own.weights.weight_ih, block, columns.gates, 0, plan.sizes.input_size),
             unit_vectors * columns.gates, v * columns.gates + c, true,
             columns.input_gate(c) * units + first);
    }
    for (int g = 0; g < columns.recurrent; ++g) {
        pack(plan.panel(own.weights.weight_hh, block, columns.recurrent, 0, outputs),
             unit_vectors * columns.recurrent, v * columns.recurrent + g, false, g * units + first);
    }
    if (plan.traits.has_second_product) {
        const int last = columns.recurrent;
        pack(plan.panel(own.weights.weight_hh, block, 1, last, outputs), 1, 0, false,
             last * units + first);
    }
}

// `scales`: of weights in 8 bits.
template <class Real, class Storage>
void pack_weights(const ForwardPlan<Real, Storage>& plan, const Place& place,
                  const ForwardShare<Real>& own, const RnnScales* scales = nullptr) {
    const RnnWeights& weights = plan.args.weights[own.direction];
    const int64_t units = plan.sizes.hidden_size, outputs = plan.sizes.output_size();
    const auto* weight_ih = static_cast<const Storage*>(weights.weight_ih);
    const auto* weight_hh = static_cast<const Storage*>(weights.weight_hh);
    const auto* bias_ih = static_cast<const Storage*>(weights.bias_ih);
    const auto* bias_hh = static_cast<const Storage*>(weights.bias_hh);
    const int first_recurrent = plan.columns.first_recurrent;
    for_each_packed(plan, place, own, [&](int64_t b, int64_t v, int64_t first, int count) {
        for (int c = 0; c < plan.columns.columns; ++c) {
            Vector<Real> bias{};
            if (bias_ih && c < plan.columns.gates) {
                bias += load<Real>(bias_ih + plan.columns.input_gate(c) * units + first, count);
            }
            if (bias_hh && c >= first_recurrent) {
                bias += load<Real>(bias_hh + plan.columns.recurrent_gate(c) * units + first, count);
            }
            store(own.weights.bias + b * plan.width + (v * plan.columns.columns + c) * kLanes<Real>,
                  bias);
        }
        if (plan.direct) return;
        for_each_column(
            plan, own, b, v, first,
            [&](Real* panel, int64_t vectors, int64_t vector, bool is_input, int64_t row) {
                const int64_t size = is_input ? plan.sizes.input_size : outputs;
                if constexpr (std::is_same_v<Storage, float>) {
                    if (scales) {
                        const void* weight = is_input ? weights.weight_ih : weights.weight_hh;
                        const float* scale = is_input ? scales->weight_ih : scales->weight_hh;
                        pack_quads(panel + vector * kLanes<Real>, vectors * kLanes<Real>,
                                   static_cast<const int8_t*>(weight) + row * size, scale + row,
                                   size, count);
                        return;
                    }
                }
                pack_column(plan, panel, vectors, vector,
                            (is_input ? weight_ih : weight_hh) + row * size, size, count);
            });
    });
    if (!plan.sizes.proj_size || place.row_group != 0) return;
    const auto* weight_hr = static_cast<const Storage*>(weights.weight_hr);
    for (int64_t p = 0; p < own.projection.panels(); ++p) {
        const Range vectors = own.projection.panel(p);
        Real* panel = plan.projection_panel(own, p);
        for (int64_t v = vectors.begin; v < vectors.end; ++v) {
            pack_transposed_vector(
                panel + (v - vectors.begin) * kLanes<Real>, vectors.size() * kLanes<Real>,
                weight_hr + v * kLanes<Real> * units, units, own.projection.lanes_of(v));
        }
    }
}

// The plan of whoever packs: no rows, no steps.
template <class Real, class Storage, class F>
auto with_packing_plan(const RnnPackArgs& given, F&& f) {
    RnnForwardArgs args{};
    args.sizes = given.sizes;
    args.sizes.steps = args.sizes.batch = 1;
    args.options = given.options;
    args.weights[0] = given.weights[0];
    args.weights[1] = given.weights[1];
    args.packing = given.packing;
    args.packed = given.workspace;
    return f(ForwardPlan<Real, Storage>(args, 1));
}

inline size_t packed_size(const RnnPackArgs& args) {
    return with_storage(args.sizes.dtype, [&](auto storage) {
        using Storage = decltype(storage);
        return with_packing_plan<RealOf<Storage>, Storage>(
            args, [](const auto& plan) { return plan.packed_size; });
    });
}

inline void pack(const RnnPackArgs& args) {
    with_storage(args.sizes.dtype, [&](auto storage) {
        using Storage = decltype(storage);
        with_packing_plan<RealOf<Storage>, Storage>(args, [&](const auto& plan) {
            const Place place = place_of(0, {1, 1}, plan.sizes, {nullptr, nullptr});
            for (int64_t d = 0; d < plan.sizes.directions; ++d) {
                const bool is_int8 = args.packing == RnnPacking::int8;
                pack_weights(plan, place, plan.share_of(place, d),
                             is_int8 ? &args.scales[d] : nullptr);
            }
        });
    });
}

}  // namespace seqfast::cpu::SEQFAST_ISA
