// Decoders: the GIL released, nothing checked.
#include "cpu/decoder/decoder.h"
#include "bindings/beam_step_call.h"
#include "bindings/register.h"

namespace py = pybind11;

namespace seqfast::bindings {
namespace {

size_t workspace_size(const py::handle& args) {
    return cpu::decoder_workspace_size(read<DecoderArgs>(args));
}

void start(const py::handle& from, Address workspace, size_t size) {
    const auto args = read<DecoderArgs>(from, workspace, size);
    py::gil_scoped_release release;
    cpu::decoder_start(args);
}

// Returns the status of the last step.
int64_t run(const py::handle& from, Address workspace, size_t size, const BeamStepCall& beams,
            double seconds) {
    const auto args = read<DecoderArgs>(from, workspace, size);
    const BeamStepArgs& step = beams.arguments();
    py::gil_scoped_release release;
    return cpu::decoder_run(args, step, seconds);
}

}  // namespace

void register_decoder(py::module_& module) {
    module.def("decoder_workspace_size", &workspace_size);
    module.def("decoder_start", &start);
    module.def("decoder_run", &run);
}

}  // namespace seqfast::bindings
