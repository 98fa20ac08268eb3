// Arguments of the recurrent operations: every pointer with its shape in brackets, every size.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/cells/cells.h"
#include "core/config.h"
#include "core/dtype.h"

// Beside each struct stands its visitor: f(name, field) for each field that Python hands over. The
// workspace is not among them: a call is told of it last, and on the CPU says what it needs.

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
    Activation cell_activation;  // of lstm, of the cell state in its output: tanh or identity
    bool peephole_previous;      // of lstm: the output gate's peephole sees c[t-1], not c[t]
    double dropout_cell;         // recurrent dropout of c[t]; evaluation: its expectation
};
template <class F>
void visit(RnnOptions& options, F&& f) {
    f("cell", options.cell);
    f("coupled", options.coupled);
    f("activation", options.activation);
    f("output_activation", options.output_activation);
    f("layer_norm", options.layer_norm);
    f("gate_clip", options.gate_clip);
    f("cell_clip", options.cell_clip);
    f("zoneout_hidden", options.zoneout_hidden);
    f("zoneout_cell", options.zoneout_cell);
    f("dropout_hidden", options.dropout_hidden);
    f("dropout_update", options.dropout_update);
    f("seed", options.seed);
    f("layer", options.layer);
    f("cell_activation", options.cell_activation);
    f("peephole_previous", options.peephole_previous);
    f("dropout_cell", options.dropout_cell);
}
// Whether a layer is more than its plain cell, by its options alone.
SEQFAST_INLINE bool has_options(const RnnOptions& o) {
    return o.layer_norm || o.gate_clip > 0 || o.cell_clip > 0 || o.zoneout_hidden > 0 ||
           o.zoneout_cell > 0 || (o.seed && (o.dropout_hidden > 0 || o.dropout_update > 0)) ||
           o.dropout_cell > 0 || o.cell_activation == Activation::identity;
}
// What a cell has to know of them.
template <class Real>
SEQFAST_INLINE CellOptions<Real> cell_options(const RnnOptions& o, bool peephole) {
    CellOptions<Real> result;
    result.activation = o.activation;
    result.peephole = peephole;
    result.peephole_previous = o.peephole_previous;
    result.linear_cell = o.cell_activation == Activation::identity;
    result.coupled = o.coupled;
    result.zoneout_cell = o.zoneout_cell > 0;
    result.update_dropout = o.seed && o.dropout_update > 0;
    result.cell_dropout = o.dropout_cell > 0;
    result.gate_clip = Real(o.gate_clip);
    result.cell_clip = Real(o.cell_clip);
    return result;
}
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
template <class F>
void visit(RnnSizes& sizes, F&& f) {
    f("dtype", sizes.dtype);
    f("steps", sizes.steps);
    f("batch", sizes.batch);
    f("input_size", sizes.input_size);
    f("hidden_size", sizes.hidden_size);
    f("proj_size", sizes.proj_size);
    f("directions", sizes.directions);
    f("threads", sizes.threads);
}

// A [steps, batch, features] array whose last dimension is contiguous.
struct SequenceView {
    const void* data;  // nullptr: absent
    int64_t step_stride;
    int64_t row_stride;
};
template <class F>
void visit(SequenceView& view, F&& f) {
    f("data", view.data);
    f("step_stride", view.step_stride);
    f("row_stride", view.row_stride);
}

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
// The one order of the weights.
template <class Weights, class F>
void visit_weights(Weights& weights, F&& f) {
    f("weight_ih", weights.weight_ih);
    f("weight_hh", weights.weight_hh);
    f("bias_ih", weights.bias_ih);
    f("bias_hh", weights.bias_hh);
    f("weight_hr", weights.weight_hr);
    f("bias_hr", weights.bias_hr);
    f("weight_peephole", weights.weight_peephole);
    f("weight_norm_hh", weights.weight_norm_hh);
    f("weight_norm_cell", weights.weight_norm_cell);
    f("bias_norm_cell", weights.bias_norm_cell);
}
template <class F>
void visit(RnnWeights& weights, F&& f) {
    visit_weights(weights, f);
}
template <class F>
void visit(RnnWeightGradients& weights, F&& f) {
    visit_weights(weights, f);
}

// Of each row and step with layer_norm, in `statistics`.
enum Statistic : int {
    rstd_product = 0,    // of the recurrent product; of gru, of its first two gates
    rstd_candidate = 1,  // of gru's third gate
    mean_cell = 2,
    rstd_cell = 3,
    statistics_count = 4,
};

// How the weights of a pass forward come: in the user's arrays, packed in each call; or as rnn_pack
// left them, as they are or in 8 bits.
enum class RnnPacking : int { none = 0, kept = 1, int8 = 2 };

// Of the rows of weights in 8 bits, float32 [gates * hidden_size] each.
struct RnnScales {
    const float* weight_ih;
    const float* weight_hh;
};
template <class F>
void visit(RnnScales& scales, F&& f) {
    f("weight_ih", scales.weight_ih);
    f("weight_hh", scales.weight_hh);
}

// Weights packed once for many passes forward, into the workspace.
struct RnnPackArgs {
    RnnSizes sizes;  // batch and steps are of no account
    RnnOptions options;
    RnnWeights weights[2];  // with int8 both weight_ih and weight_hh are int8
    RnnPacking packing;
    RnnScales scales[2];  // int8 only
    void* workspace;
    size_t workspace_size;
};
template <class F>
void visit(RnnPackArgs& args, F&& f) {
    f("sizes", args.sizes);
    f("options", args.options);
    f("weights", args.weights);
    f("packing", args.packing);
    f("scales", args.scales);
}

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
    RnnPacking packing;
    const void* packed;  // as rnn_pack left it, for the same layer; nullptr with `none`
    bool keeps_state;    // whether the states stay in `state`, in all their digits
    bool resumes;        // whether they go on from there, not from hidden and cell
    void* state;         // rnn_state_size bytes, or nullptr
    void* workspace;
    size_t workspace_size;
};
template <class F>
void visit(RnnForwardArgs& args, F&& f) {
    f("sizes", args.sizes);
    f("options", args.options);
    f("input", args.input);
    f("lengths", args.lengths);
    f("reset", args.reset);
    f("hidden", args.hidden);
    f("cell", args.cell);
    f("weights", args.weights);
    f("output", args.output);
    f("hidden_n", args.hidden_n);
    f("cell_n", args.cell_n);
    f("cells", args.cells);
    f("gates", args.gates);
    f("statistics", args.statistics);
    f("packing", args.packing);
    f("packed", args.packed);
    f("keeps_state", args.keeps_state);
    f("resumes", args.resumes);
    f("state", args.state);
}

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
template <class F>
void visit(RnnBackwardArgs& args, F&& f) {
    f("sizes", args.sizes);
    f("options", args.options);
    f("grad_output", args.grad_output);
    f("grad_hidden_n", args.grad_hidden_n);
    f("grad_cell_n", args.grad_cell_n);
    f("grad_cells", args.grad_cells);
    f("input", args.input);
    f("lengths", args.lengths);
    f("reset", args.reset);
    f("hidden", args.hidden);
    f("cell", args.cell);
    f("weights", args.weights);
    f("output", args.output);
    f("cells", args.cells);
    f("gates", args.gates);
    f("statistics", args.statistics);
    f("grad_input", args.grad_input);
    f("grad_hidden", args.grad_hidden);
    f("grad_cell", args.grad_cell);
    f("grad_weights", args.grad_weights);
}

enum class RnnStrategy : int { automatic = 0, stepwise = 1, cluster = 2, grid = 3 };

// Where a recurrence runs on a GPU, and how.
struct GpuCall {
    int device;
    void* stream;
    bool tf32;             // float32 products may round their factors to TF32
    RnnStrategy strategy;  // automatic: the policy's choice; another is refused where it cannot be
    bool extras;           // whether there are peephole weights or resets
    bool on_host;          // the host executor takes the call
};
template <class F>
void visit(GpuCall& call, F&& f) {
    f("device", call.device);
    f("stream", call.stream);
    f("tf32", call.tf32);
    f("strategy", call.strategy);
    f("extras", call.extras);
    f("on_host", call.on_host);
}

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
template <class F>
void visit(RnnRecurrenceForwardArgs& args, F&& f) {
    f("call", args.call);
    f("sizes", args.sizes);
    f("options", args.options);
    f("lengths", args.lengths);
    f("order", args.order);
    f("reset", args.reset);
    f("hidden", args.hidden);
    f("cell", args.cell);
    f("weights", args.weights);
    f("product", args.product);
    f("output", args.output);
    f("hidden_n", args.hidden_n);
    f("cell_n", args.cell_n);
    f("cells", args.cells);
    f("gates", args.gates);
    f("statistics", args.statistics);
}

// Zeros for every step of array that is past its row's length.
struct ZeroPaddingArgs {
    void* array;  // [steps, batch, row_bytes]
    int64_t steps, batch, row_bytes;
    const int64_t* lengths;  // [batch]
};
template <class F>
void visit(ZeroPaddingArgs& args, F&& f) {
    f("array", args.array);
    f("steps", args.steps);
    f("batch", args.batch);
    f("row_bytes", args.row_bytes);
    f("lengths", args.lengths);
}

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
template <class F>
void visit(RnnRecurrenceBackwardArgs& args, F&& f) {
    f("call", args.call);
    f("sizes", args.sizes);
    f("options", args.options);
    f("lengths", args.lengths);
    f("order", args.order);
    f("reset", args.reset);
    f("grad_output", args.grad_output);
    f("grad_hidden_n", args.grad_hidden_n);
    f("grad_cell_n", args.grad_cell_n);
    f("grad_cells", args.grad_cells);
    f("hidden", args.hidden);
    f("cell", args.cell);
    f("weights", args.weights);
    f("output", args.output);
    f("cells", args.cells);
    f("gates", args.gates);
    f("statistics", args.statistics);
    f("grad_gates", args.grad_gates);
    f("grad_product", args.grad_product);
    f("grad_peephole", args.grad_peephole);
    f("grad_norm_cell", args.grad_norm_cell);
    f("grad_hidden", args.grad_hidden);
    f("grad_cell", args.grad_cell);
    f("grad_projected", args.grad_projected);
    f("unprojected", args.unprojected);
}

}  // namespace seqfast
