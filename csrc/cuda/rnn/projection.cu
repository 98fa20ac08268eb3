// The projection after a cell's step, a launch of its own: backward it comes first.
#include "cuda/rnn/kernels.cuh"
#include "cuda/rnn/stepwise.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {
namespace {

using State = ProjectionState;

template <class Product, class G>
SEQFAST_KERNEL(256, 1)
projection_forward_stepwise_kernel(SEQFAST_GRID_CONSTANT ProjectionForwardParams p,
                                   int next_chunks) {
    using T = typename Product::T;
    using Acc = typename Product::Acc;
    const StepBlock<Product, G> block(p.recurrence);
    const RecurrenceParams& r = p.recurrence;
    const Variant& v = p.variant;
    const int direction = block.direction;
    CellOf<ProjectionForwardParams> cell(p);
    cell.start(direction, block.layer_unit());
    const Acc bias = p.bias[direction] && cell.is_unit()
                         ? Acc(to_float(static_cast<const T*>(p.bias[direction])[cell.unit]))
                         : Acc(0);
    const auto finish_empty = [&](int64_t row) {
        if (p.hidden_n)
            static_cast<T*>(p.hidden_n)[cell.state_at(row)] =
                round_to<T>(cell.template state_of<Acc, T>(p.hidden, row));
    };
    block.for_each_row(finish_empty, [&](const StepPlace& place) {
        const int64_t row = place.at.row;
        const int s = place.at.s, length = place.at.length;
        const int64_t t = time_of(s, length, direction == 1);
        const Planes<Acc> state = block.planes(p.state, place);
        if (s == 0) {
            state[State::hidden_plane] =
                cell.resets(t, row) ? Acc(0) : cell.template state_of<Acc, T>(p.hidden, row);
            state[State::mask_plane] = cell.template mask<Acc>(row);
        }
        Acc hidden = activate<GpuMath<Acc>>(v.output_activation,
                                            sum_unit<G>(block.partial, place.n, block.unit) + bias);
        if (v.zones_hidden)
            hidden +=
                hidden_share<Acc>(v, cell.draw(t, row)) * (state[State::hidden_plane] - hidden);
        const T value = round_to<T>(hidden);
        static_cast<T*>(p.output)[cell.at(t, row, r.hidden_size) + cell.unit] = value;
        if (place.at.is_last() && p.hidden_n)
            static_cast<T*>(p.hidden_n)[cell.state_at(row)] = value;
        const bool clear =
            s + 1 < length && cell.resets(time_of(s + 1, length, direction == 1), row);
        const Acc kept = clear ? Acc(0) : Acc(to_float(value));
        state[State::hidden_plane] = kept;
        *block.next(next_chunks, place) =
            round_to<T>(v.drops_hidden ? kept * state[State::mask_plane] : kept);
    });
}

template <class Product, class G>
SEQFAST_KERNEL(256, 1)
projection_backward_stepwise_kernel(SEQFAST_GRID_CONSTANT ProjectionBackwardParams p,
                                    int next_chunks) {
    using T = typename Product::T;
    using Acc = typename Product::Acc;
    const StepBlock<Product, G> block(p.recurrence);
    const RecurrenceParams& r = p.recurrence;
    const Variant& v = p.variant;
    const int direction = block.direction;
    CellOf<ProjectionBackwardParams> cell(p);
    cell.start(direction, block.layer_unit());
    const auto write_first = [&](int64_t row, T value) {
        if (p.grad_hidden) static_cast<T*>(p.grad_hidden)[cell.state_at(row)] = value;
    };
    const auto finish_empty = [&](int64_t row) {
        write_first(row, round_to<T>(cell.template state_of<Acc, T>(p.grad_hidden_n, row)));
    };
    block.for_each_row(finish_empty, [&](const StepPlace& place) {
        const int64_t row = place.at.row;
        const int s = place.at.s;
        const int64_t t = time_of(s, place.at.length, direction == 0);
        const bool first = place.at.is_last(), clear = cell.resets(t, row);
        const Planes<Acc> state = block.planes(p.state, place);
        if (s == 0) {
            state[State::hidden_plane] = 0;
            state[State::mask_plane] = cell.template mask<Acc>(row);
        }
        Acc sum = r.staged ? sum_unit<G>(block.partial, place.n, block.unit) : Acc(0);
        if (v.drops_hidden) sum *= state[State::mask_plane];
        sum += state[State::hidden_plane];
        if (p.grad_output.data)
            sum += Acc(to_float(static_cast<const T*>(
                p.grad_output.data)[t * p.grad_output.step_stride + row * p.grad_output.row_stride +
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
                    clear   ? Acc(0)
                    : first ? cell.template state_of<Acc, T>(p.hidden, row)
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
        state[State::hidden_plane] = direct;
        if (first) write_first(row, round_to<T>(direct));
        const T grad =
            round_to<T>(sum * activation_slope<GpuMath<Acc>>(v.output_activation, value));
        static_cast<T*>(p.grad_projected)[cell.at(t, row, r.hidden_size) + cell.unit] = grad;
        *block.next(next_chunks, place) = grad;
    });
}

}  // namespace

void launch_stepwise_projection_forward(DType dtype, const ProjectionForwardParams& params,
                                        int next_chunks, Stream stream) {
    const auto kernel_of = [](auto product, auto geometry) {
        return projection_forward_stepwise_kernel<decltype(product), decltype(geometry)>;
    };
    launch_step<1>("rnn_forward: projection_forward_stepwise_kernel", dtype, kernel_of, params,
                   next_chunks, stream);
}

void launch_stepwise_projection_backward(DType dtype, const ProjectionBackwardParams& params,
                                         int next_chunks, Stream stream) {
    const auto kernel_of = [](auto product, auto geometry) {
        return projection_backward_stepwise_kernel<decltype(product), decltype(geometry)>;
    };
    launch_step<1>("rnn_backward: projection_backward_stepwise_kernel", dtype, kernel_of, params,
                   next_chunks, stream);
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
