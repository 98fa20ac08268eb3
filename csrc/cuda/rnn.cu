// Entries of the recurrent operations: workspace, packing, the launches of a call.
#include "cuda/rnn.h"

#include "cuda/rnn_policy.h"

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
    bool gates;       // unit and gate: for m in tiles of 8 units, for k as unit * 4 + gate
    int hidden_size;  // of `gates`

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
            if (m_unit < m.count && k_unit < k.count)
                piece.at[e] = weights[m.offset(m_unit, m_gate) + k.offset(k_unit, index % 4)];
        }
        packed[i] = piece;
    }
}

// source [directions, batch, width] to [direction][pass][chunk][row of a pass][64 bytes].
template <class E>
SEQFAST_KERNEL(256, 1)
stage_rows_kernel(const E* source, Piece<E>* staged, RowsByLength rows, int directions, int width,
                  int passes, int chunks, int pass_rows) {
    const int64_t pieces = int64_t(directions) * passes * chunks * pass_rows * 4;
    const int64_t step = int64_t(grid_x()) * thread_count();
    for (int64_t i = int64_t(block_x()) * thread_count() + thread_index(); i < pieces; i += step) {
        const int t = int(i % 4), n = int(i / 4 % pass_rows);
        const int chunk = int(i / 4 / pass_rows % chunks);
        const int64_t direction_pass = i / 4 / pass_rows / chunks;
        const int64_t row = rows.row(direction_pass % passes * pass_rows + n);
        const E* from = source + (direction_pass / passes * rows.batch + row) * width;
        Piece<E> piece{};
        SEQFAST_UNROLL
        for (int e = 0; e < Piece<E>::count; ++e) {
            const int k = (chunk * 4 + t) * Piece<E>::count + e;
            if (row >= 0 && k < width) piece.at[e] = from[k];
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
        launch("lstm: pack_weights_kernel", pack_weights_kernel<E>,
               flat_shape(packed_index(m_tiles, chunks, 0, 0, 0), 256), stream,
               static_cast<const E*>(weights), reinterpret_cast<Piece<E>*>(packed), m, k, m_tiles,
               chunks);
    });
}

// Recurrent weights [4 * hidden, out]: m = gates of units, k = out.
void pack_gates(const RnnSizes& sizes, const void* weights, U32x4* packed, int m_tiles, int chunks,
                Stream stream) {
    const int hidden = int(sizes.hidden_size), out = int(sizes.output_size());
    pack(sizes.dtype, weights, packed, {hidden, out, true, hidden}, {out, 1, false, 0}, m_tiles,
         chunks, stream);
}
// The same transposed: m = out, k = gates of units.
void pack_gates_transposed(const RnnSizes& sizes, const void* weights, U32x4* packed, int m_tiles,
                           int chunks, Stream stream) {
    const int hidden = int(sizes.hidden_size), out = int(sizes.output_size());
    pack(sizes.dtype, weights, packed, {out, 1, false, 0}, {hidden, out, true, hidden}, m_tiles,
         chunks, stream);
}

void stage(const RnnSizes& sizes, const RowsByLength& rows, const void* source, char* staged,
           int passes, int chunks, int pass_rows, Stream stream) {
    const int directions = int(sizes.directions);
    with_size_of(sizes.dtype, [&](auto element) {
        using E = decltype(element);
        launch("lstm_forward: stage_rows_kernel", stage_rows_kernel<E>,
               flat_shape(int64_t(directions) * passes * chunks * pass_rows * 4, 256), stream,
               static_cast<const E*>(source), reinterpret_cast<Piece<E>*>(staged), rows, directions,
               int(sizes.output_size()), passes, chunks, pass_rows);
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

    PersistentWorkspace(Arena& arena, const Plan& plan, const RnnSizes& sizes, bool backward) {
        m_tiles = plan.group * plan.shape.units * (backward ? 1 : 4) / 16;
        rows = 8 * plan.shape.n_tiles;
        for (int64_t d = 0; d < sizes.directions; ++d)
            packed[d] = arena.take_packed(m_tiles, plan.shape.chunks);
        const int64_t slab_bytes =
            int64_t(plan.shape.passes) * plan.shape.chunks * rows * chunk_bytes;
        if (!backward) staged = arena.take(sizes.directions * plan.slabs * slab_bytes);
        if (plan.way == RnnWay::grid) exchange_bytes = 2 * plan.groups * slab_bytes;
        exchange = arena.take(exchange_bytes);
    }
};

struct StepwiseWorkspace {
    // hidden: o * tanh(c); output: after the projection, if any; gates: gradients of
    // pre-activations.
    int hidden_tiles, output_tiles, hidden_chunks, output_chunks, gate_chunks;
    int passes, rows;
    U32x4* packed[2] = {};             // weight_hh, or its transpose
    U32x4* packed_projection[2] = {};  // weight_hr, or its transpose
    char* staged = nullptr;            // forward
    char* exchange[2] = {};            // what the next step's product needs, taken in turns
    char* between = nullptr;           // what the second product of a step needs
    char* state = nullptr;
    char* cleared = nullptr;  // begin of what must begin as zeros
    int64_t cleared_bytes = 0;

    StepwiseWorkspace(Arena& arena, const RnnSizes& sizes, bool backward) {
        const int bytes = size_of(sizes.dtype), block = stepwise_units;
        const int64_t hidden = sizes.hidden_size, output = sizes.output_size();
        hidden_tiles = int(round_up(hidden, block) / 16);
        output_tiles = int(round_up(output, block) / 16);
        hidden_chunks = chunks_of(hidden, block, bytes);
        output_chunks = chunks_of(output, block, bytes);
        gate_chunks = chunks_of(hidden, block, 4 * bytes);
        rows = 8 * stepwise_n_tiles(sizes.dtype, sizes.batch);
        passes = int((sizes.batch + rows - 1) / rows);
        const int64_t row_bytes = sizes.directions * passes * int64_t(rows) * chunk_bytes;
        for (int64_t d = 0; d < sizes.directions; ++d) {
            packed[d] = backward ? arena.take_packed(output_tiles, gate_chunks)
                                 : arena.take_packed(4 * hidden_tiles, output_chunks);
            if (sizes.proj_size)
                packed_projection[d] = backward ? arena.take_packed(hidden_tiles, output_chunks)
                                                : arena.take_packed(output_tiles, hidden_chunks);
        }
        if (!backward) staged = arena.take(row_bytes * output_chunks);
        const int64_t before = arena.used();
        for (char*& buffer : exchange)
            buffer = arena.take(row_bytes * (backward ? gate_chunks : output_chunks));
        if (sizes.proj_size)
            between = arena.take(row_bytes * (backward ? output_chunks : hidden_chunks));
        cleared = exchange[0];
        cleared_bytes = arena.used() - before;
        state = arena.take(sizes.directions * passes * int64_t(rows) * hidden *
                           (sizes.dtype == DType::float64 ? 8 : 4));
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
    check_one("4 * hidden_size * directions", 4 * sizes.hidden_size * sizes.directions);
}

Plan plan_of(const char* operation, const GpuCall& call, const RnnSizes& sizes, bool backward) {
    check_sizes(operation, sizes);
    Plan plan = Policy::choose(call, sizes, backward);
    if (!plan.refused.empty())
        throw std::runtime_error(std::string(operation) + ": way must be one the layer fits, got " +
                                 (call.way == RnnWay::cluster ? "cluster: " : "grid: ") +
                                 plan.refused);
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

size_t workspace_size(const Plan& plan, const RnnSizes& sizes, bool backward) {
    Arena arena(nullptr);
    if (plan.way == RnnWay::stepwise)
        StepwiseWorkspace(arena, sizes, backward);
    else
        PersistentWorkspace(arena, plan, sizes, backward);
    return size_t(arena.used());
}

void forward_stepwise(const LstmRecurrenceForwardArgs& args, ForwardParams params, Stream stream) {
    const RnnSizes& sizes = args.sizes;
    Arena arena(args.workspace);
    const StepwiseWorkspace workspace(arena, sizes, false);
    check_workspace("lstm_forward", arena, args.workspace_size);
    RecurrenceParams& r = params.recurrence;
    r.all_passes = workspace.passes;
    params.state = workspace.state;
    for (int64_t d = 0; d < sizes.directions; ++d) {
        pack_gates(sizes, args.weights[d].weight_hh, workspace.packed[d],
                   4 * workspace.hidden_tiles, workspace.output_chunks, stream);
        if (sizes.proj_size)
            pack(sizes.dtype, args.weights[d].weight_hr, workspace.packed_projection[d],
                 {int(sizes.proj_size), sizes.hidden_size, false, 0},
                 {int(sizes.hidden_size), 1, false, 0}, workspace.output_tiles,
                 workspace.hidden_chunks, stream);
    }
    if (args.hidden)
        stage(sizes, r.rows, args.hidden, workspace.staged, workspace.passes,
              workspace.output_chunks, workspace.rows, stream);
    fill_zero(workspace.cleared, size_t(workspace.cleared_bytes), stream);

    ProjectionParams projection{};
    if (sizes.proj_size) {
        projection.recurrence = r;
        projection.recurrence.hidden_size = int(sizes.proj_size);
        projection.recurrence.chunks = workspace.hidden_chunks;
        projection.recurrence.staged = workspace.between;
        projection.output = args.output;
        projection.output_n = args.hidden_n;
        projection.initial = args.hidden;
        params.output = params.hidden_n = nullptr;
    }
    for (int d = 0; d < 2; ++d) {
        r.packed[d] = workspace.packed[d];
        projection.recurrence.packed[d] = workspace.packed_projection[d];
    }
    r.chunks = workspace.output_chunks;
    for (int s = 0; s < int(sizes.steps); ++s) {
        r.step = projection.recurrence.step = s;
        r.staged = s > 0         ? workspace.exchange[(s - 1) & 1]
                   : args.hidden ? workspace.staged
                                 : nullptr;
        if (sizes.proj_size) {
            r.exchange = workspace.between;
            launch_stepwise_forward(sizes.dtype, params, workspace.hidden_chunks, stream);
            projection.recurrence.exchange = workspace.exchange[s & 1];
            launch_stepwise_projection(sizes.dtype, projection, workspace.output_chunks, stream);
        } else {
            r.exchange = workspace.exchange[s & 1];
            launch_stepwise_forward(sizes.dtype, params, workspace.output_chunks, stream);
        }
    }
}

void backward_stepwise(const LstmRecurrenceBackwardArgs& args, BackwardParams params,
                       Stream stream) {
    const RnnSizes& sizes = args.sizes;
    Arena arena(args.workspace);
    const StepwiseWorkspace workspace(arena, sizes, true);
    check_workspace("lstm_backward", arena, args.workspace_size);
    RecurrenceParams& r = params.recurrence;
    r.all_passes = workspace.passes;
    params.state = workspace.state;
    for (int64_t d = 0; d < sizes.directions; ++d) {
        pack_gates_transposed(sizes, args.weights[d].weight_hh, workspace.packed[d],
                              workspace.output_tiles, workspace.gate_chunks, stream);
        if (sizes.proj_size)
            pack(sizes.dtype, args.weights[d].weight_hr, workspace.packed_projection[d],
                 {int(sizes.hidden_size), 1, false, 0},
                 {int(sizes.proj_size), sizes.hidden_size, false, 0}, workspace.hidden_tiles,
                 workspace.output_chunks, stream);
    }
    fill_zero(workspace.cleared, size_t(workspace.cleared_bytes), stream);

    // With a projection a step is two products: to what reaches its output, then to its o *
    // tanh(c).
    ProjectionParams projection{};
    if (sizes.proj_size) {
        projection.recurrence = r;
        projection.recurrence.hidden_size = int(sizes.proj_size);
        projection.recurrence.chunks = workspace.gate_chunks;
        projection.recurrence.exchange = workspace.between;
        projection.reversed = true;
        projection.addend = params.grad_output;
        projection.addend_n = params.grad_hidden_n;
        projection.output = args.grad_projected;
        params.grad_output = {};
        params.grad_hidden_n = nullptr;
    }
    for (int d = 0; d < 2; ++d) {
        r.packed[d] = sizes.proj_size ? workspace.packed_projection[d] : workspace.packed[d];
        projection.recurrence.packed[d] = workspace.packed[d];
    }
    r.chunks = sizes.proj_size ? workspace.output_chunks : workspace.gate_chunks;
    for (int s = 0; s < int(sizes.steps); ++s) {
        r.step = projection.recurrence.step = s;
        const char* later = s > 0 ? workspace.exchange[(s - 1) & 1] : nullptr;
        r.staged = later;
        if (sizes.proj_size) {
            projection.recurrence.staged = later;
            launch_stepwise_projection(sizes.dtype, projection, workspace.output_chunks, stream);
            r.staged = workspace.between;
        }
        r.exchange = workspace.exchange[s & 1];
        launch_stepwise_backward(sizes.dtype, params, workspace.gate_chunks, stream);
    }
}

}  // namespace

size_t lstm_workspace_size(const GpuCall& call, const RnnSizes& sizes, bool backward) {
    const char* operation = backward ? "lstm_backward" : "lstm_forward";
    if (sizes.steps * sizes.batch * sizes.hidden_size == 0) return 0;
    const DeviceGuard guard(call.device);
    return workspace_size(plan_of(operation, call, sizes, backward), sizes, backward);
}

RnnWay lstm_way(const GpuCall& call, const RnnSizes& sizes, bool backward) {
    const DeviceGuard guard(call.device);
    return plan_of(backward ? "lstm_backward" : "lstm_forward", call, sizes, backward).way;
}

void lstm_forward(const LstmRecurrenceForwardArgs& args) {
    const RnnSizes& sizes = args.sizes;
    if (sizes.steps * sizes.batch * sizes.hidden_size == 0) return;
    const DeviceGuard guard(args.call.device);
    const Stream stream = args.call.stream;
    const Plan plan = plan_of("lstm_forward", args.call, sizes, false);

    ForwardParams params{};
    params.recurrence = params_of(args.call, sizes, args.lengths, args.order);
    params.hidden = args.hidden;
    params.cell = args.cell;
    for (int d = 0; d < 2; ++d) {
        params.bias_ih[d] = args.weights[d].bias_ih;
        params.bias_hh[d] = args.weights[d].bias_hh;
    }
    params.gates = args.gates;
    params.save_gates = args.save_gates;
    params.output = args.output;
    params.hidden_n = args.hidden_n;
    params.cell_n = args.cell_n;
    params.cells = args.cells;
    if (plan.way == RnnWay::stepwise) return forward_stepwise(args, params, stream);

    Arena arena(args.workspace);
    const PersistentWorkspace workspace(arena, plan, sizes, false);
    check_workspace("lstm_forward", arena, args.workspace_size);
    place(params.recurrence, plan, workspace);
    for (int64_t d = 0; d < sizes.directions; ++d)
        pack_gates(sizes, args.weights[d].weight_hh, workspace.packed[d], workspace.m_tiles,
                   plan.shape.chunks, stream);
    if (args.hidden) {
        stage(sizes, params.recurrence.rows, args.hidden, workspace.staged,
              plan.slabs * plan.shape.passes, plan.shape.chunks, workspace.rows, stream);
        params.recurrence.staged = workspace.staged;
    }
    if (workspace.exchange_bytes)
        fill_zero(workspace.exchange, size_t(workspace.exchange_bytes), stream);
    persistent_forward.run(plan.shape, plan.launch, params, stream);
}

void lstm_backward(const LstmRecurrenceBackwardArgs& args) {
    const RnnSizes& sizes = args.sizes;
    if (sizes.steps * sizes.batch * sizes.hidden_size == 0) return;
    const DeviceGuard guard(args.call.device);
    const Stream stream = args.call.stream;
    const Plan plan = plan_of("lstm_backward", args.call, sizes, true);

    BackwardParams params{};
    params.recurrence = params_of(args.call, sizes, args.lengths, args.order);
    params.grad_output = args.grad_output;
    params.grad_hidden_n = args.grad_hidden_n;
    params.grad_cell_n = args.grad_cell_n;
    params.grad_cells = args.grad_cells;
    params.cell = args.cell;
    params.cells = args.cells;
    params.gates = args.gates;
    params.grad_gates = args.grad_gates;
    params.grad_cell = args.grad_cell;
    params.unprojected = args.unprojected;
    if (plan.way == RnnWay::stepwise) return backward_stepwise(args, params, stream);

    Arena arena(args.workspace);
    const PersistentWorkspace workspace(arena, plan, sizes, true);
    check_workspace("lstm_backward", arena, args.workspace_size);
    place(params.recurrence, plan, workspace);
    for (int64_t d = 0; d < sizes.directions; ++d)
        pack_gates_transposed(sizes, args.weights[d].weight_hh, workspace.packed[d],
                              workspace.m_tiles, plan.shape.chunks, stream);
    if (workspace.exchange_bytes)
        fill_zero(workspace.exchange, size_t(workspace.exchange_bytes), stream);
    persistent_backward.run(plan.shape, plan.launch, params, stream);
}

void zero_padding(const GpuCall& call, void* array, int64_t row_bytes, int64_t steps, int64_t batch,
                  const int64_t* lengths) {
    if (steps * batch * row_bytes == 0) return;
    const DeviceGuard guard(call.device);
    const auto run = [&](auto element) {
        using E = decltype(element);
        launch("lstm: zero_padding_kernel", zero_padding_kernel<E>, flat_shape(steps * batch, 8),
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
