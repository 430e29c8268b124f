#include <pybind11/stl.h>

#include <optional>

#include "attsvm/dual_svm.hpp"
#include "bind.hpp"
#include "svm_arrays.hpp"

namespace py = pybind11;
using namespace pybind11::literals;

namespace {

using Doubles = Array<double>;
using Integers = Array<std::int64_t>;

template <class Token>
py::dict smallest_frobenius(const Array<Token>& tokens, const Doubles& queries, const Integers& selected,
                            const Integers& lengths, const Doubles& rhs, const Array<bool>& equality,
                            const std::optional<Integers>& token_ids, const std::optional<Integers>& query_ids,
                            const std::optional<Doubles>& start, bool active_set, double optimality,
                            double infeasibility, int threads, const std::optional<py::function>& report) {
    const auto batch =
        SvmArrays<Token>{tokens, queries, selected, lengths, rhs, equality, token_ids, query_ids}.batch();
    if (start) expect_shape("start", *start, {rhs.shape(0), rhs.shape(1), rhs.shape(2)});
    const auto method = active_set ? attsvm::FrobeniusMethod::active_set : attsvm::FrobeniusMethod::automatic;
    const double* const guess = start ? start->data() : nullptr;
    return solved(batch, report, {}, {}, [&](attsvm::Progress& progress, const attsvm::SvmResultView& result) {
        attsvm::solve_frobenius(batch, guess, method, {optimality, infeasibility}, threads, progress, result);
    });
}

template <class Token>
py::dict certify_frobenius(const Array<Token>& tokens, const Doubles& queries, const Integers& selected,
                           const Integers& lengths, const Doubles& rhs, const Array<bool>& equality,
                           const std::optional<Integers>& token_ids, const std::optional<Integers>& query_ids,
                           const Doubles& dual, const std::optional<Doubles>& left, const std::optional<Doubles>& right,
                           double optimality, double infeasibility, int threads,
                           const std::optional<py::function>& report) {
    const auto batch =
        SvmArrays<Token>{tokens, queries, selected, lengths, rhs, equality, token_ids, query_ids}.batch();
    expect_shape("dual", dual, {rhs.shape(0), rhs.shape(1), rhs.shape(2)});
    const bool given = left && right;
    return solved(batch, report, left, right, [&](attsvm::Progress& progress, const attsvm::SvmResultView& result) {
        attsvm::certify_frobenius(batch, dual.data(), given, {optimality, infeasibility}, threads, progress, result);
    });
}

template <class Token>
void bind_for_storage(py::module_& module) {
    module.def("smallest_frobenius", &smallest_frobenius<Token>, py::kw_only(), "tokens"_a.noconvert(),
               "queries"_a.noconvert(), "selected"_a.noconvert(), "lengths"_a.noconvert(), "rhs"_a.noconvert(),
               "equality"_a.noconvert(), "token_ids"_a.noconvert(), "query_ids"_a.noconvert(), "start"_a.noconvert(),
               "active_set"_a, "optimality"_a, "infeasibility"_a, "threads"_a, "report"_a);
    module.def("certify_frobenius", &certify_frobenius<Token>, py::kw_only(), "tokens"_a.noconvert(),
               "queries"_a.noconvert(), "selected"_a.noconvert(), "lengths"_a.noconvert(), "rhs"_a.noconvert(),
               "equality"_a.noconvert(), "token_ids"_a.noconvert(), "query_ids"_a.noconvert(), "dual"_a.noconvert(),
               "left"_a.noconvert(), "right"_a.noconvert(), "optimality"_a, "infeasibility"_a, "threads"_a, "report"_a);
}

}  // namespace

void bind_svm(py::module_& module) {
    bind_for_storage<double>(module);
    bind_for_storage<float>(module);
}
