// GloVe: the GIL released, nothing checked.
#include "cpu/glove/glove.h"
#include "bindings/reader.h"
#include "bindings/register.h"
#include "cuda/glove/glove.h"

namespace py = pybind11;

namespace seqfast::bindings {
namespace {

void text_index(const py::handle& from) {
    const auto args = read<TextIndexArgs>(from);
    py::gil_scoped_release release;
    cpu::text_index(args);
}

size_t workspace_size(const py::handle& args) {
    return cpu::cooccurrences_workspace_size(read<CooccurrenceArgs>(args));
}

void cooccurrences(const py::handle& from, Address workspace, size_t workspace_size) {
    const auto args = read<CooccurrenceArgs>(from, workspace, workspace_size);
    py::gil_scoped_release release;
    cpu::cooccurrences(args);
}

void schedule(const py::handle& from) {
    const auto args = read<GloveScheduleArgs>(from);
    py::gil_scoped_release release;
    cpu::glove_schedule(args);
}

void strata(Address order, int64_t blocks, int64_t seed, int64_t epoch) {
    cpu::glove_strata(reinterpret_cast<int32_t*>(order), blocks, seed, epoch);
}

void train(const py::handle& from) {
    const auto args = read<GloveArgs>(from);
    py::gil_scoped_release release;
    cpu::glove_train(args);
}

void cuda_train(const py::handle& place, const py::handle& from) {
    const auto where = read<GpuPlace>(place);
    const auto args = read<GloveArgs>(from);
    py::gil_scoped_release release;
    (where.on_host ? cuda_host::glove_train : cuda::glove_train)(where, args);
}

}  // namespace

void register_glove(py::module_& module) {
    module.def("text_index", &text_index);
    module.def("cooccurrences_workspace_size", &workspace_size);
    module.def("cooccurrences", &cooccurrences);
    module.def("glove_schedule", &schedule);
    module.def("glove_strata", &strata);
    module.def("glove_train", &train);
    module.def("cuda_glove_train", &cuda_train);
}

}  // namespace seqfast::bindings
