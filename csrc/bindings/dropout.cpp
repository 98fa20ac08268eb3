// Dropout by counter: the GIL released, nothing checked.
#include "cpu/dropout/dropout.h"
#include "bindings/reader.h"
#include "bindings/register.h"
#include "cuda/dropout/dropout.h"

namespace py = pybind11;

namespace seqfast::bindings {
namespace {

void dropout(const py::handle& from) {
    const auto args = read<DropoutArgs>(from);
    py::gil_scoped_release release;
    cpu::dropout(args);
}

void cuda_dropout(const py::handle& place, const py::handle& from) {
    const auto where = read<GpuPlace>(place);
    const auto args = read<DropoutArgs>(from);
    py::gil_scoped_release release;
    (where.on_host ? cuda_host::dropout : cuda::dropout)(where, args);
}

}  // namespace

void register_dropout(py::module_& module) {
    module.def("dropout", &dropout);
    module.def("cuda_dropout", &cuda_dropout);
}

}  // namespace seqfast::bindings
