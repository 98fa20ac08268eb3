// Recurrences with layer normalisation, two launches a step: the product, then one block for each
// row of the batch, which has to see all of a row before the cell.
#include "cuda/rnn/backward_cell.cuh"
#include "cuda/rnn/forward_cell.cuh"
#include "cuda/rnn/stepwise.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {
namespace {

// Planes beyond those of a family with a cell: the cell before it is normalised, the output gate.
constexpr int unzoned_plane = 3, gate_plane = 4;

// The product alone, to raw [direction][row of all passes][output][unit].
template <class Product, class G>
SEQFAST_KERNEL(256, 1)
raw_product_kernel(SEQFAST_GRID_CONSTANT RecurrenceParams r, void* raw) {
    using Acc = typename Product::Acc;
    const StepBlock<Product, G> block(r);
    block.for_each_place([&](int64_t pass, int n) {
        const int at = block.layer_unit();
        if (at >= r.hidden_size) return;
        Gates4<Acc> sum{};
        if (r.staged) sum = sum_outputs<G>(block.partial, n, block.unit);
        const int64_t row = (int64_t(block.direction) * r.all_passes + pass) * G::rows + n;
        Acc* to = static_cast<Acc*>(raw) + row * G::outputs * r.hidden_size + at;
        SEQFAST_UNROLL
        for (int output = 0; output < G::outputs; ++output)
            to[int64_t(output) * r.hidden_size] = sum.at[output];
    });
}

// Sums over a block of 8 warps, always in the same order; all threads get them.
template <class Acc>
SEQFAST_DEVICE void block_sums(Acc& a, Acc& b) {
    Acc* sums = reinterpret_cast<Acc*>(dynamic_shared());
    const int own = warp_index();
    SEQFAST_UNROLL
    for (int distance = 16; distance > 0; distance /= 2) {
        a += shuffle_xor(a, distance);
        b += shuffle_xor(b, distance);
    }
    block_sync();
    if (lane_index() == 0) {
        sums[2 * own] = a;
        sums[2 * own + 1] = b;
    }
    block_sync();
    a = b = 0;
    for (int warp = 0; warp < 8; ++warp) {
        a += sums[2 * warp];
        b += sums[2 * warp + 1];
    }
}
constexpr int64_t sums_bytes = 8 * 2 * sizeof(double);

template <class Acc>
struct Moments {
    Acc mean, rstd;
};
// Of `count` numbers in a line.
template <class Acc>
SEQFAST_DEVICE Moments<Acc> moments_of(const Acc* numbers, int64_t count) {
    Acc sum = 0, none = 0;
    for (int64_t i = thread_index(); i < count; i += thread_count()) sum += numbers[i];
    block_sums(sum, none);
    const Acc mean = sum / Acc(count);
    Acc squares = 0;
    for (int64_t i = thread_index(); i < count; i += thread_count()) {
        const Acc difference = numbers[i] - mean;
        squares += difference * difference;
    }
    block_sums(squares, none);
    return {mean, Acc(1) / square_root(squares / Acc(count) + Acc(kNormEpsilon))};
}

template <class T, class Acc>
SEQFAST_DEVICE Acc weight_at(const void* weights, int64_t i) {
    return to_float(static_cast<const T*>(weights)[i]);
}

// Gates that are normalised together with the first one; a split candidate stands alone.
SEQFAST_DEVICE int first_group(const Variant& v) {
    return v.has_split_candidate ? v.gates - 1 : v.gates;
}

// A row that runs, as one block has it.
template <class Acc>
struct NormRow {
    RowStep at;
    int64_t position, direction_row;  // among the rows by length; in arrays of all passes
    Acc* planes;
    int64_t stride;
    SEQFAST_DEVICE Planes<Acc> state(int unit) const { return {planes + unit, stride}; }
};
// Calls use(row) for each row that runs.
template <class Cell, class Use>
SEQFAST_DEVICE void for_each_row(Cell& cell, int pass_rows, Use use) {
    using Acc = typename Cell::Acc;
    const RecurrenceParams& r = cell.p.recurrence;
    const int direction = block_z(), s = r.step, size = r.hidden_size;
    const int64_t all_rows = int64_t(r.all_passes) * pass_rows;
    for (int64_t position = block_x(); position < r.rows.batch; position += grid_x()) {
        const int64_t row = r.rows.row(position), direction_row = direction * all_rows + position;
        const int length = r.rows.length(row);
        if (s >= length) {
            for (int unit = thread_index(); s == 0 && unit < size; unit += thread_count()) {
                cell.start(direction, unit);
                cell.finish_empty(row);
            }
            continue;
        }
        use(NormRow<Acc>{{row, s, length},
                         position,
                         direction_row,
                         static_cast<Acc*>(cell.p.state) + direction_row * size,
                         int64_t(r.directions) * all_rows * size});
        block_sync();
    }
}
// Where the next product finds the numbers of a unit, `slots` of each.
template <class T>
SEQFAST_DEVICE T* next_of(const RecurrenceParams& r, int next_chunks, int pass_rows,
                          int64_t position, int unit, int slots) {
    return row_element<T>(r.exchange, next_chunks, pass_rows,
                          int64_t(block_z()) * r.all_passes + position / pass_rows,
                          int(position % pass_rows), int64_t(slots) * unit);
}

template <class Family, class Product>
SEQFAST_KERNEL(256, 1)
layer_norm_forward_kernel(SEQFAST_GRID_CONSTANT LayerNormForwardParams q, int pass_rows,
                          int next_chunks) {
    using T = typename Product::T;
    using Acc = typename Product::Acc;
    using Cell = ForwardCell<Family, Product>;
    const ForwardParams& p = q.forward;
    const RecurrenceParams& r = p.recurrence;
    const Variant& v = p.variant;
    const int direction = block_z(), s = r.step, size = r.hidden_size;
    Cell cell(p);

    for_each_row(cell, pass_rows, [&](const NormRow<Acc>& of) {
        const int64_t row = of.at.row, t = time_of(s, of.at.length, direction == 1);
        const bool last = of.at.is_last();
        const Acc* raw = static_cast<const Acc*>(q.raw) + of.direction_row * Family::slots * size;
        const int group = first_group(v);
        const Moments<Acc> first = moments_of(raw, int64_t(group) * size);
        Moments<Acc> candidate{};
        if (group < v.gates) candidate = moments_of(raw + int64_t(group) * size, size);
        const auto send = [&](int unit, T value) {
            *next_of<T>(r, next_chunks, pass_rows, of.position, unit, 1) = value;
        };

        for (int unit = thread_index(); unit < size; unit += thread_count()) {
            cell.start(direction, unit);
            const Planes<Acc> state = of.state(unit);
            if (s == 0) cell.begin(row, of.at.length, state);
            typename Cell::Ahead ahead;
            cell.load(ahead, of.at);
            T* kept =
                p.gates ? static_cast<T*>(p.gates) + cell.at(t, row, int64_t(v.kept) * size) + unit
                        : nullptr;
            Gates4<Acc> sum{};
            SEQFAST_UNROLL
            for (int gate = 0; gate < Family::inputs; ++gate)
                if (gate < v.gates) {
                    const Moments<Acc> m = gate < group ? first : candidate;
                    const int64_t i = int64_t(gate) * size;
                    const Acc normal = (raw[i + unit] - m.mean) * m.rstd;
                    if (kept) kept[v.saved * int64_t(size) + i] = round_to<T>(normal);
                    sum.at[gate] =
                        normal * weight_at<T, Acc>(q.weights.product[direction], i + unit);
                }
            Gates4<Acc> bias{}, peephole{};
            cell.load_weights(bias, peephole);
            const UnitWeights<Acc> weights{&bias, &peephole};
            if constexpr (Family::has_cell) {
                Acc before[4], output_gate;
                StepInputs<Acc> inputs{};
                typename Cell::Result result{};
                cell.prepare(ahead, sum, weights, state, before, inputs);
                state[unzoned_plane] = cell.move_cell(inputs, before, result, output_gate);
                state[gate_plane] = output_gate;
                state[Family::cell_plane] = ahead.events & cleared ? Acc(0) : result.cell;
                for (int k = 0; kept && k < v.saved; ++k)
                    kept[int64_t(k) * size] = round_to<T>(result.saved[k]);
                if (p.cells) static_cast<Acc*>(p.cells)[cell.at(t, row, size) + unit] = result.cell;
                if (last) static_cast<T*>(p.cell_n)[cell.state_at(row)] = round_to<T>(result.cell);
            } else {
                const auto result = cell.step(ahead, sum, weights, state, of.at);
                const T sent = cell.advance(result, ahead, state);
                cell.write(result, of.at);
                send(unit, sent);
            }
        }
        Moments<Acc> of_cell{};
        if constexpr (Family::has_cell) {
            block_sync();
            of_cell = moments_of(of.planes + unzoned_plane * of.stride, size);
            for (int unit = thread_index(); unit < size; unit += thread_count()) {
                cell.start(direction, unit);
                const Planes<Acc> state = of.state(unit);
                typename Cell::Ahead ahead;
                ahead.events = cell.events_of(of.at);
                const Acc normal = (state[unzoned_plane] - of_cell.mean) * of_cell.rstd;
                const Acc seen = normal * weight_at<T, Acc>(q.weights.cell[direction], unit) +
                                 weight_at<T, Acc>(q.weights.cell_bias[direction], unit);
                const bool linear = v.template real<Acc>().cell.linear_cell;
                const Acc hidden = state[gate_plane] * (linear ? seen : GpuMath<Acc>::tanh(seen));
                typename Cell::Result result{};
                result.hidden = cell.zoned(ahead, hidden, state[Family::hidden_plane]);
                static_cast<T*>(p.output)[cell.at(t, row, size) + unit] = result.hidden;
                if (last) static_cast<T*>(p.hidden_n)[cell.state_at(row)] = result.hidden;
                result.cell = state[Family::cell_plane];
                send(unit, cell.advance(result, ahead, state));
            }
        }
        if (q.statistics && thread_index() == 0) {
            Acc* to = static_cast<Acc*>(q.statistics) + cell.at(t, row, statistics_count);
            to[rstd_product] = first.rstd;
            to[rstd_candidate] = candidate.rstd;
            to[mean_cell] = of_cell.mean;
            to[rstd_cell] = of_cell.rstd;
        }
    });
}

template <class Family, class Product>
SEQFAST_KERNEL(256, 1)
layer_norm_backward_kernel(SEQFAST_GRID_CONSTANT LayerNormBackwardParams q, int pass_rows,
                           int next_chunks) {
    using T = typename Product::T;
    using Acc = typename Product::Acc;
    using Cell = BackwardCell<Family, Product>;
    const BackwardParams& p = q.backward;
    const RecurrenceParams& r = p.recurrence;
    const Variant& v = p.variant;
    const int direction = block_z(), s = r.step, size = r.hidden_size;
    Cell cell(p);

    for_each_row(cell, pass_rows, [&](const NormRow<Acc>& of) {
        const int64_t row = of.at.row, t = time_of(s, of.at.length, direction == 0);
        const Acc* raw = static_cast<const Acc*>(q.raw) + of.direction_row * size;
        cell.start(direction, 0);
        const Acc* statistics =
            static_cast<const Acc*>(q.statistics) + cell.at(t, row, statistics_count);
        const int group = first_group(v);
        const T* normals = static_cast<const T*>(p.gates) +
                           cell.at(t, row, int64_t(v.kept) * size) + int64_t(v.saved) * size;
        // Gradients as the recurrent product sees them; with a split candidate the first block is
        // the input's own.
        const T* grads = static_cast<const T*>(p.grad_gates) +
                         cell.at(t, row, int64_t(v.saved) * size) +
                         (v.has_split_candidate ? size : 0);

        // What reaches the cell comes through a mean over all units.
        Acc mean_grad = 0, mean_product = 0;
        const auto normalised_cell = [&](Acc unzoned) {
            return (unzoned - statistics[mean_cell]) * statistics[rstd_cell];
        };
        if constexpr (Family::has_cell) {
            for (int unit = thread_index(); unit < size; unit += thread_count()) {
                cell.start(direction, unit);
                const Planes<Acc> state = of.state(unit);
                if (s == 0) cell.begin(row, of.at.length, state);
                typename Cell::Ahead ahead;
                cell.load(ahead, of.at);
                const auto part = cell.through_cell(
                    ahead, s > 0 ? raw[unit] : Acc(0), state, of.at, [&](Acc unzoned) {
                        return normalised_cell(unzoned) *
                                   weight_at<T, Acc>(q.weights.cell[direction], unit) +
                               weight_at<T, Acc>(q.weights.cell_bias[direction], unit);
                    });
                const Acc normal = normalised_cell(part.unzoned);
                const Acc grad =
                    part.grad_normalised * weight_at<T, Acc>(q.weights.cell[direction], unit);
                mean_grad += grad;
                mean_product += grad * normal;
                if (q.grad_norm_cell) {
                    Acc* to = static_cast<Acc*>(q.grad_norm_cell) +
                              cell.at(t, row, int64_t(2) * size) + unit;
                    to[0] = part.grad_normalised * normal;
                    to[size] = part.grad_normalised;
                }
            }
            block_sums(mean_grad, mean_product);
            mean_grad /= Acc(size);
            mean_product /= Acc(size);
        }

        Acc sums[2] = {0, 0}, products[2] = {0, 0};
        for (int unit = thread_index(); unit < size; unit += thread_count()) {
            cell.start(direction, unit);
            const Planes<Acc> state = of.state(unit);
            if (!Family::has_cell && s == 0) cell.begin(row, of.at.length, state);
            typename Cell::Ahead ahead;
            cell.load(ahead, of.at);
            Gates4<Acc> bias{}, peephole{};
            cell.load_weights(bias, peephole);
            const Acc sum = s > 0 ? raw[unit] : Acc(0);
            typename Cell::Result result;
            if constexpr (Family::has_cell) {
                const Acc weight = weight_at<T, Acc>(q.weights.cell[direction], unit);
                result = cell.step(
                    ahead, sum, &peephole, state, of.at,
                    [&](Acc unzoned) {
                        return normalised_cell(unzoned) * weight +
                               weight_at<T, Acc>(q.weights.cell_bias[direction], unit);
                    },
                    [&](Acc unzoned, Acc grad_normalised) {
                        return statistics[rstd_cell] * (grad_normalised * weight - mean_grad -
                                                        normalised_cell(unzoned) * mean_product);
                    });
            } else {
                result = cell.step(ahead, sum, {&bias, &peephole}, state, of.at);
            }
            cell.advance(result, ahead, state);
            cell.write(result, of.at);
            SEQFAST_UNROLL
            for (int gate = 0; gate < Family::slots; ++gate)
                if (gate < v.gates) {
                    const int64_t i = int64_t(gate) * size + unit;
                    const Acc grad = Acc(to_float(result.gates.gate[gate])) *
                                     weight_at<T, Acc>(q.weights.product[direction], i);
                    const Acc product = grad * Acc(to_float(normals[i]));
                    if (gate < group) {
                        sums[0] += grad;
                        products[0] += product;
                    } else {
                        sums[1] += grad;
                        products[1] += product;
                    }
                }
        }
        block_sums(sums[0], products[0]);
        if (group < v.gates) block_sums(sums[1], products[1]);

        for (int unit = thread_index(); unit < size; unit += thread_count()) {
            cell.start(direction, unit);
            GateGradients<T> sent{};
            T* to = static_cast<T*>(q.grad_product) + cell.at(t, row, int64_t(v.gates) * size);
            SEQFAST_UNROLL
            for (int gate = 0; gate < Family::slots; ++gate)
                if (gate < v.gates) {
                    const int64_t i = int64_t(gate) * size + unit;
                    const int g = gate < group ? 0 : 1;
                    const Acc count = Acc(g ? size : int64_t(group) * size);
                    const Acc grad = Acc(to_float(grads[i])) *
                                     weight_at<T, Acc>(q.weights.product[direction], i);
                    sent.gate[gate] = round_to<T>(
                        statistics[g ? rstd_candidate : rstd_product] *
                        (grad - (g ? sums[1] : sums[0]) / count -
                         Acc(to_float(normals[i])) * ((g ? products[1] : products[0]) / count)));
                    to[i] = sent.gate[gate];
                }
            if (cell.resets(t, row)) sent = GateGradients<T>{};
            T* const next = next_of<T>(r, next_chunks, pass_rows, of.position, unit, Family::slots);
            if constexpr (Family::slots == 1)
                store_sent(next, sent.gate[0]);
            else
                store_sent(next, sent);
        }
    });
}

// Calls use(family, product).
template <class Use>
void with_family_and_product(CellKind kind, DType dtype, Use use) {
    StepFamilies::with_family(kind, true, [&](auto family) {
        with_any_product(dtype, [&](auto product) { use(family, product); });
    });
}

template <int outputs>
void launch_product(const char* name, DType dtype, const RecurrenceParams& r, void* raw,
                    Stream stream) {
    const auto kernel_of = [](auto product, auto geometry) {
        return raw_product_kernel<decltype(product), decltype(geometry)>;
    };
    launch_step<outputs>(name, dtype, kernel_of, r, raw, stream);
}

LaunchShape row_shape(const RecurrenceParams& r) {
    const int64_t blocks = r.rows.batch < 65535 ? r.rows.batch : 65535;
    return {int(blocks), 1, r.directions, 256, 1, sums_bytes, false};
}

}  // namespace

void launch_layer_norm_forward(DType dtype, const LayerNormForwardParams& params, int pass_rows,
                               int next_chunks, Stream stream) {
    const RecurrenceParams& r = params.forward.recurrence;
    const char* name = "rnn_forward: raw_product_kernel";
    StepFamilies::with_family(params.forward.variant.kind, true, [&](auto family) {
        launch_product<decltype(family)::slots>(name, dtype, r, params.raw, stream);
    });
    with_family_and_product(params.forward.variant.kind, dtype, [&](auto family, auto product) {
        launch("rnn_forward: layer_norm_forward_kernel",
               layer_norm_forward_kernel<decltype(family), decltype(product)>, row_shape(r), stream,
               params, pass_rows, next_chunks);
    });
}

void launch_layer_norm_backward(DType dtype, const LayerNormBackwardParams& params, int pass_rows,
                                int next_chunks, Stream stream) {
    const RecurrenceParams& r = params.backward.recurrence;
    if (r.staged)
        launch_product<1>("rnn_backward: raw_product_kernel", dtype, r, params.raw, stream);
    with_family_and_product(params.backward.variant.kind, dtype, [&](auto family, auto product) {
        launch("rnn_backward: layer_norm_backward_kernel",
               layer_norm_backward_kernel<decltype(family), decltype(product)>, row_shape(r),
               stream, params, pass_rows, next_chunks);
    });
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
