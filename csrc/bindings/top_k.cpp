// The k largest of each row: the GIL released, nothing checked.
#include "cuda/top_k/top_k.h"
#include "bindings/reader.h"
#include "bindings/register.h"
#include "cpu/top_k/top_k.h"

namespace py = pybind11;

namespace seqfast::bindings {
namespace {

// Returns 0; where the workspace is too small, the bytes for so many threads, or fewer.
size_t top_k(const py::handle& from, Address workspace, size_t workspace_size) {
    const auto args = read<TopKArgs>(from, workspace);
    const size_t needed = static_cast<size_t>(top_k_workspace(args)) * sizeof(uint64_t);
    if (needed > workspace_size) return needed;
    py::gil_scoped_release release;
    cpu::top_k(args);
    return 0;
}

void cuda_top_k(const py::handle& place, const py::handle& from, Address workspace) {
    const auto where = read<GpuPlace>(place);
    const auto args = read<TopKArgs>(from, workspace);
    py::gil_scoped_release release;
    (where.on_host ? cuda_host::top_k : cuda::top_k)(where, args);
}

}  // namespace

void register_top_k(py::module_& module) {
    module.def("top_k", &top_k);
    module.def("cuda_top_k", &cuda_top_k);
}

}  // namespace seqfast::bindings
