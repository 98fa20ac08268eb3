// Control of the host executor: the order it runs things in, the device it stands for, what it has
// run.
#include "host_executor/executor.h"

#include "bindings/register.h"

namespace py = pybind11;

namespace seqfast::bindings {
namespace {

py::dict statistics(bool reset) {
    const host_executor::Statistics counts = host_executor::statistics(reset);
    py::dict kernels;
    for (const auto& [name, launches] : counts.kernels) kernels[py::str(name)] = launches;
    py::dict result;
    result["launches"] = counts.launches;
    result["blocks"] = counts.blocks;
    result["threads"] = counts.threads;
    result["switches"] = counts.switches;
    result["kernels"] = kernels;
    return result;
}

}  // namespace

void register_host_executor(py::module_& module) {
    module.def("host_executor_set_seed", &host_executor::set_seed, py::arg("seed"));
    module.def("host_executor_set_device", &host_executor::set_device,
               py::arg("multiprocessors") = 132, py::arg("shared_bytes") = 232448,
               py::arg("architecture") = 90, py::arg("max_cluster") = 16);
    module.def(
        "host_executor_set_modes",
        [](bool weak_memory, bool cut_off_sums) {
            host_executor::set_modes({weak_memory, cut_off_sums});
        },
        py::arg("weak_memory") = false, py::arg("cut_off_sums") = false);
    module.def("host_executor_statistics", &statistics, py::arg("reset") = false);
}

}  // namespace seqfast::bindings
