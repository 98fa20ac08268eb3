// A plain call of a recurrent module: torch's tensors read, checked and made here, because on the
// way through Python one step of a small cell takes several times as long as its arithmetic.
#pragma once

#include <pybind11/pybind11.h>

#include <optional>
#include <vector>

#include "bindings/dlpack.h"
#include "bindings/torch_allocator.h"
#include "core/rnn.h"

namespace seqfast::bindings {

// Answers one question, whether a call is plain, and runs it or returns None. It refuses nothing:
// what it declines, Python checks and runs.
class PlainRnn {
  public:
    // api: torch.Tensor.__dlpack_c_exchange_api__; allocator: the fields of a TorchAllocator, in
    // their order, or None for results by DLPack; types: of the tensors that are plain;
    // is_negated: torch.Tensor.is_neg; threads: torch.get_num_threads; quiet: (function, result) of
    // each question about the surroundings; levels: (namespace, name, value) of the others;
    // options: of the kernel; always, training: what a plain module's attributes are, and are in
    // training too.
    PlainRnn(const pybind11::capsule& api, const pybind11::object& allocator,
             const pybind11::tuple& types, const pybind11::object& is_negated,
             const pybind11::object& threads, const pybind11::tuple& quiet,
             const pybind11::tuple& levels, const pybind11::handle& options,
             const pybind11::dict& always, const pybind11::dict& training);

    // The states after one step, `hx` as the module takes it.
    pybind11::object cell(const pybind11::handle& module, const pybind11::handle& input,
                          const pybind11::handle& hx) const;
    // The weights of a module whose step is plain but for its gradients; None otherwise.
    pybind11::object weights_to_train(const pybind11::handle& module, const pybind11::handle& input,
                                      const pybind11::handle& hx) const;
    // (output, states) of a stack of layers.
    pybind11::object layer(const pybind11::handle& module, const pybind11::handle& input,
                           const pybind11::handle& hx) const;

  private:
    struct Seen {
        const void* data;
        int dimensions;
        int64_t shape[3], strides[3];
    };

    // What a step of a cell is given, and its first numbers; `hx` may be None.
    struct Step {
        dlpack::DataType dtype{};
        Seen input, states[2];
        RnnWeights weights;
        int64_t hidden_size = 0;
        bool batched() const { return input.dimensions == 2; }
        int64_t batch() const { return batched() ? input.shape[0] : 1; }
        int64_t input_size() const { return input.shape[input.dimensions - 1]; }
    };

    // `grad`: whether gradients are wanted.
    bool is_quiet(bool grad) const;
    bool look_at_step(PyObject* parameters, PyObject* input, PyObject* hx, bool contiguous,
                      Step& to) const;
    bool is_plain_module(PyObject* module, PyObject* attributes) const;
    bool look(PyObject* tensor, Seen& to, dlpack::DataType& dtype) const;
    // `contiguous`: whether they must be.
    bool look_at_states(PyObject* hx, bool contiguous, Seen (&to)[2],
                        dlpack::DataType& dtype) const;
    bool look_at_weights(PyObject* parameters, PyObject* const (&names)[4], bool contiguous,
                         RnnWeights& to, int64_t input_size, int64_t& hidden_size,
                         dlpack::DataType& dtype) const;
    // Empty where there is no memory: Python then says so as torch does.
    pybind11::object make(dlpack::DataType dtype, const int64_t* shape, int dimensions,
                          void*& data) const;
    bool run(RnnForwardArgs& args) const;
    bool has_cell_state() const;
    int gates() const;

    using Wanted = std::vector<std::pair<pybind11::str, pybind11::object>>;
    const dlpack::ExchangeApi* api_;
    std::optional<TorchAllocator> allocator_;
    std::vector<PyTypeObject*> types_;
    pybind11::object is_negated_, threads_;
    std::vector<std::pair<pybind11::object, pybind11::object>> quiet_;
    std::vector<pybind11::tuple> levels_;
    RnnOptions options_;
    Wanted always_, training_;
};

}  // namespace seqfast::bindings
