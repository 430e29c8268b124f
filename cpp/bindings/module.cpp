#include "bind.hpp"
#include "interpreter.hpp"

#ifdef _OPENMP
#include <dlfcn.h>
#include <omp.h>
#endif

namespace py = pybind11;

namespace {

#ifdef _OPENMP
// Whether letting go of threads reaches those of the core. Where a library of the process brought an OpenMP before that
// is too old to know how, the core's threads are that one's, and the function that lets go is our own OpenMP's.
bool releases_its_threads() {
    Dl_info running, releasing;
    return dladdr(reinterpret_cast<void*>(&omp_get_max_threads), &running) != 0 &&
           dladdr(reinterpret_cast<void*>(&omp_pause_resource_all), &releasing) != 0 &&
           running.dli_fbase == releasing.dli_fbase;
}
#endif

void bind_runtime(py::module_& module) {
    module.attr("isa") = ATTSVM_ISA_LEVEL;
    module.attr("version") = ATTSVM_VERSION;
    module.attr("interface") = ATTSVM_INTERFACE;
    py::module_::import("atexit").attr("register")(py::cpp_function(&ReleasedGil::at_exit));
#ifdef _OPENMP
    module.attr("openmp") = true;
    module.def("default_threads", [] { return omp_get_max_threads(); });
    // Worker threads do not survive a fork: they are let go before one, and made anew when next needed.
    module.def("release_threads", [] {
        omp_pause_resource_all(omp_pause_soft);
        attsvm::forget_started_threads();
    });
    module.def("releases_its_threads", releases_its_threads);
#else
    module.attr("openmp") = false;
    module.def("default_threads", [] { return 1; });
    module.def("release_threads", [] {});
    module.def("releases_its_threads", [] { return true; });
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
