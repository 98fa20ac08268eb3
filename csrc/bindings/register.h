// What module.cpp calls, one function per file of bindings.
#pragma once

#include <pybind11/pybind11.h>

namespace seqfast::bindings {

void register_arrays(pybind11::module_& module);
void register_beam_search(pybind11::module_& module);
void register_build_info(pybind11::module_& module);
void register_rnn(pybind11::module_& module);
void register_corpus(pybind11::module_& module);
void register_ctc(pybind11::module_& module);
void register_ctc_decoder(pybind11::module_& module);
void register_dropout(pybind11::module_& module);
void register_plain_rnn(pybind11::module_& module);
void register_structs(pybind11::module_& module);
void register_decoder(pybind11::module_& module);
void register_glove(pybind11::module_& module);
void register_host_executor(pybind11::module_& module);
void register_top_k(pybind11::module_& module);
void register_word2vec(pybind11::module_& module);

}  // namespace seqfast::bindings
