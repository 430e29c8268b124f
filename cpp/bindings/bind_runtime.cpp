#include "bind.hpp"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace py = pybind11;

void bind_runtime(py::module_& module) {
    module.attr("isa") = ATTSVM_ISA_LEVEL;
    module.attr("version") = ATTSVM_VERSION;
    module.attr("interface") = ATTSVM_INTERFACE;
#ifdef _OPENMP
    module.attr("openmp") = true;
    module.def("default_threads", [] { return omp_get_max_threads(); });
    // Worker threads do not survive a fork: they are let go before one, and made anew when next needed.
    module.def("release_threads", [] { omp_pause_resource_all(omp_pause_soft); });
#else
    module.attr("openmp") = false;
    module.def("default_threads", [] { return 1; });
    module.def("release_threads", [] {});
#endif
}
