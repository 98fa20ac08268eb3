// What was built and what is active: build_info, the instruction set, threads, the FMA peak.
#include <pybind11/stl.h>

#include <sstream>
#include <string>
#include <vector>

#include "bindings/register.h"
#include "cpu/base/dispatch.h"
#include "cpu/base/entry.h"
#include "cpu/peak/peak.h"

namespace py = pybind11;

namespace seqfast::bindings {
namespace {

// "80,90" as {"80", "90"}.
std::vector<std::string> cuda_architectures() {
    std::vector<std::string> result;
    std::istringstream list(SEQFAST_CUDA_ARCHITECTURES);
    for (std::string name; std::getline(list, name, ',');) result.push_back(name);
    return result;
}

}  // namespace

void register_build_info(py::module_& module) {
    cpu::choose_isa();
    module.def("build_info", [] {
        py::dict info;
        info["version"] = SEQFAST_VERSION;
        info["compiler"] = SEQFAST_COMPILER;
#ifdef _OPENMP
        info["openmp"] = true;
#else
        info["openmp"] = false;
#endif
        info["cuda"] = SEQFAST_CUDA_STATE;
        info["cuda_architectures"] = cuda_architectures();
#ifdef SEQFAST_HAVE_HOST_EXECUTOR
        info["host_executor"] = true;
#else
        info["host_executor"] = false;
#endif
        info["cpu_isas_built"] = cpu::built_isas();
        info["cpu_isas_available"] = cpu::available_isas();
        info["cpu_isa"] = cpu::active_isa();
        return info;
    });
    module.def("set_cpu_isa", &cpu::set_isa, py::arg("name"));
    module.def("max_threads", &cpu::max_threads);
    module.def("measure_fma_peak", &cpu::measure_fma_peak, py::arg("seconds"), py::arg("threads"),
               py::call_guard<py::gil_scoped_release>());
}

}  // namespace seqfast::bindings
