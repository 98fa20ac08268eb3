// The kernels' parameters, out of what a call brings.
#pragma once

#include "cuda/rnn/kernels.cuh"
#include "cuda/rnn/launch.h"

namespace seqfast::SEQFAST_CUDA_NAMESPACE {

template <class Args>
RecurrenceParams recurrence_of(const Args& args) {
    const RnnSizes& sizes = args.sizes;
    RecurrenceParams r{};
    r.rows = {args.order, args.lengths, sizes.batch, int(sizes.steps)};
    r.hidden_size = int(sizes.hidden_size);
    r.directions = int(sizes.directions);
    r.split = sizes.dtype == DType::float32 && !args.call.tf32 ? Float32Product::kept_bits : 0;
    return r;
}

template <class Real>
RealVariant<Real> real_of(const RnnOptions& o, bool peephole) {
    const auto kept = [](double p) { return p < 1 ? Real(1 / (1 - p)) : Real(0); };
    RealVariant<Real> v{};
    v.cell = cell_options<Real>(o, peephole);
    v.kept_hidden = kept(o.dropout_hidden);
    v.kept_update = kept(o.dropout_update);
    v.zoneout_hidden = Real(o.zoneout_hidden);
    v.zoneout_cell = Real(o.zoneout_cell);
    v.kept_cell = Real(1 - o.dropout_cell);
    return v;
}

inline Variant variant_of(const RnnOptions& o, const RnnWeights& weights, const uint8_t* reset) {
    Variant v{};
    v.kind = o.cell;
    v.gates = gates_of(o.cell);
    v.saved = saved_of(o.cell);
    v.has_split_candidate = traits_of(o.cell).has_split_candidate;
    v.kept = v.saved + (o.layer_norm ? v.gates : 0);
    v.output_activation = o.output_activation;
    v.reset = reset;
    v.seed = o.seed;
    v.layer = o.layer;
    v.drops_hidden = o.seed && o.dropout_hidden > 0;
    v.zones_hidden = o.zoneout_hidden > 0;
    v.hidden_dropout = event_threshold(o.dropout_hidden);
    v.update_dropout = event_threshold(o.dropout_update);
    v.cell_dropout = event_threshold(o.dropout_cell);
    v.zoneout_hidden = event_threshold(o.zoneout_hidden);
    v.zoneout_cell = event_threshold(o.zoneout_cell);
    v.narrow = real_of<float>(o, weights.weight_peephole);
    v.wide = real_of<double>(o, weights.weight_peephole);
    return v;
}
// Of a cell whose result is projected: what is done to h[t] comes after.
inline Variant before_projection(Variant v) {
    v.drops_hidden = v.zones_hidden = false;
    return v;
}
inline Variant of_projection(Variant v) {
    v.narrow.cell.update_dropout = v.narrow.cell.zoneout_cell = false;
    v.narrow.cell.cell_dropout = false;
    return v;
}

inline ForwardParams params_of(const RnnRecurrenceForwardArgs& args) {
    ForwardParams params{};
    params.recurrence = recurrence_of(args);
    params.variant = variant_of(args.options, args.weights[0], args.reset);
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
    return params;
}

inline BackwardParams params_of(const RnnRecurrenceBackwardArgs& args) {
    BackwardParams params{};
    params.recurrence = recurrence_of(args);
    params.variant = variant_of(args.options, args.weights[0], args.reset);
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
    return params;
}

template <class Args>
NormWeights norm_weights_of(const Args& args) {
    NormWeights weights{};
    for (int d = 0; d < 2; ++d) {
        weights.product[d] = args.weights[d].weight_norm_hh;
        weights.cell[d] = args.weights[d].weight_norm_cell;
        weights.cell_bias[d] = args.weights[d].bias_norm_cell;
    }
    return weights;
}

}  // namespace seqfast::SEQFAST_CUDA_NAMESPACE
