// Which instruction-set levels of the core this processor can run, best first. Compiled for the baseline alone.
#include <pybind11/pybind11.h>

#include "attsvm/isa_levels.hpp"

namespace py = pybind11;

PYBIND11_MODULE(_isa, module) {
    module.doc() = "The instruction-set levels that this processor has.";
    module.def("supported", [] {
        py::list levels;
        for (const std::string_view level : attsvm::supported_isa_levels()) levels.append(level);
        return levels;
    });
}
