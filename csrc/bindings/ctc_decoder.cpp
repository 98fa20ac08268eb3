// CTC decoding into words: the GIL released, nothing checked.
#include "cpu/ctc_decoder/ctc_decoder.h"
#include "bindings/reader.h"
#include "bindings/register.h"

namespace py = pybind11;

namespace seqfast::bindings {
namespace {

size_t memory_size(const py::handle& args) {
    return cpu::ctc_decode_memory_size(read<CtcDecodeArgs>(args));
}

size_t workspace_size(const py::handle& args) {
    return cpu::ctc_decode_workspace_size(read<CtcDecodeArgs>(args));
}

template <void (*call)(CtcDecodeArgs)>
void run(const py::handle& from, Address workspace) {
    const auto args = read<CtcDecodeArgs>(from, workspace);
    py::gil_scoped_release release;
    call(args);
}

void grow(const py::handle& from, int64_t capacity, Address memory, Address workspace) {
    const auto args = read<CtcDecodeArgs>(from, workspace);
    py::gil_scoped_release release;
    cpu::ctc_decode_grow(args, capacity, reinterpret_cast<char*>(memory));
}

}  // namespace

void register_ctc_decoder(py::module_& module) {
    module.def("ctc_decode_memory_size", &memory_size);
    module.def("ctc_decode_workspace_size", &workspace_size);
    module.def("ctc_decode_begin", &run<cpu::ctc_decode_begin>);
    module.def("ctc_decode_frames", &run<cpu::ctc_decode_frames>);
    module.def("ctc_decode_rank", &run<cpu::ctc_decode_rank>);
    module.def("ctc_decode_walk", &run<cpu::ctc_decode_walk>);
    module.def("ctc_decode_grow", &grow);
}

}  // namespace seqfast::bindings
