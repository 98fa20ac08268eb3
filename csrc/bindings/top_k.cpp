// The k largest of each row: the GIL released, nothing checked.
#include "cuda/top_k/top_k.h"
#include "bindings/reader.h"
#include "bindings/register.h"
#include "cpu/top_k/top_k.h"

namespace py = pybind11;

namespace seqfast::bindings {
namespace {

// Bytes for a call with so many threads, or fewer.
size_t workspace_size(const py::handle& args) {
    return static_cast<size_t>(top_k_workspace(read<TopKArgs>(args))) * sizeof(uint64_t);
}

void top_k(const py::handle& from, Address workspace) {
    const auto args = read<TopKArgs>(from, workspace);
    py::gil_scoped_release release;
    cpu::top_k(args);
}

void cuda_top_k(const py::handle& place, const py::handle& from, Address workspace) {
    const auto where = read<GpuPlace>(place);
    const auto args = read<TopKArgs>(from, workspace);
    py::gil_scoped_release release;
    (where.on_host ? cuda_host::top_k : cuda::top_k)(where, args);
}

}  // namespace

void register_top_k(py::module_& module) {
    module.def("top_k_workspace_size", &workspace_size);
    module.def("top_k", &top_k);
    module.def("cuda_top_k", &cuda_top_k);
}

}  // namespace seqfast::bindings
