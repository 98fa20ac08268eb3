// How Python names what every recurrent operation is told, whatever its backend.
#pragma once

#include <pybind11/pybind11.h>

#include "bindings/address.h"
#include "core/rnn.h"

namespace seqfast::bindings {

// The items of a tuple, each as what it is.
class Items {
  public:
    explicit Items(const pybind11::handle& tuple)
        : tuple_(pybind11::reinterpret_borrow<pybind11::tuple>(tuple)) {}
    int64_t integer(size_t index) const { return tuple_[index].cast<int64_t>(); }
    double real(size_t index) const { return tuple_[index].cast<double>(); }
    void* pointer(size_t index) const { return out(tuple_[index].cast<Address>()); }

  private:
    pybind11::tuple tuple_;
};

// (cell, coupled, activation, output_activation, layer_norm, gate_clip, cell_clip, zoneout_hidden,
// zoneout_cell, dropout_hidden, dropout_update, seed, layer)
inline RnnOptions read_options(const pybind11::tuple& from) {
    const Items at(from);
    RnnOptions options{};
    options.cell = static_cast<CellKind>(at.integer(0));
    options.coupled = at.integer(1) != 0;
    options.activation = static_cast<Activation>(at.integer(2));
    options.output_activation = static_cast<Activation>(at.integer(3));
    options.layer_norm = at.integer(4) != 0;
    options.gate_clip = at.real(5);
    options.cell_clip = at.real(6);
    options.zoneout_hidden = at.real(7);
    options.zoneout_cell = at.real(8);
    options.dropout_hidden = at.real(9);
    options.dropout_update = at.real(10);
    options.seed = static_cast<const int64_t*>(at.pointer(11));
    options.layer = static_cast<int>(at.integer(12));
    return options;
}

// Per direction ten addresses, in the order of RnnWeights.
inline void read_weights(RnnWeights (&to)[2], const pybind11::list& weights) {
    for (size_t d = 0; d < weights.size(); ++d) {
        const Items at(weights[d]);
        to[d] = {at.pointer(0), at.pointer(1), at.pointer(2), at.pointer(3), at.pointer(4),
                 at.pointer(5), at.pointer(6), at.pointer(7), at.pointer(8), at.pointer(9)};
    }
}

}  // namespace seqfast::bindings
