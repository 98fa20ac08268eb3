// One thread's part of the backward cell: loads ahead of the product, the cell after it.
#pragma once

#include <type_traits>

#include "cuda/rnn/kernels.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

// A row's step s is the s-th from its end; what travels is the gradient of a step's
// pre-activations.
template <class Family_, class Product>
struct BackwardCell : CellOf<BackwardParams> {
    using Family = Family_;
    using Params = BackwardParams;
    using T = typename Product::T;
    using Acc = typename Product::Acc;
    using Math = GpuMath<Acc>;
    using Sum = Acc;  // of a product
    // What the next product sees.
    using Sent = std::conditional_t<Family::slots == 1, T, GateGradients<T>>;
    // Rows of weights of a unit, and its numbers in k.
    static constexpr int outputs = 1, k_slots = Family::slots;
    static constexpr bool first_step_multiplies = false;

    using CellOf<BackwardParams>::CellOf;

    SEQFAST_DEVICE int64_t time(int s, int length) const {
        return time_of(s, length, direction == 0);
    }
    template <class G>
    static SEQFAST_DEVICE Sum sum_of(const Acc* partial, int row, int unit) {
        return sum_unit<G>(partial, row, unit);
    }

    SEQFAST_DEVICE void load_weights(Gates4<Acc>&, Gates4<Acc>& to_peephole) const {
        if constexpr (Family::has_cell && Family::general) to_peephole = peephole<Acc, T>();
    }

    // What reaches the row's last states from outside; the hidden one's joins at its last step.
    SEQFAST_DEVICE void begin(int64_t row, int, const Planes<Acc>& state) const {
        if constexpr (Family::has_cell)
            state[Family::cell_plane] = state_of<Acc, T>(p.grad_cell_n, row);
        if constexpr (Family::general) {
            state[Family::hidden_plane] = 0;
            state[Family::mask_plane] = mask<Acc>(row);
        }
    }
    // Of a row without steps: what came to its end.
    SEQFAST_DEVICE void finish_empty(int64_t row) const {
        write_states(row, Family::has_cell ? state_of<Acc, T>(p.grad_cell_n, row) : Acc(0),
                     state_of<Acc, T>(p.grad_hidden_n, row));
    }

    struct Ahead {
        T gate[Family::saved];
        T grad_output;
        T previous_hidden;  // where the cell carries it on
        Acc cell, previous_cell;
        uint32_t events;  // `cleared`: the step begins with zeros
    };
    SEQFAST_DEVICE void load(Ahead& ahead, const RowStep& at_step) const {
        const int64_t row = at_step.row, t = time(at_step.s, at_step.length);
        const bool first = at_step.is_last();  // of the sequence
        const int size = p.recurrence.hidden_size, saved = saved_count<Family>();
        const T* gates = static_cast<const T*>(p.gates) +
                         at(t, row, int64_t(kept_count<Family>()) * size) + unit;
        SEQFAST_UNROLL
        for (int k = 0; k < Family::saved; ++k)
            if (k < saved) ahead.gate[k] = gates[int64_t(k) * size];
        const int64_t i = at(t, row, size) + unit;
        const int64_t before = at(direction ? t + 1 : t - 1, row, size) + unit;
        bool clear = false;
        if constexpr (Family::general) {
            clear = resets(t, row);
            ahead.events = draw(t, row) | (clear ? cleared : 0u);
        }
        if constexpr (Family::has_cell) {
            const Acc* cells = static_cast<const Acc*>(p.cells);
            ahead.cell = cells[i];
            ahead.previous_cell = clear   ? Acc(0)
                                  : first ? state_of<Acc, T>(p.cell, row)
                                          : cells[before];
        }
        if constexpr (Family::carries_hidden)
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
        T candidate;             // a split one as the input sees it
        bool cleared;
        Acc peephole[3];
        Acc cell, hidden;  // what reaches the states of the step before past the product
        Acc unprojected;
    };
    // What the output's activation sees, and what reaches the cell through it; with layer
    // normalisation another pair takes its place.
    struct Plain {
        SEQFAST_DEVICE Acc operator()(Acc unzoned) const { return unzoned; }
        SEQFAST_DEVICE Acc operator()(Acc, Acc grad) const { return grad; }
    };
    // `sum`: the product.
    SEQFAST_DEVICE Result step(const Ahead& ahead, Acc sum, const UnitWeights<Acc>& weights,
                               const Planes<Acc>& state, const RowStep& at_step) const {
        return step(ahead, sum, weights.peephole, state, at_step, Plain{}, Plain{});
    }
    template <class Normalise, class Through>
    SEQFAST_DEVICE Result step(const Ahead& ahead, Acc sum, const Gates4<Acc>* peephole,
                               const Planes<Acc>& state, const RowStep& at_step,
                               const Normalise& normalise, const Through& through) const {
        const int64_t row = at_step.row, t = time(at_step.s, at_step.length);
        const Variant& v = p.variant;
        CellOptions<Acc> options = v.real<Acc>().cell;
        Result result{};
        const Acc grad_hidden =
            reaches_hidden(ahead, sum, state, row, at_step.s == 0, result.hidden);
        StepInputs<Acc> inputs{};
        if constexpr (Family::general) {
            result.cleared = ahead.events & cleared;
            set_inputs(v, options, ahead.events, peephole, inputs);
        }
        Acc saved[Family::saved];
        SEQFAST_UNROLL
        for (int k = 0; k < Family::saved; ++k) saved[k] = Acc(to_float(ahead.gate[k]));
        Acc grads[4] = {0, 0, 0, 0};
        if constexpr (Family::has_cell) {
            inputs.previous_cell = ahead.previous_cell;
            result.cell = state[Family::cell_plane];
            if (p.grad_cells)
                result.cell += static_cast<const Acc*>(
                    p.grad_cells)[at(t, row, p.recurrence.hidden_size) + unit];
            if constexpr (Family::general)
                if (options.gate_clip > 0) {
                    // As the forward pass saved them, and as it might have been rounded there.
                    constexpr Acc roundings = sizeof(Acc) == 8 ? 1e-15 : 5e-7;
                    options.sigmoid_low =
                        saved_as(Math::sigmoid(-options.gate_clip) * (1 + roundings));
                    options.sigmoid_high =
                        saved_as(Math::sigmoid(options.gate_clip) * (1 - roundings));
                    options.tanh_high = saved_as(Math::tanh(options.gate_clip) * (1 - roundings));
                }
        }
        if constexpr (Family::carries_hidden)
            inputs.previous_hidden = Acc(to_float(ahead.previous_hidden));
        Family::with_cell(v.kind, [&](auto cell) {
            using Cell = decltype(cell);
            using Unit = typename Cell::template Cell<Math, Family::general>;
            constexpr int gates = Cell::traits().gates, count = Cell::traits().saved();
            Acc gate[count], grad[count];
            SEQFAST_UNROLL
            for (int k = 0; k < count; ++k) gate[k] = saved[k];
            if constexpr (Family::has_cell) {
                // result.cell comes in as what reaches c[t] from outside the step.
                const Acc unzoned = Unit::unzoned_cell(options, inputs, gate, ahead.cell);
                const Acc activated = Unit::activated(options, normalise(unzoned));
                result.unprojected = Unit::output_of_activated(gate, activated);
                const Acc grad_unzoned =
                    through(unzoned, Unit::grad_of_cell(options, gate, activated, grad_hidden));
                Unit::backward(options, inputs, gate, unzoned, activated, grad_hidden, grad_unzoned,
                               result.cell, grad, result.peephole);
            } else {
                const Acc direct = Unit::backward(options, inputs, gate, grad_hidden, grad);
                if constexpr (Family::carries_hidden) result.hidden += direct;
                // A single gate is the cell's result.
                if constexpr (gates == 1) result.unprojected = gate[0];
            }
            SEQFAST_UNROLL
            for (int k = 0; k < gates; ++k) grads[k] = grad[k];
            if constexpr (Cell::traits().has_split_candidate) {
                result.candidate = round_to<T>(grad[gates - 1]);
                grads[gates - 1] = grad[gates];
            }
        });
        SEQFAST_UNROLL
        for (int k = 0; k < 4; ++k) result.gates.gate[k] = round_to<T>(grads[k]);
        if (result.cleared) result.cell = result.hidden = 0;
        return result;
    }
    // Takes the states to the step before; what its product sees.
    SEQFAST_DEVICE Sent advance(const Result& result, const Ahead&,
                                const Planes<Acc>& state) const {
        if constexpr (Family::has_cell) state[Family::cell_plane] = result.cell;
        if constexpr (Family::general) {
            state[Family::hidden_plane] = result.hidden;
            if (result.cleared) return Sent{};
        }
        if constexpr (Family::slots == 1)
            return result.gates.gate[0];
        else
            return result.gates;
    }
    SEQFAST_DEVICE Sent handed_on(const Result&, const Sent& sent) const { return sent; }
    SEQFAST_DEVICE void write(const Result& result, const RowStep& at_step) const {
        const int64_t row = at_step.row, t = time(at_step.s, at_step.length);
        const int size = p.recurrence.hidden_size, saved = saved_count<Family>();
        T* to = static_cast<T*>(p.grad_gates) + at(t, row, int64_t(saved) * size) + unit;
        bool splits = false;
        if constexpr (Family::split_gate >= 0) {
            splits = splits_candidate<Family>();
            if (splits) {
                to[0] = result.candidate;
                to += size;
            }
        }
        SEQFAST_UNROLL
        for (int k = 0; k < Family::saved; ++k)
            if (k < saved - int(splits)) to[int64_t(k) * size] = result.gates.gate[k];
        if constexpr (Family::has_cell && Family::general)
            if (p.grad_peephole) {
                Acc* shares = static_cast<Acc*>(p.grad_peephole) + at(t, row, int64_t(3) * size);
                SEQFAST_UNROLL
                for (int k = 0; k < 3; ++k) shares[int64_t(k) * size + unit] = result.peephole[k];
            }
        if (p.unprojected)
            static_cast<T*>(p.unprojected)[at(t, row, size) + unit] =
                round_to<T>(result.unprojected);
        if (at_step.is_last()) write_states(row, result.cell, result.hidden);
    }

    // With layer normalisation, before `step`: what reaches the normalised cell.
    struct ThroughCell {
        Acc unzoned, grad_normalised;
    };
    template <class Normalise>
    SEQFAST_DEVICE ThroughCell through_cell(const Ahead& ahead, Acc sum, const Planes<Acc>& state,
                                            const RowStep& at_step,
                                            const Normalise& normalise) const {
        const CellOptions<Acc>& options = p.variant.template real<Acc>().cell;
        Acc kept;
        const Acc grad_hidden =
            reaches_hidden(ahead, sum, state, at_step.row, at_step.s == 0, kept);
        StepInputs<Acc> inputs{};
        inputs.previous_cell = ahead.previous_cell;
        if (options.update_dropout)
            inputs.update_scale = update_scale<Acc>(p.variant, ahead.events);
        if (options.cell_dropout) inputs.cell_scale = cell_scale<Acc>(p.variant, ahead.events);
        return Family::with_cell(p.variant.kind, [&](auto cell) {
            using Unit = typename decltype(cell)::template Cell<Math, Family::general>;
            Acc gate[Unit::gates];
            SEQFAST_UNROLL
            for (int k = 0; k < Unit::gates; ++k) gate[k] = Acc(to_float(ahead.gate[k]));
            const Acc unzoned = Unit::unzoned_cell(options, inputs, gate, ahead.cell);
            const Acc activated = Unit::activated(options, normalise(unzoned));
            return ThroughCell{unzoned, Unit::grad_of_cell(options, gate, activated, grad_hidden)};
        });
    }

  private:
    // What reaches the cell's result; `kept`: what zoneout takes past it.
    SEQFAST_DEVICE Acc reaches_hidden(const Ahead& ahead, Acc sum, const Planes<Acc>& state,
                                      int64_t row, bool last, Acc& kept) const {
        const Variant& v = p.variant;
        Acc grad_hidden = sum;
        if constexpr (Family::general) {
            if (v.drops_hidden) grad_hidden *= state[Family::mask_plane];
            grad_hidden += state[Family::hidden_plane];
        }
        grad_hidden += Acc(to_float(ahead.grad_output));
        if (last && p.grad_hidden_n)
            grad_hidden += Acc(to_float(static_cast<const T*>(p.grad_hidden_n)[state_at(row)]));
        kept = 0;
        if constexpr (Family::general)
            if (v.zones_hidden) {
                kept = grad_hidden * hidden_share<Acc>(v, ahead.events);
                grad_hidden -= kept;
            }
        return grad_hidden;
    }
    static SEQFAST_DEVICE Acc saved_as(Acc x) { return to_float(round_to<T>(x)); }

    SEQFAST_DEVICE void write_states(int64_t row, Acc cell, Acc hidden) const {
        if (!is_unit()) return;
        if (p.grad_cell) static_cast<T*>(p.grad_cell)[state_at(row)] = round_to<T>(cell);
        if (p.grad_hidden) static_cast<T*>(p.grad_hidden)[state_at(row)] = round_to<T>(hidden);
    }
};

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
