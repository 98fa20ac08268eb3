// What the kernels of one step share: a product with weights out of memory, the rows that a block
// takes, how they are launched.
#pragma once

#include "cuda/rnn/launch.h"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

// Where element k of a row of a pass stands.
template <class T>
SEQFAST_DEVICE T* row_element(char* rows, int chunks, int pass_rows, int64_t pass, int row,
                              int64_t k) {
    const int64_t byte = k * int64_t(sizeof(T));
    return reinterpret_cast<T*>(
        rows + ((pass * chunks + byte / chunk_bytes) * pass_rows + row) * chunk_bytes +
        byte % chunk_bytes);
}

// What the next product sees of a unit, where it looks for it.
template <class T>
SEQFAST_DEVICE void store_sent(T* to, T sent) {
    *to = sent;
}
template <class T>
SEQFAST_DEVICE void store_sent(T* to, const GateGradients<T>& sent) {
    if constexpr (sizeof(T) == 8)
        *reinterpret_cast<GateGradients<T>*>(to) = sent;
    else
        *reinterpret_cast<typename QuadWords<T>::Type*>(to) = exchange_words(sent);
}

// A row's step in a step kernel, and its place in the passes.
struct StepPlace {
    RowStep at;
    int64_t direction_pass;
    int n;  // row of the pass
};

// A block of a step kernel: some units of one direction, and passes of rows one after the other.
template <class Product, class G>
struct StepBlock {
    using T = typename Product::T;
    using Acc = typename Product::Acc;

    const RecurrenceParams& r;
    const int direction, unit;  // unit of the block
    Acc* const partial;

    SEQFAST_DEVICE StepBlock(const RecurrenceParams& params)
        : r(params),
          direction(block_z()),
          unit(thread_index() % G::units),
          partial(reinterpret_cast<Acc*>(dynamic_shared())) {}

    SEQFAST_DEVICE int layer_unit() const { return block_x() * G::units + unit; }
    // A unit's planes.
    SEQFAST_DEVICE Planes<Acc> planes(void* state, const StepPlace& place) const {
        const int64_t pass_row = place.direction_pass * G::rows + place.n;
        return {static_cast<Acc*>(state) + pass_row * r.hidden_size + layer_unit(),
                int64_t(r.directions) * r.all_passes * G::rows * r.hidden_size};
    }
    // Where the next product finds the numbers of the thread's unit, `slots` of a unit.
    SEQFAST_DEVICE T* next(int next_chunks, const StepPlace& place, int slots = 1) const {
        return row_element<T>(r.exchange, next_chunks, G::rows, place.direction_pass, place.n,
                              slots * layer_unit());
    }

    // Calls use(pass, n) for each row of each pass, after its product if there is one.
    template <class Use>
    SEQFAST_DEVICE void for_each_place(const Use& use) const {
        for (int64_t pass = block_y(); pass < r.all_passes; pass += grid_y()) {
            if (r.staged) multiply(pass);
            block_sync();
            for (int n = thread_index() / G::units; n < G::rows; n += G::threads / G::units)
                use(pass, n);
            block_sync();
        }
    }
    // Calls use(place) for each row that runs; finish_empty(row) for one without steps.
    template <class Empty, class Use>
    SEQFAST_DEVICE void for_each_row(const Empty& finish_empty, const Use& use) const {
        for_each_place([&](int64_t pass, int n) {
            const int64_t row = r.rows.row(pass * G::rows + n);
            const int length = r.rows.length(row);
            if (row < 0 || layer_unit() >= r.hidden_size) return;
            if (r.step < length)
                use({{row, r.step, length}, int64_t(direction) * r.all_passes + pass, n});
            else if (r.step == 0)
                finish_empty(row);
        });
    }

  private:
    // Weights streamed from memory times rows that stand in memory, summed over the block.
    SEQFAST_DEVICE void multiply(int64_t pass) const {
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
};

template <class Product, class G>
LaunchShape step_shape(const RecurrenceParams& r) {
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

template <class Use>
void with_any_product(DType dtype, Use use) {
    if (dtype == DType::float64)
        use(Float64Product{});
    else
        with_product(dtype, use);
}

// kernel_of(product, geometry): the kernel of their types, which takes params and `last`.
template <int outputs, class KernelOf, class Params, class Last>
void launch_step(const char* name, DType dtype, KernelOf kernel_of, const Params& params, Last last,
                 Stream stream) {
    const RecurrenceParams& r = recurrence_of(params);
    with_any_product(dtype, [&](auto product) {
        using Product = decltype(product);
        constexpr DType widest =
            std::is_same_v<Product, Float64Product> ? DType::float64 : DType::float32;
        const auto with = [&](auto geometry) {
            launch(name, kernel_of(product, geometry), step_shape<Product, decltype(geometry)>(r),
                   stream, params, last);
        };
        if (r.rows.batch <= 8)
            with(Geometry<stepwise_units, outputs, 1, stepwise_n_tiles(widest, 1)>{});
        else
            with(Geometry<stepwise_units, outputs, 1, stepwise_n_tiles(widest, 9)>{});
    });
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
