// What Python may ask about the argument structs: names, and the names and types of their fields.
#include "bindings/structs.h"

#include <pybind11/pybind11.h>

#include <string>
#include <type_traits>

#include "bindings/register.h"

namespace py = pybind11;

namespace seqfast::bindings {
namespace {

// As Python annotates it.
template <class T>
std::string type_name() {
    if constexpr (std::is_same_v<T, bool>)
        return "bool";
    else if constexpr (std::is_pointer_v<T>)
        return "Address";
    else if constexpr (std::is_floating_point_v<T>)
        return "float";
    else if constexpr (std::is_enum_v<T> || std::is_integral_v<T>)
        return "int";
    else if constexpr (std::is_array_v<T>)
        return "tuple[" + type_name<std::remove_extent_t<T>>() + ", ...]";
    else
        return StructName<T>::value;
}

template <class T>
void add_fields(py::dict& to) {
    T structure{};
    py::dict fields;
    visit(structure, [&](const char* name, auto& field) {
        fields[name] = type_name<std::remove_reference_t<decltype(field)>>();
    });
    to[StructName<T>::value] = fields;
}

py::dict all_fields() {
    py::dict result;
#define SEQFAST_ADD_FIELDS(type) add_fields<type>(result);
    SEQFAST_STRUCTS(SEQFAST_ADD_FIELDS)
#undef SEQFAST_ADD_FIELDS
    return result;
}

py::dict fields_of(const std::string& name) {
    const py::dict all = all_fields();
    if (!all.contains(name)) throw py::key_error("field_names: no struct is called " + name);
    return all[py::str(name)];
}

}  // namespace

void register_structs(py::module_& module) {
    module.def("struct_names", [] { return py::tuple(all_fields()); });
    module.def("field_names", [](const std::string& name) { return py::tuple(fields_of(name)); });
    module.def("field_types",
               [](const std::string& name) { return py::tuple(fields_of(name).attr("values")()); });
}

}  // namespace seqfast::bindings
