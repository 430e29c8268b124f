#include <pybind11/stl.h>

#include <optional>

#include "bind.hpp"
#include "svm_arrays.hpp"

namespace py = pybind11;
using namespace pybind11::literals;

namespace {

template <class Token>
py::dict smallest_frobenius(const Array<Token>& tokens, const Array<double>& queries,
                            const Array<std::int64_t>& selected, const Array<std::int64_t>& lengths,
                            const Array<double>& rhs, const Array<bool>& equality,
                            const std::optional<Array<double>>& start, double optimality, double infeasibility,
                            int threads, const std::optional<py::function>& report) {
    if (start) expect_shape("start", *start, {rhs.shape(0), rhs.shape(1), rhs.shape(2)});
    const double* const guess = start ? start->data() : nullptr;
    return solved(tokens, queries, selected, lengths, rhs, equality, report,
                  [&](const auto& batch, attsvm::Progress& progress, const attsvm::SvmResultView& result) {
                      attsvm::solve_frobenius(batch, guess, {optimality, infeasibility}, threads, progress, result);
                  });
}

template <class Token>
void bind_for_storage(py::module_& module) {
    module.def("smallest_frobenius", &smallest_frobenius<Token>, py::kw_only(), "tokens"_a.noconvert(),
               "queries"_a.noconvert(), "selected"_a.noconvert(), "lengths"_a.noconvert(), "rhs"_a.noconvert(),
               "equality"_a.noconvert(), "start"_a.noconvert(), "optimality"_a, "infeasibility"_a, "threads"_a,
               "report"_a);
}

}  // namespace

void bind_svm(py::module_& module) {
    bind_for_storage<double>(module);
    bind_for_storage<float>(module);
}
