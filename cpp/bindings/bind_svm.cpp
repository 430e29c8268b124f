#include <functional>
#include <map>
#include <optional>
#include <string>

#include "arrays.hpp"
#include "attsvm/dual_svm.hpp"
#include "attsvm/norm_svm.hpp"
#include "attsvm/nuclear_svm.hpp"
#include "bind.hpp"
#include "interpreter.hpp"

namespace py = pybind11;
using namespace pybind11::literals;

namespace {

using attsvm::Index;
using attsvm::Progress;
using attsvm::SvmResultView;
using attsvm::SvmTolerance;
using Doubles = Array<double>;
using Integers = Array<std::int64_t>;
using Report = std::optional<py::function>;

void expect(bool holds, const char* message) {
    if (!holds) throw std::invalid_argument(message);
}

// Arrays of B problems. With ids, `tokens` (tables, rows, d) and `queries` (tables, rows, e) are one table for all of
// the problems or one for each.
struct CoreSvms {
    Tokens tokens;
    Doubles queries;
    Integers selected, lengths;
    Doubles rhs;
    Array<bool> equality;
    std::optional<Integers> token_ids, query_ids;

    Index count() const { return selected.shape(0); }
    Index samples() const { return selected.shape(1); }
    Index size() const { return rhs.shape(2); }
    Index dimension() const { return any_type(tokens).shape(token_ids ? 2 : 3); }
    Index query_dimension() const { return queries.shape(2); }

    // Checks the shapes, and what memory safety needs of the values.
    void check() const {
        const py::array& array = any_type(tokens);
        const bool ids = token_ids.has_value();
        expect(selected.ndim() == 2, "selected: need two axes");
        expect(rhs.ndim() == 3, "rhs: need three axes");
        expect(query_ids.has_value() == ids, "query_ids: needed where token_ids are");
        expect(array.ndim() == (ids ? 3 : 4), "tokens: need four axes, or three with ids");
        expect(queries.ndim() == 3, "queries: need three axes");
        const Index B = count(), n = samples(), T = size(), d = dimension(), e = query_dimension();
        expect(n >= 1 && T >= 1 && d >= 1 && e >= 1, "tokens: no axis may be empty");
        expect_shape("lengths", lengths, {B, n});
        expect_shape("rhs", rhs, {B, n, T});
        expect_shape("equality", equality, {B, n, T});
        if (ids) {
            expect(array.shape(0) == B || array.shape(0) == 1, "tokens: need one table, or one for each problem");
            expect_shape("queries", queries, {array.shape(0), queries.shape(1), e});
            expect_shape("token_ids", *token_ids, {B, n, T});
            expect_shape("query_ids", *query_ids, {B, n});
            for (const std::int64_t id : view(*token_ids))
                expect(id >= 0 && id < array.shape(1), "token_ids: must be rows of the table");
            for (const std::int64_t id : view(*query_ids))
                expect(id >= 0 && id < queries.shape(1), "query_ids: must be rows of the table");
        } else {
            expect_shape("tokens", array, {B, n, T, d});
            expect_shape("queries", queries, {B, n, e});
        }
        for (const std::int64_t valid : view(lengths)) expect(valid >= 0 && valid <= T, "lengths: must lie in 0..T");
        for (const std::int64_t token : view(selected)) expect(token < T, "selected: must be below T");
    }
    template <class Token>
    attsvm::SvmBatch<Token> batch(const Array<Token>& array) const {
        attsvm::SvmBatch<Token> batch{count(),
                                      {samples(), size(), dimension(), query_dimension(), array.data(), queries.data(),
                                       selected.data(), lengths.data(), rhs.data(), equality.data()}};
        if (!token_ids) return batch;
        batch.first.token_id = token_ids->data();
        batch.first.query_id = query_ids->data();
        if (array.shape(0) > 1) batch.token_rows = array.shape(1), batch.query_rows = queries.shape(1);
        return batch;
    }
    // What has no ids and no float32
    attsvm::SvmBatch<double> plain_batch() const {
        expect(!token_ids && std::holds_alternative<Doubles>(tokens), "tokens: need float64, and no ids");
        return batch(std::get<Doubles>(tokens));
    }
};

// Has `solve` solve the SVMs without the GIL: solve(progress, result). W has factors of this many rows, at least one a
// sample; those that are given are results too.
py::dict solved(const CoreSvms& svms, Index factors, const Report& report, const std::optional<Doubles>& given_left,
                const std::optional<Doubles>& given_right,
                const std::function<void(Progress&, const SvmResultView&)>& solve, bool extended = false) {
    if (extended) factors = std::max(factors, attsvm::parts_of_extended * svms.query_dimension());
    const Index B = svms.count(), n = svms.samples(), T = svms.size();
    Results results;
    double* const left = results.make("left", {B, factors, svms.dimension()});
    double* const right = results.make("right", {B, factors, svms.query_dimension()});
    if (given_left && given_right) {
        expect_shape("left", *given_left, {B, n, svms.dimension()});
        expect_shape("right", *given_right, {B, n, svms.query_dimension()});
        std::copy_n(given_left->data(), given_left->size(), left);
        std::copy_n(given_right->data(), given_right->size(), right);
    }
    const SvmResultView result{results.make("dual", {B, n, T}),
                               results.make("margins", {B, n, T}),
                               factors,
                               left,
                               right,
                               results.make("norm", {B}),
                               results.make("gap", {B}),
                               results.make("kkt", {B}),
                               results.make<std::int8_t>("status", {B}),
                               results.make<std::int8_t>("unique", {B}),
                               results.make<std::int64_t>("iterations", {B}),
                               extended};
    without_gil(report, static_cast<double>(B), [&](Progress& progress) { solve(progress, result); });
    return results.by_name();
}

py::dict smallest_frobenius(const CoreSvms& svms, const std::optional<Doubles>& start, bool active_set, bool extended,
                            double optimality, double infeasibility, int threads, const Report& report) {
    if (start) expect_shape("start", *start, {svms.count(), svms.samples(), svms.size()});
    const auto method = active_set ? attsvm::FrobeniusMethod::active_set : attsvm::FrobeniusMethod::automatic;
    const double* const guess = start ? start->data() : nullptr;
    return solved(
        svms, svms.samples(), report, {}, {},
        [&](Progress& progress, const SvmResultView& result) {
            std::visit(
                [&](const auto& tokens) {
                    attsvm::solve_frobenius(svms.batch(tokens), guess, method, SvmTolerance{optimality, infeasibility},
                                            threads, progress, result);
                },
                svms.tokens);
        },
        extended);
}

py::dict certify_frobenius(const CoreSvms& svms, const Doubles& dual, const std::optional<Doubles>& left,
                           const std::optional<Doubles>& right, double optimality, double infeasibility, int threads,
                           const Report& report) {
    expect_shape("dual", dual, {svms.count(), svms.samples(), svms.size()});
    return solved(svms, svms.samples(), report, left, right, [&](Progress& progress, const SvmResultView& result) {
        std::visit(
            [&](const auto& tokens) {
                attsvm::certify_frobenius(svms.batch(tokens), dual.data(), left && right,
                                          SvmTolerance{optimality, infeasibility}, threads, progress, result);
            },
            svms.tokens);
    });
}

// Tokens in double precision alone: the SVM is small once it stands in coordinates of its spans.
py::dict smallest_nuclear(const CoreSvms& svms, const std::string& method, bool extended, double optimality,
                          double infeasibility, int threads, const Report& report) {
    using Method = attsvm::NuclearMethod;
    const std::map<std::string, Method> methods{{"auto", Method::automatic},
                                                {"thresholding", Method::thresholding},
                                                {"interior-point", Method::interior_point}};
    const auto found = methods.find(method);
    if (found == methods.end()) throw std::invalid_argument("method: no such method: " + method);
    const auto batch = svms.plain_batch();
    return solved(
        svms, svms.samples(), report, {}, {},
        [&](Progress& progress, const SvmResultView& result) {
            attsvm::solve_nuclear(batch, found->second, {optimality, infeasibility}, threads, progress, result);
        },
        extended);
}

// Norms of entries have W in the coordinates of the caller, not as a sum over samples.
py::dict smallest_in_norm(const CoreSvms& svms, const std::string& norm, double p, bool extended, double optimality,
                          double infeasibility, int threads, const Report& report) {
    const auto of_norm = attsvm::SvmNorm::named(norm, p);
    const auto batch = svms.plain_batch();
    const Index n = svms.samples(), factors = of_norm.is_of_entries() ? std::max(n, svms.query_dimension()) : n;
    return solved(
        svms, factors, report, {}, {},
        [&](Progress& progress, const SvmResultView& result) {
            attsvm::solve_in_norm(batch, of_norm, {optimality, infeasibility}, threads, progress, result);
        },
        extended);
}

}  // namespace

void bind_svm(py::module_& module) {
    py::class_<CoreSvms>(module, "Svms")
        .def(py::init([](Tokens tokens, Doubles queries, Integers selected, Integers lengths, Doubles rhs,
                         Array<bool> equality, std::optional<Integers> token_ids, std::optional<Integers> query_ids) {
                 CoreSvms svms{std::move(tokens), std::move(queries),  std::move(selected),  std::move(lengths),
                               std::move(rhs),    std::move(equality), std::move(token_ids), std::move(query_ids)};
                 svms.check();
                 return svms;
             }),
             "tokens"_a, "queries"_a, "selected"_a, "lengths"_a, "rhs"_a, "equality"_a, "token_ids"_a, "query_ids"_a);
    module.def("smallest_frobenius", &smallest_frobenius, py::kw_only(), "svms"_a, "start"_a, "active_set"_a,
               "extended"_a, "optimality"_a, "infeasibility"_a, "threads"_a, "report"_a);
    module.def("certify_frobenius", &certify_frobenius, py::kw_only(), "svms"_a, "dual"_a, "left"_a, "right"_a,
               "optimality"_a, "infeasibility"_a, "threads"_a, "report"_a);
    module.def("smallest_nuclear", &smallest_nuclear, py::kw_only(), "svms"_a, "method"_a, "extended"_a, "optimality"_a,
               "infeasibility"_a, "threads"_a, "report"_a);
    module.def("smallest_in_norm", &smallest_in_norm, py::kw_only(), "svms"_a, "norm"_a, "p"_a, "extended"_a,
               "optimality"_a, "infeasibility"_a, "threads"_a, "report"_a);
}
