#include "bind.hpp"
#include "interpreter.hpp"
#include "version.hpp"

#ifdef _OPENMP
#include <omp.h>
#else
#include <thread>
#endif

namespace py = pybind11;

namespace {

void bind_runtime(py::module_& module) {
    module.attr("isa") = ATTSVM_ISA_LEVEL;
    module.attr("version") = core_version;
    module.attr("interface") = core_interface;
    py::module_::import("atexit").attr("register")(py::cpp_function(&ReleasedGil::at_exit));
#ifdef _OPENMP
    module.attr("openmp") = true;
    module.def("default_threads", [] { return omp_get_max_threads(); });
#else
    module.attr("openmp") = false;
    module.def("default_threads", [] { return std::max(1U, std::thread::hardware_concurrency()); });
#endif
}

}  // namespace

PYBIND11_MODULE(ATTSVM_MODULE_NAME, module) {
    module.doc() = "The core of attsvm, compiled for one instruction-set level.";
    bind_runtime(module);
    bind_components(module);
    bind_descent(module);
    bind_id_descent(module);
    bind_row_basis(module);
    bind_svm(module);
}
