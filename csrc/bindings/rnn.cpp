// Recurrent operations: integers to typed pointers, the GIL released, nothing checked.
#include "cpu/rnn/rnn.h"
#include "bindings/register.h"
#include "bindings/rnn_arguments.h"
#include "cpu/dropout/dropout.h"

namespace py = pybind11;

namespace seqfast::bindings {
namespace {

// (dtype, steps, batch, input_size, hidden_size, proj_size, directions, threads)
RnnSizes read_sizes(const py::tuple& from) {
    const Items at(from);
    return {static_cast<DType>(at.integer(0)),
            at.integer(1),
            at.integer(2),
            at.integer(3),
            at.integer(4),
            at.integer(5),
            at.integer(6),
            static_cast<int>(at.integer(7))};
}

size_t rnn_workspace_size(bool backward, const py::tuple& sizes, const py::tuple& options,
                          const py::list& weights) {
    const auto of = [&](auto args) {
        args.sizes = read_sizes(sizes);
        args.options = read_options(options);
        read_weights(args.weights, weights);
        return cpu::rnn_workspace_size(args);
    };
    return backward ? of(RnnBackwardArgs{}) : of(RnnForwardArgs{});
}

void rnn_forward(const py::tuple& sizes, const py::tuple& options, Address input,
                 int64_t input_step_stride, int64_t input_row_stride, Address lengths,
                 Address reset, Address hidden, Address cell, const py::list& weights,
                 Address output, Address hidden_n, Address cell_n, Address cells, Address gates,
                 Address statistics, Address workspace, size_t workspace_size) {
    RnnForwardArgs args{};
    args.sizes = read_sizes(sizes);
    args.options = read_options(options);
    args.input = {in(input), input_step_stride, input_row_stride};
    args.lengths = static_cast<const int64_t*>(in(lengths));
    args.reset = static_cast<const uint8_t*>(in(reset));
    args.hidden = in(hidden);
    args.cell = in(cell);
    read_weights(args.weights, weights);
    args.output = out(output);
    args.hidden_n = out(hidden_n);
    args.cell_n = out(cell_n);
    args.cells = out(cells);
    args.gates = out(gates);
    args.statistics = out(statistics);
    args.workspace = out(workspace);
    args.workspace_size = workspace_size;
    py::gil_scoped_release release;
    cpu::rnn_forward(args);
}

void rnn_backward(const py::tuple& sizes, const py::tuple& options, Address grad_output,
                  int64_t grad_output_step_stride, int64_t grad_output_row_stride,
                  Address grad_hidden_n, Address grad_cell_n, Address grad_cells, Address input,
                  int64_t input_step_stride, int64_t input_row_stride, Address lengths,
                  Address reset, Address hidden, Address cell, const py::list& weights,
                  Address output, Address cells, Address gates, Address statistics,
                  Address grad_input, Address grad_hidden, Address grad_cell,
                  const py::list& grad_weights, Address workspace, size_t workspace_size) {
    RnnBackwardArgs args{};
    args.sizes = read_sizes(sizes);
    args.options = read_options(options);
    args.grad_output = {in(grad_output), grad_output_step_stride, grad_output_row_stride};
    args.grad_hidden_n = in(grad_hidden_n);
    args.grad_cell_n = in(grad_cell_n);
    args.grad_cells = in(grad_cells);
    args.input = {in(input), input_step_stride, input_row_stride};
    args.lengths = static_cast<const int64_t*>(in(lengths));
    args.reset = static_cast<const uint8_t*>(in(reset));
    args.hidden = in(hidden);
    args.cell = in(cell);
    read_weights(args.weights, weights);
    args.output = in(output);
    args.cells = in(cells);
    args.gates = in(gates);
    args.statistics = in(statistics);
    args.grad_input = out(grad_input);
    args.grad_hidden = out(grad_hidden);
    args.grad_cell = out(grad_cell);
    for (size_t d = 0; d < grad_weights.size(); ++d) {
        const Items at(grad_weights[d]);
        args.grad_weights[d] = {at.pointer(0), at.pointer(1), at.pointer(2), at.pointer(3),
                                at.pointer(4), at.pointer(5), at.pointer(6), at.pointer(7),
                                at.pointer(8), at.pointer(9)};
    }
    args.workspace = out(workspace);
    args.workspace_size = workspace_size;
    py::gil_scoped_release release;
    cpu::rnn_backward(args);
}

void dropout(int dtype, int64_t steps, int64_t rows, int64_t units, Address input, Address output,
             double probability, Address seed, uint32_t stream, bool per_step, int threads) {
    const DropoutArgs args{steps,
                           rows,
                           units,
                           in(input),
                           out(output),
                           probability,
                           static_cast<const int64_t*>(in(seed)),
                           stream,
                           per_step};
    py::gil_scoped_release release;
    cpu::dropout(static_cast<DType>(dtype), args, threads);
}

}  // namespace

void register_rnn(py::module_& module) {
    module.def("rnn_workspace_size", &rnn_workspace_size);
    module.def("rnn_forward", &rnn_forward);
    module.def("rnn_backward", &rnn_backward);
    module.def("dropout", &dropout);
}

}  // namespace seqfast::bindings
