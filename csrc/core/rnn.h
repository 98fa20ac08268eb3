// Arguments of the recurrent operations: every pointer with its shape in brackets, every size.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/cells/cells.h"
#include "core/config.h"
#include "core/dtype.h"

namespace seqfast {

// What a layer does beyond its sizes; equations in docs/equations.md.
struct RnnOptions {
    CellKind cell;
    bool coupled;                  // of lstm_three_gates: f = 1 - i; else f = 1
    Activation activation;         // of rnn: tanh or relu
    Activation output_activation;  // of the projection
    bool layer_norm;               // of the recurrent product, and of the cell state if there is
    double gate_clip, cell_clip;   // of lstm; 0: none
    double zoneout_hidden, zoneout_cell;
    double dropout_hidden, dropout_update;  // recurrent dropout
    const int64_t* seed;  // one number, where the other arrays are; nullptr: evaluation, zoneout by
                          // its expectation and no dropout
    int layer;            // part of what masks are drawn by
};
constexpr double kNormEpsilon = 1e-5;

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

struct RnnWeights {
    const void* weight_ih;  // [gates * hidden_size, input_size]; nullptr: input is the product with
                            // it, [steps, batch, directions * gates * hidden_size]
    const void* weight_hh;  // [gates * hidden_size, output_size]
    const void* bias_ih;    // [gates * hidden_size] or nullptr
    const void* bias_hh;    // [gates * hidden_size] or nullptr
    const void* weight_hr;  // [proj_size, hidden_size] or nullptr
    const void* bias_hr;    // [proj_size] or nullptr
    const void* weight_peephole;   // [3, hidden_size] i f o, or nullptr
    const void* weight_norm_hh;    // [gates * hidden_size], layer_norm only
    const void* weight_norm_cell;  // [hidden_size], layer_norm of a cell state only
    const void* bias_norm_cell;    // [hidden_size], the same
};

// As in RnnWeights; nullptr where absent or not wanted. Biases with one gradient may share it.
struct RnnWeightGradients {
    void* weight_ih;
    void* weight_hh;
    void* bias_ih;
    void* bias_hh;
    void* weight_hr;
    void* bias_hr;
    void* weight_peephole;
    void* weight_norm_hh;
    void* weight_norm_cell;
    void* bias_norm_cell;
};

// Of each row and step with layer_norm, in `statistics`.
enum Statistic : int {
    rstd_product = 0,    // of the recurrent product; of gru, of its first two gates
    rstd_candidate = 1,  // of gru's third gate
    mean_cell = 2,
    rstd_cell = 3,
    statistics_count = 4,
};

// Accumulating type: float64 for float64, else float32. All other arrays hold sizes.dtype.
// Rows past their length are left untouched in output, cells, gates, statistics and grad_input.
struct RnnForwardArgs {
    RnnSizes sizes;
    RnnOptions options;
    SequenceView input;      // [steps, batch, input_size]
    const int64_t* lengths;  // [batch] or nullptr
    const uint8_t* reset;    // [steps, batch] or nullptr: nonzero, the row starts from zeros there
    RowOrder order;
    const void* hidden;     // [directions, batch, output_size] or nullptr (zeros)
    const void* cell;       // [directions, batch, hidden_size] or nullptr (zeros)
    RnnWeights weights[2];  // per direction; the second runs backward in time
    void* output;           // [steps, batch, directions * output_size]
    void* hidden_n;         // [directions, batch, output_size]
    void* cell_n;           // [directions, batch, hidden_size]; nullptr without a cell state
    void* cells;            // accumulating type [steps, batch, directions * hidden_size] or nullptr
    void* gates;  // [steps, batch, directions * saved * hidden_size] or nullptr; with layer_norm
                  // the normalised product's gates * hidden_size follow a direction's saved
    void* statistics;  // accumulating type [steps, batch, directions * 4], with gates and
                       // layer_norm only
    void* workspace;
    size_t workspace_size;
};

struct RnnBackwardArgs {
    RnnSizes sizes;
    RnnOptions options;
    SequenceView grad_output;   // [steps, batch, directions * output_size] or absent
    const void* grad_hidden_n;  // [directions, batch, output_size] or nullptr
    const void* grad_cell_n;    // [directions, batch, hidden_size] or nullptr
    const void* grad_cells;     // accumulating type [steps, batch, directions * hidden_size]
                                // or nullptr
    SequenceView input;         // [steps, batch, input_size]
    const int64_t* lengths;     // [batch] or nullptr
    const uint8_t* reset;       // [steps, batch] or nullptr
    RowOrder order;
    const void* hidden;  // as given to the forward pass
    const void* cell;
    RnnWeights weights[2];
    const void* output;  // as left by the forward pass
    const void* cells;
    const void* gates;
    const void* statistics;
    void* grad_input;                    // shaped as input, contiguous, or nullptr
    void* grad_hidden;                   // [directions, batch, output_size] or nullptr
    void* grad_cell;                     // [directions, batch, hidden_size] or nullptr
    RnnWeightGradients grad_weights[2];  // per direction
    void* workspace;
    size_t workspace_size;
};

enum class RnnStrategy : int { automatic = 0, stepwise = 1, cluster = 2, grid = 3 };

// Where a recurrence runs on a GPU, and how.
struct GpuCall {
    int device;
    void* stream;
    bool tf32;             // float32 products may round their factors to TF32
    RnnStrategy strategy;  // automatic: the policy's choice; another is refused where it cannot be
    bool extras;           // whether there are peephole weights or resets
};

// The recurrence alone: products over all steps at once are the caller's, before and after.
// Rows past their length are left untouched in output, cells, gates and statistics.
struct RnnRecurrenceForwardArgs {
    GpuCall call;
    RnnSizes sizes;
    RnnOptions options;
    const int64_t* lengths;  // [batch] or nullptr; beyond 0..steps they count as the nearer end
    const int64_t* order;    // [batch] rows by falling length; nullptr without lengths
    const uint8_t* reset;    // [steps, batch] or nullptr
    const void* hidden;      // [directions, batch, output_size] or nullptr (zeros)
    const void* cell;        // [directions, batch, hidden_size] or nullptr (zeros)
    RnnWeights weights[2];   // weight_ih is not read
    const void* product;     // [steps, batch, directions * gates * hidden_size]: input times
                             // weight_ih
    void* output;            // [steps, batch, directions * output_size]
    void* hidden_n;          // [directions, batch, output_size]
    void* cell_n;            // [directions, batch, hidden_size]; nullptr without a cell state
    void* cells;       // accumulating type [steps, batch, directions * hidden_size] or nullptr
    void* gates;       // as in RnnForwardArgs, or nullptr; may be `product` where as large
    void* statistics;  // as in RnnForwardArgs
    void* workspace;
    size_t workspace_size;
};

// Rows past their length are left untouched in what has steps.
struct RnnRecurrenceBackwardArgs {
    GpuCall call;
    RnnSizes sizes;
    RnnOptions options;
    const int64_t* lengths;  // as given to the forward pass
    const int64_t* order;
    const uint8_t* reset;
    SequenceView grad_output;   // [steps, batch, directions * output_size] or absent
    const void* grad_hidden_n;  // [directions, batch, output_size] or nullptr
    const void* grad_cell_n;    // [directions, batch, hidden_size] or nullptr
    const void* grad_cells;     // accumulating type [steps, batch, directions * hidden_size]
                                // or nullptr
    const void* hidden;         // as given to the forward pass
    const void* cell;
    RnnWeights weights[2];  // weight_ih is not read
    const void* output;     // as left by the forward pass
    const void* cells;
    const void* gates;
    const void* statistics;
    void* grad_gates;    // [steps, batch, directions * saved * hidden_size] of the pre-activations;
                         // of gru those of n as the input sees it, r, z, n as the recurrent
                         // product sees it
    void* grad_product;  // with layer_norm: of the recurrent product before it is normalised,
                         // [steps, batch, directions * gates * hidden_size]
    void* grad_peephole;   // accumulating type [steps, batch, directions * 3 * hidden_size] or
                           // nullptr: each row's and step's share
    void* grad_norm_cell;  // accumulating type [steps, batch, directions * 2 * hidden_size] or
                           // nullptr: the same of weight_norm_cell and bias_norm_cell
    void* grad_hidden;     // [directions, batch, output_size] or nullptr: what reaches the first
                           // state past the recurrent product; all, where a row has no steps
    void* grad_cell;       // [directions, batch, hidden_size] or nullptr
    void* grad_projected;  // [steps, batch, directions * proj_size]: of the projection's
                           // pre-activation; nullptr without projection
    void* unprojected;     // [steps, batch, directions * hidden_size]: what was projected; nullptr
                           // without projection
    void* workspace;
    size_t workspace_size;
};

}  // namespace seqfast
