// Recurrent operations: integers to typed pointers, the GIL released, nothing checked.
#include "bindings/address.h"
#include "bindings/register.h"
#include "cpu/dispatch.h"

namespace py = pybind11;

namespace seqfast::bindings {
namespace {

RnnSizes sizes_of(int dtype, int64_t steps, int64_t batch, int64_t input_size, int64_t hidden_size,
                  int64_t proj_size, int64_t directions, int threads) {
    return {static_cast<DType>(dtype),
            steps,
            batch,
            input_size,
            hidden_size,
            proj_size,
            directions,
            threads};
}

Address item(const py::handle& tuple, int index) { return tuple[py::int_(index)].cast<Address>(); }

void read_weights(LstmWeights (&to)[2], const py::list& weights) {
    for (size_t d = 0; d < weights.size(); ++d) {
        const py::handle from = weights[d];
        to[d] = {in(item(from, 0)), in(item(from, 1)), in(item(from, 2)), in(item(from, 3)),
                 in(item(from, 4))};
    }
}

void lstm_forward(int dtype, int64_t steps, int64_t batch, int64_t input_size, int64_t hidden_size,
                  int64_t proj_size, int64_t directions, int threads, Address input,
                  int64_t input_step_stride, int64_t input_row_stride, Address lengths,
                  Address hidden, Address cell, const py::list& weights, Address output,
                  Address hidden_n, Address cell_n, Address cells, Address gates, Address workspace,
                  size_t workspace_size) {
    LstmForwardArgs args{};
    args.sizes =
        sizes_of(dtype, steps, batch, input_size, hidden_size, proj_size, directions, threads);
    args.input = {in(input), input_step_stride, input_row_stride};
    args.lengths = static_cast<const int64_t*>(in(lengths));
    args.hidden = in(hidden);
    args.cell = in(cell);
    read_weights(args.weights, weights);
    args.output = out(output);
    args.hidden_n = out(hidden_n);
    args.cell_n = out(cell_n);
    args.cells = out(cells);
    args.gates = out(gates);
    args.workspace = out(workspace);
    args.workspace_size = workspace_size;
    py::gil_scoped_release release;
    cpu::lstm_forward(args);
}

void lstm_backward(int dtype, int64_t steps, int64_t batch, int64_t input_size, int64_t hidden_size,
                   int64_t proj_size, int64_t directions, int threads, Address grad_output,
                   int64_t grad_output_step_stride, int64_t grad_output_row_stride,
                   Address grad_hidden_n, Address grad_cell_n, Address grad_cells, Address input,
                   int64_t input_step_stride, int64_t input_row_stride, Address lengths,
                   Address hidden, Address cell, const py::list& weights, Address output,
                   Address cells, Address gates, Address grad_input, Address grad_hidden,
                   Address grad_cell, const py::list& grad_weights, Address workspace,
                   size_t workspace_size) {
    LstmBackwardArgs args{};
    args.sizes =
        sizes_of(dtype, steps, batch, input_size, hidden_size, proj_size, directions, threads);
    args.grad_output = {in(grad_output), grad_output_step_stride, grad_output_row_stride};
    args.grad_hidden_n = in(grad_hidden_n);
    args.grad_cell_n = in(grad_cell_n);
    args.grad_cells = in(grad_cells);
    args.input = {in(input), input_step_stride, input_row_stride};
    args.lengths = static_cast<const int64_t*>(in(lengths));
    args.hidden = in(hidden);
    args.cell = in(cell);
    read_weights(args.weights, weights);
    args.output = in(output);
    args.cells = in(cells);
    args.gates = in(gates);
    args.grad_input = out(grad_input);
    args.grad_hidden = out(grad_hidden);
    args.grad_cell = out(grad_cell);
    for (size_t d = 0; d < grad_weights.size(); ++d) {
        const py::handle to = grad_weights[d];
        args.grad_weights[d] = {out(item(to, 0)), out(item(to, 1)), out(item(to, 2)),
                                out(item(to, 3))};
    }
    args.workspace = out(workspace);
    args.workspace_size = workspace_size;
    py::gil_scoped_release release;
    cpu::lstm_backward(args);
}

size_t lstm_workspace_size(bool backward, int dtype, int64_t steps, int64_t batch,
                           int64_t input_size, int64_t hidden_size, int64_t proj_size,
                           int64_t directions, int threads) {
    return cpu::lstm_workspace_size(
        sizes_of(dtype, steps, batch, input_size, hidden_size, proj_size, directions, threads),
        backward);
}

}  // namespace

void register_rnn(py::module_& module) {
    module.def("lstm_workspace_size", &lstm_workspace_size);
    module.def("lstm_forward", &lstm_forward);
    module.def("lstm_backward", &lstm_backward);
}

}  // namespace seqfast::bindings
