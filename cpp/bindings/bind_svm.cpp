#include <pybind11/stl.h>

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

using Doubles = Array<double>;
using Integers = Array<std::int64_t>;

// Arrays of B problems. With ids, `tokens` (tables, rows, d) and `queries` (tables, rows, e) are one table for all of
// the problems or one for each.
template <class Token>
struct SvmArrays {
    const Array<Token>& tokens;
    const Array<double>& queries;
    const Array<std::int64_t>&selected, &lengths;
    const Array<double>& rhs;
    const Array<bool>& equality;
    const std::optional<Array<std::int64_t>> token_ids, query_ids;

    // Checks the shapes, and what memory safety needs of the values.
    attsvm::SvmBatch<Token> batch() const {
        using attsvm::Index;
        const auto expect = [](bool holds, const char* message) {
            if (!holds) throw std::invalid_argument(message);
        };
        expect(selected.ndim() == 2, "selected: need two axes");
        expect(rhs.ndim() == 3, "rhs: need three axes");
        const Index B = selected.shape(0), n = selected.shape(1), T = rhs.shape(2);
        const bool ids = token_ids.has_value();
        expect(query_ids.has_value() == ids, "query_ids: needed where token_ids are");
        expect(tokens.ndim() == (ids ? 3 : 4), "tokens: need four axes, or three with ids");
        expect(queries.ndim() == 3, "queries: need three axes");
        const Index d = tokens.shape(ids ? 2 : 3), e = queries.shape(2);
        expect(n >= 1 && T >= 1 && d >= 1 && e >= 1, "tokens: no axis may be empty");
        expect_shape("lengths", lengths, {B, n});
        expect_shape("rhs", rhs, {B, n, T});
        expect_shape("equality", equality, {B, n, T});
        if (ids) {
            expect(tokens.shape(0) == B || tokens.shape(0) == 1, "tokens: need one table, or one for each problem");
            expect_shape("queries", queries, {tokens.shape(0), queries.shape(1), e});
            expect_shape("token_ids", *token_ids, {B, n, T});
            expect_shape("query_ids", *query_ids, {B, n});
            for (const std::int64_t id : view(*token_ids))
                expect(id >= 0 && id < tokens.shape(1), "token_ids: must be rows of the table");
            for (const std::int64_t id : view(*query_ids))
                expect(id >= 0 && id < queries.shape(1), "query_ids: must be rows of the table");
        } else {
            expect_shape("tokens", tokens, {B, n, T, d});
            expect_shape("queries", queries, {B, n, e});
        }
        for (const std::int64_t valid : view(lengths)) expect(valid >= 0 && valid <= T, "lengths: must lie in 0..T");
        for (const std::int64_t token : view(selected)) expect(token < T, "selected: must be below T");
        attsvm::SvmBatch<Token> batch{
            B,
            {n, T, d, e, tokens.data(), queries.data(), selected.data(), lengths.data(), rhs.data(), equality.data()}};
        if (ids) {
            batch.first.token_id = token_ids->data();
            batch.first.query_id = query_ids->data();
            if (tokens.shape(0) > 1) batch.token_rows = tokens.shape(1), batch.query_rows = queries.shape(1);
        }
        return batch;
    }
};

// Has `solve` solve the SVMs without the GIL: solve(progress, result). W has factors of this many rows, at least one a
// sample; those that are given are results too.
template <class Token, class Solve>
pybind11::dict solved(const attsvm::SvmBatch<Token>& batch, attsvm::Index factors,
                      const std::optional<pybind11::function>& report, const std::optional<Array<double>>& given_left,
                      const std::optional<Array<double>>& given_right, Solve solve) {
    using attsvm::Index;
    using namespace pybind11::literals;
    const Index B = batch.count, n = batch.first.samples, T = batch.first.tokens;
    auto dual = make_array<double>({B, n, T});
    auto margins = make_array<double>({B, n, T});
    auto left = make_array<double>({B, factors, batch.first.dimension});
    auto right = make_array<double>({B, factors, batch.first.query_dimension});
    if (given_left && given_right) {
        expect_shape("left", *given_left, {B, n, batch.first.dimension});
        expect_shape("right", *given_right, {B, n, batch.first.query_dimension});
        std::copy_n(given_left->data(), given_left->size(), left.mutable_data());
        std::copy_n(given_right->data(), given_right->size(), right.mutable_data());
    }
    auto norm = make_array<double>({B});
    auto gap = make_array<double>({B});
    auto kkt = make_array<double>({B});
    auto status = make_array<std::int8_t>({B});
    auto unique = make_array<std::int8_t>({B});
    auto iterations = make_array<std::int64_t>({B});
    const attsvm::SvmResultView result{dual.mutable_data(),   margins.mutable_data(),   factors,
                                       left.mutable_data(),   right.mutable_data(),     norm.mutable_data(),
                                       gap.mutable_data(),    kkt.mutable_data(),       status.mutable_data(),
                                       unique.mutable_data(), iterations.mutable_data()};

    without_gil(report, static_cast<double>(B), [&](attsvm::Progress& progress) { solve(progress, result); });
    return pybind11::dict("dual"_a = dual, "margins"_a = margins, "left"_a = left, "right"_a = right, "norm"_a = norm,
                          "gap"_a = gap, "kkt"_a = kkt, "status"_a = status, "unique"_a = unique,
                          "iterations"_a = iterations);
}

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
    return solved(batch, batch.first.samples, report, {}, {},
                  [&](attsvm::Progress& progress, const attsvm::SvmResultView& result) {
                      attsvm::solve_frobenius(batch, guess, method, {optimality, infeasibility}, threads, progress,
                                              result);
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
    return solved(batch, batch.first.samples, report, left, right,
                  [&](attsvm::Progress& progress, const attsvm::SvmResultView& result) {
                      attsvm::certify_frobenius(batch, dual.data(), given, {optimality, infeasibility}, threads,
                                                progress, result);
                  });
}

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
    return solved(batch, batch.first.samples, report, {}, {},
                  [&](attsvm::Progress& progress, const attsvm::SvmResultView& result) {
                      attsvm::solve_nuclear(batch, found->second, {optimality, infeasibility}, threads, progress,
                                            result);
                  });
}

// Norms of entries have W in the coordinates of the caller, not as a sum over samples.
py::dict smallest_in_norm(const Array<double>& tokens, const Array<double>& queries,
                          const Array<std::int64_t>& selected, const Array<std::int64_t>& lengths,
                          const Array<double>& rhs, const Array<bool>& equality, const std::string& norm, double p,
                          double optimality, double infeasibility, int threads,
                          const std::optional<py::function>& report) {
    const auto of_norm = attsvm::SvmNorm::named(norm, p);
    const auto batch = SvmArrays<double>{tokens, queries, selected, lengths, rhs, equality, {}, {}}.batch();
    const attsvm::Index n = batch.first.samples,
                        factors = of_norm.is_of_entries() ? std::max(n, batch.first.query_dimension) : n;
    return solved(batch, factors, report, {}, {}, [&](attsvm::Progress& progress, const attsvm::SvmResultView& result) {
        attsvm::solve_in_norm(batch, of_norm, {optimality, infeasibility}, threads, progress, result);
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
    module.def("smallest_nuclear", &smallest_nuclear, py::kw_only(), "tokens"_a.noconvert(), "queries"_a.noconvert(),
               "selected"_a.noconvert(), "lengths"_a.noconvert(), "rhs"_a.noconvert(), "equality"_a.noconvert(),
               "method"_a, "optimality"_a, "infeasibility"_a, "threads"_a, "report"_a);
    module.def("smallest_in_norm", &smallest_in_norm, py::kw_only(), "tokens"_a.noconvert(), "queries"_a.noconvert(),
               "selected"_a.noconvert(), "lengths"_a.noconvert(), "rhs"_a.noconvert(), "equality"_a.noconvert(),
               "norm"_a, "p"_a, "optimality"_a, "infeasibility"_a, "threads"_a, "report"_a);
}
