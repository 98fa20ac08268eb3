// A search's steps: what stays from one to the next is read once, as a step of a small search takes
// less time.
#pragma once

#include <pybind11/pybind11.h>

#include "bindings/reader.h"
#include "cpu/beam_search/beam_search.h"
#include "cuda/beam_search/beam_search.h"

namespace seqfast::bindings {

class BeamStepCall {
  public:
    explicit BeamStepCall(const pybind11::handle& args) : args_(read<BeamStepArgs>(args)) {}

    // But for what each step brings.
    const BeamStepArgs& arguments() const { return args_; }

    size_t workspace_size() const { return cpu::beam_step_workspace_size(args_); }

    void set_workspace(Address workspace, size_t size) {
        args_.workspace = reinterpret_cast<void*>(workspace);
        args_.workspace_size = size;
    }

    // Returns the status.
    int64_t step(const pybind11::handle& logits, int threads) const {
        BeamStepArgs args = with(logits);
        if (threads < args.threads) args.threads = threads;
        pybind11::gil_scoped_release release;
        cpu::beam_step(args);
        return *args.status;
    }

    // Bytes of the workspace, and how many in front are to be zero at first.
    pybind11::tuple cuda_workspace_size(const pybind11::handle& place) const {
        const auto where = read<GpuPlace>(place);
        const auto size =
            where.on_host ? cuda_host::beam_step_workspace_size : cuda::beam_step_workspace_size;
        return pybind11::make_tuple(size(where, args_), beam_step_counter_bytes(args_));
    }

    void cuda_step(const pybind11::handle& place, const pybind11::handle& logits) const {
        const auto where = read<GpuPlace>(place);
        const BeamStepArgs args = with(logits);
        pybind11::gil_scoped_release release;
        (where.on_host ? cuda_host::beam_step : cuda::beam_step)(where, args);
    }

  private:
    BeamStepArgs with(const pybind11::handle& logits) const {
        const auto input = read<BeamLogits>(logits);
        BeamStepArgs args = args_;
        args.dtype = input.dtype;
        args.logits = input.logits;
        args.logits_stride = input.logits_stride;
        args.allowed = input.allowed;
        args.allowed_stride = input.allowed_stride;
        return args;
    }

    BeamStepArgs args_{};
};

}  // namespace seqfast::bindings
