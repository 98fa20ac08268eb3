// Between the entries of the recurrent operations and the files that hold their kernels.
#pragma once

#include <type_traits>

#include "cuda/base/sizes.h"
#include "cuda/rnn/persistent_block.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

// What picks a persistent kernel, and what its shared memory depends on.
struct PersistentShape {
    Strategy strategy;
    DType dtype;
    int units;    // of a block
    int n_tiles;  // of 8 rows, of a pass
    int chunks;
    int passes;  // of a slab
};

// Chunks of k where k is made of units of so many bytes, shared out over blocks of so many units.
constexpr int chunks_of(int64_t units, int block_units, int unit_bytes) {
    return int(round_up(round_up(units, block_units) * unit_bytes, chunk_bytes) / chunk_bytes);
}

constexpr int largest_cluster = 16;

// Outputs of a unit, and its numbers in k: 4 and 1 forward, 1 and 4 backward; 1 and 1 of rnn. The
// largest layer whose blocks have 32 units, beyond 64 units in one block; larger ones have 16.
constexpr int64_t most_hidden_of_32(int outputs, int k_slots, int bytes) {
    return outputs == 4 ? 512 : k_slots == 4 ? 2048 / bytes : int64_t(1) << 30;
}
constexpr int units_of(int outputs, int k_slots, int bytes, int64_t hidden) {
    return hidden <= 64 ? 64 : hidden <= most_hidden_of_32(outputs, k_slots, bytes) ? 32 : 16;
}

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

// Where the weights of a block are, by the layers that have blocks of this kind.
template <int outputs, int k_slots, Strategy strategy, class Product, int units, int n_tiles>
struct WeightsAt {
    static constexpr int bytes = int(sizeof(typename Product::T));
    using InRegisters = Geometry<units, outputs, warps_m_of(outputs, units), n_tiles>;
    using Streamed = Geometry<units, outputs, warps_m_of(outputs, units), n_tiles, false>;

    static constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
    static constexpr int64_t most_of_32 = most_hidden_of_32(outputs, k_slots, bytes);
    static constexpr int64_t least = units == 64 ? 1 : units == 32 ? 65 : most_of_32 + 1;
    static constexpr int64_t most =
        smaller(int64_t(1) << 20, units == 64   ? 64
                                  : units == 16 ? int64_t(1) << 20
                                  : strategy == Strategy::cluster
                                      ? smaller(most_of_32, largest_cluster * 32)
                                      : most_of_32);
    static constexpr bool fit(int chunks) {
        return ChunkRange::longest(chunks, InRegisters::warps_k) <= InRegisters::register_chunks;
    }
    // Three products of two row tiles each leave no room for all weights.
    static constexpr bool ever_in_registers =
        !(std::is_same_v<Product, Float32Product> && n_tiles == 2) &&
        fit(chunks_of(least, units, k_slots* bytes));
    static constexpr bool always_in_registers =
        ever_in_registers && fit(chunks_of(most, units, k_slots* bytes));
};

template <class At, class Strategy_, class Product, class Use>
auto with_weights_at(Strategy_ strategy, Product product, int chunks, Use use) {
    using InRegisters = typename At::InRegisters;
    using Streamed = typename At::Streamed;
    if constexpr (At::always_in_registers) {
        return use(strategy, product, InRegisters{});
    } else {
        if constexpr (At::ever_in_registers)
            if (At::fit(chunks)) return use(strategy, product, InRegisters{});
        return use(strategy, product, Streamed{});
    }
}

// Two row tiles, weights that all stay in registers and options of a cell are too much together
// where rows come through global memory.
template <class Family>
constexpr int most_n_tiles(Strategy strategy) {
    return Family::general && strategy == Strategy::grid ? 1 : 2;
}

// Without clusters only a block alone is launched as one.
template <Strategy strategy, class G>
constexpr bool is_launched() {
    return strategy == Strategy::grid || G::units == 64 || has_clusters;
}

// Calls use(strategy, product, geometry) with their types. Only what some layer needs is compiled.
template <class Kernels, class Use>
auto with_persistent_kernel(const PersistentShape& shape, Use use) {
    constexpr int outputs = Kernels::outputs, k_slots = Kernels::k_slots;
    return with_product(shape.dtype, [&](auto product) {
        const auto with_all = [&](auto strategy, auto units, auto n_tiles) {
            return with_weights_at<
                WeightsAt<outputs, k_slots, strategy, decltype(product), units, n_tiles>>(
                strategy, product, shape.chunks, use);
        };
        const auto with_rows = [&](auto strategy, auto units) {
            if constexpr (most_n_tiles<typename Kernels::Family>(strategy) == 2)
                if (shape.n_tiles == 2)
                    return with_all(strategy, units, std::integral_constant<int, 2>{});
            return with_all(strategy, units, std::integral_constant<int, 1>{});
        };
        const std::integral_constant<Strategy, Strategy::cluster> cluster;
        const std::integral_constant<Strategy, Strategy::grid> grid;
        // 64 units are a whole layer in one block, 16 are for more blocks than a cluster has.
        if (shape.units == 64)
            return with_all(cluster, std::integral_constant<int, 64>{},
                            std::integral_constant<int, 1>{});
        if constexpr (outputs == 4 || k_slots == 4)
            if (shape.units == 16) return with_rows(grid, std::integral_constant<int, 16>{});
        if (shape.strategy == Strategy::cluster)
            return with_rows(cluster, std::integral_constant<int, 32>{});
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
// Instantiated for each of SequenceFamilies, in files that cmake/cuda.cmake writes.
template <class Family>
const PersistentPass<ForwardParams>& persistent_forward();
template <class Family>
const PersistentPass<BackwardParams>& persistent_backward();
template <class Family, class Params>
const PersistentPass<Params>& persistent_pass_of() {
    if constexpr (std::is_same_v<Params, BackwardParams>)
        return persistent_backward<Family>();
    else
        return persistent_forward<Family>();
}

// Kernels: Family, Params, outputs, k_slots, name(strategy), kernel<strategy, Product, G>().
template <class Kernels>
constexpr auto persistent_pass() {
    using Params = typename Kernels::Params;
    return PersistentPass<Params>{
        [](const PersistentShape& shape) {
            return with_persistent_kernel<Kernels>(shape, [&](auto strategy, auto product,
                                                              auto geometry) {
                return persistent_layout<typename Kernels::Family, decltype(product),
                                         decltype(geometry)>(strategy, shape.chunks, shape.passes);
            });
        },
        [](const PersistentShape& shape, const LaunchShape& launch_shape) {
            return with_persistent_kernel<Kernels>(
                shape, [&](auto strategy, auto product, auto geometry) {
                    return resident_clusters(
                        Kernels::name(strategy),
                        Kernels::template kernel<strategy, decltype(product), decltype(geometry)>(),
                        launch_shape);
                });
        },
        [](const PersistentShape& shape, const LaunchShape& launch_shape, const Params& params,
           Stream stream) {
            with_persistent_kernel<Kernels>(shape, [&](auto strategy, auto product, auto geometry) {
                launch(Kernels::name(strategy),
                       Kernels::template kernel<strategy, decltype(product), decltype(geometry)>(),
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

// One step of the whole batch each. recurrence.staged: the rows that are multiplied, nullptr:
// zeros; exchange: where the next product finds this step's; both [direction][pass][chunk][row of a
// pass][64 bytes], unmarked, but next_chunks long at the destination.
void launch_stepwise_forward(DType dtype, const ForwardParams& params, int next_chunks,
                             Stream stream);
void launch_stepwise_backward(DType dtype, const BackwardParams& params, int next_chunks,
                              Stream stream);

// What a projection carries from step to step.
struct ProjectionState {
    static constexpr int hidden_plane = 0, mask_plane = 1, planes = 2;
};
// The projection after a cell: output = activation(weights * rows + bias), zoneout.
struct ProjectionForwardParams {
    RecurrenceParams recurrence;  // hidden_size: that of the output
    Variant variant;
    const void* bias[2];  // nullptr: none
    const void* hidden;   // as in RnnRecurrenceForwardArgs
    void* output;
    void* hidden_n;
    void* state;  // [plane][direction][pass][row][unit], planes of ProjectionState
};
void launch_stepwise_projection_forward(DType dtype, const ProjectionForwardParams& params,
                                        int next_chunks, Stream stream);

// What reaches the output of a step, through the next step's product and otherwise, taken through
// zoneout and activation.
struct ProjectionBackwardParams {
    RecurrenceParams recurrence;
    Variant variant;
    SequenceView grad_output;
    const void* grad_hidden_n;
    const void* hidden;
    const void* output;
    void* grad_projected;
    void* grad_hidden;
    void* state;
};
void launch_stepwise_projection_backward(DType dtype, const ProjectionBackwardParams& params,
                                         int next_chunks, Stream stream);

// A cell whose step has a second product, two launches a step. Forward: all gates but the candidate
// and what the second product multiplies; the candidate and h[t]. Backward: the gradients of all
// gates but the factor; that of the factor.
void launch_second_product_forward(DType dtype, const ForwardParams& params, bool second,
                                   int next_chunks, Stream stream);
void launch_second_product_backward(DType dtype, const BackwardParams& params, bool second,
                                    int next_chunks, Stream stream);

// A step with layer normalisation: its product, then one block for each row of the batch.
struct NormWeights {
    const void* product[2];  // per direction
    const void* cell[2];
    const void* cell_bias[2];
};
struct LayerNormForwardParams {
    ForwardParams forward;
    NormWeights weights;
    void* statistics;  // as in RnnRecurrenceForwardArgs
    void* raw;         // the product, accumulating type [direction][row of all passes][gate][unit]
};
void launch_layer_norm_forward(DType dtype, const LayerNormForwardParams& params, int pass_rows,
                               int next_chunks, Stream stream);

struct LayerNormBackwardParams {
    BackwardParams backward;
    NormWeights weights;
    const void* statistics;
    void* grad_product;
    void* grad_norm_cell;
    void* raw;  // [direction][row of all passes][unit]
};
void launch_layer_norm_backward(DType dtype, const LayerNormBackwardParams& params, int pass_rows,
                                int next_chunks, Stream stream);

// Planes that any step kernel takes.
constexpr int most_planes = 5;

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
