// Cells whose step has a second product, two launches a step: that of the gates, then that of the
// candidate, which sees h[t-1] times the first gate, the factor.
#include "cuda/rnn/backward_cell.cuh"
#include "cuda/rnn/forward_cell.cuh"
#include "cuda/rnn/stepwise.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {
namespace {

// A plane beyond those of the family. Forward: the other gate before its activation. Backward: what
// reaches the hidden state through the candidate's product.
template <class Family>
constexpr int extra_plane = Family::planes;
static_assert(GruInTwo::inputs == 3, "the factor, one more gate, the candidate");

template <class Family, bool second, class Product, class G>
SEQFAST_KERNEL(256, 1)
second_product_forward_kernel(SEQFAST_GRID_CONSTANT ForwardParams p, int next_chunks) {
    using T = typename Product::T;
    using Acc = typename Product::Acc;
    using Cell = ForwardCell<Family, Product>;
    constexpr int gates = Family::inputs, extra = extra_plane<Family>;
    const StepBlock<Product, G> block(p.recurrence);
    const RecurrenceParams& r = p.recurrence;
    const int size = r.hidden_size;
    Cell cell(p);
    cell.start(block.direction, block.layer_unit());
    const Gates4<Acc> bias = cell.bias();
    const auto finish_empty = [&](int64_t row) {
        if (!second) cell.finish_empty(row);
    };
    block.for_each_row(finish_empty, [&](const StepPlace& place) {
        const int64_t row = place.at.row, t = cell.time(place.at.s, place.at.length);
        const Planes<Acc> state = block.planes(p.state, place);
        if (place.at.s == 0 && !second) cell.begin(row, place.at.length, state);
        typename Cell::Ahead ahead;
        cell.load(ahead, place.at);
        const auto input = [&](int gate) {
            return Acc(to_float(ahead.input[gate])) + bias.at[gate];
        };
        Gates4<Acc> sum{};
        if (r.staged) sum = sum_outputs<G>(block.partial, place.n, block.unit);
        T sent;
        T* saved =
            p.gates ? static_cast<T*>(p.gates) + cell.at(t, row, int64_t(gates) * size) + cell.unit
                    : nullptr;
        Family::with_cell(p.variant.kind, [&](auto of) {
            using Unit = typename decltype(of)::template Cell<GpuMath<Acc>, true>;
            if constexpr (!second) {
                Acc gate[gates - 1];
                SEQFAST_UNROLL
                for (int k = 0; k < gates - 1; ++k) gate[k] = sum.at[k] + input(k);
                const T multiplied =
                    round_to<T>(state[Family::hidden_plane] * state[Family::mask_plane]);
                sent = round_to<T>(Unit::forward_factor(gate[0], Acc(to_float(multiplied))));
                state[extra] = gate[1];
                // The candidate's place may still hold its input, which the second launch needs.
                if (saved) saved[0] = round_to<T>(gate[0]);
            } else {
                StepInputs<Acc> inputs{};
                inputs.previous_hidden = state[Family::hidden_plane];
                inputs.update_scale = update_scale<Acc>(p.variant, ahead.events);
                Acc gate[gates] = {Acc(0), state[extra], sum.at[0] + input(gates - 1)};
                const Acc hidden = Unit::forward(p.variant.template real<Acc>().cell, inputs, gate);
                typename Cell::Result result{};
                result.hidden = cell.zoned(ahead, hidden, inputs.previous_hidden);
                sent = cell.advance(result, ahead, state);
                if (saved) {
                    SEQFAST_UNROLL
                    for (int k = 1; k < gates; ++k) saved[int64_t(k) * size] = round_to<T>(gate[k]);
                }
                static_cast<T*>(p.output)[cell.at(t, row, size) + cell.unit] = result.hidden;
                if (place.at.is_last())
                    static_cast<T*>(p.hidden_n)[cell.state_at(row)] = result.hidden;
            }
        });
        *block.next(next_chunks, place) = sent;
    });
}

template <class Family, bool second, class Product, class G>
SEQFAST_KERNEL(256, 1)
second_product_backward_kernel(SEQFAST_GRID_CONSTANT BackwardParams p, int next_chunks) {
    using T = typename Product::T;
    using Acc = typename Product::Acc;
    using Cell = BackwardCell<Family, Product>;
    constexpr int gates = Family::inputs, extra = extra_plane<Family>;
    const StepBlock<Product, G> block(p.recurrence);
    const RecurrenceParams& r = p.recurrence;
    const Variant& v = p.variant;
    const int size = r.hidden_size;
    Cell cell(p);
    cell.start(block.direction, block.layer_unit());
    const auto finish_empty = [&](int64_t row) {
        if (!second) cell.finish_empty(row);
    };
    block.for_each_row(finish_empty, [&](const StepPlace& place) {
        const int64_t row = place.at.row, t = cell.time(place.at.s, place.at.length);
        const Planes<Acc> state = block.planes(p.state, place);
        if (place.at.s == 0 && !second) {
            cell.begin(row, place.at.length, state);
            state[extra] = 0;
        }
        typename Cell::Ahead ahead;
        cell.load(ahead, place.at);
        const bool clear = ahead.events & cleared;
        const Acc sum = r.staged ? sum_unit<G>(block.partial, place.n, block.unit) : Acc(0);
        T* grads =
            static_cast<T*>(p.grad_gates) + cell.at(t, row, int64_t(gates) * size) + cell.unit;
        const Acc mask = state[Family::mask_plane];
        Family::with_cell(v.kind, [&](auto of) {
            using Unit = typename decltype(of)::template Cell<GpuMath<Acc>, true>;
            if constexpr (!second) {
                Acc grad_hidden = (sum + state[extra]) * mask + state[Family::hidden_plane] +
                                  Acc(to_float(ahead.grad_output));
                if (place.at.s == 0)
                    grad_hidden += cell.template state_of<Acc, T>(p.grad_hidden_n, row);
                Acc direct = 0;
                if (v.zones_hidden) {
                    direct = grad_hidden * hidden_share<Acc>(v, ahead.events);
                    grad_hidden -= direct;
                }
                StepInputs<Acc> inputs{};
                inputs.previous_hidden = to_float(ahead.previous_hidden);
                inputs.update_scale = update_scale<Acc>(v, ahead.events);
                Acc gate[gates], grad[gates];
                SEQFAST_UNROLL
                for (int k = 0; k < gates; ++k) gate[k] = to_float(ahead.gate[k]);
                direct +=
                    Unit::backward(v.template real<Acc>().cell, inputs, gate, grad_hidden, grad);
                state[Family::hidden_plane] = clear ? Acc(0) : direct;
                SEQFAST_UNROLL
                for (int k = 1; k < gates; ++k) grads[int64_t(k) * size] = round_to<T>(grad[k]);
                *block.next(next_chunks, place) = round_to<T>(grad[gates - 1]);
            } else {
                const Acc multiplied =
                    to_float(round_to<T>(Acc(to_float(ahead.previous_hidden)) * mask));
                Acc grad_factor;
                const Acc reached = Unit::backward_factor(Acc(to_float(ahead.gate[0])), multiplied,
                                                          sum, grad_factor);
                GateGradients<T> sent{};
                sent.gate[0] = round_to<T>(grad_factor);
                SEQFAST_UNROLL
                for (int k = 1; k < gates - 1; ++k) sent.gate[k] = grads[int64_t(k) * size];
                grads[0] = sent.gate[0];
                const Acc through = clear ? Acc(0) : reached;
                state[extra] = through;
                if (place.at.is_last() && p.grad_hidden)
                    static_cast<T*>(p.grad_hidden)[cell.state_at(row)] =
                        round_to<T>(state[Family::hidden_plane] + through * mask);
                if (clear) sent = GateGradients<T>{};
                store_sent(block.next(next_chunks, place, Family::slots), sent);
            }
        });
    });
}

}  // namespace

void launch_second_product_forward(DType dtype, const ForwardParams& params, bool second,
                                   int next_chunks, Stream stream) {
    SecondProductFamilies::with_family(params.variant.kind, true, [&](auto family) {
        using Family = decltype(family);
        const auto gates = [](auto product, auto geometry) {
            return second_product_forward_kernel<Family, false, decltype(product),
                                                 decltype(geometry)>;
        };
        const auto candidate = [](auto product, auto geometry) {
            return second_product_forward_kernel<Family, true, decltype(product),
                                                 decltype(geometry)>;
        };
        if (second)
            launch_step<1>("rnn_forward: second_product_forward_kernel (candidate)", dtype,
                           candidate, params, next_chunks, stream);
        else
            launch_step<Family::slots>("rnn_forward: second_product_forward_kernel (gates)", dtype,
                                       gates, params, next_chunks, stream);
    });
}

void launch_second_product_backward(DType dtype, const BackwardParams& params, bool second,
                                    int next_chunks, Stream stream) {
    SecondProductFamilies::with_family(params.variant.kind, true, [&](auto family) {
        using Family = decltype(family);
        const auto candidate = [](auto product, auto geometry) {
            return second_product_backward_kernel<Family, false, decltype(product),
                                                  decltype(geometry)>;
        };
        const auto factor = [](auto product, auto geometry) {
            return second_product_backward_kernel<Family, true, decltype(product),
                                                  decltype(geometry)>;
        };
        if (second)
            launch_step<1>("rnn_backward: second_product_backward_kernel (factor)", dtype, factor,
                           params, next_chunks, stream);
        else
            launch_step<1>("rnn_backward: second_product_backward_kernel (candidate)", dtype,
                           candidate, params, next_chunks, stream);
    });
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
