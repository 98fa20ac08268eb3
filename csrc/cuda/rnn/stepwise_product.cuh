// What the kernels of one step share: a product with weights out of memory, and how they are
// launched.
#pragma once

#include "cuda/rnn/launch.h"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

// A product of weights streamed from memory with rows that stand in memory, summed over the block.
template <class Product, class G>
SEQFAST_DEVICE void multiply_streamed(const RecurrenceParams& r, int direction, int64_t pass,
                                      typename Product::Acc* partial) {
    const int warp = warp_index(), lane = lane_index();
    const int warp_m = warp % G::warps_m, warp_k = warp / G::warps_m;
    const ChunkRange range = ChunkRange::of_warp(r.chunks, G::warps_k, warp_k);
    const int64_t pass_bytes = int64_t(r.chunks) * G::rows * chunk_bytes;
    const char* rows = r.staged + (int64_t(direction) * r.all_passes + pass) * pass_bytes +
                       fragment_offset<G>(range.first);
    const int64_t first_tile = int64_t(block_x()) * G::block_m_tiles + warp_m * G::m_tiles;
    const U32x4* weights =
        r.packed[direction] + packed_index(first_tile, r.chunks, range.first, 0, lane);
    const int64_t tile_stride = packed_index(1, r.chunks, 0, 0, 0);
    Tile<Product, G> tile;
    tile.clear();
    for (int i = 0; i < range.count; ++i) {
        U32x4 b[G::n_tiles];
        SEQFAST_UNROLL
        for (int n = 0; n < G::n_tiles; ++n)
            b[n] = *reinterpret_cast<const U32x4*>(rows + (i * G::rows + 8 * n) * chunk_bytes);
        tile.multiply(
            [&](int m, int half) { return weights[m * tile_stride + (2 * i + half) * 32]; }, b,
            r.split);
    }
    tile.store(partial, warp_m, warp_k);
}

// Where element k of a row of a pass stands.
template <class T>
SEQFAST_DEVICE T* row_element_of(char* rows, int chunks, int pass_rows, int64_t pass, int row,
                                 int64_t k) {
    const int64_t byte = k * int64_t(sizeof(T));
    return reinterpret_cast<T*>(
        rows + ((pass * chunks + byte / chunk_bytes) * pass_rows + row) * chunk_bytes +
        byte % chunk_bytes);
}
template <class T, class G>
SEQFAST_DEVICE T* row_element(char* rows, int chunks, int64_t pass, int row, int64_t k) {
    return row_element_of<T>(rows, chunks, G::rows, pass, row, k);
}

template <class T>
SEQFAST_DEVICE void store_gradients(char* to, const GateGradients<T>& grad) {
    if constexpr (sizeof(T) == 8)
        *reinterpret_cast<GateGradients<T>*>(to) = grad;
    else
        *reinterpret_cast<typename QuadWords<T>::Type*>(to) = exchange_words(grad);
}

// A unit's planes in the memory of a step kernel.
template <class G, class Acc>
SEQFAST_DEVICE Planes<Acc> planes_of(const RecurrenceParams& r, void* state, int64_t direction_pass,
                                     int n, int unit) {
    return {static_cast<Acc*>(state) + (direction_pass * G::rows + n) * r.hidden_size + unit,
            int64_t(r.directions) * r.all_passes * G::rows * r.hidden_size};
}

// Calls use(cell): options cost a step kernel little, so that none is compiled without.
template <class Use>
void with_stepwise_cell(CellKind kind, Use use) {
    if (has_cell_state(kind))
        use(Lstm{});
    else if (kind == CellKind::rnn)
        use(Rnn{});
    else
        use(Gru{});
}

template <class Product, class G>
LaunchShape shape_of(const RecurrenceParams& r) {
    const int blocks = (r.hidden_size + G::units - 1) / G::units;
    const int passes = r.all_passes < 65535 ? r.all_passes : 65535;
    return {blocks,     passes, r.directions,
            G::threads, 1,      int64_t(G::partial_size) * int64_t(sizeof(typename Product::Acc)),
            false};
}

inline const RecurrenceParams& recurrence_of(const RecurrenceParams& r) { return r; }
template <class Params>
const RecurrenceParams& recurrence_of(const Params& params) {
    return params.recurrence;
}

// kernel_of(product, geometry): the kernel of their types, which takes params and `last`.
template <int outputs, class KernelOf, class Params, class Last>
void launch_stepwise(const char* name, DType dtype, KernelOf kernel_of, const Params& params,
                     Last last, Stream stream) {
    const RecurrenceParams& r = recurrence_of(params);
    const auto with_product_of = [&](auto product) {
        using Product = decltype(product);
        constexpr DType widest =
            std::is_same_v<Product, Float64Product> ? DType::float64 : DType::float32;
        const auto with = [&](auto geometry) {
            launch(name, kernel_of(product, geometry), shape_of<Product, decltype(geometry)>(r),
                   stream, params, last);
        };
        if (r.rows.batch <= 8)
            with(Geometry<stepwise_units, outputs, 1, stepwise_n_tiles(widest, 1)>{});
        else
            with(Geometry<stepwise_units, outputs, 1, stepwise_n_tiles(widest, 9)>{});
    };
    if (dtype == DType::float64)
        with_product_of(Float64Product{});
    else
        with_product(dtype, with_product_of);
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
