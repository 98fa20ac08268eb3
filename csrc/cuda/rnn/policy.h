// By which strategy a recurrence runs on a device, and how it is cut up: the one place that
// decides.
#pragma once

#include <algorithm>
#include <string>

#include "cuda/rnn/launch.h"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

// Whether a layer does what only kernels with options can.
inline bool needs_options(const GpuCall& call, const RnnOptions& options) {
    return call.extras || has_options(options);
}
// Calls use(family) with the family of the sequence kernels that take the layer.
template <class Use>
auto with_sequence_family(const GpuCall& call, const RnnOptions& options, const Use& use) {
    return SequenceFamilies::with_family(options.cell, needs_options(call, options), use);
}

struct Plan {
    RnnStrategy strategy = RnnStrategy::stepwise;
    std::string refused;  // why no other strategy can be
    // Of the persistent strategies.
    PersistentShape shape{};
    LaunchShape launch{};
    PersistentLayout layout{};
    Slabs slabs{};
    int group = 0, groups = 0, items = 0;
};

// Sizes depend on the layer alone, so that a row's bits do not depend on its batch;
// docs/develop/cuda_kernels.md says what goes by which strategy.
class Policy {
  public:
    static Plan choose(const GpuCall& call, const RnnSizes& sizes, const RnnOptions& options,
                       bool backward) {
        const Policy policy(call, sizes, options, backward);
        Plan cluster, grid;
        const bool wants_cluster =
            call.strategy == RnnStrategy::automatic || call.strategy == RnnStrategy::cluster;
        const bool wants_grid =
            call.strategy == RnnStrategy::automatic || call.strategy == RnnStrategy::grid;
        const bool has_cluster = wants_cluster && policy.fit(cluster, Strategy::cluster);
        const bool has_grid = wants_grid && policy.fit(grid, Strategy::grid);
        if (has_cluster && (!has_grid || rounds(cluster) <= rounds(grid))) return cluster;
        if (has_grid) return grid;
        Plan stepwise;
        if (call.strategy == RnnStrategy::cluster) stepwise.refused = cluster.refused;
        if (call.strategy == RnnStrategy::grid) stepwise.refused = grid.refused;
        return stepwise;
    }

  private:
    Policy(const GpuCall& call, const RnnSizes& sizes, const RnnOptions& options, bool backward)
        : call_(call),
          sizes_(sizes),
          options_(options),
          backward_(backward),
          device_(device_properties(call.device)) {
        const int slots = slots_of(gates_of(options.cell));
        const int outputs = backward ? 1 : slots, k_slots = backward ? slots : 1;
        const int bytes = size_of(sizes.dtype);
        units_ = units_of(outputs, k_slots, bytes, sizes.hidden_size);
        group_ = int((sizes.hidden_size + units_ - 1) / units_);
        chunks_ = chunks_of(sizes.hidden_size, units_, k_slots * bytes);
    }

    static int rounds(const Plan& plan) { return (plan.items + plan.groups - 1) / plan.groups; }

    bool refuse(Plan& plan, const std::string& why) const {
        plan.refused = why;
        return false;
    }

    PersistentLayout layout(const PersistentShape& shape) const {
        return with_sequence_family(call_, options_, [&](auto family) {
            using Family = decltype(family);
            return backward_ ? persistent_backward<Family>().layout(shape)
                             : persistent_forward<Family>().layout(shape);
        });
    }

    // How many groups the device holds at once.
    int available(const PersistentShape& shape, int64_t shared_bytes) const {
        if (shape.strategy == Strategy::grid || group_ == 1)
            return device_.multiprocessors / group_;
        const LaunchShape launch{group_, 1, 1, 256, group_, shared_bytes, false};
        return with_sequence_family(call_, options_, [&](auto family) {
            using Family = decltype(family);
            return backward_ ? persistent_backward<Family>().resident(shape, launch)
                             : persistent_forward<Family>().resident(shape, launch);
        });
    }

    bool fit(Plan& plan, Strategy strategy) const {
        if (sizes_.dtype == DType::float64) return refuse(plan, "float64 goes step by step");
        if (sizes_.proj_size) return refuse(plan, "a projection goes step by step");
        if (options_.layer_norm) return refuse(plan, "layer normalisation goes step by step");
        if (traits_of(options_.cell).has_second_product)
            return refuse(plan, "a reset gate before the product goes step by step");
        const int max_cluster = std::min(device_.max_cluster, largest_cluster);
        if (strategy == Strategy::cluster && group_ > max_cluster)
            return refuse(plan, "the layer takes " + std::to_string(group_) +
                                    " blocks, a cluster has at most " +
                                    std::to_string(max_cluster));
        if (strategy == Strategy::grid && group_ == 1)
            return refuse(plan, "the layer fits one block, which has no one to trade with");
        if (strategy == Strategy::grid && group_ > device_.multiprocessors)
            return refuse(plan, "the layer takes " + std::to_string(group_) +
                                    " blocks, the device holds " +
                                    std::to_string(device_.multiprocessors));
        PersistentShape shape{strategy, sizes_.dtype, units_, 1, chunks_, 1};
        const int64_t least = layout(shape).total;
        if (least > device_.shared_bytes)
            return refuse(plan, "a block needs " + std::to_string(least) +
                                    " bytes of shared memory, the device has " +
                                    std::to_string(device_.shared_bytes));
        const int groups = available(shape, least);
        if (groups < 1) return refuse(plan, "the device holds no cluster of that size");

        const int64_t per_direction = std::max<int64_t>(1, groups / sizes_.directions);
        const int64_t rows = (sizes_.batch + per_direction - 1) / per_direction;
        const int most_tiles = with_sequence_family(
            call_, options_, [&](auto family) { return most_n_tiles<decltype(family)>(strategy); });
        shape.n_tiles = units_ == 64 || rows <= 8 ? 1 : most_tiles;
        for (; shape.n_tiles >= 1; --shape.n_tiles) {
            shape.passes =
                int(std::min<int64_t>(64, (rows + 8 * shape.n_tiles - 1) / (8 * shape.n_tiles)));
            while (shape.passes > 0 && layout(shape).total > device_.shared_bytes) --shape.passes;
            if (shape.passes > 0) break;
        }
        plan.shape = shape;
        plan.layout = layout(shape);
        plan.group = group_;
        const int resident = available(shape, plan.layout.total);
        if (resident < 1) return refuse(plan, "the device holds no cluster of that size");
        // As thin as gives every group a slab: what is exchanged grows with the rows.
        const int64_t most_rows = int64_t(8) * shape.n_tiles * shape.passes;
        const int64_t slab_rows =
            std::min(most_rows, parts_of(sizes_.batch, most(1, resident / sizes_.directions)));
        plan.slabs = {int(parts_of(sizes_.batch, slab_rows)), shape.passes, int(slab_rows)};
        plan.items = int(plan.slabs.count * sizes_.directions);
        plan.groups = std::min(plan.items, resident);
        plan.launch = {plan.groups * group_,
                       1,
                       1,
                       256,
                       strategy == Strategy::cluster ? group_ : 1,
                       plan.layout.total,
                       strategy == Strategy::grid};
        plan.strategy = strategy == Strategy::cluster ? RnnStrategy::cluster : RnnStrategy::grid;
        return true;
    }

    const GpuCall& call_;
    const RnnSizes& sizes_;
    const RnnOptions& options_;
    bool backward_;
    Device device_;
    int units_, group_, chunks_;
};

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
