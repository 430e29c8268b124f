#include "bind.hpp"

PYBIND11_MODULE(ATTSVM_MODULE_NAME, module) {
    module.doc() = "The core of attsvm, compiled for one instruction-set level.";
    bind_runtime(module);
    bind_components(module);
    bind_descent(module);
    bind_id_descent(module);
    bind_row_basis(module);
    bind_svm(module);
    bind_nuclear_svm(module);
}
