// Between the entries of the recurrent operations and the files that hold their kernels.
#pragma once

#include <type_traits>

#include "cuda/persistent_block.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

// What picks a persistent kernel, and what its shared memory depends on.
struct PersistentShape {
    Way way;
    DType dtype;
    int units;    // of a block
    int n_tiles;  // of 8 rows, of a pass
    int chunks;
    int passes;  // of a slab
};

// The warps that share out a block's units; the others share out k.
constexpr int warps_m_of(int outputs, int units) {
    return outputs == 4 ? units / 16 : units == 64 ? 2 : 1;
}

template <class Use>
auto with_product(DType dtype, Use use) {
    switch (dtype) {
        case DType::bfloat16:
            return use(BFloat16Product{});
        case DType::float16:
            return use(Float16Product{});
        default:
            return use(Float32Product{});
    }
}

// Calls use(way, product, geometry) with their types; outputs: 4 forward, 1 backward.
template <int outputs, class Use>
auto with_persistent_kernel(const PersistentShape& shape, Use use) {
    return with_product(shape.dtype, [&](auto product) {
        const auto with_all = [&](auto way, auto units, auto n_tiles) {
            using Product = decltype(product);
            constexpr int warps_m = warps_m_of(outputs, units);
            using InRegisters = Geometry<units, outputs, warps_m, n_tiles>;
            // Three products of two row tiles each leave no room for all weights.
            constexpr bool room = !(std::is_same_v<Product, Float32Product> && n_tiles == 2);
            if constexpr (room)
                if (ChunkRange::longest(shape.chunks, InRegisters::warps_k) <=
                    InRegisters::register_chunks)
                    return use(way, product, InRegisters{});
            return use(way, product, Geometry<units, outputs, warps_m, n_tiles, false>{});
        };
        const auto with_rows = [&](auto way, auto units) {
            if (shape.n_tiles == 1) return with_all(way, units, std::integral_constant<int, 1>{});
            return with_all(way, units, std::integral_constant<int, 2>{});
        };
        const std::integral_constant<Way, Way::cluster> cluster;
        const std::integral_constant<Way, Way::grid> grid;
        // 64 units are a whole layer in one block, 16 are for more blocks than a cluster has.
        if (shape.units == 64)
            return with_all(cluster, std::integral_constant<int, 64>{},
                            std::integral_constant<int, 1>{});
        if (shape.units == 16) return with_rows(grid, std::integral_constant<int, 16>{});
        if (shape.way == Way::cluster) return with_rows(cluster, std::integral_constant<int, 32>{});
        return with_rows(grid, std::integral_constant<int, 32>{});
    });
}

// What the policy and the entries need of the persistent kernels of one pass over a sequence.
template <class Params>
struct PersistentPass {
    PersistentLayout (*layout)(const PersistentShape& shape);
    // How many groups in clusters the device holds at once.
    int (*resident)(const PersistentShape& shape, const LaunchShape& launch_shape);
    void (*run)(const PersistentShape& shape, const LaunchShape& launch_shape, const Params& params,
                Stream stream);
};
extern const PersistentPass<ForwardParams> persistent_forward;
extern const PersistentPass<BackwardParams> persistent_backward;

// Kernels: outputs, name(way), kernel<way, Product, G>().
template <class Kernels, class Params>
constexpr PersistentPass<Params> persistent_pass() {
    return {[](const PersistentShape& shape) {
                return with_persistent_kernel<Kernels::outputs>(
                    shape, [&](auto way, auto product, auto geometry) {
                        return persistent_layout<decltype(product), decltype(geometry)>(
                            way, shape.chunks, shape.passes);
                    });
            },
            [](const PersistentShape& shape, const LaunchShape& launch_shape) {
                return with_persistent_kernel<Kernels::outputs>(
                    shape, [&](auto way, auto product, auto geometry) {
                        return resident_clusters(
                            Kernels::name(way),
                            Kernels::template kernel<way, decltype(product), decltype(geometry)>(),
                            launch_shape);
                    });
            },
            [](const PersistentShape& shape, const LaunchShape& launch_shape, const Params& params,
               Stream stream) {
                with_persistent_kernel<Kernels::outputs>(shape, [&](auto way, auto product,
                                                                    auto geometry) {
                    launch(Kernels::name(way),
                           Kernels::template kernel<way, decltype(product), decltype(geometry)>(),
                           launch_shape, stream, params);
                });
            }};
}

// The units of a block of the step kernels, and the rows of their passes.
constexpr int stepwise_units = 16;
// Four row tiles of float64 would need more shared memory than some devices have.
constexpr int stepwise_n_tiles(DType dtype, int64_t batch) {
    return batch <= 8 ? 1 : dtype == DType::float64 ? 2 : 4;
}

// A product of [width, k] weights with the rows of a step, and what is added to it.
struct ProjectionParams {
    RecurrenceParams recurrence;  // hidden_size: the width
    bool reversed;                // whether direction 0 runs backward in time
    SequenceView addend;          // [steps, batch, directions * width] or absent
    const void* addend_n;         // [directions, batch, width] to a row's first step, or nullptr
    void* output;                 // [steps, batch, directions * width]
    void* output_n;               // [directions, batch, width] of a row's last step, or nullptr
    const void* initial;          // what a row without steps has for it; nullptr: zeros
};

// One step each. recurrence.staged: the rows that are multiplied, nullptr: zeros; exchange: where
// the next product finds this step's; both [direction][pass][chunk][row of a pass][64 bytes],
// unmarked, but next_chunks long at the destination.
void launch_stepwise_forward(DType dtype, const ForwardParams& params, int next_chunks,
                             Stream stream);
void launch_stepwise_backward(DType dtype, const BackwardParams& params, int next_chunks,
                              Stream stream);
void launch_stepwise_projection(DType dtype, const ProjectionParams& params, int next_chunks,
                                Stream stream);

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
