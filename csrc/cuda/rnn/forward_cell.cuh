// One thread's part of the forward cell: loads ahead of the product, the cell after it.
#pragma once

#include <type_traits>

#include "cuda/rnn/kernels.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

template <class Family_, class Product>
struct ForwardCell : CellOf<ForwardParams> {
    using Family = Family_;
    using Params = ForwardParams;
    using T = typename Product::T;
    using Acc = typename Product::Acc;
    using Math = GpuMath<Acc>;
    using Sum = Gates4<Acc>;  // of a product
    using Sent = T;           // what the next product sees
    // Rows of weights of a unit, and its numbers in k.
    static constexpr int outputs = Family::slots, k_slots = 1;
    // The first step multiplies too, where there are first states.
    static constexpr bool first_step_multiplies = true;

    using CellOf<ForwardParams>::CellOf;

    SEQFAST_DEVICE int64_t time(int s, int length) const {
        return time_of(s, length, direction == 1);
    }
    template <class G>
    static SEQFAST_DEVICE Sum sum_of(const Acc* partial, int row, int unit) {
        return sum_outputs<G>(partial, row, unit);
    }

    SEQFAST_DEVICE void load_weights(Gates4<Acc>& to_bias, Gates4<Acc>& to_peephole) const {
        to_bias = bias();
        if constexpr (Family::has_cell && Family::general) to_peephole = peephole<Acc, T>();
    }
    SEQFAST_DEVICE Gates4<Acc> bias() const {
        Gates4<Acc> sum{};
        const T* const both[2] = {static_cast<const T*>(p.bias_ih[direction]),
                                  static_cast<const T*>(p.bias_hh[direction])};
        for (int b = 0; b < 2; ++b)
            if (both[b] && is_unit()) {
                SEQFAST_UNROLL
                for (int gate = 0; gate < Family::slots; ++gate)
                    if (gate < gate_count<Family>()) {
                        const Acc value =
                            to_float(both[b][int64_t(gate) * p.recurrence.hidden_size + unit]);
                        if (gate == Family::split_gate && b == 1 && splits_candidate<Family>())
                            sum.at[gate + 1] = value;
                        else
                            sum.at[gate] += value;
                    }
            }
        return sum;
    }

    // The states of a row before its first step.
    SEQFAST_DEVICE void begin(int64_t row, int length, const Planes<Acc>& state) const {
        const bool keeps = !Family::general || !resets(time(0, length), row);
        if constexpr (Family::has_cell)
            state[Family::cell_plane] = keeps ? state_of<Acc, T>(p.cell, row) : Acc(0);
        if constexpr (Family::general) {
            state[Family::hidden_plane] = keeps ? state_of<Acc, T>(p.hidden, row) : Acc(0);
            state[Family::mask_plane] = mask<Acc>(row);
        }
    }
    // The results of a row without steps: what it began with.
    SEQFAST_DEVICE void finish_empty(int64_t row) const {
        if (!is_unit()) return;
        const int64_t i = state_at(row);
        if (p.hidden_n)
            static_cast<T*>(p.hidden_n)[i] =
                p.hidden ? static_cast<const T*>(p.hidden)[i] : round_to<T>(Acc(0));
        if (p.cell_n)
            static_cast<T*>(p.cell_n)[i] =
                p.cell ? static_cast<const T*>(p.cell)[i] : round_to<T>(Acc(0));
    }

    struct Ahead {
        T input[Family::inputs];
        uint32_t events;  // `cleared`: the next step begins with zeros
    };
    SEQFAST_DEVICE void load(Ahead& ahead, const RowStep& at_step) const {
        const auto [row, s, length] = at_step;
        const int64_t t = time(s, length);
        const int size = p.recurrence.hidden_size, gates = gate_count<Family>();
        const T* from = static_cast<const T*>(p.product) + at(t, row, int64_t(gates) * size) + unit;
        SEQFAST_UNROLL
        for (int gate = 0; gate < Family::inputs; ++gate)
            if (gate < gates) ahead.input[gate] = from[int64_t(gate) * size];
        if constexpr (Family::general) ahead.events = events_of(at_step);
    }
    SEQFAST_DEVICE uint32_t events_of(const RowStep& at_step) const {
        const auto [row, s, length] = at_step;
        const int64_t next = s + 1 < length ? time(s + 1, length) : -1;
        return draw(time(s, length), row) | (next >= 0 && resets(next, row) ? cleared : 0u);
    }

    struct Result {
        Acc saved[Family::saved];
        Acc cell;
        T hidden;
    };
    // The pre-activations, but for a split candidate; what else the cell sees. peephole: i f o.
    SEQFAST_DEVICE void prepare(const Ahead& ahead, const Gates4<Acc>& sum,
                                const UnitWeights<Acc>& weights, const Planes<Acc>& state,
                                Acc (&before)[4], StepInputs<Acc>& inputs) const {
        SEQFAST_UNROLL
        for (int gate = 0; gate < Family::inputs; ++gate)
            before[gate] =
                gate < gate_count<Family>()
                    ? sum.at[gate] + (Acc(to_float(ahead.input[gate])) + weights.bias->at[gate])
                    : Acc(0);
        if constexpr (Family::has_cell) inputs.previous_cell = state[Family::cell_plane];
        if constexpr (Family::general) {
            inputs.previous_hidden = state[Family::hidden_plane];
            set_inputs(p.variant, p.variant.template real<Acc>().cell, ahead.events,
                       weights.peephole, inputs);
        }
    }
    SEQFAST_DEVICE T zoned(const Ahead& ahead, Acc hidden, Acc previous) const {
        if constexpr (Family::general)
            if (p.variant.zones_hidden)
                hidden += hidden_share<Acc>(p.variant, ahead.events) * (previous - hidden);
        return round_to<T>(hidden);
    }
    // `sum`: the product.
    SEQFAST_DEVICE Result step(const Ahead& ahead, const Gates4<Acc>& sum,
                               const UnitWeights<Acc>& weights, const Planes<Acc>& state,
                               const RowStep&) const {
        const CellOptions<Acc>& options = p.variant.template real<Acc>().cell;
        Acc before[4];
        StepInputs<Acc> inputs{};
        prepare(ahead, sum, weights, state, before, inputs);
        Result result{};
        const Acc hidden = Family::with_cell(p.variant.kind, [&](auto cell) {
            using Cell = decltype(cell);
            using Unit = typename Cell::template Cell<Math, Family::general>;
            constexpr int gates = Cell::traits().gates, saved = Cell::traits().saved();
            Acc gate[saved], value;
            SEQFAST_UNROLL
            for (int k = 0; k < gates; ++k) gate[k] = before[k];
            if constexpr (Cell::traits().has_split_candidate) {
                constexpr int last = gates - 1;
                gate[last] = Acc(to_float(ahead.input[last])) + weights.bias->at[last];
                gate[gates] = sum.at[last] + weights.bias->at[gates];
            }
            if constexpr (Family::has_cell)
                value = Unit::output(options, gate,
                                     Unit::move_cell(options, inputs, gate, result.cell));
            else
                value = Unit::forward(options, inputs, gate);
            SEQFAST_UNROLL
            for (int k = 0; k < saved; ++k) result.saved[k] = gate[k];
            return value;
        });
        result.hidden = zoned(ahead, hidden, inputs.previous_hidden);
        return result;
    }
    // Takes the states to the next step; what its product sees of the hidden state.
    SEQFAST_DEVICE T advance(const Result& result, const Ahead& ahead,
                             const Planes<Acc>& state) const {
        if constexpr (!Family::general) {
            state[Family::cell_plane] = result.cell;
            return result.hidden;
        } else {
            const bool clear = ahead.events & cleared;
            const Acc hidden = clear ? Acc(0) : Acc(to_float(result.hidden));
            if constexpr (Family::has_cell)
                state[Family::cell_plane] = clear ? Acc(0) : result.cell;
            state[Family::hidden_plane] = hidden;
            if (p.variant.drops_hidden) return round_to<T>(hidden * state[Family::mask_plane]);
            return round_to<T>(hidden);
        }
    }
    // Behind a projection it is no state, and nothing is masked.
    SEQFAST_DEVICE T handed_on(const Result& result, T sent) const {
        return p.output ? sent : result.hidden;
    }
    SEQFAST_DEVICE void write(const Result& result, const RowStep& at_step) const {
        const int64_t row = at_step.row, t = time(at_step.s, at_step.length);
        const int size = p.recurrence.hidden_size;
        const int64_t i = at(t, row, size) + unit;
        if (p.output) static_cast<T*>(p.output)[i] = result.hidden;
        if (Family::has_cell && p.cells) static_cast<Acc*>(p.cells)[i] = result.cell;
        if (p.gates) {
            const int saved = saved_count<Family>();
            T* to =
                static_cast<T*>(p.gates) + at(t, row, int64_t(kept_count<Family>()) * size) + unit;
            SEQFAST_UNROLL
            for (int k = 0; k < Family::saved; ++k)
                if (k < saved) to[int64_t(k) * size] = round_to<T>(result.saved[k]);
        }
        if (at_step.is_last()) {
            if (p.hidden_n) static_cast<T*>(p.hidden_n)[state_at(row)] = result.hidden;
            if (Family::has_cell)
                static_cast<T*>(p.cell_n)[state_at(row)] = round_to<T>(result.cell);
        }
    }

    // c[t] without zoneout, and its output gate.
    SEQFAST_DEVICE Acc move_cell(const StepInputs<Acc>& inputs, const Acc (&before)[4],
                                 Result& result, Acc& output_gate) const {
        const CellOptions<Acc>& options = p.variant.template real<Acc>().cell;
        return Family::with_cell(p.variant.kind, [&](auto cell) {
            using Unit = typename decltype(cell)::template Cell<Math, Family::general>;
            Acc gate[Unit::gates];
            SEQFAST_UNROLL
            for (int k = 0; k < Unit::gates; ++k) gate[k] = before[k];
            const Acc unzoned = Unit::move_cell(options, inputs, gate, result.cell);
            SEQFAST_UNROLL
            for (int k = 0; k < Unit::gates; ++k) result.saved[k] = gate[k];
            output_gate = gate[Unit::output_gate];
            return unzoned;
        });
    }
};

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
