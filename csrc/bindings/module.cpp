// The extension module seqfast._C: only registrations.
#include <pybind11/pybind11.h>

#include "bindings/register.h"

PYBIND11_MODULE(_C, module) {
    module.doc() = "seqfast's kernels; addresses in, nothing checked: use seqfast.ops";
    seqfast::bindings::register_build_info(module);
    seqfast::bindings::register_arrays(module);
    seqfast::bindings::register_beam_search(module);
    seqfast::bindings::register_dropout(module);
    seqfast::bindings::register_rnn(module);
    seqfast::bindings::register_plain_rnn(module);
    seqfast::bindings::register_structs(module);
    seqfast::bindings::register_corpus(module);
    seqfast::bindings::register_ctc(module);
    seqfast::bindings::register_ctc_decoder(module);
    seqfast::bindings::register_decoder(module);
    seqfast::bindings::register_glove(module);
    seqfast::bindings::register_top_k(module);
    seqfast::bindings::register_word2vec(module);
#ifdef SEQFAST_HAVE_HOST_EXECUTOR
    seqfast::bindings::register_host_executor(module);
#endif
}
