// The GRU whose reset gate comes before the product, two launches a step: that of the gates, then
// that of the candidate.
#include "cuda/rnn/backward_cell.cuh"
#include "cuda/rnn/forward_cell.cuh"
#include "cuda/rnn/stepwise_product.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {
namespace {

// Planes beyond those of Gru. Forward: z before its activation. Backward: what reaches m through
// the candidate's product.
constexpr int extra_plane = 2;

template <bool second, class Product, class G>
SEQFAST_KERNEL(256, 1)
reset_before_forward_kernel(SEQFAST_GRID_CONSTANT ForwardParams p, int next_chunks) {
    using T = typename Product::T;
    using Acc = typename Product::Acc;
    using Math = GpuMath<Acc>;
    using Cell = ForwardCell<Gru, Product>;
    const RecurrenceParams& r = p.recurrence;
    const int direction = block_z(), s = r.step, size = r.hidden_size;
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
                if (s == 0 && !second) cell.finish_empty(row);
                continue;
            }
            const Planes<Acc> state = planes_of<G, Acc>(r, p.state, direction_pass, n, cell.unit);
            const int64_t t = time_of(s, length, direction == 1);
            if (s == 0 && !second) cell.begin(row, t, state);
            typename Cell::Ahead ahead;
            cell.load(ahead, t, row, s + 1 < length ? time_of(s + 1, length, direction == 1) : -1);
            const auto input = [&](int gate) {
                return Acc(to_float(ahead.input[gate])) + bias.at[gate];
            };
            Gates4<Acc> sum{};
            if (r.staged) sum = sum_outputs<G>(partial, n, unit);
            T sent;
            T* saved =
                p.gates ? static_cast<T*>(p.gates) + cell.at(t, row, int64_t(3) * size) + cell.unit
                        : nullptr;
            if constexpr (!second) {
                const Acc reset = Math::sigmoid(sum.at[0] + input(0));
                state[extra_plane] = sum.at[1] + input(1);
                const T multiplied = round_to<T>(state[Gru::hidden_plane] * state[Gru::mask_plane]);
                sent = round_to<T>(reset * Acc(to_float(multiplied)));
                // z's place may still hold its input, which the second launch does not need.
                if (saved) saved[0] = round_to<T>(reset);
            } else {
                StepInputs<Acc> inputs{};
                inputs.previous_hidden = state[Gru::hidden_plane];
                inputs.update_scale = update_scale<Acc>(p.variant, ahead.events);
                Acc z = state[extra_plane], candidate = sum.at[0] + input(2);
                const Acc hidden = GruCell<Math, true>::forward(p.variant.template real<Acc>().cell,
                                                                inputs, z, candidate);
                typename Cell::Result result{};
                result.hidden = cell.zoned(ahead, hidden, inputs.previous_hidden);
                sent = cell.advance(result, ahead, state);
                if (saved) {
                    saved[size] = round_to<T>(z);
                    saved[int64_t(2) * size] = round_to<T>(candidate);
                }
                static_cast<T*>(p.output)[cell.at(t, row, size) + cell.unit] = result.hidden;
                if (s == length - 1)
                    static_cast<T*>(p.hidden_n)[cell.state_at(row)] = result.hidden;
            }
            *row_element<T, G>(r.exchange, next_chunks, direction_pass, n, cell.unit) = sent;
        }
        block_sync();
    }
}

template <bool second, class Product, class G>
SEQFAST_KERNEL(256, 1)
reset_before_backward_kernel(SEQFAST_GRID_CONSTANT BackwardParams p, int next_chunks) {
    using T = typename Product::T;
    using Acc = typename Product::Acc;
    using Math = GpuMath<Acc>;
    using Cell = BackwardCell<Gru, Product>;
    const RecurrenceParams& r = p.recurrence;
    const Variant& v = p.variant;
    const int direction = block_z(), s = r.step, size = r.hidden_size;
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
                if (s == 0 && !second) cell.finish_empty(row);
                continue;
            }
            const Planes<Acc> state = planes_of<G, Acc>(r, p.state, direction_pass, n, cell.unit);
            if (s == 0 && !second) {
                cell.begin(row, state);
                state[extra_plane] = 0;
            }
            const int64_t t = time_of(s, length, direction == 0);
            const bool first = s == length - 1;
            typename Cell::Ahead ahead;
            cell.load(ahead, t, row, first);
            const bool clear = ahead.events & cleared;
            const Acc sum = r.staged ? sum_unit<G>(partial, n, unit) : Acc(0);
            T* grads =
                static_cast<T*>(p.grad_gates) + cell.at(t, row, int64_t(3) * size) + cell.unit;
            const Acc mask = state[Gru::mask_plane];
            if constexpr (!second) {
                Acc grad_hidden = (sum + state[extra_plane]) * mask + state[Gru::hidden_plane] +
                                  Acc(to_float(ahead.grad_output));
                if (s == 0) grad_hidden += cell.template state_of<Acc, T>(p.grad_hidden_n, row);
                Acc direct = 0;
                if (v.zones_hidden) {
                    direct = grad_hidden * hidden_share<Acc>(v, ahead.events);
                    grad_hidden -= direct;
                }
                StepInputs<Acc> inputs{};
                inputs.previous_hidden = to_float(ahead.previous_hidden);
                inputs.update_scale = update_scale<Acc>(v, ahead.events);
                Acc grad_z, grad_n;
                direct += GruCell<Math, true>::backward(
                    v.template real<Acc>().cell, inputs, Acc(to_float(ahead.gate[1])),
                    Acc(to_float(ahead.gate[2])), grad_hidden, grad_z, grad_n);
                state[Gru::hidden_plane] = clear ? Acc(0) : direct;
                grads[size] = round_to<T>(grad_z);
                grads[int64_t(2) * size] = round_to<T>(grad_n);
                *row_element<T, G>(r.exchange, next_chunks, direction_pass, n, cell.unit) =
                    round_to<T>(grad_n);
            } else {
                const Acc reset = to_float(ahead.gate[0]);
                const Acc multiplied =
                    to_float(round_to<T>(Acc(to_float(ahead.previous_hidden)) * mask));
                GateGradients<T> sent{};
                sent.gate[0] = round_to<T>(sum * multiplied * reset * (1 - reset));
                sent.gate[1] = grads[size];
                grads[0] = sent.gate[0];
                const Acc through = clear ? Acc(0) : sum * reset;
                state[extra_plane] = through;
                if (first && p.grad_hidden)
                    static_cast<T*>(p.grad_hidden)[cell.state_at(row)] =
                        round_to<T>(state[Gru::hidden_plane] + through * mask);
                if (clear) sent = GateGradients<T>{};
                store_gradients(reinterpret_cast<char*>(row_element<T, G>(
                                    r.exchange, next_chunks, direction_pass, n, 4 * cell.unit)),
                                sent);
            }
        }
        block_sync();
    }
}

}  // namespace

void launch_reset_before_forward(DType dtype, const ForwardParams& params, bool second,
                                 int next_chunks, Stream stream) {
    const auto gates = [](auto product, auto geometry) {
        return reset_before_forward_kernel<false, decltype(product), decltype(geometry)>;
    };
    const auto candidate = [](auto product, auto geometry) {
        return reset_before_forward_kernel<true, decltype(product), decltype(geometry)>;
    };
    if (second)
        launch_stepwise<1>("gru_forward: reset_before_forward_kernel (candidate)", dtype, candidate,
                           params, next_chunks, stream);
    else
        launch_stepwise<4>("gru_forward: reset_before_forward_kernel (gates)", dtype, gates, params,
                           next_chunks, stream);
}

void launch_reset_before_backward(DType dtype, const BackwardParams& params, bool second,
                                  int next_chunks, Stream stream) {
    const auto candidate = [](auto product, auto geometry) {
        return reset_before_backward_kernel<false, decltype(product), decltype(geometry)>;
    };
    const auto gates = [](auto product, auto geometry) {
        return reset_before_backward_kernel<true, decltype(product), decltype(geometry)>;
    };
    if (second)
        launch_stepwise<1>("gru_backward: reset_before_backward_kernel (reset gate)", dtype, gates,
                           params, next_chunks, stream);
    else
        launch_stepwise<1>("gru_backward: reset_before_backward_kernel (candidate)", dtype,
                           candidate, params, next_chunks, stream);
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
