// Word vectors: the GIL released, nothing checked.
#include "cuda/word2vec/word2vec.h"
#include "bindings/reader.h"
#include "bindings/register.h"
#include "cpu/base/entry.h"
#include "cpu/word2vec/word2vec.h"

namespace py = pybind11;

namespace seqfast::bindings {
namespace {

size_t workspace_size(const py::handle& args) {
    return cpu::word2vec_workspace_size(read<Word2VecArgs>(args));
}

void train(const py::handle& from, Address workspace, size_t workspace_size) {
    const auto args = read<Word2VecArgs>(from, workspace, workspace_size);
    py::gil_scoped_release release;
    cpu::word2vec_train(args);
}

void first_vectors(const py::handle& from) {
    const auto args = read<FirstVectorsArgs>(from);
    py::gil_scoped_release release;
    cpu::word2vec_first_vectors(args);
}

size_t cuda_workspace_size(const py::handle& place, const py::handle& args) {
    const auto where = read<GpuPlace>(place);
    return (where.on_host ? cuda_host::word2vec_workspace_size : cuda::word2vec_workspace_size)(
        where, read<Word2VecArgs>(args));
}

void cuda_train(const py::handle& place, const py::handle& from, Address workspace,
                size_t workspace_size) {
    const auto where = read<GpuPlace>(place);
    const auto args = read<Word2VecArgs>(from, workspace, workspace_size);
    py::gil_scoped_release release;
    (where.on_host ? cuda_host::word2vec_train : cuda::word2vec_train)(where, args);
}

void use_huge_pages(Address array, size_t bytes) {
    cpu::use_huge_pages(reinterpret_cast<void*>(array), bytes);
}

}  // namespace

void register_word2vec(py::module_& module) {
    module.def("word2vec_workspace_size", &workspace_size);
    module.def("word2vec_train", &train);
    module.def("word2vec_first_vectors", &first_vectors);
    module.def("cuda_word2vec_workspace_size", &cuda_workspace_size);
    module.def("cuda_word2vec_train", &cuda_train);
    module.def("use_huge_pages", &use_huge_pages);
}

}  // namespace seqfast::bindings
