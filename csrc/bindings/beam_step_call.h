// How Python names a search's arguments: read once, as a step of a small search takes less time.
#pragma once

#include <pybind11/pybind11.h>

#include "bindings/dictionary.h"
#include "cpu/beam_search/beam_search.h"
#include "cuda/beam_search/beam_search.h"

namespace seqfast::bindings {

inline BeamOptions read_beam_options(const pybind11::dict& from) {
    BeamOptions o{};
    o.beams = at<int64_t>(from, "beams");
    o.groups = at<int64_t>(from, "groups");
    o.vocabulary = at<int64_t>(from, "vocabulary");
    o.eos_pool = static_cast<EosPool>(at<int>(from, "eos_pool"));
    o.stop = static_cast<StopRule>(at<int>(from, "stop"));
    o.pool = at<int64_t>(from, "pool");
    o.wanted = at<int64_t>(from, "wanted");
    o.min_length = at<int64_t>(from, "min_length");
    o.no_repeat_ngram = at<int64_t>(from, "no_repeat_ngram");
    o.temperature = at<double>(from, "temperature");
    o.repetition_penalty = at<double>(from, "repetition_penalty");
    o.diversity = at<double>(from, "diversity");
    o.renormalize = at<bool>(from, "renormalize");
    o.force_eos = at<bool>(from, "force_eos");
    o.score_prefix = at<bool>(from, "score_prefix");
    o.count_eos = at<bool>(from, "count_eos");
    o.noise = at<bool>(from, "noise");
    o.eos_count = at<int64_t>(from, "eos_count");
    o.banned_count = at<int64_t>(from, "banned_count");
    return o;
}

class BeamStepCall {
  public:
    // A dict with the names of BeamStepArgs and BeamOptions; logits, allowed and workspace apart.
    explicit BeamStepCall(const pybind11::dict& from) {
        args_.dtype = static_cast<DType>(at<int>(from, "dtype"));
        args_.options = read_beam_options(from);
        args_.batch = at<int64_t>(from, "batch");
        args_.sentences = at<int64_t>(from, "sentences");
        args_.capacity = at<int64_t>(from, "capacity");
        args_.threads = at<int>(from, "threads");
        args_.eos = pointer<int32_t>(from, "eos");
        args_.banned = pointer<int32_t>(from, "banned");
        args_.sentence = pointer<int64_t>(from, "sentence");
        args_.max_lengths = pointer<int32_t>(from, "max_lengths");
        args_.prefix = pointer<int32_t>(from, "prefix");
        args_.prefix_lengths = pointer<int32_t>(from, "prefix_lengths");
        args_.prefix_capacity = at<int64_t>(from, "prefix_capacity");
        args_.divisor = pointer<void>(from, "divisor");
        args_.addend = pointer<void>(from, "addend");
        args_.bound_divisor = pointer<void>(from, "bound_divisor");
        args_.bound_addend = pointer<void>(from, "bound_addend");
        args_.certain_divisor = pointer<void>(from, "certain_divisor");
        args_.certain_addend = pointer<void>(from, "certain_addend");
        args_.seed = pointer<int64_t>(from, "seed");
        args_.step = pointer<int64_t>(from, "step");
        args_.scores = pointer<void>(from, "scores");
        args_.keys = pointer<void>(from, "keys");
        args_.history = pointer<int32_t>(from, "history");
        args_.history_start = pointer<int32_t>(from, "history_start");
        args_.history_capacity = at<int64_t>(from, "history_capacity");
        args_.next_tokens = pointer<int64_t>(from, "next_tokens");
        args_.next_rows = pointer<int64_t>(from, "next_rows");
        args_.tokens = pointer<int32_t>(from, "tokens");
        args_.parents = pointer<int32_t>(from, "parents");
        args_.logprobs = pointer<void>(from, "logprobs");
        args_.pool_scores = pointer<void>(from, "pool_scores");
        args_.pool_logprobs = pointer<void>(from, "pool_logprobs");
        args_.pool_last = pointer<void>(from, "pool_last");
        args_.pool_keys = pointer<void>(from, "pool_keys");
        args_.pool_steps = pointer<int32_t>(from, "pool_steps");
        args_.pool_parents = pointer<int32_t>(from, "pool_parents");
        args_.pool_tokens = pointer<int32_t>(from, "pool_tokens");
        args_.pool_counts = pointer<int32_t>(from, "pool_counts");
        args_.done = pointer<uint8_t>(from, "done");
        args_.certified = pointer<uint8_t>(from, "certified");
        args_.living = pointer<int64_t>(from, "living");
        args_.status = pointer<int64_t>(from, "status");
    }

    // But for logits and allowed.
    const BeamStepArgs& arguments() const { return args_; }

    size_t workspace_size() const { return cpu::beam_step_workspace_size(args_); }

    void set_workspace(Address workspace, size_t size) {
        args_.workspace = out(workspace);
        args_.workspace_size = size;
    }

    // Returns the status.
    int64_t step(int dtype, Address logits, int64_t logits_stride, Address allowed,
                 int64_t allowed_stride, int threads) const {
        BeamStepArgs args = with(dtype, logits, logits_stride, allowed, allowed_stride);
        if (threads < args.threads) args.threads = threads;
        pybind11::gil_scoped_release release;
        cpu::beam_step(args);
        return *args.status;
    }

    // Bytes of the workspace, and how many in front are to be zero at first.
    pybind11::tuple cuda_workspace_size(bool on_host, int device) const {
        const auto size =
            on_host ? cuda_host::beam_step_workspace_size : cuda::beam_step_workspace_size;
        return pybind11::make_tuple(size({device, nullptr}, args_), beam_step_counter_bytes(args_));
    }

    void cuda_step(bool on_host, int device, Address stream, int dtype, Address logits,
                   int64_t logits_stride, Address allowed, int64_t allowed_stride) const {
        const BeamStepArgs args = with(dtype, logits, logits_stride, allowed, allowed_stride);
        pybind11::gil_scoped_release release;
        (on_host ? cuda_host::beam_step : cuda::beam_step)({device, out(stream)}, args);
    }

  private:
    BeamStepArgs with(int dtype, Address logits, int64_t logits_stride, Address allowed,
                      int64_t allowed_stride) const {
        BeamStepArgs args = args_;
        args.dtype = static_cast<DType>(dtype);
        args.logits = in(logits);
        args.logits_stride = logits_stride;
        args.allowed = static_cast<const uint8_t*>(in(allowed));
        args.allowed_stride = allowed_stride;
        return args;
    }

    BeamStepArgs args_{};
};

}  // namespace seqfast::bindings
