// Decoders: integers to typed pointers, the GIL released, nothing checked.
#include "core/decoder.h"

#include "bindings/beam_step_call.h"
#include "bindings/register.h"
#include "bindings/rnn_arguments.h"
#include "cpu/decoder/decoder.h"

namespace py = pybind11;

namespace seqfast::bindings {
namespace {

// sizes: (dtype, cell, activation, input_feeding, batch, beams, words, embedding_size,
// memory_steps, memory_size, key_size, attentional_size, vocabulary, threads); layers: of each
// (hidden_size, weight_ih, weight_hh, bias_ih, bias_hh, hidden, cell); arrays: (embedding, keys,
// values, mask, weight_query, bias_query, weight_score, weight_combine, weight_head, bias_head,
// fed). Addresses may be missing where only sizes count.
DecoderArgs read_args(const py::tuple& sizes, const py::list& layers, const py::tuple& arrays,
                      Address workspace, size_t workspace_size) {
    const Items size(sizes), array(arrays);
    DecoderArgs args{};
    args.dtype = static_cast<DType>(size.integer(0));
    args.cell = static_cast<CellKind>(size.integer(1));
    args.activation = static_cast<Activation>(size.integer(2));
    args.input_feeding = size.integer(3) != 0;
    args.batch = size.integer(4);
    args.beams = size.integer(5);
    args.words = size.integer(6);
    args.embedding_size = size.integer(7);
    args.memory_steps = size.integer(8);
    args.memory_size = size.integer(9);
    args.key_size = size.integer(10);
    args.attentional_size = size.integer(11);
    args.vocabulary = size.integer(12);
    args.threads = static_cast<int>(size.integer(13));
    args.layers = static_cast<int64_t>(layers.size());
    if (args.layers > kMostDecoderLayers) throw py::value_error("decode: too many layers");
    for (size_t l = 0; l < layers.size(); ++l) {
        const Items at(layers[l]);
        args.layer[l] = {at.integer(0), at.pointer(1), at.pointer(2), at.pointer(3),
                         at.pointer(4), at.pointer(5), at.pointer(6)};
    }
    args.embedding = array.pointer(0);
    args.keys = array.pointer(1);
    args.values = array.pointer(2);
    args.mask = static_cast<const uint8_t*>(array.pointer(3));
    args.weight_query = array.pointer(4);
    args.bias_query = array.pointer(5);
    args.weight_score = array.pointer(6);
    args.weight_combine = array.pointer(7);
    args.weight_head = array.pointer(8);
    args.bias_head = array.pointer(9);
    args.fed = array.pointer(10);
    args.workspace = out(workspace);
    args.workspace_size = workspace_size;
    return args;
}

size_t workspace_size(const py::tuple& sizes, const py::list& layers, const py::tuple& arrays) {
    return cpu::decoder_workspace_size(read_args(sizes, layers, arrays, 0, 0));
}

void start(const py::tuple& sizes, const py::list& layers, const py::tuple& arrays,
           Address workspace, size_t size) {
    const DecoderArgs args = read_args(sizes, layers, arrays, workspace, size);
    py::gil_scoped_release release;
    cpu::decoder_start(args);
}

// Returns the status of the last step.
int64_t run(const py::tuple& sizes, const py::list& layers, const py::tuple& arrays,
            Address workspace, size_t size, const BeamStepCall& beams, double seconds) {
    const DecoderArgs args = read_args(sizes, layers, arrays, workspace, size);
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
