// Entries of the recurrent operations: workspace, packing, the launches of a call.
#include "cuda/rnn/rnn.h"

#include "cuda/rnn/policy.h"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {
namespace {

// ---- Packing
// -----------------------------------------------------------------------------------------

// Numbers are only moved here, so their size is all that counts.
template <class E>
struct alignas(16) Piece {
    static constexpr int count = 16 / sizeof(E);
    E at[count];
};

// One side of a matrix of weights: its index in the product, and where that is in memory.
struct PackedSide {
    int count;        // of the layer; beyond are zeros
    int64_t stride;   // in elements
    int gates;        // 0: of single numbers; else of units with so many gates and zeros up to
                      // four: for m in tiles of 8 units, for k as unit * 4 + gate
    int hidden_size;  // of `gates`

    SEQFAST_DEVICE bool has(int unit, int gate) const {
        return unit < count && (!gates || gate < gates);
    }
    SEQFAST_DEVICE int64_t offset(int unit, int gate) const {
        return gates ? (int64_t(gate) * hidden_size + unit) * stride : unit * stride;
    }
};

template <class E>
SEQFAST_KERNEL(256, 1)
pack_weights_kernel(const E* weights, Piece<E>* packed, PackedSide m, PackedSide k, int m_tiles,
                    int chunks) {
    const int64_t pieces = packed_index(m_tiles, chunks, 0, 0, 0);
    const int64_t step = int64_t(grid_x()) * thread_count();
    for (int64_t i = int64_t(block_x()) * thread_count() + thread_index(); i < pieces; i += step) {
        const int lane = int(i % 32), half = int(i / 32 % 2), chunk = int(i / 64 % chunks);
        const int tile = int(i / 64 / chunks);
        const int g = lane / 4, t = lane % 4;
        const int m_unit = m.gates ? tile / 2 * 8 + g : tile * 16 + half * 8 + g;
        const int m_gate = tile % 2 * 2 + half;
        Piece<E> piece{};
        SEQFAST_UNROLL
        for (int e = 0; e < Piece<E>::count; ++e) {
            const int index = (chunk * 4 + t) * Piece<E>::count + e;
            const int k_unit = k.gates ? index / 4 : index;
            if (m.has(m_unit, m_gate) && k.has(k_unit, index % 4))
                piece.at[e] = weights[m.offset(m_unit, m_gate) + k.offset(k_unit, index % 4)];
        }
        packed[i] = piece;
    }
}

// First states [directions, batch, width] to [direction][pass][chunk][row of a pass][64 bytes], as
// the first product sees them: masked, zeros after a reset.
template <class T>
SEQFAST_KERNEL(256, 1)
stage_rows_kernel(const T* source, Piece<T>* staged, RowsByLength rows,
                  SEQFAST_GRID_CONSTANT Variant variant, int directions, int width, int passes,
                  int chunks, int pass_rows) {
    using Acc = std::conditional_t<sizeof(T) == 8, double, float>;
    const int64_t pieces = int64_t(directions) * passes * chunks * pass_rows * 4;
    const int64_t step = int64_t(grid_x()) * thread_count();
    for (int64_t i = int64_t(block_x()) * thread_count() + thread_index(); i < pieces; i += step) {
        const int t = int(i % 4), n = int(i / 4 % pass_rows);
        const int chunk = int(i / 4 / pass_rows % chunks);
        const int64_t direction_pass = i / 4 / pass_rows / chunks;
        const int direction = int(direction_pass / passes);
        const int64_t row = rows.row(direction_pass % passes * pass_rows + n);
        const int length = rows.length(row);
        const T* from = source + (direction * rows.batch + row) * width;
        const bool clear =
            length == 0 || variant.resets(time_of(0, length, direction == 1), row, rows.batch);
        Piece<T> piece{};
        SEQFAST_UNROLL
        for (int e = 0; e < Piece<T>::count; ++e) {
            const int k = (chunk * 4 + t) * Piece<T>::count + e;
            if (row < 0 || clear || k >= width) continue;
            piece.at[e] = from[k];
            if (variant.drops_hidden)
                piece.at[e] = round_to<T>(Acc(to_float(from[k])) *
                                          variant.template hidden_mask<Acc>(direction, k, row));
        }
        staged[i] = piece;
    }
}

// A warp for each row of each step.
template <class E>
SEQFAST_KERNEL(256, 1)
zero_padding_kernel(E* array, int64_t row_count, int64_t steps, int64_t batch,
                    const int64_t* lengths) {
    const int64_t step = int64_t(grid_x()) * (thread_count() / 32);
    for (int64_t i = int64_t(block_x()) * (thread_count() / 32) + warp_index(); i < steps * batch;
         i += step) {
        if (i / batch < lengths[i % batch]) continue;
        E* row = array + i * row_count;
        for (int64_t j = lane_index(); j < row_count; j += 32) row[j] = E{};
    }
}

// y = x times its mask, [steps, rows, units]; each number once, so that y may be x.
template <class T>
SEQFAST_KERNEL(256, 1)
dropout_kernel(const T* x, T* y, int64_t count, int64_t rows, int64_t units, double kept,
               const int64_t* seed, uint32_t threshold, uint32_t stream, bool per_step) {
    using Acc = std::conditional_t<sizeof(T) == 8, double, float>;
    const int64_t step = int64_t(grid_x()) * thread_count();
    for (int64_t i = int64_t(block_x()) * thread_count() + thread_index(); i < count; i += step) {
        const int64_t unit = i % units, row = i / units % rows, t = i / units / rows;
        const bool event = event_at(*seed, uint32_t(unit), uint32_t(row),
                                    per_step ? uint32_t(t) : 0u, stream, threshold);
        y[i] = event ? round_to<T>(Acc(0)) : round_to<T>(Acc(to_float(x[i])) * Acc(kept));
    }
}

LaunchShape flat_shape(int64_t items, int per_block) {
    const int64_t blocks = (items + per_block - 1) / per_block;
    return {int(blocks < 4096 ? blocks : 4096), 1, 1, 256, 1, 0, false};
}

template <class Use>
void with_size_of(DType dtype, Use use) {
    switch (size_of(dtype)) {
        case 2:
            return use(uint16_t{});
        case 4:
            return use(uint32_t{});
        default:
            return use(uint64_t{});
    }
}

void pack(DType dtype, const void* weights, U32x4* packed, const PackedSide& m, const PackedSide& k,
          int m_tiles, int chunks, Stream stream) {
    with_size_of(dtype, [&](auto element) {
        using E = decltype(element);
        launch("rnn: pack_weights_kernel", pack_weights_kernel<E>,
               flat_shape(packed_index(m_tiles, chunks, 0, 0, 0), 256), stream,
               static_cast<const E*>(weights), reinterpret_cast<Piece<E>*>(packed), m, k, m_tiles,
               chunks);
    });
}

template <class Use>
void with_type(DType dtype, Use use) {
    switch (dtype) {
        case DType::bfloat16:
            return use(BFloat16{});
        case DType::float16:
            return use(Float16{});
        case DType::float32:
            return use(float{});
        default:
            return use(double{});
    }
}

// The gates of recurrent weights [gates * hidden, out] of which a step's first product is made, and
// whether k and m count them in fours.
struct Recurrent {
    int gates, slots;

    explicit Recurrent(CellKind kind)
        // Of the third gate the product is the second one.
        : gates(kind == CellKind::gru_reset_before ? 2 : gates_of(kind)),
          slots(kind == CellKind::rnn ? 1 : 4) {}
    PackedSide side(const RnnSizes& sizes) const {
        const int hidden = int(sizes.hidden_size), out = int(sizes.output_size());
        return {hidden, out, slots == 4 ? gates : 0, hidden};
    }
};

// m = gates of units, k = out.
void pack_gates(const RnnSizes& sizes, CellKind kind, const void* weights, U32x4* packed,
                int m_tiles, int chunks, Stream stream) {
    pack(sizes.dtype, weights, packed, Recurrent(kind).side(sizes),
         {int(sizes.output_size()), 1, 0, 0}, m_tiles, chunks, stream);
}
// The same transposed: m = out, k = gates of units.
void pack_gates_transposed(const RnnSizes& sizes, CellKind kind, const void* weights, U32x4* packed,
                           int m_tiles, int chunks, Stream stream) {
    pack(sizes.dtype, weights, packed, {int(sizes.output_size()), 1, 0, 0},
         Recurrent(kind).side(sizes), m_tiles, chunks, stream);
}

void stage(const RnnSizes& sizes, const RowsByLength& rows, const Variant& variant,
           const void* source, char* staged, int passes, int chunks, int pass_rows, Stream stream) {
    const int directions = int(sizes.directions);
    with_type(sizes.dtype, [&](auto number) {
        using T = decltype(number);
        launch("rnn_forward: stage_rows_kernel", stage_rows_kernel<T>,
               flat_shape(int64_t(directions) * passes * chunks * pass_rows * 4, 256), stream,
               static_cast<const T*>(source), reinterpret_cast<Piece<T>*>(staged), rows, variant,
               directions, int(sizes.output_size()), passes, chunks, pass_rows);
    });
}

// ---- Workspace
// ---------------------------------------------------------------------------------------

// Deals out a workspace, or only counts what would be dealt out.
class Arena {
  public:
    explicit Arena(void* memory) : memory_(static_cast<char*>(memory)) {}
    char* take(int64_t bytes) {
        char* at = memory_ ? memory_ + used_ : nullptr;
        used_ += round_up(bytes, 256);
        return at;
    }
    U32x4* take_packed(int64_t m_tiles, int chunks) {
        return reinterpret_cast<U32x4*>(take(packed_index(m_tiles, chunks, 0, 0, 0) * 16));
    }
    int64_t used() const { return used_; }

  private:
    char* memory_;
    int64_t used_ = 0;
};

struct PersistentWorkspace {
    int m_tiles, rows;
    U32x4* packed[2] = {};
    char* staged = nullptr;
    char* exchange = nullptr;
    int64_t exchange_bytes = 0;

    PersistentWorkspace(Arena& arena, const Plan& plan, const RnnSizes& sizes,
                        const RnnOptions& options, bool backward) {
        const int outputs = backward ? 1 : Recurrent(options.cell).slots;
        m_tiles = plan.group * plan.shape.units * outputs / 16;
        rows = 8 * plan.shape.n_tiles;
        for (int64_t d = 0; d < sizes.directions; ++d)
            packed[d] = arena.take_packed(m_tiles, plan.shape.chunks);
        const int64_t slab_bytes =
            int64_t(plan.shape.passes) * plan.shape.chunks * rows * chunk_bytes;
        if (!backward) staged = arena.take(sizes.directions * plan.slabs * slab_bytes);
        if (plan.strategy == RnnStrategy::grid) exchange_bytes = 2 * plan.groups * slab_bytes;
        exchange = arena.take(exchange_bytes);
    }
};

// What a step multiplies after its first product.
enum class Second { none, projection, candidate };

struct StepwiseWorkspace {
    // hidden: what the cell gives; output: after the projection, if any; gates: gradients of
    // pre-activations.
    int hidden_tiles, output_tiles, hidden_chunks, output_chunks, gate_chunks;
    int passes, rows;
    Second second;
    U32x4* packed[2] = {};         // weight_hh, or its transpose
    U32x4* packed_second[2] = {};  // weight_hr, or gru's third gate, or its transpose
    char* staged = nullptr;        // forward
    char* exchange[2] = {};        // what the next step's product needs, taken in turns
    char* between = nullptr;       // what the second product of a step needs
    char* state = nullptr;         // [plane][direction][pass][row][unit]
    char* output_state = nullptr;  // of the projection, the same
    char* raw = nullptr;           // of layer normalisation: the product
    char* cleared = nullptr;       // begin of what must begin as zeros
    int64_t cleared_bytes = 0;

    StepwiseWorkspace(Arena& arena, const RnnSizes& sizes, const RnnOptions& options,
                      bool backward) {
        const int bytes = size_of(sizes.dtype), block = stepwise_units;
        const int64_t hidden = sizes.hidden_size, output = sizes.output_size();
        const int slots = Recurrent(options.cell).slots;
        second = sizes.proj_size                              ? Second::projection
                 : options.cell == CellKind::gru_reset_before ? Second::candidate
                                                              : Second::none;
        hidden_tiles = int(round_up(hidden, block) / 16);
        output_tiles = int(round_up(output, block) / 16);
        hidden_chunks = chunks_of(hidden, block, bytes);
        output_chunks = chunks_of(output, block, bytes);
        gate_chunks = chunks_of(hidden, block, slots * bytes);
        rows = 8 * stepwise_n_tiles(sizes.dtype, sizes.batch);
        passes = int((sizes.batch + rows - 1) / rows);
        const int64_t all_rows = sizes.directions * passes * int64_t(rows);
        const int64_t row_bytes = all_rows * chunk_bytes;
        const int accumulator = sizes.dtype == DType::float64 ? 8 : 4;
        for (int64_t d = 0; d < sizes.directions; ++d) {
            packed[d] = backward ? arena.take_packed(output_tiles, gate_chunks)
                                 : arena.take_packed(slots * hidden_tiles, output_chunks);
            if (second != Second::none)
                packed_second[d] = backward ? arena.take_packed(hidden_tiles, output_chunks)
                                            : arena.take_packed(output_tiles, hidden_chunks);
        }
        if (!backward) staged = arena.take(row_bytes * output_chunks);
        const int64_t before = arena.used();
        for (char*& buffer : exchange)
            buffer = arena.take(row_bytes * (backward ? gate_chunks : output_chunks));
        if (second != Second::none)
            between = arena.take(row_bytes * (backward ? output_chunks : hidden_chunks));
        cleared = exchange[0];
        cleared_bytes = arena.used() - before;
        state = arena.take(most_planes * all_rows * hidden * accumulator);
        if (second == Second::projection)
            output_state = arena.take(Rnn::planes * all_rows * output * accumulator);
        if (options.layer_norm)
            raw = arena.take((backward ? 1 : slots) * all_rows * hidden * accumulator);
    }
};

// ---- What both directions of time begin with
// -----------------------------------------------------------

// The workspace was made for a plan; this one must be the same.
void check_workspace(const char* operation, const Arena& arena, size_t workspace_size) {
    if (size_t(arena.used()) > workspace_size)
        throw std::runtime_error(std::string(operation) + ": workspace must have " +
                                 std::to_string(arena.used()) + " bytes, got " +
                                 std::to_string(workspace_size));
}

void check_sizes(const char* operation, const RnnSizes& sizes) {
    const int64_t most = int64_t(1) << 30;
    const auto check_one = [&](const char* name, int64_t size) {
        if (size >= most)
            throw std::runtime_error(std::string(operation) + ": " + name +
                                     " must be less than 2**30 on a GPU, got " +
                                     std::to_string(size));
    };
    check_one("steps", sizes.steps);
    check_one("batch", sizes.batch);
    check_one("5 * hidden_size * directions", 5 * sizes.hidden_size * sizes.directions);
}

const char* name_of(CellKind kind, bool backward) {
    if (has_cell_state(kind)) return backward ? "lstm_backward" : "lstm_forward";
    if (kind == CellKind::rnn) return backward ? "rnn_backward" : "rnn_forward";
    return backward ? "gru_backward" : "gru_forward";
}

Plan plan_of(const GpuCall& call, const RnnSizes& sizes, const RnnOptions& options, bool backward) {
    const char* operation = name_of(options.cell, backward);
    check_sizes(operation, sizes);
    if (options.layer_norm && (sizes.proj_size || options.cell == CellKind::gru_reset_before))
        throw std::runtime_error(std::string(operation) +
                                 ": layer normalisation does not go with a projection or a reset "
                                 "gate before the product");
    Plan plan = Policy::choose(call, sizes, options, backward);
    if (!plan.refused.empty())
        throw std::runtime_error(
            std::string(operation) + ": strategy must be one the layer fits, got " +
            (call.strategy == RnnStrategy::cluster ? "cluster: " : "grid: ") + plan.refused);
    return plan;
}

RecurrenceParams params_of(const GpuCall& call, const RnnSizes& sizes, const int64_t* lengths,
                           const int64_t* order) {
    RecurrenceParams r{};
    r.rows = {order, lengths, sizes.batch, int(sizes.steps)};
    r.hidden_size = int(sizes.hidden_size);
    r.directions = int(sizes.directions);
    r.split = sizes.dtype == DType::float32 && !call.tf32 ? Float32Product::kept_bits : 0;
    return r;
}

template <class Real>
RealVariant<Real> real_of(const RnnOptions& o, bool peephole) {
    const auto kept = [](double p) { return p < 1 ? Real(1 / (1 - p)) : Real(0); };
    RealVariant<Real> v{};
    v.cell.activation = o.activation;
    v.cell.peephole = peephole;
    v.cell.coupled = o.coupled;
    v.cell.zoneout_cell = o.zoneout_cell > 0;
    v.cell.update_dropout = o.seed && o.dropout_update > 0;
    v.cell.gate_clip = Real(o.gate_clip);
    v.cell.cell_clip = Real(o.cell_clip);
    v.kept_hidden = kept(o.dropout_hidden);
    v.kept_update = kept(o.dropout_update);
    v.zoneout_hidden = Real(o.zoneout_hidden);
    v.zoneout_cell = Real(o.zoneout_cell);
    return v;
}

Variant variant_of(const RnnOptions& o, const RnnWeights& weights, const uint8_t* reset) {
    Variant v{};
    v.kind = o.cell;
    v.gates = gates_of(o.cell);
    v.saved = saved_of(o.cell);
    v.kept = v.saved + (o.layer_norm ? v.gates : 0);
    v.output_activation = o.output_activation;
    v.reset = reset;
    v.seed = o.seed;
    v.layer = o.layer;
    v.drops_hidden = o.seed && o.dropout_hidden > 0;
    v.zones_hidden = o.zoneout_hidden > 0;
    v.hidden_dropout = event_threshold(o.dropout_hidden);
    v.update_dropout = event_threshold(o.dropout_update);
    v.zoneout_hidden = event_threshold(o.zoneout_hidden);
    v.zoneout_cell = event_threshold(o.zoneout_cell);
    v.narrow = real_of<float>(o, weights.weight_peephole);
    v.wide = real_of<double>(o, weights.weight_peephole);
    return v;
}
// Of a cell whose result is projected: what is done to h[t] comes after.
Variant before_projection(Variant v) {
    v.drops_hidden = v.zones_hidden = false;
    return v;
}
Variant of_projection(Variant v) {
    v.narrow.cell.update_dropout = v.narrow.cell.zoneout_cell = false;
    return v;
}

void place(RecurrenceParams& r, const Plan& plan, const PersistentWorkspace& workspace) {
    r.chunks = plan.shape.chunks;
    r.packed[0] = workspace.packed[0];
    r.packed[1] = workspace.packed[1];
    r.exchange = workspace.exchange;
    r.group = plan.group;
    r.groups = plan.groups;
    r.passes = plan.shape.passes;
    r.slabs = plan.slabs;
    r.items = plan.items;
    r.layout = plan.layout;
}

size_t workspace_size(const Plan& plan, const RnnSizes& sizes, const RnnOptions& options,
                      bool backward) {
    Arena arena(nullptr);
    if (plan.strategy == RnnStrategy::stepwise)
        StepwiseWorkspace(arena, sizes, options, backward);
    else
        PersistentWorkspace(arena, plan, sizes, options, backward);
    return size_t(arena.used());
}

// weight_hr, or gru's third gate: m = its rows, k = its columns, or the other way round.
void pack_second(const RnnSizes& sizes, const RnnWeights& weights, const StepwiseWorkspace& w,
                 int direction, bool backward, Stream stream) {
    if (w.second == Second::none) return;
    const int hidden = int(sizes.hidden_size), output = int(sizes.output_size());
    const void* matrix = weights.weight_hr;
    if (w.second == Second::candidate)
        matrix = static_cast<const char*>(weights.weight_hh) +
                 int64_t(2) * hidden * hidden * size_of(sizes.dtype);
    const PackedSide rows{output, hidden, 0, 0}, columns{hidden, 1, 0, 0};
    if (backward)
        pack(sizes.dtype, matrix, w.packed_second[direction], columns, rows, w.hidden_tiles,
             w.output_chunks, stream);
    else
        pack(sizes.dtype, matrix, w.packed_second[direction], rows, columns, w.output_tiles,
             w.hidden_chunks, stream);
}

void forward_stepwise(const RnnRecurrenceForwardArgs& args, ForwardParams params, Stream stream) {
    const RnnSizes& sizes = args.sizes;
    const CellKind kind = args.options.cell;
    Arena arena(args.workspace);
    const StepwiseWorkspace w(arena, sizes, args.options, false);
    check_workspace(name_of(kind, false), arena, args.workspace_size);
    RecurrenceParams& r = params.recurrence;
    r.all_passes = w.passes;
    params.state = w.state;
    for (int d = 0; d < int(sizes.directions); ++d) {
        pack_gates(sizes, kind, args.weights[d].weight_hh, w.packed[d],
                   Recurrent(kind).slots * w.hidden_tiles, w.output_chunks, stream);
        pack_second(sizes, args.weights[d], w, d, false, stream);
    }
    if (args.hidden)
        stage(sizes, r.rows, params.variant, args.hidden, w.staged, w.passes, w.output_chunks,
              w.rows, stream);
    fill_zero(w.cleared, size_t(w.cleared_bytes), stream);

    r.chunks = w.output_chunks;
    for (int d = 0; d < 2; ++d) r.packed[d] = w.packed[d];
    ForwardParams second = params;  // of the candidate
    ProjectionForwardParams projection{};
    second.recurrence.chunks = w.hidden_chunks;
    second.recurrence.staged = w.between;
    for (int d = 0; d < 2; ++d) second.recurrence.packed[d] = w.packed_second[d];
    if (w.second == Second::projection) {
        projection.recurrence = second.recurrence;
        projection.recurrence.hidden_size = int(sizes.proj_size);
        projection.variant = of_projection(params.variant);
        for (int d = 0; d < 2; ++d) projection.bias[d] = args.weights[d].bias_hr;
        projection.hidden = args.hidden;
        projection.output = args.output;
        projection.hidden_n = args.hidden_n;
        projection.state = w.output_state;
        params.variant = before_projection(params.variant);
        params.hidden = nullptr;
        params.output = params.hidden_n = nullptr;
    }
    LayerNormForwardParams norm{};
    if (args.options.layer_norm) {
        for (int d = 0; d < 2; ++d) {
            norm.weight_norm_hh[d] = args.weights[d].weight_norm_hh;
            norm.weight_norm_cell[d] = args.weights[d].weight_norm_cell;
            norm.bias_norm_cell[d] = args.weights[d].bias_norm_cell;
        }
        norm.statistics = args.statistics;
        norm.raw = w.raw;
    }
    for (int s = 0; s < int(sizes.steps); ++s) {
        r.step = second.recurrence.step = projection.recurrence.step = s;
        r.staged = s > 0 ? w.exchange[(s - 1) & 1] : args.hidden ? w.staged : nullptr;
        r.exchange = w.second == Second::none ? w.exchange[s & 1] : w.between;
        second.recurrence.exchange = projection.recurrence.exchange = w.exchange[s & 1];
        if (args.options.layer_norm) {
            norm.forward = params;
            launch_layer_norm_forward(sizes.dtype, norm, w.rows, w.output_chunks, stream);
        } else if (w.second == Second::candidate) {
            launch_reset_before_forward(sizes.dtype, params, false, w.hidden_chunks, stream);
            launch_reset_before_forward(sizes.dtype, second, true, w.output_chunks, stream);
        } else if (w.second == Second::projection) {
            launch_stepwise_forward(sizes.dtype, params, w.hidden_chunks, stream);
            launch_stepwise_projection_forward(sizes.dtype, projection, w.output_chunks, stream);
        } else {
            launch_stepwise_forward(sizes.dtype, params, w.output_chunks, stream);
        }
    }
}

void backward_stepwise(const RnnRecurrenceBackwardArgs& args, BackwardParams params,
                       Stream stream) {
    const RnnSizes& sizes = args.sizes;
    const CellKind kind = args.options.cell;
    Arena arena(args.workspace);
    const StepwiseWorkspace w(arena, sizes, args.options, true);
    check_workspace(name_of(kind, true), arena, args.workspace_size);
    RecurrenceParams& r = params.recurrence;
    r.all_passes = w.passes;
    params.state = w.state;
    for (int d = 0; d < int(sizes.directions); ++d) {
        pack_gates_transposed(sizes, kind, args.weights[d].weight_hh, w.packed[d], w.output_tiles,
                              w.gate_chunks, stream);
        pack_second(sizes, args.weights[d], w, d, true, stream);
    }
    fill_zero(w.cleared, size_t(w.cleared_bytes), stream);

    r.chunks = w.gate_chunks;
    for (int d = 0; d < 2; ++d) r.packed[d] = w.packed[d];
    BackwardParams second = params;  // of the candidate, or of the cell behind a projection
    second.recurrence.chunks = w.output_chunks;
    second.recurrence.staged = w.between;
    for (int d = 0; d < 2; ++d) second.recurrence.packed[d] = w.packed_second[d];
    ProjectionBackwardParams projection{};
    if (w.second == Second::projection) {
        projection.recurrence = r;
        projection.recurrence.hidden_size = int(sizes.proj_size);
        projection.variant = of_projection(params.variant);
        projection.grad_output = args.grad_output;
        projection.grad_hidden_n = args.grad_hidden_n;
        projection.hidden = args.hidden;
        projection.output = args.output;
        projection.grad_projected = args.grad_projected;
        projection.grad_hidden = args.grad_hidden;
        projection.state = w.output_state;
        second.variant = before_projection(params.variant);
        second.grad_output = {};
        second.grad_hidden_n = second.hidden = nullptr;
        second.grad_hidden = nullptr;
    }
    LayerNormBackwardParams norm{};
    if (args.options.layer_norm) {
        for (int d = 0; d < 2; ++d) {
            norm.weight_norm_hh[d] = args.weights[d].weight_norm_hh;
            norm.weight_norm_cell[d] = args.weights[d].weight_norm_cell;
            norm.bias_norm_cell[d] = args.weights[d].bias_norm_cell;
        }
        norm.statistics = args.statistics;
        norm.grad_product = args.grad_product;
        norm.grad_norm_cell = args.grad_norm_cell;
        norm.raw = w.raw;
    }
    for (int s = 0; s < int(sizes.steps); ++s) {
        r.step = second.recurrence.step = projection.recurrence.step = s;
        const char* later = s > 0 ? w.exchange[(s - 1) & 1] : nullptr;
        r.staged = projection.recurrence.staged = later;
        r.exchange = w.second == Second::none ? w.exchange[s & 1] : w.between;
        projection.recurrence.exchange = w.between;
        second.recurrence.exchange = w.exchange[s & 1];
        if (args.options.layer_norm) {
            norm.backward = params;
            launch_layer_norm_backward(sizes.dtype, norm, w.rows, w.gate_chunks, stream);
        } else if (w.second == Second::candidate) {
            launch_reset_before_backward(sizes.dtype, params, false, w.output_chunks, stream);
            launch_reset_before_backward(sizes.dtype, second, true, w.gate_chunks, stream);
        } else if (w.second == Second::projection) {
            launch_stepwise_projection_backward(sizes.dtype, projection, w.output_chunks, stream);
            launch_stepwise_backward(sizes.dtype, second, w.gate_chunks, stream);
        } else {
            launch_stepwise_backward(sizes.dtype, params, w.gate_chunks, stream);
        }
    }
}

bool is_empty(const RnnSizes& sizes) { return sizes.steps * sizes.batch * sizes.hidden_size == 0; }

}  // namespace

size_t rnn_workspace_size(const GpuCall& call, const RnnSizes& sizes, const RnnOptions& options,
                          bool backward) {
    if (is_empty(sizes)) return 0;
    const DeviceGuard guard(call.device);
    return workspace_size(plan_of(call, sizes, options, backward), sizes, options, backward);
}

RnnStrategy rnn_strategy(const GpuCall& call, const RnnSizes& sizes, const RnnOptions& options,
                         bool backward) {
    const DeviceGuard guard(call.device);
    return plan_of(call, sizes, options, backward).strategy;
}

void rnn_forward(const RnnRecurrenceForwardArgs& args) {
    const RnnSizes& sizes = args.sizes;
    const RnnOptions& options = args.options;
    if (is_empty(sizes)) return;
    const DeviceGuard guard(args.call.device);
    const Stream stream = args.call.stream;
    const Plan plan = plan_of(args.call, sizes, options, false);

    ForwardParams params{};
    params.recurrence = params_of(args.call, sizes, args.lengths, args.order);
    params.variant = variant_of(options, args.weights[0], args.reset);
    params.hidden = args.hidden;
    params.cell = args.cell;
    for (int d = 0; d < 2; ++d) {
        params.bias_ih[d] = args.weights[d].bias_ih;
        params.bias_hh[d] = args.weights[d].bias_hh;
        params.weight_peephole[d] = args.weights[d].weight_peephole;
    }
    params.product = args.product;
    params.gates = args.gates;
    params.output = args.output;
    params.hidden_n = args.hidden_n;
    params.cell_n = args.cell_n;
    params.cells = args.cells;
    if (plan.strategy == RnnStrategy::stepwise) return forward_stepwise(args, params, stream);

    Arena arena(args.workspace);
    const PersistentWorkspace workspace(arena, plan, sizes, options, false);
    check_workspace(name_of(options.cell, false), arena, args.workspace_size);
    place(params.recurrence, plan, workspace);
    for (int64_t d = 0; d < sizes.directions; ++d)
        pack_gates(sizes, options.cell, args.weights[d].weight_hh, workspace.packed[d],
                   workspace.m_tiles, plan.shape.chunks, stream);
    if (args.hidden) {
        stage(sizes, params.recurrence.rows, params.variant, args.hidden, workspace.staged,
              plan.slabs * plan.shape.passes, plan.shape.chunks, workspace.rows, stream);
        params.recurrence.staged = workspace.staged;
    }
    if (workspace.exchange_bytes)
        fill_zero(workspace.exchange, size_t(workspace.exchange_bytes), stream);
    with_cell(args.call, options, [&](auto cell) {
        persistent_forward<decltype(cell)>().run(plan.shape, plan.launch, params, stream);
    });
}

void rnn_backward(const RnnRecurrenceBackwardArgs& args) {
    const RnnSizes& sizes = args.sizes;
    const RnnOptions& options = args.options;
    if (is_empty(sizes)) return;
    const DeviceGuard guard(args.call.device);
    const Stream stream = args.call.stream;
    const Plan plan = plan_of(args.call, sizes, options, true);

    BackwardParams params{};
    params.recurrence = params_of(args.call, sizes, args.lengths, args.order);
    params.variant = variant_of(options, args.weights[0], args.reset);
    params.grad_output = args.grad_output;
    params.grad_hidden_n = args.grad_hidden_n;
    params.grad_cell_n = args.grad_cell_n;
    params.grad_cells = args.grad_cells;
    params.hidden = args.hidden;
    params.cell = args.cell;
    for (int d = 0; d < 2; ++d) params.weight_peephole[d] = args.weights[d].weight_peephole;
    params.output = args.output;
    params.cells = args.cells;
    params.gates = args.gates;
    params.grad_gates = args.grad_gates;
    params.grad_peephole = args.grad_peephole;
    params.grad_hidden = args.grad_hidden;
    params.grad_cell = args.grad_cell;
    params.unprojected = args.unprojected;
    if (plan.strategy == RnnStrategy::stepwise) return backward_stepwise(args, params, stream);

    Arena arena(args.workspace);
    const PersistentWorkspace workspace(arena, plan, sizes, options, true);
    check_workspace(name_of(options.cell, true), arena, args.workspace_size);
    place(params.recurrence, plan, workspace);
    for (int64_t d = 0; d < sizes.directions; ++d)
        pack_gates_transposed(sizes, options.cell, args.weights[d].weight_hh, workspace.packed[d],
                              workspace.m_tiles, plan.shape.chunks, stream);
    if (workspace.exchange_bytes)
        fill_zero(workspace.exchange, size_t(workspace.exchange_bytes), stream);
    with_cell(args.call, options, [&](auto cell) {
        persistent_backward<decltype(cell)>().run(plan.shape, plan.launch, params, stream);
    });
}

void dropout(const GpuCall& call, DType dtype, int64_t steps, int64_t rows, int64_t units,
             const void* input, void* output, double probability, const int64_t* seed,
             uint32_t stream, bool per_step) {
    const int64_t count = steps * rows * units;
    if (count == 0) return;
    const DeviceGuard guard(call.device);
    const double kept = probability < 1 ? 1 / (1 - probability) : 0;
    with_type(dtype, [&](auto number) {
        using T = decltype(number);
        launch("dropout: dropout_kernel", dropout_kernel<T>, flat_shape(count, 256), call.stream,
               static_cast<const T*>(input), static_cast<T*>(output), count, rows, units, kept,
               seed, event_threshold(probability), stream, per_step);
    });
}

void zero_padding(const GpuCall& call, void* array, int64_t row_bytes, int64_t steps, int64_t batch,
                  const int64_t* lengths) {
    if (steps * batch * row_bytes == 0) return;
    const DeviceGuard guard(call.device);
    const auto run = [&](auto element) {
        using E = decltype(element);
        launch("rnn: zero_padding_kernel", zero_padding_kernel<E>, flat_shape(steps * batch, 8),
               call.stream, static_cast<E*>(array), row_bytes / int64_t(sizeof(E)), steps, batch,
               lengths);
    };
    const auto address = reinterpret_cast<uintptr_t>(array);
    if (row_bytes % 16 == 0 && address % 16 == 0)
        run(U32x4{});
    else if (row_bytes % 4 == 0 && address % 4 == 0)
        run(uint32_t{});
    else
        run(uint16_t{});
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
