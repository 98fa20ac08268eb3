// Fills any argument struct of csrc/core from the named tuple that Python hands over for it.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <string_view>
#include <type_traits>

#include "bindings/structs.h"

namespace seqfast::bindings {

// How Python names memory: an integer, 0 for what is absent.
using Address = uintptr_t;

template <class T>
void read(PyObject* from, T& to);

// A field of a struct, both by their names for messages.
struct Place {
    const char* structure;
    const char* field;

    [[noreturn]] void refuse(const std::string& wanted, const std::string& got) const {
        PyErr_Clear();
        throw pybind11::type_error(std::string(structure) + ": " + field + " must be " + wanted +
                                   ", got " + got);
    }
};

inline bool is_numpy_bool(PyObject* from) {
    const std::string_view name = Py_TYPE(from)->tp_name;
    return name == "numpy.bool" || name == "numpy.bool_";
}

template <class T>
void read_field(const Place& place, PyObject* from, T& to) {
    const auto check = [&](bool failed, const char* wanted) {
        if (failed && PyErr_Occurred()) place.refuse(wanted, Py_TYPE(from)->tp_name);
    };
    if constexpr (std::is_same_v<T, bool>) {
        if (!PyBool_Check(from) && !PyLong_Check(from) && !is_numpy_bool(from))
            place.refuse("a bool", Py_TYPE(from)->tp_name);
        to = PyObject_IsTrue(from) == 1;
    } else if constexpr (std::is_pointer_v<T>) {
        void* const address = PyLong_AsVoidPtr(from);
        check(!address, "an address");
        to = static_cast<T>(address);
    } else if constexpr (std::is_floating_point_v<T>) {
        const double value = PyFloat_AsDouble(from);
        check(value == -1, "a number");
        to = static_cast<T>(value);
    } else if constexpr (std::is_enum_v<T> || std::is_integral_v<T>) {
        const long long value = PyLong_AsLongLong(from);
        check(value == -1, "an integer of 64 bits");
        to = static_cast<T>(value);
        if (static_cast<long long>(to) != value)
            place.refuse("an integer of " + std::to_string(8 * sizeof(T)) + " bits",
                         std::to_string(value));
    } else if constexpr (std::is_array_v<T>) {
        if (!PyTuple_Check(from)) place.refuse("a tuple", Py_TYPE(from)->tp_name);
        const Py_ssize_t count = PyTuple_GET_SIZE(from), most = std::extent_v<T>;
        if (count > most)
            place.refuse("at most " + std::to_string(most) + " structs", std::to_string(count));
        for (Py_ssize_t i = 0; i < count; ++i) read(PyTuple_GET_ITEM(from, i), to[i]);
    } else {
        read(from, to);
    }
}

template <class T>
void read(PyObject* from, T& to) {
    constexpr const char* name = StructName<T>::value;
    if (!PyTuple_Check(from))
        throw pybind11::type_error(std::string(name) + " must be a named tuple, got " +
                                   Py_TYPE(from)->tp_name);
    const Py_ssize_t size = PyTuple_GET_SIZE(from);
    Py_ssize_t index = 0;
    visit(to, [&](const char* field, auto& value) {
        if (index < size) read_field({name, field}, PyTuple_GET_ITEM(from, index), value);
        ++index;
    });
    if (index != size)
        throw pybind11::type_error(std::string(name) + " must have " + std::to_string(index) +
                                   " fields, got " + std::to_string(size));
}

template <class T>
T read(const pybind11::handle& from) {
    T result{};
    read(from.ptr(), result);
    return result;
}

// The same with a workspace, which Python hands over beside it.
template <class T>
T read(const pybind11::handle& from, Address workspace) {
    T result = read<T>(from);
    result.workspace = reinterpret_cast<decltype(result.workspace)>(workspace);
    return result;
}

template <class T>
T read(const pybind11::handle& from, Address workspace, size_t workspace_size) {
    T result = read<T>(from, workspace);
    result.workspace_size = workspace_size;
    return result;
}

}  // namespace seqfast::bindings
