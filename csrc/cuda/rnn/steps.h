// Both passes step by step: which launches a step has, and what goes from one to the next.
#pragma once

#include "cuda/rnn/packing.h"
#include "cuda/rnn/parameters.h"
#include "cuda/rnn/workspace.h"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

// The one or two products of a step: whose rows each multiplies, and where its results go.
class StepProducts {
  public:
    RecurrenceParams first, second;

    // staged: the rows before the first step, nullptr: zeros.
    StepProducts(const RecurrenceParams& r, const StepwiseWorkspace& w, const char* staged)
        : first(r), w_(w), staged_(staged) {
        first.all_passes = w.passes;
        second = first;
        first.chunks = w.chunks;
        second.chunks = w.second_chunks;
        second.staged = w.between;
        for (int d = 0; d < 2; ++d) {
            first.packed[d] = w.packed[d];
            second.packed[d] = w.packed_second[d];
        }
    }
    void move_to(int s) {
        char* const next = w_.exchange[s & 1];
        first.step = second.step = s;
        first.staged = s > 0 ? w_.exchange[(s - 1) & 1] : staged_;
        first.exchange = w_.has_second ? w_.between : next;
        second.exchange = next;
    }

  private:
    const StepwiseWorkspace& w_;
    const char* staged_;
};

template <class Args>
void pack_steps(const Args& args, const StepwiseWorkspace& w, bool backward, Stream stream) {
    const CellKind kind = args.options.cell;
    for (int64_t d = 0; d < args.sizes.directions; ++d) {
        pack_recurrent(args.sizes, kind, args.weights[d], backward, w.packed[d], w.m_tiles,
                       w.chunks, stream);
        if (w.has_second)
            pack_second(args.sizes, kind, args.weights[d], backward, w.packed_second[d],
                        w.second_m_tiles, w.second_chunks, stream);
    }
    fill_zero(w.cleared, size_t(w.cleared_bytes), stream);
}

// Calls launch_step() for each step, with the products moved to it.
template <class LaunchStep>
void for_each_step(const RnnSizes& sizes, StepProducts& products, LaunchStep launch_step) {
    for (int s = 0; s < int(sizes.steps); ++s) {
        products.move_to(s);
        launch_step();
    }
}

inline void run_steps(const RnnRecurrenceForwardArgs& args, ForwardParams params,
                      const StepwiseWorkspace& w, Stream stream) {
    const DType dtype = args.sizes.dtype;
    pack_steps(args, w, false, stream);
    if (args.hidden)
        stage_rows(args.sizes, params.recurrence.rows, params.variant, args.hidden, w.staged,
                   Slabs{1, w.passes, w.passes * w.rows}, w.chunks, w.rows, stream);
    params.state = w.state;
    StepProducts products(params.recurrence, w, args.hidden ? w.staged : nullptr);
    ProjectionForwardParams projection{};
    LayerNormForwardParams norm{};
    if (w.beside == Beside::projection) {
        projection.variant = of_projection(params.variant);
        for (int d = 0; d < 2; ++d) projection.bias[d] = args.weights[d].bias_hr;
        projection.hidden = args.hidden;
        projection.output = args.output;
        projection.hidden_n = args.hidden_n;
        projection.state = w.output_state;
        params.variant = before_projection(params.variant);
        params.hidden = nullptr;
        params.output = params.hidden_n = nullptr;
    } else if (w.beside == Beside::layer_norm) {
        norm.weights = norm_weights_of(args);
        norm.statistics = args.statistics;
        norm.raw = w.raw;
    }
    for_each_step(args.sizes, products, [&] {
        params.recurrence = products.first;
        switch (w.beside) {
            case Beside::nothing:
                return launch_stepwise_forward(dtype, params, w.next_chunks(), stream);
            case Beside::projection:
                launch_stepwise_forward(dtype, params, w.next_chunks(), stream);
                projection.recurrence = products.second;
                projection.recurrence.hidden_size = int(args.sizes.proj_size);
                return launch_stepwise_projection_forward(dtype, projection, w.chunks, stream);
            case Beside::candidate:
                launch_second_product_forward(dtype, params, false, w.next_chunks(), stream);
                params.recurrence = products.second;
                return launch_second_product_forward(dtype, params, true, w.chunks, stream);
            case Beside::layer_norm:
                norm.forward = params;
                return launch_layer_norm_forward(dtype, norm, w.rows, w.chunks, stream);
        }
    });
}

inline void run_steps(const RnnRecurrenceBackwardArgs& args, BackwardParams params,
                      const StepwiseWorkspace& w, Stream stream) {
    const DType dtype = args.sizes.dtype;
    pack_steps(args, w, true, stream);
    params.state = w.state;
    StepProducts products(params.recurrence, w, nullptr);
    ProjectionBackwardParams projection{};
    LayerNormBackwardParams norm{};
    if (w.beside == Beside::projection) {
        projection.variant = of_projection(params.variant);
        projection.grad_output = args.grad_output;
        projection.grad_hidden_n = args.grad_hidden_n;
        projection.hidden = args.hidden;
        projection.output = args.output;
        projection.grad_projected = args.grad_projected;
        projection.grad_hidden = args.grad_hidden;
        projection.state = w.output_state;
        params.variant = before_projection(params.variant);
        params.grad_output = {};
        params.grad_hidden_n = params.hidden = nullptr;
        params.grad_hidden = nullptr;
    } else if (w.beside == Beside::layer_norm) {
        norm.weights = norm_weights_of(args);
        norm.statistics = args.statistics;
        norm.grad_product = args.grad_product;
        norm.grad_norm_cell = args.grad_norm_cell;
        norm.raw = w.raw;
    }
    for_each_step(args.sizes, products, [&] {
        params.recurrence = products.first;
        switch (w.beside) {
            case Beside::nothing:
                return launch_stepwise_backward(dtype, params, w.next_chunks(), stream);
            case Beside::projection:
                projection.recurrence = products.first;
                projection.recurrence.hidden_size = int(args.sizes.proj_size);
                launch_stepwise_projection_backward(dtype, projection, w.next_chunks(), stream);
                params.recurrence = products.second;
                return launch_stepwise_backward(dtype, params, w.chunks, stream);
            case Beside::candidate:
                launch_second_product_backward(dtype, params, false, w.next_chunks(), stream);
                params.recurrence = products.second;
                return launch_second_product_backward(dtype, params, true, w.chunks, stream);
            case Beside::layer_norm:
                norm.backward = params;
                return launch_layer_norm_backward(dtype, norm, w.rows, w.chunks, stream);
        }
    });
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
