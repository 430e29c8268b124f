// Which instruction-set levels of the core this processor can run, best first. Compiled for the baseline alone.
#include <pybind11/pybind11.h>

namespace py = pybind11;

PYBIND11_MODULE(_isa, module) {
    module.doc() = "The instruction-set levels that this processor has.";
    module.def("supported", [] {
        py::list levels;
#if defined(__x86_64__)
        __builtin_cpu_init();
        const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
        if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
            levels.append("avx512");
        if (avx2) levels.append("avx2");
        levels.append("baseline");
#else
        levels.append("generic");
#endif
        return levels;
    });
}
