#include <pybind11/stl.h>

#include <map>
#include <optional>
#include <string>

#include "arrays.hpp"
#include "attsvm/dual_svm.hpp"
#include "attsvm/nuclear_svm.hpp"
#include "bind.hpp"
#include "monitor.hpp"

namespace py = pybind11;
using namespace pybind11::literals;
using attsvm::Index;

namespace {

// Checks the shapes, and has `solve` solve the machines without the GIL: solve(batch, progress, answer).
template <class Token, class Solve>
py::dict solved(const Array<Token>& tokens, const Array<double>& queries, const Array<std::int64_t>& selected,
                const Array<std::int64_t>& lengths, const Array<double>& rhs, const Array<bool>& equality,
                std::optional<py::function> report, Solve solve) {
    if (tokens.ndim() != 4) throw std::invalid_argument("tokens: need four axes");
    if (queries.ndim() != 3) throw std::invalid_argument("queries: need three axes");
    const Index B = tokens.shape(0), n = tokens.shape(1), T = tokens.shape(2), d = tokens.shape(3);
    const Index e = queries.shape(2);
    if (n < 1 || T < 1 || d < 1 || e < 1) throw std::invalid_argument("tokens: no axis may be empty");
    expect_shape("queries", queries, {B, n, e});
    expect_shape("selected", selected, {B, n});
    expect_shape("lengths", lengths, {B, n});
    expect_shape("rhs", rhs, {B, n, T});
    expect_shape("equality", equality, {B, n, T});
    for (const std::int64_t valid : view(lengths))
        if (valid < 0 || valid > T) throw std::invalid_argument("lengths: must lie in 0..T");
    for (const std::int64_t token : view(selected))
        if (token >= T) throw std::invalid_argument("selected: must be below T");

    auto dual = make_array<double>({B, n, T});
    auto margins = make_array<double>({B, n, T});
    auto left = make_array<double>({B, n, d});
    auto right = make_array<double>({B, n, e});
    auto norm = make_array<double>({B});
    auto gap = make_array<double>({B});
    auto kkt = make_array<double>({B});
    auto status = make_array<std::int8_t>({B});
    auto rounds = make_array<std::int64_t>({B});
    const attsvm::MachineBatch<Token> batch{
        B, {n, T, d, e, tokens.data(), queries.data(), selected.data(), lengths.data(), rhs.data(), equality.data()}};
    const attsvm::MachineAnswer answer{dual.mutable_data(),  margins.mutable_data(), left.mutable_data(),
                                       right.mutable_data(), norm.mutable_data(),    gap.mutable_data(),
                                       kkt.mutable_data(),   status.mutable_data(),  rounds.mutable_data()};

    PythonMonitor monitor(std::move(report));
    {
        const py::gil_scoped_release no_gil;
        attsvm::Progress progress(&monitor, static_cast<double>(B));
        solve(batch, progress, answer);
    }
    monitor.rethrow();
    return py::dict("dual"_a = dual, "margins"_a = margins, "left"_a = left, "right"_a = right, "norm"_a = norm,
                    "gap"_a = gap, "kkt"_a = kkt, "status"_a = status, "rounds"_a = rounds);
}

template <class Token>
py::dict smallest_frobenius(const Array<Token>& tokens, const Array<double>& queries,
                            const Array<std::int64_t>& selected, const Array<std::int64_t>& lengths,
                            const Array<double>& rhs, const Array<bool>& equality,
                            const std::optional<Array<double>>& start, double optimality, double infeasibility,
                            int threads, std::optional<py::function> report) {
    if (start) expect_shape("start", *start, {rhs.shape(0), rhs.shape(1), rhs.shape(2)});
    const double* const guess = start ? start->data() : nullptr;
    return solved(tokens, queries, selected, lengths, rhs, equality, std::move(report),
                  [&](const auto& batch, attsvm::Progress& progress, const attsvm::MachineAnswer& answer) {
                      attsvm::solve_machines(batch, guess, {optimality, infeasibility}, threads, progress, answer);
                  });
}

template <class Token>
py::dict smallest_nuclear(const Array<Token>& tokens, const Array<double>& queries, const Array<std::int64_t>& selected,
                          const Array<std::int64_t>& lengths, const Array<double>& rhs, const Array<bool>& equality,
                          const std::string& method, double optimality, double infeasibility, int threads,
                          std::optional<py::function> report) {
    using Method = attsvm::NuclearMethod;
    const std::map<std::string, Method> methods{{"auto", Method::automatic},
                                                {"thresholding", Method::thresholding},
                                                {"interior-point", Method::interior_point}};
    const auto found = methods.find(method);
    if (found == methods.end()) throw std::invalid_argument("method: no such method: " + method);
    return solved(tokens, queries, selected, lengths, rhs, equality, std::move(report),
                  [&](const auto& batch, attsvm::Progress& progress, const attsvm::MachineAnswer& answer) {
                      attsvm::solve_nuclear_machines(batch, found->second, {optimality, infeasibility}, threads,
                                                     progress, answer);
                  });
}

template <class Token>
void bind_for_storage(py::module_& module) {
    module.def("smallest_frobenius", &smallest_frobenius<Token>, py::kw_only(), "tokens"_a.noconvert(),
               "queries"_a.noconvert(), "selected"_a.noconvert(), "lengths"_a.noconvert(), "rhs"_a.noconvert(),
               "equality"_a.noconvert(), "start"_a.noconvert(), "optimality"_a, "infeasibility"_a, "threads"_a,
               "report"_a);
    module.def("smallest_nuclear", &smallest_nuclear<Token>, py::kw_only(), "tokens"_a.noconvert(),
               "queries"_a.noconvert(), "selected"_a.noconvert(), "lengths"_a.noconvert(), "rhs"_a.noconvert(),
               "equality"_a.noconvert(), "method"_a, "optimality"_a, "infeasibility"_a, "threads"_a, "report"_a);
}

}  // namespace

void bind_svm(py::module_& module) {
    bind_for_storage<double>(module);
    bind_for_storage<float>(module);
}
