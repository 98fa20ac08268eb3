// Beam search: the GIL released, nothing checked.
#include "cpu/beam_search/beam_search.h"
#include "bindings/beam_step_call.h"
#include "bindings/register.h"

namespace py = pybind11;

namespace seqfast::bindings {
namespace {

void backtrack(const py::handle& from) {
    const auto args = read<BeamBacktrackArgs>(from);
    py::gil_scoped_release release;
    cpu::beam_backtrack(args);
}

void cuda_backtrack(const py::handle& place, const py::handle& from) {
    const auto where = read<GpuPlace>(place);
    const auto args = read<BeamBacktrackArgs>(from);
    py::gil_scoped_release release;
    (where.on_host ? cuda_host::beam_backtrack : cuda::beam_backtrack)(where, args);
}

}  // namespace

void register_beam_search(py::module_& module) {
    py::class_<BeamStepCall>(module, "BeamStepCall")
        .def(py::init<const py::handle&>())
        .def("workspace_size", &BeamStepCall::workspace_size)
        .def("set_workspace", &BeamStepCall::set_workspace)
        .def("step", &BeamStepCall::step)
        .def("cuda_workspace_size", &BeamStepCall::cuda_workspace_size)
        .def("cuda_step", &BeamStepCall::cuda_step);
    module.def("beam_backtrack", &backtrack);
    module.def("cuda_beam_backtrack", &cuda_backtrack);
}

}  // namespace seqfast::bindings
