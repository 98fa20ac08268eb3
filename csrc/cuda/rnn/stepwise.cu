// Recurrences one launch a step, for what no chip can keep: any size, float64, projections, any
// architecture.
#include "cuda/rnn/backward_cell.cuh"
#include "cuda/rnn/forward_cell.cuh"
#include "cuda/rnn/launch.h"
#include "cuda/rnn/stepwise_product.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {
namespace {

template <class Cell_, class Product, class G>
SEQFAST_KERNEL(256, 1)
rnn_forward_stepwise_kernel(SEQFAST_GRID_CONSTANT ForwardParams p, int next_chunks) {
    using T = typename Product::T;
    using Acc = typename Product::Acc;
    using Cell = ForwardCell<Cell_, Product>;
    const RecurrenceParams& r = p.recurrence;
    const int direction = block_z(), s = r.step;
    Acc* partial = reinterpret_cast<Acc*>(dynamic_shared());
    const int unit = thread_index() % G::units;
    Cell cell(p);
    cell.start(direction, block_x() * G::units + unit);
    const Gates4<Acc> bias = cell.bias();
    const Gates4<Acc> peephole = cell.template peephole<Acc, T>();

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
            const Planes<Acc> state = planes_of<G, Acc>(r, p.state, direction_pass, n, cell.unit);
            const int64_t t = time_of(s, length, direction == 1);
            if (s == 0) cell.begin(row, t, state);
            typename Cell::Ahead ahead;
            cell.load(ahead, t, row, s + 1 < length ? time_of(s + 1, length, direction == 1) : -1);
            Gates4<Acc> sum{};
            if (r.staged) sum = sum_outputs<G>(partial, n, unit);
            const auto result = cell.step(ahead, sum, bias, &peephole, state);
            const T sent = cell.advance(result, ahead, state);
            cell.write(result, t, row, s == length - 1);
            // Behind a projection it is no state, and nothing is masked.
            *row_element<T, G>(r.exchange, next_chunks, direction_pass, n, cell.unit) =
                p.output ? sent : result.hidden;
        }
        block_sync();
    }
}

template <class Cell_, class Product, class G>
SEQFAST_KERNEL(256, 1)
rnn_backward_stepwise_kernel(SEQFAST_GRID_CONSTANT BackwardParams p, int next_chunks) {
    using T = typename Product::T;
    using Acc = typename Product::Acc;
    using Cell = BackwardCell<Cell_, Product>;
    const RecurrenceParams& r = p.recurrence;
    const int direction = block_z(), s = r.step;
    Acc* partial = reinterpret_cast<Acc*>(dynamic_shared());
    const int unit = thread_index() % G::units;
    Cell cell(p);
    cell.start(direction, block_x() * G::units + unit);
    const Gates4<Acc> peephole = cell.template peephole<Acc, T>();

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
            const Planes<Acc> state = planes_of<G, Acc>(r, p.state, direction_pass, n, cell.unit);
            if (s == 0) cell.begin(row, state);
            const int64_t t = time_of(s, length, direction == 0);
            typename Cell::Ahead ahead;
            cell.load(ahead, t, row, s == length - 1);
            const Acc sum = r.staged ? sum_unit<G>(partial, n, unit) : Acc(0);
            const auto result = cell.step(ahead, sum, &peephole, state, t, row, s == 0);
            const GateGradients<T> sent = cell.advance(result, state);
            cell.write(result, t, row, s == length - 1);
            T* to = row_element<T, G>(r.exchange, next_chunks, direction_pass, n,
                                      Cell_::slots * cell.unit);
            if constexpr (Cell_::slots == 4)
                store_gradients(reinterpret_cast<char*>(to), sent);
            else
                *to = sent.gate[0];
        }
        block_sync();
    }
}

template <class Product, class G>
SEQFAST_KERNEL(256, 1)
projection_forward_stepwise_kernel(SEQFAST_GRID_CONSTANT ProjectionForwardParams p,
                                   int next_chunks) {
    using T = typename Product::T;
    using Acc = typename Product::Acc;
    const RecurrenceParams& r = p.recurrence;
    const Variant& v = p.variant;
    const int direction = block_z(), s = r.step;
    Acc* partial = reinterpret_cast<Acc*>(dynamic_shared());
    const int unit = thread_index() % G::units;
    CellOf<ProjectionForwardParams> cell(p);
    cell.start(direction, block_x() * G::units + unit);
    const Acc bias = p.bias[direction] && cell.is_unit()
                         ? Acc(to_float(static_cast<const T*>(p.bias[direction])[cell.unit]))
                         : Acc(0);

    for (int64_t pass = block_y(); pass < r.all_passes; pass += grid_y()) {
        const int64_t direction_pass = int64_t(direction) * r.all_passes + pass;
        multiply_streamed<Product, G>(r, direction, pass, partial);
        block_sync();
        for (int n = thread_index() / G::units; n < G::rows; n += G::threads / G::units) {
            const int64_t row = r.rows.row(pass * G::rows + n);
            const int length = r.rows.length(row);
            if (row < 0 || !cell.is_unit()) continue;
            if (s >= length) {
                if (s == 0 && p.hidden_n)
                    static_cast<T*>(p.hidden_n)[cell.state_at(row)] =
                        round_to<T>(cell.template state_of<Acc, T>(p.hidden, row));
                continue;
            }
            const int64_t t = time_of(s, length, direction == 1);
            const Planes<Acc> state = planes_of<G, Acc>(r, p.state, direction_pass, n, cell.unit);
            if (s == 0) {
                state[Rnn::hidden_plane] =
                    cell.resets(t, row) ? Acc(0) : cell.template state_of<Acc, T>(p.hidden, row);
                state[Rnn::mask_plane] = cell.template mask<Acc>(row);
            }
            Acc hidden =
                activate<GpuMath<Acc>>(v.output_activation, sum_unit<G>(partial, n, unit) + bias);
            if (v.zones_hidden)
                hidden +=
                    hidden_share<Acc>(v, cell.draw(t, row)) * (state[Rnn::hidden_plane] - hidden);
            const T value = round_to<T>(hidden);
            static_cast<T*>(p.output)[cell.at(t, row, r.hidden_size) + cell.unit] = value;
            if (s == length - 1 && p.hidden_n)
                static_cast<T*>(p.hidden_n)[cell.state_at(row)] = value;
            const bool clear =
                s + 1 < length && cell.resets(time_of(s + 1, length, direction == 1), row);
            const Acc kept = clear ? Acc(0) : Acc(to_float(value));
            state[Rnn::hidden_plane] = kept;
            *row_element<T, G>(r.exchange, next_chunks, direction_pass, n, cell.unit) =
                round_to<T>(v.drops_hidden ? kept * state[Rnn::mask_plane] : kept);
        }
        block_sync();
    }
}

template <class Product, class G>
SEQFAST_KERNEL(256, 1)
projection_backward_stepwise_kernel(SEQFAST_GRID_CONSTANT ProjectionBackwardParams p,
                                    int next_chunks) {
    using T = typename Product::T;
    using Acc = typename Product::Acc;
    const RecurrenceParams& r = p.recurrence;
    const Variant& v = p.variant;
    const int direction = block_z(), s = r.step;
    Acc* partial = reinterpret_cast<Acc*>(dynamic_shared());
    const int unit = thread_index() % G::units;
    CellOf<ProjectionBackwardParams> cell(p);
    cell.start(direction, block_x() * G::units + unit);

    for (int64_t pass = block_y(); pass < r.all_passes; pass += grid_y()) {
        const int64_t direction_pass = int64_t(direction) * r.all_passes + pass;
        if (r.staged) multiply_streamed<Product, G>(r, direction, pass, partial);
        block_sync();
        for (int n = thread_index() / G::units; n < G::rows; n += G::threads / G::units) {
            const int64_t row = r.rows.row(pass * G::rows + n);
            const int length = r.rows.length(row);
            if (row < 0 || !cell.is_unit()) continue;
            T* grad_first =
                p.grad_hidden ? static_cast<T*>(p.grad_hidden) + cell.state_at(row) : nullptr;
            if (s >= length) {
                if (s == 0 && grad_first)
                    *grad_first = round_to<T>(cell.template state_of<Acc, T>(p.grad_hidden_n, row));
                continue;
            }
            const int64_t t = time_of(s, length, direction == 0);
            const bool first = s == length - 1, clear = cell.resets(t, row);
            const Planes<Acc> state = planes_of<G, Acc>(r, p.state, direction_pass, n, cell.unit);
            if (s == 0) {
                state[Rnn::hidden_plane] = 0;
                state[Rnn::mask_plane] = cell.template mask<Acc>(row);
            }
            Acc sum = r.staged ? sum_unit<G>(partial, n, unit) : Acc(0);
            if (v.drops_hidden) sum *= state[Rnn::mask_plane];
            sum += state[Rnn::hidden_plane];
            if (p.grad_output.data)
                sum += Acc(to_float(static_cast<const T*>(
                    p.grad_output
                        .data)[t * p.grad_output.step_stride + row * p.grad_output.row_stride +
                               int64_t(direction) * r.hidden_size + cell.unit]));
            if (s == 0) sum += cell.template state_of<Acc, T>(p.grad_hidden_n, row);
            const T* output = static_cast<const T*>(p.output);
            Acc value = to_float(output[cell.at(t, row, r.hidden_size) + cell.unit]);
            Acc direct = 0;
            if (v.zones_hidden) {
                const Acc share = hidden_share<Acc>(v, cell.draw(t, row));
                direct = sum * share;
                sum -= direct;
                // What the activation gave, out of what zoneout left of it.
                if (v.output_activation != Activation::identity && share < Acc(1) && share > 0) {
                    const Acc previous =
                        clear ? Acc(0)
                        : first
                            ? cell.template state_of<Acc, T>(p.hidden, row)
                            : Acc(to_float(
                                  output[cell.at(direction ? t + 1 : t - 1, row, r.hidden_size) +
                                         cell.unit]));
                    const Acc old = rounded_product(share, previous);
                    // A relu's zero became exactly that, rounded as it was.
                    value = v.output_activation == Activation::relu
                                ? value - Acc(to_float(round_to<T>(old)))
                                : (value - old) / (Acc(1) - share);
                }
            }
            if (clear) direct = 0;
            state[Rnn::hidden_plane] = direct;
            if (first && grad_first) *grad_first = round_to<T>(direct);
            const T grad =
                round_to<T>(sum * activation_slope<GpuMath<Acc>>(v.output_activation, value));
            static_cast<T*>(p.grad_projected)[cell.at(t, row, r.hidden_size) + cell.unit] = grad;
            *row_element<T, G>(r.exchange, next_chunks, direction_pass, n, cell.unit) = grad;
        }
        block_sync();
    }
}

}  // namespace

void launch_stepwise_forward(DType dtype, const ForwardParams& params, int next_chunks,
                             Stream stream) {
    with_stepwise_cell(params.variant.kind, [&](auto cell) {
        using Cell = decltype(cell);
        const auto kernel_of = [](auto product, auto geometry) {
            return rnn_forward_stepwise_kernel<Cell, decltype(product), decltype(geometry)>;
        };
        launch_stepwise<Cell::slots>("rnn_forward: rnn_forward_stepwise_kernel", dtype, kernel_of,
                                     params, next_chunks, stream);
    });
}

void launch_stepwise_backward(DType dtype, const BackwardParams& params, int next_chunks,
                              Stream stream) {
    with_stepwise_cell(params.variant.kind, [&](auto cell) {
        using Cell = decltype(cell);
        const auto kernel_of = [](auto product, auto geometry) {
            return rnn_backward_stepwise_kernel<Cell, decltype(product), decltype(geometry)>;
        };
        launch_stepwise<1>("rnn_backward: rnn_backward_stepwise_kernel", dtype, kernel_of, params,
                           next_chunks, stream);
    });
}

void launch_stepwise_projection_forward(DType dtype, const ProjectionForwardParams& params,
                                        int next_chunks, Stream stream) {
    const auto kernel_of = [](auto product, auto geometry) {
        return projection_forward_stepwise_kernel<decltype(product), decltype(geometry)>;
    };
    launch_stepwise<1>("rnn_forward: projection_forward_stepwise_kernel", dtype, kernel_of, params,
                       next_chunks, stream);
}

void launch_stepwise_projection_backward(DType dtype, const ProjectionBackwardParams& params,
                                         int next_chunks, Stream stream) {
    const auto kernel_of = [](auto product, auto geometry) {
        return projection_backward_stepwise_kernel<decltype(product), decltype(geometry)>;
    };
    launch_stepwise<1>("rnn_backward: projection_backward_stepwise_kernel", dtype, kernel_of,
                       params, next_chunks, stream);
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
