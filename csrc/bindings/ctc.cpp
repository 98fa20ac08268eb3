// CTC decoding: the GIL released, nothing checked.
#include "cuda/ctc/ctc.h"
#include "bindings/reader.h"
#include "bindings/register.h"
#include "cpu/ctc/ctc.h"
#include "cuda/ctc/align.h"

namespace py = pybind11;

namespace seqfast::bindings {
namespace {

size_t greedy_workspace_size(const py::handle& args) {
    return cpu::ctc_greedy_workspace_size(read<CtcGreedyArgs>(args));
}

void greedy(const py::handle& from, Address workspace) {
    const auto args = read<CtcGreedyArgs>(from, workspace);
    py::gil_scoped_release release;
    cpu::ctc_greedy(args);
}

size_t beam_search_workspace_size(const py::handle& args) {
    return cpu::ctc_beam_search_workspace_size(read<CtcBeamArgs>(args));
}

void beam_search(const py::handle& from, Address workspace) {
    const auto args = read<CtcBeamArgs>(from, workspace);
    py::gil_scoped_release release;
    cpu::ctc_beam_search(args);
}

size_t align_workspace_size(const py::handle& args) {
    return cpu::ctc_align_workspace_size(read<CtcAlignArgs>(args));
}

void align(const py::handle& from, Address workspace) {
    const auto args = read<CtcAlignArgs>(from, workspace);
    py::gil_scoped_release release;
    cpu::ctc_align(args);
}

size_t cuda_beam_search_workspace_size(const py::handle& place, const py::handle& args) {
    const auto where = read<GpuPlace>(place);
    return (where.on_host ? cuda_host::ctc_beam_search_workspace_size
                          : cuda::ctc_beam_search_workspace_size)(where, read<CtcBeamArgs>(args));
}

void cuda_beam_search(const py::handle& place, const py::handle& from, Address workspace) {
    const auto where = read<GpuPlace>(place);
    const auto args = read<CtcBeamArgs>(from, workspace);
    py::gil_scoped_release release;
    (where.on_host ? cuda_host::ctc_beam_search : cuda::ctc_beam_search)(where, args);
}

size_t cuda_align_workspace_size(const py::handle& place, const py::handle& args) {
    const auto where = read<GpuPlace>(place);
    return (where.on_host ? cuda_host::ctc_align_workspace_size : cuda::ctc_align_workspace_size)(
        where, read<CtcAlignArgs>(args));
}

void cuda_align(const py::handle& place, const py::handle& from, Address workspace) {
    const auto where = read<GpuPlace>(place);
    const auto args = read<CtcAlignArgs>(from, workspace);
    py::gil_scoped_release release;
    (where.on_host ? cuda_host::ctc_align : cuda::ctc_align)(where, args);
}

}  // namespace

void register_ctc(py::module_& module) {
    module.def("ctc_greedy_workspace_size", &greedy_workspace_size);
    module.def("ctc_greedy", &greedy);
    module.def("ctc_beam_search_workspace_size", &beam_search_workspace_size);
    module.def("ctc_beam_search", &beam_search);
    module.def("cuda_ctc_beam_search_workspace_size", &cuda_beam_search_workspace_size);
    module.def("cuda_ctc_beam_search", &cuda_beam_search);
    module.def("ctc_align_workspace_size", &align_workspace_size);
    module.def("ctc_align", &align);
    module.def("cuda_ctc_align_workspace_size", &cuda_align_workspace_size);
    module.def("cuda_ctc_align", &cuda_align);
}

}  // namespace seqfast::bindings
