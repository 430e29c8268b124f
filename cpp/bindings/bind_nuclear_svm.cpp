#include <pybind11/stl.h>

#include <map>
#include <optional>
#include <string>

#include "attsvm/nuclear_svm.hpp"
#include "bind.hpp"
#include "svm_arrays.hpp"

namespace py = pybind11;
using namespace pybind11::literals;

namespace {

// Tokens in double precision alone: the SVM is small once it stands in coordinates of its spans.
py::dict smallest_nuclear(const Array<double>& tokens, const Array<double>& queries,
                          const Array<std::int64_t>& selected, const Array<std::int64_t>& lengths,
                          const Array<double>& rhs, const Array<bool>& equality, const std::string& method,
                          double optimality, double infeasibility, int threads,
                          const std::optional<py::function>& report) {
    using Method = attsvm::NuclearMethod;
    const std::map<std::string, Method> methods{{"auto", Method::automatic},
                                                {"thresholding", Method::thresholding},
                                                {"interior-point", Method::interior_point}};
    const auto found = methods.find(method);
    if (found == methods.end()) throw std::invalid_argument("method: no such method: " + method);
    const auto batch = SvmArrays<double>{tokens, queries, selected, lengths, rhs, equality, {}, {}}.batch();
    return solved(batch, report, {}, {}, [&](attsvm::Progress& progress, const attsvm::SvmResultView& result) {
        attsvm::solve_nuclear(batch, found->second, {optimality, infeasibility}, threads, progress, result);
    });
}

}  // namespace

void bind_nuclear_svm(py::module_& module) {
    module.def("smallest_nuclear", &smallest_nuclear, py::kw_only(), "tokens"_a.noconvert(), "queries"_a.noconvert(),
               "selected"_a.noconvert(), "lengths"_a.noconvert(), "rhs"_a.noconvert(), "equality"_a.noconvert(),
               "method"_a, "optimality"_a, "infeasibility"_a, "threads"_a, "report"_a);
}
