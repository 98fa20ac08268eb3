// Arguments by name, for calls that last: a dict with the fields of a struct of csrc/core.
#pragma once

#include <pybind11/pybind11.h>

#include "bindings/address.h"

namespace seqfast::bindings {

template <class T>
T at(const pybind11::dict& from, const char* name) {
    return from[name].cast<T>();
}

template <class T>
T* pointer(const pybind11::dict& from, const char* name) {
    return static_cast<T*>(out(at<Address>(from, name)));
}

}  // namespace seqfast::bindings
