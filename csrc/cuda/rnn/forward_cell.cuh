// One thread's part of the forward cell: loads ahead of the product, the cell after it.
#pragma once

#include <type_traits>

#include "cuda/rnn/kernels.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

template <class Cell, class Product>
struct ForwardCell : CellOf<ForwardParams> {
    using T = typename Product::T;
    using Acc = typename Product::Acc;
    using Math = GpuMath<Acc>;

    using CellOf<ForwardParams>::CellOf;

    // Of gru with reset after the product, n's share of the two products stays apart.
    SEQFAST_DEVICE bool parts_candidate() const {
        return std::is_same_v<Cell, Gru> && p.variant.kind == CellKind::gru;
    }

    SEQFAST_DEVICE Gates4<Acc> bias() const {
        Gates4<Acc> sum{};
        const T* const both[2] = {static_cast<const T*>(p.bias_ih[direction]),
                                  static_cast<const T*>(p.bias_hh[direction])};
        for (int b = 0; b < 2; ++b)
            if (both[b] && is_unit()) {
                SEQFAST_UNROLL
                for (int gate = 0; gate < Cell::slots; ++gate)
                    if (gate < gate_count<Cell>()) {
                        const Acc value =
                            to_float(both[b][int64_t(gate) * p.recurrence.hidden_size + unit]);
                        if (gate == 2 && b == 1 && parts_candidate())
                            sum.at[3] = value;
                        else
                            sum.at[gate] += value;
                    }
            }
        return sum;
    }

    // The states of a row before its first step, at t.
    SEQFAST_DEVICE void begin(int64_t row, int64_t t, const Planes<Acc>& state) const {
        const bool keeps = !Cell::general || !resets(t, row);
        if constexpr (Cell::has_cell)
            state[Cell::cell_plane] = keeps ? state_of<Acc, T>(p.cell, row) : Acc(0);
        if constexpr (Cell::general) {
            state[Cell::hidden_plane] = keeps ? state_of<Acc, T>(p.hidden, row) : Acc(0);
            state[Cell::mask_plane] = mask<Acc>(row);
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
        T input[Cell::inputs];
        uint32_t events;  // `cleared`: the next step begins with zeros
    };
    // next: the row's next step, -1 after its last.
    SEQFAST_DEVICE void load(Ahead& ahead, int64_t t, int64_t row, int64_t next) const {
        const int size = p.recurrence.hidden_size, gates = gate_count<Cell>();
        const T* from = static_cast<const T*>(p.product) + at(t, row, int64_t(gates) * size) + unit;
        SEQFAST_UNROLL
        for (int gate = 0; gate < Cell::inputs; ++gate)
            if (gate < gates) ahead.input[gate] = from[int64_t(gate) * size];
        if constexpr (Cell::general)
            ahead.events = draw(t, row) | (next >= 0 && resets(next, row) ? cleared : 0u);
    }

    struct Result {
        Acc saved[Cell::saved];
        Acc cell;
        T hidden;
    };
    // The pre-activations, but for gru's candidate; what else the cell sees. peephole: i f o.
    SEQFAST_DEVICE void prepare(const Ahead& ahead, const Gates4<Acc>& sum, const Gates4<Acc>& bias,
                                const Gates4<Acc>* peephole, const Planes<Acc>& state,
                                Acc (&before)[4], StepInputs<Acc>& inputs) const {
        const Variant& v = p.variant;
        const CellOptions<Acc>& options = v.real<Acc>().cell;
        SEQFAST_UNROLL
        for (int gate = 0; gate < Cell::inputs; ++gate)
            before[gate] = gate < gate_count<Cell>()
                               ? sum.at[gate] + (Acc(to_float(ahead.input[gate])) + bias.at[gate])
                               : Acc(0);
        if constexpr (Cell::has_cell) inputs.previous_cell = state[Cell::cell_plane];
        if constexpr (Cell::general) {
            inputs.previous_hidden = state[Cell::hidden_plane];
            if (options.update_dropout) inputs.update_scale = update_scale<Acc>(v, ahead.events);
            if (options.zoneout_cell) inputs.zoneout_cell = cell_share<Acc>(v, ahead.events);
            if (options.peephole) {
                SEQFAST_UNROLL
                for (int i = 0; i < 3; ++i) inputs.peephole[i] = peephole->at[i];
            }
        }
    }
    SEQFAST_DEVICE T zoned(const Ahead& ahead, Acc hidden, Acc previous) const {
        if constexpr (Cell::general)
            if (p.variant.zones_hidden)
                hidden += hidden_share<Acc>(p.variant, ahead.events) * (previous - hidden);
        return round_to<T>(hidden);
    }
    // `sum`: the product.
    SEQFAST_DEVICE Result step(const Ahead& ahead, const Gates4<Acc>& sum, const Gates4<Acc>& bias,
                               const Gates4<Acc>* peephole, const Planes<Acc>& state) const {
        const Variant& v = p.variant;
        const CellOptions<Acc>& options = v.real<Acc>().cell;
        Acc before[4];
        StepInputs<Acc> inputs{};
        prepare(ahead, sum, bias, peephole, state, before, inputs);
        Result result{};
        Acc hidden;
        if constexpr (Cell::has_cell) {
            if (Cell::general && v.kind == CellKind::lstm_three_gates)
                hidden = lstm<true>(options, inputs, before, result);
            else
                hidden = lstm<false>(options, inputs, before, result);
        } else if constexpr (std::is_same_v<Cell, Gru>) {
            using Unit = GruCell<Math, true>;
            if (v.kind == CellKind::gru) {
                Acc r = before[0], z = before[1], n = Acc(to_float(ahead.input[2])) + bias.at[2];
                const Acc n_h = sum.at[2] + bias.at[3];
                hidden = Unit::forward(options, inputs, r, z, n, n_h);
                result.saved[0] = r;
                result.saved[1] = z;
                result.saved[2] = n;
                result.saved[3] = n_h;
            } else {
                hidden = Unit::forward(options, inputs, before[0], before[1]);
                result.saved[0] = before[0];
                result.saved[1] = before[1];
            }
        } else {
            hidden = RnnCell<Math>::forward(options, before[0]);
            result.saved[0] = hidden;
        }
        result.hidden = zoned(ahead, hidden, inputs.previous_hidden);
        return result;
    }
    // Takes the states to the next step; what its product sees of the hidden state.
    SEQFAST_DEVICE T advance(const Result& result, const Ahead& ahead,
                             const Planes<Acc>& state) const {
        if constexpr (!Cell::general) {
            state[Cell::cell_plane] = result.cell;
            return result.hidden;
        } else {
            const bool clear = ahead.events & cleared;
            const Acc hidden = clear ? Acc(0) : Acc(to_float(result.hidden));
            if constexpr (Cell::has_cell) state[Cell::cell_plane] = clear ? Acc(0) : result.cell;
            state[Cell::hidden_plane] = hidden;
            if (p.variant.drops_hidden) return round_to<T>(hidden * state[Cell::mask_plane]);
            return round_to<T>(hidden);
        }
    }
    SEQFAST_DEVICE void write(const Result& result, int64_t t, int64_t row, bool last) const {
        const int size = p.recurrence.hidden_size;
        const int64_t i = at(t, row, size) + unit;
        if (p.output) static_cast<T*>(p.output)[i] = result.hidden;
        if (Cell::has_cell && p.cells) static_cast<Acc*>(p.cells)[i] = result.cell;
        if (p.gates) {
            const int saved = saved_count<Cell>();
            T* to =
                static_cast<T*>(p.gates) + at(t, row, int64_t(kept_count<Cell>()) * size) + unit;
            SEQFAST_UNROLL
            for (int k = 0; k < Cell::saved; ++k)
                if (k < saved) to[int64_t(k) * size] = round_to<T>(result.saved[k]);
        }
        if (last) {
            if (p.hidden_n) static_cast<T*>(p.hidden_n)[state_at(row)] = result.hidden;
            if (Cell::has_cell) static_cast<T*>(p.cell_n)[state_at(row)] = round_to<T>(result.cell);
        }
    }

    // c[t] without zoneout, and its output gate.
    template <bool three_gates>
    static SEQFAST_DEVICE Acc move_cell(const CellOptions<Acc>& options,
                                        const StepInputs<Acc>& inputs, const Acc (&before)[4],
                                        Result& result, Acc& output_gate) {
        using Unit = LstmCell<Math, three_gates, Cell::general>;
        Acc gate[Unit::gates];
        SEQFAST_UNROLL
        for (int k = 0; k < Unit::gates; ++k) gate[k] = before[k];
        const Acc unzoned = Unit::move_cell(options, inputs, gate, result.cell);
        SEQFAST_UNROLL
        for (int k = 0; k < Unit::gates; ++k) result.saved[k] = gate[k];
        output_gate = gate[Unit::O];
        return unzoned;
    }

  private:
    template <bool three_gates>
    static SEQFAST_DEVICE Acc lstm(const CellOptions<Acc>& options, const StepInputs<Acc>& inputs,
                                   const Acc (&before)[4], Result& result) {
        Acc output_gate;
        const Acc unzoned = move_cell<three_gates>(options, inputs, before, result, output_gate);
        return output_gate * Math::tanh(unzoned);
    }
};

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
