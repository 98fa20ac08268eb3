// LSTM one launch a step, for what no chip can keep: any size, float64, projections, any
// architecture.
#include "cuda/rnn_launch.h"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {
namespace {

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
template <class T, class G>
SEQFAST_DEVICE T* row_element(char* rows, int chunks, int64_t pass, int row, int64_t k) {
    const int64_t byte = k * int64_t(sizeof(T));
    return reinterpret_cast<T*>(
        rows + ((pass * chunks + byte / chunk_bytes) * G::rows + row) * chunk_bytes +
        byte % chunk_bytes);
}

template <class Product, class G>
SEQFAST_KERNEL(256, 1)
lstm_forward_stepwise_kernel(SEQFAST_GRID_CONSTANT ForwardParams p, int next_chunks) {
    using T = typename Product::T;
    using Acc = typename Product::Acc;
    using Cell = ForwardCell<Product, G>;
    const RecurrenceParams& r = p.recurrence;
    const int direction = block_z(), s = r.step;
    Acc* partial = reinterpret_cast<Acc*>(dynamic_shared());
    const int unit = thread_index() % G::units;
    Cell cell(p);
    cell.start(direction, block_x() * G::units + unit);
    const Gates4<Acc> bias = cell.bias();

    for (int64_t pass = block_y(); pass < r.all_passes; pass += grid_y()) {
        const int64_t direction_pass = int64_t(direction) * r.all_passes + pass;
        if (r.staged) multiply_streamed<Product, G>(r, direction, pass, partial);
        block_sync();
        for (int n = thread_index() / G::units; n < G::rows; n += G::threads / G::units) {
            const int64_t row = r.rows.row(pass * G::rows + n);
            const int length = r.rows.length(row);
            if (row < 0 || !cell.is_unit()) continue;
            if (s >= length) {
                if (s == 0) cell.finish_empty(row);
                continue;
            }
            Acc& state = static_cast<Acc*>(
                p.state)[(direction_pass * G::rows + n) * r.hidden_size + cell.unit];
            if (s == 0) state = cell.first_cell(row);
            const int64_t t = time_of(s, length, direction == 1);
            typename Cell::Ahead ahead;
            cell.load(ahead, t, row);
            Gates4<Acc> sum{};
            if (r.staged) sum = sum_gates<G>(partial, n, unit);
            const auto result = cell.step(ahead, sum, bias, state);
            state = result.cell;
            cell.write(result, t, row, s == length - 1);
            *row_element<T, G>(r.exchange, next_chunks, direction_pass, n, cell.unit) =
                result.hidden;
        }
        block_sync();
    }
}

template <class T>
SEQFAST_DEVICE void store_gradients(char* to, const GateGradients<T>& grad) {
    if constexpr (sizeof(T) == 8) {
        *reinterpret_cast<GateGradients<T>*>(to) = grad;
    } else if constexpr (sizeof(T) == 4) {
        exchange_words(grad, *reinterpret_cast<U32x4*>(to));
    } else {
        exchange_words(grad, *reinterpret_cast<U32x2*>(to));
    }
}

template <class Product, class G>
SEQFAST_KERNEL(256, 1)
lstm_backward_stepwise_kernel(SEQFAST_GRID_CONSTANT BackwardParams p, int next_chunks) {
    using T = typename Product::T;
    using Acc = typename Product::Acc;
    using Cell = BackwardCell<Product, G>;
    const RecurrenceParams& r = p.recurrence;
    const int direction = block_z(), s = r.step;
    Acc* partial = reinterpret_cast<Acc*>(dynamic_shared());
    const int unit = thread_index() % G::units;
    Cell cell(p);
    cell.start(direction, block_x() * G::units + unit);

    for (int64_t pass = block_y(); pass < r.all_passes; pass += grid_y()) {
        const int64_t direction_pass = int64_t(direction) * r.all_passes + pass;
        if (r.staged) multiply_streamed<Product, G>(r, direction, pass, partial);
        block_sync();
        for (int n = thread_index() / G::units; n < G::rows; n += G::threads / G::units) {
            const int64_t row = r.rows.row(pass * G::rows + n);
            const int length = r.rows.length(row);
            if (row < 0 || !cell.is_unit()) continue;
            if (s >= length) {
                if (s == 0) cell.finish(row, cell.last_cell(row));
                continue;
            }
            Acc& state = static_cast<Acc*>(
                p.state)[(direction_pass * G::rows + n) * r.hidden_size + cell.unit];
            if (s == 0) state = cell.last_cell(row);
            const int64_t t = time_of(s, length, direction == 0);
            typename Cell::Ahead ahead;
            cell.load(ahead, t, row, s == length - 1);
            const Acc sum = r.staged ? sum_unit<G>(partial, n, unit) : Acc(0);
            const auto result = cell.step(ahead, sum, state, t, row, s == 0);
            state = result.grad_cell;
            cell.write(result, t, row, s == length - 1);
            store_gradients(reinterpret_cast<char*>(row_element<T, G>(
                                r.exchange, next_chunks, direction_pass, n, 4 * cell.unit)),
                            result.gates);
        }
        block_sync();
    }
}

template <class Product, class G>
SEQFAST_KERNEL(256, 1)
projection_stepwise_kernel(SEQFAST_GRID_CONSTANT ProjectionParams p, int next_chunks) {
    using T = typename Product::T;
    using Acc = typename Product::Acc;
    const RecurrenceParams& r = p.recurrence;
    const int direction = block_z(), s = r.step;
    const int width = r.hidden_size;
    Acc* partial = reinterpret_cast<Acc*>(dynamic_shared());
    const int unit = thread_index() % G::units;
    const int column = block_x() * G::units + unit;

    for (int64_t pass = block_y(); pass < r.all_passes; pass += grid_y()) {
        const int64_t direction_pass = int64_t(direction) * r.all_passes + pass;
        if (r.staged) multiply_streamed<Product, G>(r, direction, pass, partial);
        block_sync();
        for (int n = thread_index() / G::units; n < G::rows; n += G::threads / G::units) {
            const int64_t row = r.rows.row(pass * G::rows + n);
            const int length = r.rows.length(row);
            if (row < 0 || column >= width) continue;
            const int64_t state_at = (direction * r.rows.batch + row) * width + column;
            if (s >= length) {
                if (s == 0 && p.output_n)
                    static_cast<T*>(p.output_n)[state_at] =
                        p.initial ? static_cast<const T*>(p.initial)[state_at]
                                  : round_to<T>(Acc(0));
                continue;
            }
            const int64_t t = time_of(s, length, (direction == 1) != p.reversed);
            Acc sum = r.staged ? sum_unit<G>(partial, n, unit) : Acc(0);
            if (p.addend.data)
                sum += Acc(to_float(static_cast<const T*>(
                    p.addend.data)[t * p.addend.step_stride + row * p.addend.row_stride +
                                   int64_t(direction) * width + column]));
            if (s == 0 && p.addend_n)
                sum += Acc(to_float(static_cast<const T*>(p.addend_n)[state_at]));
            const T value = round_to<T>(sum);
            static_cast<T*>(
                p.output)[((t * r.rows.batch + row) * r.directions + direction) * width + column] =
                value;
            if (s == length - 1 && p.output_n) static_cast<T*>(p.output_n)[state_at] = value;
            *row_element<T, G>(r.exchange, next_chunks, direction_pass, n, column) = value;
        }
        block_sync();
    }
}

template <class Product, class G>
LaunchShape shape_of(const RecurrenceParams& r) {
    const int blocks = (r.hidden_size + G::units - 1) / G::units;
    const int passes = r.all_passes < 65535 ? r.all_passes : 65535;
    return {blocks,     passes, r.directions,
            G::threads, 1,      int64_t(G::partial_size) * int64_t(sizeof(typename Product::Acc)),
            false};
}

// kernel_of(product, geometry): the kernel of their types.
template <int outputs, class KernelOf, class Params>
void launch_stepwise(const char* name, DType dtype, KernelOf kernel_of, const Params& params,
                     int next_chunks, Stream stream) {
    const RecurrenceParams& r = params.recurrence;
    const auto with_product_of = [&](auto product) {
        using Product = decltype(product);
        constexpr DType widest =
            std::is_same_v<Product, Float64Product> ? DType::float64 : DType::float32;
        const auto with = [&](auto geometry) {
            launch(name, kernel_of(product, geometry), shape_of<Product, decltype(geometry)>(r),
                   stream, params, next_chunks);
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

}  // namespace

void launch_stepwise_forward(DType dtype, const ForwardParams& params, int next_chunks,
                             Stream stream) {
    const auto kernel_of = [](auto product, auto geometry) {
        return lstm_forward_stepwise_kernel<decltype(product), decltype(geometry)>;
    };
    launch_stepwise<4>("lstm_forward: lstm_forward_stepwise_kernel", dtype, kernel_of, params,
                       next_chunks, stream);
}

void launch_stepwise_backward(DType dtype, const BackwardParams& params, int next_chunks,
                              Stream stream) {
    const auto kernel_of = [](auto product, auto geometry) {
        return lstm_backward_stepwise_kernel<decltype(product), decltype(geometry)>;
    };
    launch_stepwise<1>("lstm_backward: lstm_backward_stepwise_kernel", dtype, kernel_of, params,
                       next_chunks, stream);
}

void launch_stepwise_projection(DType dtype, const ProjectionParams& params, int next_chunks,
                                Stream stream) {
    const auto kernel_of = [](auto product, auto geometry) {
        return projection_stepwise_kernel<decltype(product), decltype(geometry)>;
    };
    launch_stepwise<1>("lstm: projection_stepwise_kernel", dtype, kernel_of, params, next_chunks,
                       stream);
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
