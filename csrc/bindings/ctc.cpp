// CTC decoding: integers to typed pointers, the GIL released, nothing checked.
#include "cuda/ctc/ctc.h"
#include "bindings/dictionary.h"
#include "bindings/register.h"
#include "cpu/ctc/ctc.h"

namespace py = pybind11;

namespace seqfast::bindings {
namespace {

CtcInput read_input(const py::dict& from) {
    CtcInput input{};
    input.dtype = static_cast<DType>(at<int>(from, "dtype"));
    input.batch = at<int64_t>(from, "batch");
    input.frames = at<int64_t>(from, "frames");
    input.vocab = at<int64_t>(from, "vocab");
    input.row_stride = at<int64_t>(from, "row_stride");
    input.frame_stride = at<int64_t>(from, "frame_stride");
    input.log_probs = pointer<void>(from, "log_probs");
    input.lengths = pointer<int64_t>(from, "lengths");
    input.blank = at<int64_t>(from, "blank");
    return input;
}

CtcGreedyArgs read_greedy_args(const py::dict& from) {
    CtcGreedyArgs args{};
    args.input = read_input(from);
    args.tokens = pointer<int64_t>(from, "tokens");
    args.counts = pointer<int64_t>(from, "counts");
    args.scores = pointer<double>(from, "scores");
    args.timesteps = pointer<int64_t>(from, "timesteps");
    args.refused = pointer<int64_t>(from, "refused");
    args.workspace = pointer<char>(from, "workspace");
    args.threads = at<int>(from, "threads");
    return args;
}

CtcBeamArgs read_beam_args(const py::dict& from) {
    CtcBeamArgs args{};
    args.input = read_input(from);
    args.beam_size = at<int64_t>(from, "beam_size");
    args.n_best = at<int64_t>(from, "n_best");
    args.top_n = at<int64_t>(from, "top_n");
    args.min_log_prob = at<double>(from, "min_log_prob");
    args.beam_threshold = at<double>(from, "beam_threshold");
    args.frame_begin = at<int64_t>(from, "frame_begin");
    args.frame_end = at<int64_t>(from, "frame_end");
    args.lm = pointer<double>(from, "lm");
    args.source = pointer<int64_t>(from, "source");
    args.added = pointer<int64_t>(from, "added");
    args.tokens = pointer<int64_t>(from, "tokens");
    args.counts = pointer<int64_t>(from, "counts");
    args.scores = pointer<double>(from, "scores");
    args.timesteps = pointer<int64_t>(from, "timesteps");
    args.refused = pointer<int64_t>(from, "refused");
    args.workspace = pointer<char>(from, "workspace");
    args.threads = at<int>(from, "threads");
    args.ranked = pointer<int64_t>(from, "ranked");
    args.ranks = at<int64_t>(from, "ranks");
    return args;
}

size_t greedy_workspace_size(const py::dict& from) {
    return cpu::ctc_greedy_workspace_size(read_greedy_args(from));
}

void greedy(const py::dict& from) {
    const CtcGreedyArgs args = read_greedy_args(from);
    py::gil_scoped_release release;
    cpu::ctc_greedy(args);
}

size_t beam_search_workspace_size(const py::dict& from) {
    return cpu::ctc_beam_search_workspace_size(read_beam_args(from));
}

void beam_search(const py::dict& from) {
    const CtcBeamArgs args = read_beam_args(from);
    py::gil_scoped_release release;
    cpu::ctc_beam_search(args);
}

size_t cuda_beam_search_workspace_size(bool on_host, int device, Address stream,
                                       const py::dict& from) {
    const CtcBeamArgs args = read_beam_args(from);
    return (on_host ? cuda_host::ctc_beam_search_workspace_size
                    : cuda::ctc_beam_search_workspace_size)({device, out(stream)}, args);
}

void cuda_beam_search(bool on_host, int device, Address stream, const py::dict& from) {
    const CtcBeamArgs args = read_beam_args(from);
    py::gil_scoped_release release;
    (on_host ? cuda_host::ctc_beam_search : cuda::ctc_beam_search)({device, out(stream)}, args);
}

}  // namespace

void register_ctc(py::module_& module) {
    module.def("ctc_greedy_workspace_size", &greedy_workspace_size);
    module.def("ctc_greedy", &greedy);
    module.def("ctc_beam_search_workspace_size", &beam_search_workspace_size);
    module.def("ctc_beam_search", &beam_search);
    module.def("cuda_ctc_beam_search_workspace_size", &cuda_beam_search_workspace_size);
    module.def("cuda_ctc_beam_search", &cuda_beam_search);
}

}  // namespace seqfast::bindings
