// Beam search: integers to typed pointers, the GIL released, nothing checked.
#include "cuda/beam_search/beam_search.h"
#include "bindings/beam_step_call.h"
#include "bindings/register.h"
#include "cpu/beam_search/beam_search.h"

namespace py = pybind11;

namespace seqfast::bindings {
namespace {

BeamBacktrackArgs read_backtrack_args(const py::dict& from) {
    BeamBacktrackArgs args{};
    args.sentences = at<int64_t>(from, "sentences");
    args.beams = at<int64_t>(from, "beams");
    args.hypotheses = at<int64_t>(from, "hypotheses");
    args.capacity = at<int64_t>(from, "capacity");
    args.length = at<int64_t>(from, "length");
    args.wide = at<bool>(from, "wide");
    args.tokens = pointer<int32_t>(from, "tokens");
    args.parents = pointer<int32_t>(from, "parents");
    args.logprobs = pointer<void>(from, "logprobs");
    args.last_steps = pointer<int32_t>(from, "last_steps");
    args.last_parents = pointer<int32_t>(from, "last_parents");
    args.last_tokens = pointer<int32_t>(from, "last_tokens");
    args.last_logprobs = pointer<void>(from, "last_logprobs");
    args.pad = at<int64_t>(from, "pad");
    args.out_tokens = pointer<int64_t>(from, "out_tokens");
    args.out_parents = pointer<int64_t>(from, "out_parents");
    args.out_logprobs = pointer<void>(from, "out_logprobs");
    args.threads = at<int>(from, "threads");
    return args;
}

void backtrack(const py::dict& from) {
    const BeamBacktrackArgs args = read_backtrack_args(from);
    py::gil_scoped_release release;
    cpu::beam_backtrack(args);
}

void cuda_backtrack(bool on_host, int device, Address stream, const py::dict& from) {
    const BeamBacktrackArgs args = read_backtrack_args(from);
    py::gil_scoped_release release;
    (on_host ? cuda_host::beam_backtrack : cuda::beam_backtrack)({device, out(stream)}, args);
}

}  // namespace

void register_beam_search(py::module_& module) {
    py::class_<BeamStepCall>(module, "BeamStepCall")
        .def(py::init<const py::dict&>())
        .def("workspace_size", &BeamStepCall::workspace_size)
        .def("set_workspace", &BeamStepCall::set_workspace)
        .def("step", &BeamStepCall::step)
        .def("cuda_workspace_size", &BeamStepCall::cuda_workspace_size)
        .def("cuda_step", &BeamStepCall::cuda_step);
    module.def("beam_backtrack", &backtrack);
    module.def("cuda_beam_backtrack", &cuda_backtrack);
}

}  // namespace seqfast::bindings
