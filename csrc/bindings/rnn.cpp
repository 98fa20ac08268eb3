// Recurrent operations on the CPU, on a GPU or on the host executor: the GIL released, nothing
// checked.
#include "cuda/rnn/rnn.h"
#include "bindings/reader.h"
#include "bindings/register.h"
#include "cpu/rnn/rnn.h"

namespace py = pybind11;

namespace seqfast::bindings {
namespace {

// Asking for the size apart would read the arguments twice, which a single step would feel.
size_t forward(const py::handle& from, Address workspace, size_t workspace_size) {
    const auto args = read<RnnForwardArgs>(from, workspace, workspace_size);
    const size_t needed = cpu::rnn_workspace_size(args);
    if (needed > workspace_size) return needed;
    py::gil_scoped_release release;
    cpu::rnn_forward(args);
    return 0;
}

size_t backward(const py::handle& from, Address workspace, size_t workspace_size) {
    const auto args = read<RnnBackwardArgs>(from, workspace, workspace_size);
    const size_t needed = cpu::rnn_workspace_size(args);
    if (needed > workspace_size) return needed;
    py::gil_scoped_release release;
    cpu::rnn_backward(args);
    return 0;
}

// Returns 0; where there is too little room, the bytes it takes.
size_t pack(const py::handle& from, Address packed, size_t size) {
    const auto args = read<RnnPackArgs>(from, packed, size);
    const size_t needed = cpu::rnn_packed_size(args);
    if (needed > size) return needed;
    py::gil_scoped_release release;
    cpu::rnn_pack(args);
    return 0;
}

size_t state_size(const py::handle& from) {
    return cpu::rnn_state_size(read<RnnForwardArgs>(from));
}

void reset_state(const py::handle& from, Address rows, int64_t count) {
    const auto args = read<RnnForwardArgs>(from);
    cpu::rnn_reset_state(args, reinterpret_cast<const int64_t*>(rows), count);
}

size_t cuda_workspace_size(const py::handle& call, const py::handle& sizes,
                           const py::handle& options, bool is_backward) {
    const auto where = read<GpuCall>(call);
    return (where.on_host ? cuda_host::rnn_workspace_size : cuda::rnn_workspace_size)(
        where, read<RnnSizes>(sizes), read<RnnOptions>(options), is_backward);
}

int cuda_strategy(const py::handle& call, const py::handle& sizes, const py::handle& options,
                  bool is_backward) {
    const auto where = read<GpuCall>(call);
    return static_cast<int>((where.on_host ? cuda_host::rnn_strategy : cuda::rnn_strategy)(
        where, read<RnnSizes>(sizes), read<RnnOptions>(options), is_backward));
}

py::tuple cuda_groups(const py::handle& call, const py::handle& sizes, const py::handle& options,
                      bool is_backward) {
    const auto where = read<GpuCall>(call);
    const RnnGroups found = (where.on_host ? cuda_host::rnn_groups : cuda::rnn_groups)(
        where, read<RnnSizes>(sizes), read<RnnOptions>(options), is_backward);
    return py::make_tuple(found.blocks, found.groups);
}

void cuda_forward(const py::handle& from, Address workspace, size_t workspace_size) {
    const auto args = read<RnnRecurrenceForwardArgs>(from, workspace, workspace_size);
    py::gil_scoped_release release;
    (args.call.on_host ? cuda_host::rnn_forward : cuda::rnn_forward)(args);
}

void cuda_backward(const py::handle& from, Address workspace, size_t workspace_size) {
    const auto args = read<RnnRecurrenceBackwardArgs>(from, workspace, workspace_size);
    py::gil_scoped_release release;
    (args.call.on_host ? cuda_host::rnn_backward : cuda::rnn_backward)(args);
}

void zero_padding(const py::handle& call, const py::handle& from) {
    const auto where = read<GpuCall>(call);
    const auto args = read<ZeroPaddingArgs>(from);
    py::gil_scoped_release release;
    (where.on_host ? cuda_host::zero_padding : cuda::zero_padding)(where, args);
}

// What Python has to know of each cell, by the names of CellTraits.
py::list cell_traits() {
    py::list result;
    for_each_cell([&](CellKind kind, auto cell) {
        constexpr CellTraits traits = decltype(cell)::traits();
        py::dict of;
        of["kind"] = static_cast<int>(kind);
        of["name"] = traits.name;
        of["operation"] = traits.operation;
        of["gates"] = traits.gates;
        of["saved"] = traits.saved();
        of["first_gates"] = traits.first_gates();
        of["has_cell_state"] = traits.has_cell_state;
        of["carries_hidden"] = traits.carries_hidden;
        of["has_split_candidate"] = traits.has_split_candidate;
        of["has_second_product"] = traits.has_second_product;
        result.append(of);
    });
    return result;
}

}  // namespace

void register_rnn(py::module_& module) {
    module.def("cell_traits", &cell_traits);
    module.def("rnn_forward", &forward);
    module.def("rnn_backward", &backward);
    module.def("rnn_pack", &pack);
    module.def("rnn_state_size", &state_size);
    module.def("rnn_reset_state", &reset_state);
    module.def("cuda_rnn_workspace_size", &cuda_workspace_size);
    module.def("cuda_rnn_strategy", &cuda_strategy);
    module.def("cuda_rnn_groups", &cuda_groups);
    module.def("cuda_rnn_forward", &cuda_forward);
    module.def("cuda_rnn_backward", &cuda_backward);
    module.def("cuda_zero_padding", &zero_padding);
}

}  // namespace seqfast::bindings
