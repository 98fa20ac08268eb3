// Recurrent operations on a GPU or the host executor: integers to typed pointers, the GIL released.
#include "bindings/register.h"
#include "bindings/rnn_arguments.h"
#include "cuda/rnn/rnn.h"

namespace py = pybind11;

namespace seqfast::bindings {
namespace {

// What every call begins with, as one tuple: see CudaCall in _C.pyi.
struct Call {
    bool on_host;
    GpuCall gpu;
    RnnSizes sizes;
};

Call read_call(const py::tuple& call) {
    const Items at(call);
    Call result{};
    result.on_host = at.integer(0) != 0;
    result.gpu = {static_cast<int>(at.integer(1)), at.pointer(2), at.integer(3) != 0,
                  static_cast<RnnStrategy>(at.integer(4)), at.integer(11) != 0};
    result.sizes.dtype = static_cast<DType>(at.integer(5));
    result.sizes.steps = at.integer(6);
    result.sizes.batch = at.integer(7);
    result.sizes.hidden_size = at.integer(8);
    result.sizes.proj_size = at.integer(9);
    result.sizes.directions = at.integer(10);
    return result;
}

const int64_t* integers(Address address) { return static_cast<const int64_t*>(in(address)); }

size_t rnn_workspace_size(const py::tuple& call, const py::tuple& options, bool backward) {
    const Call c = read_call(call);
    return (c.on_host ? cuda_host::rnn_workspace_size : cuda::rnn_workspace_size)(
        c.gpu, c.sizes, read_options(options), backward);
}

int rnn_strategy(const py::tuple& call, const py::tuple& options, bool backward) {
    const Call c = read_call(call);
    return static_cast<int>((c.on_host ? cuda_host::rnn_strategy : cuda::rnn_strategy)(
        c.gpu, c.sizes, read_options(options), backward));
}

void rnn_forward(const py::tuple& call, const py::tuple& options, Address lengths, Address order,
                 Address reset, Address hidden, Address cell, const py::list& weights,
                 Address product, Address output, Address hidden_n, Address cell_n, Address cells,
                 Address gates, Address statistics, Address workspace, size_t workspace_size) {
    const Call c = read_call(call);
    RnnRecurrenceForwardArgs args{};
    args.call = c.gpu;
    args.sizes = c.sizes;
    args.options = read_options(options);
    args.lengths = integers(lengths);
    args.order = integers(order);
    args.reset = static_cast<const uint8_t*>(in(reset));
    args.hidden = in(hidden);
    args.cell = in(cell);
    read_weights(args.weights, weights);
    args.product = in(product);
    args.output = out(output);
    args.hidden_n = out(hidden_n);
    args.cell_n = out(cell_n);
    args.cells = out(cells);
    args.gates = out(gates);
    args.statistics = out(statistics);
    args.workspace = out(workspace);
    args.workspace_size = workspace_size;
    py::gil_scoped_release release;
    (c.on_host ? cuda_host::rnn_forward : cuda::rnn_forward)(args);
}

void rnn_backward(const py::tuple& call, const py::tuple& options, Address lengths, Address order,
                  Address reset, Address grad_output, int64_t grad_output_step_stride,
                  int64_t grad_output_row_stride, Address grad_hidden_n, Address grad_cell_n,
                  Address grad_cells, Address hidden, Address cell, const py::list& weights,
                  Address output, Address cells, Address gates, Address statistics,
                  Address grad_gates, Address grad_product, Address grad_peephole,
                  Address grad_norm_cell, Address grad_hidden, Address grad_cell,
                  Address grad_projected, Address unprojected, Address workspace,
                  size_t workspace_size) {
    const Call c = read_call(call);
    RnnRecurrenceBackwardArgs args{};
    args.call = c.gpu;
    args.sizes = c.sizes;
    args.options = read_options(options);
    args.lengths = integers(lengths);
    args.order = integers(order);
    args.reset = static_cast<const uint8_t*>(in(reset));
    args.grad_output = {in(grad_output), grad_output_step_stride, grad_output_row_stride};
    args.grad_hidden_n = in(grad_hidden_n);
    args.grad_cell_n = in(grad_cell_n);
    args.grad_cells = in(grad_cells);
    args.hidden = in(hidden);
    args.cell = in(cell);
    read_weights(args.weights, weights);
    args.output = in(output);
    args.cells = in(cells);
    args.gates = in(gates);
    args.statistics = in(statistics);
    args.grad_gates = out(grad_gates);
    args.grad_product = out(grad_product);
    args.grad_peephole = out(grad_peephole);
    args.grad_norm_cell = out(grad_norm_cell);
    args.grad_hidden = out(grad_hidden);
    args.grad_cell = out(grad_cell);
    args.grad_projected = out(grad_projected);
    args.unprojected = out(unprojected);
    args.workspace = out(workspace);
    args.workspace_size = workspace_size;
    py::gil_scoped_release release;
    (c.on_host ? cuda_host::rnn_backward : cuda::rnn_backward)(args);
}

void zero_padding(const py::tuple& call, Address array, int64_t row_bytes, Address lengths) {
    const Call c = read_call(call);
    py::gil_scoped_release release;
    (c.on_host ? cuda_host::zero_padding : cuda::zero_padding)(
        c.gpu, out(array), row_bytes, c.sizes.steps, c.sizes.batch, integers(lengths));
}

void dropout(bool on_host, int device, Address gpu_stream, int dtype, int64_t steps, int64_t rows,
             int64_t units, Address input, Address output, double probability, Address seed,
             uint32_t stream, bool per_step) {
    GpuCall call{};
    call.device = device;
    call.stream = out(gpu_stream);
    py::gil_scoped_release release;
    (on_host ? cuda_host::dropout : cuda::dropout)(call, static_cast<DType>(dtype), steps, rows,
                                                   units, in(input), out(output), probability,
                                                   integers(seed), stream, per_step);
}

}  // namespace

void register_cuda_rnn(py::module_& module) {
    module.def("cuda_rnn_workspace_size", &rnn_workspace_size);
    module.def("cuda_rnn_strategy", &rnn_strategy);
    module.def("cuda_rnn_forward", &rnn_forward);
    module.def("cuda_rnn_backward", &rnn_backward);
    module.def("cuda_zero_padding", &zero_padding);
    module.def("cuda_dropout", &dropout);
}

}  // namespace seqfast::bindings
