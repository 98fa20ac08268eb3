// Where NumPy's arrays are.
#include <pybind11/numpy.h>

#include "bindings/reader.h"
#include "bindings/register.h"

namespace py = pybind11;

namespace seqfast::bindings {
namespace {

// As array.ctypes.data, which makes an object of ctypes first: that takes longer than a step.
Address numpy_address(const py::handle& array) {
    if (!py::isinstance<py::array>(array))
        throw py::type_error(std::string("numpy_address: array must be a NumPy array, got ") +
                             Py_TYPE(array.ptr())->tp_name);
    return reinterpret_cast<Address>(py::detail::array_proxy(array.ptr())->data);
}

}  // namespace

void register_arrays(py::module_& module) { module.def("numpy_address", &numpy_address); }

}  // namespace seqfast::bindings
