// Recurrent operations on a GPU or the host executor: integers to typed pointers, the GIL released.
#include "bindings/address.h"
#include "bindings/register.h"
#include "cuda/rnn.h"

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
    const auto at = [&](size_t index) { return call[index]; };
    Call result{};
    result.on_host = at(0).cast<bool>();
    result.gpu = {at(1).cast<int>(), out(at(2).cast<Address>()), at(3).cast<bool>(),
                  static_cast<RnnWay>(at(4).cast<int>())};
    result.sizes.dtype = static_cast<DType>(at(5).cast<int>());
    result.sizes.steps = at(6).cast<int64_t>();
    result.sizes.batch = at(7).cast<int64_t>();
    result.sizes.hidden_size = at(8).cast<int64_t>();
    result.sizes.proj_size = at(9).cast<int64_t>();
    result.sizes.directions = at(10).cast<int64_t>();
    return result;
}

void read_weights(LstmWeights (&to)[2], const py::list& weights) {
    for (size_t d = 0; d < weights.size(); ++d) {
        const auto from = weights[d].cast<py::tuple>();
        to[d] = {nullptr, in(from[0].cast<Address>()), in(from[1].cast<Address>()),
                 in(from[2].cast<Address>()), in(from[3].cast<Address>())};
    }
}

size_t lstm_workspace_size(const py::tuple& call, bool backward) {
    const Call c = read_call(call);
    return (c.on_host ? cuda_host::lstm_workspace_size : cuda::lstm_workspace_size)(c.gpu, c.sizes,
                                                                                    backward);
}

int lstm_way(const py::tuple& call, bool backward) {
    const Call c = read_call(call);
    return static_cast<int>(
        (c.on_host ? cuda_host::lstm_way : cuda::lstm_way)(c.gpu, c.sizes, backward));
}

void lstm_forward(const py::tuple& call, Address lengths, Address order, Address hidden,
                  Address cell, const py::list& weights, Address gates, bool save_gates,
                  Address output, Address hidden_n, Address cell_n, Address cells,
                  Address workspace, size_t workspace_size) {
    const Call c = read_call(call);
    LstmRecurrenceForwardArgs args{};
    args.call = c.gpu;
    args.sizes = c.sizes;
    args.lengths = static_cast<const int64_t*>(in(lengths));
    args.order = static_cast<const int64_t*>(in(order));
    args.hidden = in(hidden);
    args.cell = in(cell);
    read_weights(args.weights, weights);
    args.gates = out(gates);
    args.save_gates = save_gates;
    args.output = out(output);
    args.hidden_n = out(hidden_n);
    args.cell_n = out(cell_n);
    args.cells = out(cells);
    args.workspace = out(workspace);
    args.workspace_size = workspace_size;
    py::gil_scoped_release release;
    (c.on_host ? cuda_host::lstm_forward : cuda::lstm_forward)(args);
}

void lstm_backward(const py::tuple& call, Address lengths, Address order, Address grad_output,
                   int64_t grad_output_step_stride, int64_t grad_output_row_stride,
                   Address grad_hidden_n, Address grad_cell_n, Address grad_cells, Address cell,
                   const py::list& weights, Address cells, Address gates, Address grad_gates,
                   Address grad_cell, Address grad_projected, Address unprojected,
                   Address workspace, size_t workspace_size) {
    const Call c = read_call(call);
    LstmRecurrenceBackwardArgs args{};
    args.call = c.gpu;
    args.sizes = c.sizes;
    args.lengths = static_cast<const int64_t*>(in(lengths));
    args.order = static_cast<const int64_t*>(in(order));
    args.grad_output = {in(grad_output), grad_output_step_stride, grad_output_row_stride};
    args.grad_hidden_n = in(grad_hidden_n);
    args.grad_cell_n = in(grad_cell_n);
    args.grad_cells = in(grad_cells);
    args.cell = in(cell);
    read_weights(args.weights, weights);
    args.cells = in(cells);
    args.gates = in(gates);
    args.grad_gates = out(grad_gates);
    args.grad_cell = out(grad_cell);
    args.grad_projected = out(grad_projected);
    args.unprojected = out(unprojected);
    args.workspace = out(workspace);
    args.workspace_size = workspace_size;
    py::gil_scoped_release release;
    (c.on_host ? cuda_host::lstm_backward : cuda::lstm_backward)(args);
}

void zero_padding(const py::tuple& call, Address array, int64_t row_bytes, Address lengths) {
    const Call c = read_call(call);
    py::gil_scoped_release release;
    (c.on_host ? cuda_host::zero_padding : cuda::zero_padding)(
        c.gpu, out(array), row_bytes, c.sizes.steps, c.sizes.batch,
        static_cast<const int64_t*>(in(lengths)));
}

}  // namespace

void register_cuda_rnn(py::module_& module) {
    module.def("cuda_lstm_workspace_size", &lstm_workspace_size);
    module.def("cuda_lstm_way", &lstm_way);
    module.def("cuda_lstm_forward", &lstm_forward);
    module.def("cuda_lstm_backward", &lstm_backward);
    module.def("cuda_zero_padding", &zero_padding);
}

}  // namespace seqfast::bindings
