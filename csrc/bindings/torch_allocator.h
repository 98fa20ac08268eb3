// Tensors by torch's own allocator, so that they can be resized and shared as any other: what
// DLPack hands over cannot. Functions of libtorch's C interface (torch/csrc/inductor/aoti_torch/c/
// shim.h) and of libtorch_python, which Python looks up, as nothing here is linked with them.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

#include "core/dtype.h"

namespace seqfast::bindings {

struct TorchAllocator {
    // The first three return 0, or another number where they fail.
    int32_t (*empty)(int64_t dimensions, const int64_t* shape, const int64_t* strides,
                     int32_t dtype, int32_t device_type, int32_t device, void** tensor);
    int32_t (*address)(void* tensor, void** data);
    int32_t (*release)(void* tensor);
    PyObject* (*to_object)(const void* tensor);  // a new reference
    int32_t dtypes[4];                           // torch's code of each DType

    // nullptr where there is no memory; an error of Python only where to_object has left one.
    PyObject* make(DType dtype, const int64_t* shape, int dimensions, void*& data) const {
        int64_t strides[3], stride = 1;
        for (int d = dimensions - 1; d >= 0; --d) {
            strides[d] = stride;
            stride *= shape[d];
        }
        void* tensor = nullptr;
        if (empty(dimensions, shape, strides, dtypes[static_cast<int>(dtype)], 0, 0, &tensor) != 0)
            return nullptr;
        PyObject* made = address(tensor, &data) == 0 ? to_object(tensor) : nullptr;
        release(tensor);
        return made;
    }
};

}  // namespace seqfast::bindings
