// Weights and first states in the order in which the kernels of a recurrence load them.
#pragma once

#include "cuda/rnn/kernels.cuh"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

// weight_hh [gates * hidden, out], without the gate of a second product: m = gates of units,
// k = out; transposed the other way round.
void pack_recurrent(const RnnSizes& sizes, CellKind kind, const RnnWeights& weights,
                    bool transposed, U32x4* packed, int m_tiles, int chunks, Stream stream);
// What a step multiplies by second, weight_hr or the last gate of weight_hh: m = its rows,
// k = its columns; transposed the other way round.
void pack_second(const RnnSizes& sizes, CellKind kind, const RnnWeights& weights, bool transposed,
                 U32x4* packed, int m_tiles, int chunks, Stream stream);
// First states [directions, batch, width] to [direction][pass][chunk][row of a pass][64 bytes], as
// the first product sees them: masked, zeros after a reset.
void stage_rows(const RnnSizes& sizes, const RowsByLength& rows, const Variant& variant,
                const void* source, char* staged, const Slabs& slabs, int chunks, int pass_rows,
                Stream stream);

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
