// Which instruction-set levels of the core the processor at hand can run, best first.
#pragma once

#include <string_view>
#include <vector>

namespace attsvm {

inline std::vector<std::string_view> supported_isa_levels() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        return {"avx512", "avx2", "baseline"};
    if (avx2) return {"avx2", "baseline"};
    return {"baseline"};
#else
    return {"generic"};
#endif
}

}  // namespace attsvm
