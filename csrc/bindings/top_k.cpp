// The k largest of each row: integers to typed pointers, the GIL released, nothing checked.
#include "cuda/top_k/top_k.h"
#include "bindings/address.h"
#include "bindings/register.h"
#include "cpu/top_k/top_k.h"

namespace py = pybind11;

namespace seqfast::bindings {
namespace {

TopKArgs read_args(int64_t rows, int64_t columns, int64_t k, int64_t excluded, int64_t row_stride,
                   Address scores, Address exclude, Address values, Address indices,
                   Address workspace) {
    TopKArgs args{};
    args.rows = rows;
    args.columns = columns;
    args.k = k;
    args.excluded = excluded;
    args.row_stride = row_stride;
    args.scores = static_cast<const float*>(in(scores));
    args.exclude = static_cast<const int64_t*>(in(exclude));
    args.values = static_cast<float*>(out(values));
    args.indices = static_cast<int64_t*>(out(indices));
    args.workspace = static_cast<uint64_t*>(out(workspace));
    return args;
}

// Bytes for a call with so many threads, or fewer.
size_t workspace_size(int64_t rows, int64_t columns, int64_t k, int64_t excluded, int threads) {
    TopKArgs args{};
    args.rows = rows;
    args.columns = columns;
    args.k = k;
    args.excluded = excluded;
    args.threads = threads;
    return static_cast<size_t>(top_k_workspace(args)) * sizeof(uint64_t);
}

void top_k(int64_t rows, int64_t columns, int64_t k, int64_t excluded, int64_t row_stride,
           Address scores, Address exclude, Address values, Address indices, Address workspace,
           int threads) {
    TopKArgs args = read_args(rows, columns, k, excluded, row_stride, scores, exclude, values,
                              indices, workspace);
    args.threads = threads;
    py::gil_scoped_release release;
    cpu::top_k(args);
}

void cuda_top_k(bool on_host, int device, Address stream, int64_t rows, int64_t columns, int64_t k,
                int64_t excluded, int64_t row_stride, Address scores, Address exclude,
                Address values, Address indices, Address workspace, int parts) {
    TopKArgs args = read_args(rows, columns, k, excluded, row_stride, scores, exclude, values,
                              indices, workspace);
    args.parts = parts;
    py::gil_scoped_release release;
    (on_host ? cuda_host::top_k : cuda::top_k)({device, out(stream)}, args);
}

}  // namespace

void register_top_k(py::module_& module) {
    module.def("top_k_workspace_size", &workspace_size);
    module.def("top_k", &top_k);
    module.def("cuda_top_k", &cuda_top_k);
}

}  // namespace seqfast::bindings
