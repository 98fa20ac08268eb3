// One thread's part of the backward cell: loads ahead of the product, the cell after it.
#pragma once

#include <type_traits>

#include "cuda/rnn/kernels.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

template <class Cell, class Product>
struct BackwardCell : CellOf<BackwardParams> {
    using T = typename Product::T;
    using Acc = typename Product::Acc;
    using Math = GpuMath<Acc>;

    using CellOf<BackwardParams>::CellOf;

    // What reaches the row's last states from outside; the hidden one's joins at its last step.
    SEQFAST_DEVICE void begin(int64_t row, const Planes<Acc>& state) const {
        if constexpr (Cell::has_cell)
            state[Cell::cell_plane] = state_of<Acc, T>(p.grad_cell_n, row);
        if constexpr (Cell::general) {
            state[Cell::hidden_plane] = 0;
            state[Cell::mask_plane] = mask<Acc>(row);
        }
    }
    // Of a row without steps: what came to its end.
    SEQFAST_DEVICE void finish_empty(int64_t row) const {
        write_states(row, Cell::has_cell ? state_of<Acc, T>(p.grad_cell_n, row) : Acc(0),
                     state_of<Acc, T>(p.grad_hidden_n, row));
    }

    struct Ahead {
        T gate[Cell::saved];
        T grad_output;
        T previous_hidden;  // of gru
        Acc cell, previous_cell;
        uint32_t events;  // `cleared`: the step begins with zeros
    };
    // first: whether t is the row's first step of the sequence in its direction.
    SEQFAST_DEVICE void load(Ahead& ahead, int64_t t, int64_t row, bool first) const {
        const int size = p.recurrence.hidden_size, saved = saved_count<Cell>();
        const T* gates =
            static_cast<const T*>(p.gates) + at(t, row, int64_t(kept_count<Cell>()) * size) + unit;
        SEQFAST_UNROLL
        for (int k = 0; k < Cell::saved; ++k)
            if (k < saved) ahead.gate[k] = gates[int64_t(k) * size];
        const int64_t i = at(t, row, size) + unit;
        const int64_t before = at(direction ? t + 1 : t - 1, row, size) + unit;
        bool clear = false;
        if constexpr (Cell::general) {
            clear = resets(t, row);
            ahead.events = draw(t, row) | (clear ? cleared : 0u);
        }
        if constexpr (Cell::has_cell) {
            const Acc* cells = static_cast<const Acc*>(p.cells);
            ahead.cell = cells[i];
            ahead.previous_cell = clear   ? Acc(0)
                                  : first ? state_of<Acc, T>(p.cell, row)
                                          : cells[before];
        }
        if constexpr (std::is_same_v<Cell, Gru>)
            ahead.previous_hidden = clear   ? round_to<T>(Acc(0))
                                    : first ? round_to<T>(state_of<Acc, T>(p.hidden, row))
                                            : static_cast<const T*>(p.output)[before];
        ahead.grad_output =
            p.grad_output.data
                ? static_cast<const T*>(p.grad_output.data)[t * p.grad_output.step_stride +
                                                            row * p.grad_output.row_stride +
                                                            int64_t(direction) * size + unit]
                : round_to<T>(Acc(0));
    }

    struct Result {
        GateGradients<T> gates;  // as the recurrent product sees them
        T candidate;             // of gru: n's as the input sees it
        bool cleared;
        Acc peephole[3];
        Acc cell, hidden;  // what reaches the states of the step before past the product
        Acc unprojected;
    };
    // What the tanh of the cell sees, and what reaches the cell through it; with layer
    // normalisation another pair takes its place.
    struct Plain {
        SEQFAST_DEVICE Acc operator()(Acc unzoned) const { return unzoned; }
        SEQFAST_DEVICE Acc operator()(Acc, Acc grad) const { return grad; }
    };
    // `sum`: the product; `last`: whether t is the row's last step of the sequence.
    SEQFAST_DEVICE Result step(const Ahead& ahead, Acc sum, const Gates4<Acc>* peephole,
                               const Planes<Acc>& state, int64_t t, int64_t row, bool last) const {
        return step(ahead, sum, peephole, state, t, row, last, Plain{}, Plain{});
    }
    template <class Normalise, class Through>
    SEQFAST_DEVICE Result step(const Ahead& ahead, Acc sum, const Gates4<Acc>* peephole,
                               const Planes<Acc>& state, int64_t t, int64_t row, bool last,
                               const Normalise& normalise, const Through& through) const {
        const Variant& v = p.variant;
        CellOptions<Acc> options = v.real<Acc>().cell;
        Result result{};
        Acc grad_hidden = reaches_hidden(ahead, sum, state, row, last, result.hidden);
        StepInputs<Acc> inputs{};
        if constexpr (Cell::general) {
            result.cleared = ahead.events & cleared;
            if (options.update_dropout) inputs.update_scale = update_scale<Acc>(v, ahead.events);
            if (options.zoneout_cell) inputs.zoneout_cell = cell_share<Acc>(v, ahead.events);
            if (options.peephole) {
                SEQFAST_UNROLL
                for (int i = 0; i < 3; ++i) inputs.peephole[i] = peephole->at[i];
            }
        }
        Acc gate[Cell::saved];
        SEQFAST_UNROLL
        for (int k = 0; k < Cell::saved; ++k) gate[k] = Acc(to_float(ahead.gate[k]));
        Acc grad[4] = {0, 0, 0, 0};
        if constexpr (Cell::has_cell) {
            inputs.previous_cell = ahead.previous_cell;
            result.cell = state[Cell::cell_plane];
            if (p.grad_cells)
                result.cell += static_cast<const Acc*>(
                    p.grad_cells)[at(t, row, p.recurrence.hidden_size) + unit];
            if constexpr (Cell::general)
                if (options.gate_clip > 0) {
                    // As the forward pass saved them, and as it might have been rounded there.
                    constexpr Acc roundings = sizeof(Acc) == 8 ? 1e-15 : 5e-7;
                    options.sigmoid_low =
                        saved_as(Math::sigmoid(-options.gate_clip) * (1 + roundings));
                    options.sigmoid_high =
                        saved_as(Math::sigmoid(options.gate_clip) * (1 - roundings));
                    options.tanh_high = saved_as(Math::tanh(options.gate_clip) * (1 - roundings));
                }
            if (Cell::general && v.kind == CellKind::lstm_three_gates)
                lstm<true>(options, inputs, gate, ahead.cell, grad_hidden, grad, result, normalise,
                           through);
            else
                lstm<false>(options, inputs, gate, ahead.cell, grad_hidden, grad, result, normalise,
                            through);
        } else if constexpr (std::is_same_v<Cell, Gru>) {
            using Unit = GruCell<Math, true>;
            inputs.previous_hidden = Acc(to_float(ahead.previous_hidden));
            if (v.kind == CellKind::gru) {
                Acc grad_n;
                result.hidden += Unit::backward(options, inputs, gate[0], gate[1], gate[2], gate[3],
                                                grad_hidden, grad[0], grad[1], grad_n, grad[2]);
                result.candidate = round_to<T>(grad_n);
            } else {
                result.hidden += Unit::backward(options, inputs, gate[0], gate[1], grad_hidden,
                                                grad[0], grad[1]);
            }
        } else {
            grad[0] = RnnCell<Math>::backward(options, gate[0], grad_hidden);
            result.unprojected = gate[0];
        }
        SEQFAST_UNROLL
        for (int k = 0; k < 4; ++k) result.gates.gate[k] = round_to<T>(grad[k]);
        if (result.cleared) result.cell = result.hidden = 0;
        return result;
    }
    // Takes the states to the step before; what its product sees.
    SEQFAST_DEVICE GateGradients<T> advance(const Result& result, const Planes<Acc>& state) const {
        if constexpr (Cell::has_cell) state[Cell::cell_plane] = result.cell;
        if constexpr (Cell::general) {
            state[Cell::hidden_plane] = result.hidden;
            if (result.cleared) return GateGradients<T>{};
        }
        return result.gates;
    }
    // `first`: whether t is the row's first step of the sequence.
    SEQFAST_DEVICE void write(const Result& result, int64_t t, int64_t row, bool first) const {
        const int size = p.recurrence.hidden_size, saved = saved_count<Cell>();
        T* to = static_cast<T*>(p.grad_gates) + at(t, row, int64_t(saved) * size) + unit;
        bool parted = false;
        if constexpr (std::is_same_v<Cell, Gru>) {
            parted = p.variant.kind == CellKind::gru;
            if (parted) {
                to[0] = result.candidate;
                to += size;
            }
        }
        SEQFAST_UNROLL
        for (int k = 0; k < Cell::saved; ++k)
            if (k < saved - int(parted)) to[int64_t(k) * size] = result.gates.gate[k];
        if constexpr (Cell::has_cell && Cell::general)
            if (p.grad_peephole) {
                Acc* shares = static_cast<Acc*>(p.grad_peephole) + at(t, row, int64_t(3) * size);
                SEQFAST_UNROLL
                for (int k = 0; k < 3; ++k) shares[int64_t(k) * size + unit] = result.peephole[k];
            }
        if (p.unprojected)
            static_cast<T*>(p.unprojected)[at(t, row, size) + unit] =
                round_to<T>(result.unprojected);
        if (first) write_states(row, result.cell, result.hidden);
    }

    // With layer normalisation, before `step`: what reaches the normalised cell.
    struct ThroughCell {
        Acc unzoned, grad_normalised;
    };
    template <class Normalise>
    SEQFAST_DEVICE ThroughCell through_cell(const Ahead& ahead, Acc sum, const Planes<Acc>& state,
                                            int64_t row, bool last,
                                            const Normalise& normalise) const {
        const bool three = p.variant.kind == CellKind::lstm_three_gates;
        const CellOptions<Acc>& options = p.variant.template real<Acc>().cell;
        Acc kept, gate[Cell::saved];
        const Acc grad_hidden = reaches_hidden(ahead, sum, state, row, last, kept);
        SEQFAST_UNROLL
        for (int k = 0; k < Cell::saved; ++k)
            gate[k] = k < saved_count<Cell>() ? Acc(to_float(ahead.gate[k])) : Acc(0);
        StepInputs<Acc> inputs{};
        inputs.previous_cell = ahead.previous_cell;
        if (options.update_dropout)
            inputs.update_scale = update_scale<Acc>(p.variant, ahead.events);
        const Acc unzoned = three ? unzoned_of<true>(options, inputs, gate, ahead.cell)
                                  : unzoned_of<false>(options, inputs, gate, ahead.cell);
        const Acc tanh_cell = Math::tanh(normalise(unzoned));
        const Acc output_gate = three ? gate[2] : gate[3];
        return {unzoned, grad_hidden * output_gate * (1 - tanh_cell * tanh_cell)};
    }

  private:
    // What reaches the cell's result; `kept`: what zoneout takes past it.
    SEQFAST_DEVICE Acc reaches_hidden(const Ahead& ahead, Acc sum, const Planes<Acc>& state,
                                      int64_t row, bool last, Acc& kept) const {
        const Variant& v = p.variant;
        Acc grad_hidden = sum;
        if constexpr (Cell::general) {
            if (v.drops_hidden) grad_hidden *= state[Cell::mask_plane];
            grad_hidden += state[Cell::hidden_plane];
        }
        grad_hidden += Acc(to_float(ahead.grad_output));
        if (last && p.grad_hidden_n)
            grad_hidden += Acc(to_float(static_cast<const T*>(p.grad_hidden_n)[state_at(row)]));
        kept = 0;
        if constexpr (Cell::general)
            if (v.zones_hidden) {
                kept = grad_hidden * hidden_share<Acc>(v, ahead.events);
                grad_hidden -= kept;
            }
        return grad_hidden;
    }
    template <bool three_gates>
    static SEQFAST_DEVICE Acc unzoned_of(const CellOptions<Acc>& options,
                                         const StepInputs<Acc>& inputs,
                                         const Acc (&saved)[Cell::saved], Acc cell) {
        using Unit = LstmCell<Math, three_gates, Cell::general>;
        Acc gate[Unit::gates];
        SEQFAST_UNROLL
        for (int k = 0; k < Unit::gates; ++k) gate[k] = saved[k];
        return Unit::unzoned_cell(options, inputs, gate, cell);
    }
    static SEQFAST_DEVICE Acc saved_as(Acc x) { return to_float(round_to<T>(x)); }

    SEQFAST_DEVICE void write_states(int64_t row, Acc cell, Acc hidden) const {
        if (!is_unit()) return;
        if (p.grad_cell) static_cast<T*>(p.grad_cell)[state_at(row)] = round_to<T>(cell);
        if (p.grad_hidden) static_cast<T*>(p.grad_hidden)[state_at(row)] = round_to<T>(hidden);
    }

    // result.cell comes in as what reaches c[t] from outside the step.
    template <bool three_gates, class Normalise, class Through>
    static SEQFAST_DEVICE void lstm(const CellOptions<Acc>& options, const StepInputs<Acc>& inputs,
                                    const Acc (&saved)[Cell::saved], Acc cell, Acc grad_hidden,
                                    Acc (&grads)[4], Result& result, const Normalise& normalise,
                                    const Through& through) {
        using Unit = LstmCell<Math, three_gates, Cell::general>;
        Acc gate[Unit::gates], grad[Unit::gates];
        SEQFAST_UNROLL
        for (int k = 0; k < Unit::gates; ++k) gate[k] = saved[k];
        const Acc unzoned = Unit::unzoned_cell(options, inputs, gate, cell);
        const Acc tanh_cell = Math::tanh(normalise(unzoned));
        result.unprojected = gate[Unit::O] * tanh_cell;
        const Acc grad_unzoned =
            through(unzoned, grad_hidden * gate[Unit::O] * (1 - tanh_cell * tanh_cell));
        Unit::backward(options, inputs, gate, unzoned, tanh_cell, grad_hidden, grad_unzoned,
                       result.cell, grad, result.peephole);
        SEQFAST_UNROLL
        for (int k = 0; k < Unit::gates; ++k) grads[k] = grad[k];
    }
};

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
