#include <optional>

#include "arrays.hpp"
#include "attsvm/id_descent.hpp"
#include "bind.hpp"
#include "interpreter.hpp"

namespace py = pybind11;
using namespace pybind11::literals;
using attsvm::Index;

namespace {

// The embeddings of tokens (K, r) and of last tokens (m, c) in orthonormal coordinates of their spans, and their Gram
// matrices (K, K) and (m, m); empty where the embeddings are orthonormal.
struct CoreEmbeddings {
    Array<double> rows, columns, row_gram, column_gram;
};

py::dict descend_by_ids(const Array<std::int64_t>& pair, const Array<std::uint8_t>& is_right,
                        const Array<std::int64_t>& lengths, Index pairs, const CoreEmbeddings& embeddings,
                        const Array<double>& references, const Array<double>& references_outside,
                        const attsvm::StepRule& rule, std::int64_t steps, const Array<std::int64_t>& record,
                        int threads, const std::optional<py::function>& report) {
    const auto& [row_coordinates, column_coordinates, row_gram, column_gram] = embeddings;
    if (pair.ndim() != 2) throw std::invalid_argument("pair: need two axes");
    const Index n = pair.shape(0), T = pair.shape(1), rows = row_gram.ndim() == 2 ? row_gram.shape(0) : 0;
    const Index columns = column_gram.ndim() == 2 ? column_gram.shape(0) : 0;
    expect_shape("is_right", is_right, {n, T});
    expect_shape("lengths", lengths, {n});
    for (const std::int64_t valid : view(lengths))
        if (valid < 1 || valid > T) throw std::invalid_argument("lengths: must lie in 1..T");
    for (const std::int64_t at : view(pair))
        if (at < 0 || at >= pairs) throw std::invalid_argument("pair: must lie in the table");
    attsvm::IdProblem problem{n, T, pairs, pair.data(), is_right.data(), lengths.data()};
    if (rows != 0) {
        expect_shape("row_gram", row_gram, {rows, rows});
        expect_shape("column_gram", column_gram, {columns, columns});
        if (rows * columns != pairs) throw std::invalid_argument("pairs: must be those of the Gram matrices");
        problem.rows = rows;
        problem.columns = columns;
        problem.row_coordinates = row_coordinates.ndim() == 2 ? row_coordinates.shape(1) : 0;
        problem.column_coordinates = column_coordinates.ndim() == 2 ? column_coordinates.shape(1) : 0;
        expect_shape("rows", row_coordinates, {rows, problem.row_coordinates});
        expect_shape("columns", column_coordinates, {columns, problem.column_coordinates});
        problem.row_gram = row_gram.data();
        problem.column_gram = column_gram.data();
        problem.row = row_coordinates.data();
        problem.column = column_coordinates.data();
    }
    const Index compared = references.ndim() == 2 ? references.shape(0) : 0;
    expect_shape("references", references, {compared, problem.size()});
    expect_shape("references_outside", references_outside, {compared});

    const Index recorded = record.size();
    Results results;
    double* const coefficients = results.make("coefficients", {pairs});
    std::fill_n(coefficients, pairs, 0.0);
    double* const attention = results.make("attention", {n, T});
    double* const log_attention = results.make("log_attention", {n, T});
    auto* const selected = results.make<std::int64_t>("selected", {n});
    double* const series = results.make("series", {5, 1, recorded});
    double* const gaps = results.make("cosine_gap", {compared, recorded});
    const attsvm::Schedule schedule{steps, view(record)};

    without_gil(report, static_cast<double>(steps), [&](attsvm::Progress& progress) {
        const attsvm::ThreadPlan plan(threads, 1, static_cast<double>(pair.size()), static_cast<double>(steps + 1));
        const attsvm::Team team(plan.within);
        attsvm::IdDescent descent(problem, rule, team, coefficients,
                                  {compared, references.data(), references_outside.data()});
        descent.run(schedule, progress, [&](std::size_t slot, const attsvm::Record<double>& seen) {
            const auto k = static_cast<Index>(slot);
            Index quantity = 0;
            for (const double value : {seen.loss, seen.loss_gap, seen.norm, seen.log_grad_norm, seen.max_attention})
                series[quantity++ * recorded + k] = value;
            for (Index r = 0; r < compared; ++r) gaps[r * recorded + k] = seen.cosine_gap[static_cast<std::size_t>(r)];
        });
        descent.attention(attention, log_attention, selected);
    });
    return results.by_name();
}

}  // namespace

void bind_id_descent(py::module_& module) {
    py::class_<CoreEmbeddings>(module, "Embeddings")
        .def(py::init<Array<double>, Array<double>, Array<double>, Array<double>>(), py::kw_only(), "rows"_a,
             "columns"_a, "row_gram"_a, "column_gram"_a);
    module.def("descend_by_ids", &descend_by_ids, py::kw_only(), "pair"_a, "is_right"_a, "lengths"_a, "pairs"_a,
               "embeddings"_a, "references"_a, "references_outside"_a, "rule"_a, "steps"_a, "record"_a, "threads"_a,
               "report"_a);
}
