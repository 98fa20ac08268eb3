// What stands where in the workspace of a recurrence.
#pragma once

#include <stdexcept>
#include <string>

#include "cuda/base/sizes.h"
#include "cuda/rnn/policy.h"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

inline U32x4* take_packed(Arena& arena, int64_t m_tiles, int chunks) {
    return arena.take<U32x4>(packed_index(m_tiles, chunks, 0, 0, 0));
}

// The workspace was made for a plan; this one must be the same.
inline void check_workspace(const char* operation, const Arena& arena, size_t workspace_size) {
    if (size_t(arena.used()) > workspace_size)
        throw std::runtime_error(std::string(operation) + ": workspace must have " +
                                 std::to_string(arena.used()) + " bytes, got " +
                                 std::to_string(workspace_size));
}

struct PersistentWorkspace {
    int m_tiles, rows;
    U32x4* packed[2] = {};
    char* staged = nullptr;
    char* exchange = nullptr;
    int64_t exchange_bytes = 0;

    PersistentWorkspace(Arena& arena, const Plan& plan, const RnnSizes& sizes,
                        const RnnOptions& options, bool backward) {
        const int outputs = backward ? 1 : slots_of(gates_of(options.cell));
        m_tiles = plan.group * plan.shape.units * outputs / 16;
        rows = 8 * plan.shape.n_tiles;
        for (int64_t d = 0; d < sizes.directions; ++d)
            packed[d] = take_packed(arena, m_tiles, plan.shape.chunks);
        const int64_t slab_bytes =
            int64_t(plan.shape.passes) * plan.shape.chunks * rows * chunk_bytes;
        if (!backward) staged = arena.take(sizes.directions * plan.slabs.count * slab_bytes);
        if (plan.strategy == RnnStrategy::grid) exchange_bytes = 2 * plan.groups * slab_bytes;
        exchange = arena.take(exchange_bytes);
    }
};

// What a step does beside its one product and the cell.
enum class Beside { nothing, projection, candidate, layer_norm };
inline Beside beside_of(const RnnSizes& sizes, const RnnOptions& options) {
    return options.layer_norm                           ? Beside::layer_norm
           : sizes.proj_size                            ? Beside::projection
           : traits_of(options.cell).has_second_product ? Beside::candidate
                                                        : Beside::nothing;
}

struct StepwiseWorkspace {
    Beside beside;
    bool has_second;  // product
    int passes, rows;
    int m_tiles, chunks;                // of the first product of a step
    int second_m_tiles, second_chunks;  // of the second, if there is one
    U32x4* packed[2] = {};              // weight_hh, or its transpose
    U32x4* packed_second[2] = {};       // weight_hr, or the last gate, or its transpose
    char* staged = nullptr;             // forward
    char* exchange[2] = {};             // what the next step's product needs, taken in turns
    char* between = nullptr;            // what the second product of a step needs
    char* state = nullptr;              // [plane][direction][pass][row][unit]
    char* output_state = nullptr;       // of the projection, the same
    char* raw = nullptr;                // of layer normalisation: the product
    char* cleared = nullptr;            // begin of what must begin as zeros
    int64_t cleared_bytes = 0;

    StepwiseWorkspace(Arena& arena, const RnnSizes& sizes, const RnnOptions& options,
                      bool backward) {
        const int bytes = size_of(sizes.dtype), block = stepwise_units;
        const int64_t hidden = sizes.hidden_size, output = sizes.output_size();
        const int slots = slots_of(gates_of(options.cell));
        beside = beside_of(sizes, options);
        has_second = beside == Beside::projection || beside == Beside::candidate;
        // hidden: what the cell gives; output: after the projection, if any.
        const int hidden_tiles = int(round_up(hidden, block) / 16);
        const int output_tiles = int(round_up(output, block) / 16);
        const int hidden_chunks = chunks_of(hidden, block, bytes);
        const int output_chunks = chunks_of(output, block, bytes);
        m_tiles = backward ? output_tiles : slots * hidden_tiles;
        chunks = backward ? chunks_of(hidden, block, slots * bytes) : output_chunks;
        second_m_tiles = backward ? hidden_tiles : output_tiles;
        second_chunks = backward ? output_chunks : hidden_chunks;
        rows = 8 * stepwise_n_tiles(sizes.dtype, sizes.batch);
        passes = int((sizes.batch + rows - 1) / rows);
        const int64_t all_rows = sizes.directions * passes * int64_t(rows);
        const int64_t row_bytes = all_rows * chunk_bytes;
        const int accumulator = sizes.dtype == DType::float64 ? 8 : 4;
        for (int64_t d = 0; d < sizes.directions; ++d) {
            packed[d] = take_packed(arena, m_tiles, chunks);
            if (has_second) packed_second[d] = take_packed(arena, second_m_tiles, second_chunks);
        }
        if (!backward) staged = arena.take(row_bytes * chunks);
        const int64_t before = arena.used();
        for (char*& buffer : exchange) buffer = arena.take(row_bytes * chunks);
        if (has_second) between = arena.take(row_bytes * second_chunks);
        cleared = exchange[0];
        cleared_bytes = arena.used() - before;
        state = arena.take(most_planes * all_rows * hidden * accumulator);
        if (beside == Beside::projection)
            output_state = arena.take(ProjectionState::planes * all_rows * output * accumulator);
        if (beside == Beside::layer_norm)
            raw = arena.take((backward ? 1 : slots) * all_rows * hidden * accumulator);
    }
    // What the first launch of a step leaves its results for.
    int next_chunks() const { return has_second ? second_chunks : chunks; }
};

inline size_t workspace_size(const Plan& plan, const RnnSizes& sizes, const RnnOptions& options,
                             bool backward) {
    Arena arena;
    if (plan.strategy == RnnStrategy::stepwise)
        StepwiseWorkspace(arena, sizes, options, backward);
    else
        PersistentWorkspace(arena, plan, sizes, options, backward);
    return size_t(arena.used());
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
