// Arguments of the recurrent operations: every pointer with its shape in brackets, every size.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/config.h"

namespace seqfast {

enum class DType : int { float32 = 0, float64 = 1, bfloat16 = 2, float16 = 3 };

struct RnnSizes {
    DType dtype;
    int64_t steps;
    int64_t batch;
    int64_t input_size;
    int64_t hidden_size;
    int64_t proj_size;  // 0: no projection
    int64_t directions;
    int threads;

    SEQFAST_INLINE int64_t output_size() const { return proj_size ? proj_size : hidden_size; }
};

// A [steps, batch, features] array whose last dimension is contiguous.
struct SequenceView {
    const void* data;  // nullptr: absent
    int64_t step_stride;
    int64_t row_stride;
};

// Rows by falling length, filled in by the backend's entry; nullptr where all have all steps.
struct RowOrder {
    const int64_t* row;    // [batch] row at each position
    const int64_t* steps;  // [batch] its length
};

struct LstmWeights {
    const void* weight_ih;  // [4 * hidden_size, input_size], gates in the order i f g o
    const void* weight_hh;  // [4 * hidden_size, output_size]
    const void* bias_ih;    // [4 * hidden_size] or nullptr
    const void* bias_hh;    // [4 * hidden_size] or nullptr
    const void* weight_hr;  // [proj_size, hidden_size] or nullptr
};

struct LstmWeightGradients {
    void* weight_ih;  // as in LstmWeights; nullptr where not wanted
    void* weight_hh;
    void* bias;  // [4 * hidden_size]; bias_ih and bias_hh have the same gradient
    void* weight_hr;
};

// Accumulating type: float64 for float64, else float32. All other arrays hold sizes.dtype.
// Rows past their length are left untouched in output, cells, gates and grad_input.
struct LstmForwardArgs {
    RnnSizes sizes;
    SequenceView input;      // [steps, batch, input_size]
    const int64_t* lengths;  // [batch] or nullptr
    RowOrder order;
    const void* hidden;      // [directions, batch, output_size] or nullptr (zeros)
    const void* cell;        // [directions, batch, hidden_size] or nullptr (zeros)
    LstmWeights weights[2];  // per direction; the second runs backward in time
    void* output;            // [steps, batch, directions * output_size]
    void* hidden_n;          // [directions, batch, output_size]
    void* cell_n;            // [directions, batch, hidden_size]
    void* cells;  // accumulating type [steps, batch, directions * hidden_size] or nullptr
    void* gates;  // [steps, batch, directions * 4 * hidden_size] or nullptr
    void* workspace;
    size_t workspace_size;
};

struct LstmBackwardArgs {
    RnnSizes sizes;
    SequenceView grad_output;   // [steps, batch, directions * output_size] or absent
    const void* grad_hidden_n;  // [directions, batch, output_size] or nullptr
    const void* grad_cell_n;    // [directions, batch, hidden_size] or nullptr
    const void* grad_cells;     // accumulating type [steps, batch, directions * hidden_size]
                                // or nullptr
    SequenceView input;         // [steps, batch, input_size]
    const int64_t* lengths;     // [batch] or nullptr
    RowOrder order;
    const void* hidden;  // as given to the forward pass
    const void* cell;
    LstmWeights weights[2];
    const void* output;  // as left by the forward pass
    const void* cells;
    const void* gates;
    void* grad_input;                     // [steps, batch, input_size] or nullptr
    void* grad_hidden;                    // [directions, batch, output_size] or nullptr
    void* grad_cell;                      // [directions, batch, hidden_size] or nullptr
    LstmWeightGradients grad_weights[2];  // per direction
    void* workspace;
    size_t workspace_size;
};

enum class RnnWay : int { automatic = 0, stepwise = 1, cluster = 2, grid = 3 };

// Where a recurrence runs on a GPU, and how.
struct GpuCall {
    int device;
    void* stream;
    bool tf32;   // float32 products may round their factors to TF32
    RnnWay way;  // automatic: the policy's choice; any other is refused where it cannot be
};

// The recurrence alone: products over all steps at once are the caller's, before and after.
// Rows past their length are left untouched in gates, output and cells.
struct LstmRecurrenceForwardArgs {
    GpuCall call;
    RnnSizes sizes;
    const int64_t* lengths;  // [batch] or nullptr; beyond 0..steps they count as the nearer end
    const int64_t* order;    // [batch] rows by falling length; nullptr without lengths
    const void* hidden;      // [directions, batch, output_size] or nullptr (zeros)
    const void* cell;        // [directions, batch, hidden_size] or nullptr (zeros)
    LstmWeights weights[2];  // weight_ih is not read
    void* gates;  // [steps, batch, directions * 4 * hidden_size]; in: input times weight_ih, out:
                  // with save_gates the activated gates
    bool save_gates;
    void* output;    // [steps, batch, directions * output_size]
    void* hidden_n;  // [directions, batch, output_size]
    void* cell_n;    // [directions, batch, hidden_size]
    void* cells;     // accumulating type [steps, batch, directions * hidden_size] or nullptr
    void* workspace;
    size_t workspace_size;
};

// Rows past their length are left untouched in grad_gates, grad_projected and unprojected.
struct LstmRecurrenceBackwardArgs {
    GpuCall call;
    RnnSizes sizes;
    const int64_t* lengths;  // as given to the forward pass
    const int64_t* order;
    SequenceView grad_output;   // [steps, batch, directions * output_size] or absent
    const void* grad_hidden_n;  // [directions, batch, output_size] or nullptr
    const void* grad_cell_n;    // [directions, batch, hidden_size] or nullptr
    const void* grad_cells;     // accumulating type [steps, batch, directions * hidden_size]
                                // or nullptr
    const void* cell;           // as given to the forward pass
    LstmWeights weights[2];     // only weight_hh and weight_hr are read
    const void* cells;          // as left by the forward pass
    const void* gates;
    void* grad_gates;      // [steps, batch, directions * 4 * hidden_size]: of the pre-activations
    void* grad_cell;       // [directions, batch, hidden_size] or nullptr
    void* grad_projected;  // [steps, batch, directions * proj_size]: of output, with what comes
                           // through the next step; nullptr without projection
    void* unprojected;     // [steps, batch, directions * hidden_size]: o * tanh(c); nullptr without
                           // projection
    void* workspace;
    size_t workspace_size;
};

}  // namespace seqfast
