#include <pybind11/stl.h>

#include <optional>

#include "arrays.hpp"
#include "attsvm/batch.hpp"
#include "bind.hpp"
#include "monitor.hpp"

namespace py = pybind11;
using namespace pybind11::literals;
using attsvm::Index;

namespace {

attsvm::Loss loss_named(const std::string& name) {
    if (name == "logistic") return attsvm::Loss::logistic;
    if (name == "exponential") return attsvm::Loss::exponential;
    if (name == "correlation") return attsvm::Loss::correlation;
    throw std::invalid_argument("loss: unknown name '" + name + "'");
}

attsvm::Rule rule_named(const std::string& name) {
    if (name == "gd") return attsvm::Rule::gd;
    if (name == "ngd") return attsvm::Rule::ngd;
    if (name == "polyak") return attsvm::Rule::polyak;
    throw std::invalid_argument("rule: unknown name '" + name + "'");
}

// The arrays of a batch, checked to belong together.
template <class Token>
attsvm::Batch<Token> batch_view(const Array<Token>& tokens, const Array<double>& queries, const Array<double>& scores,
                                const Array<std::int64_t>& lengths) {
    if (tokens.ndim() != 4) throw std::invalid_argument("tokens: need four axes");
    if (queries.ndim() != 3) throw std::invalid_argument("queries: need three axes");
    const Index B = tokens.shape(0), n = tokens.shape(1), T = tokens.shape(2), d = tokens.shape(3);
    const Index e = queries.shape(2);
    if (n < 1 || T < 1 || d < 1 || e < 1) throw std::invalid_argument("tokens: no axis may be empty");
    expect_shape("queries", queries, {B, n, e});
    expect_shape("scores", scores, {B, n, T});
    expect_shape("lengths", lengths, {B, n});
    for (const std::int64_t valid : view(lengths))
        if (valid < 1 || valid > T) throw std::invalid_argument("lengths: must lie in 1..T");
    return {B,       n,       T,      d, e, 0, 0, tokens.data(), queries.data(), scores.data(), lengths.data(),
            nullptr, nullptr, nullptr};
}

// The blocks of parameters: V (B, e, d) and an empty array, or K' (B, m, d) and Q (B, e, m).
template <class Token>
void take_parameters(attsvm::Batch<Token>& batch, const Array<double>& first, const Array<double>& second) {
    if (second.size() == 0) {
        expect_shape("first", first, {batch.problems, batch.query_dimension, batch.dimension});
        return;
    }
    if (first.ndim() != 3 || first.shape(1) < 1) throw std::invalid_argument("first: need three axes, none empty");
    batch.inner = first.shape(1);
    expect_shape("first", first, {batch.problems, batch.inner, batch.dimension});
    expect_shape("second", second, {batch.problems, batch.query_dimension, batch.inner});
}

Array<double> copy_of(const Array<double>& array) {
    Array<double> copy(std::vector<py::ssize_t>(array.shape(), array.shape() + array.ndim()));
    std::copy(array.data(), array.data() + array.size(), copy.mutable_data());
    return copy;
}

template <class Token>
py::dict descend(const Array<Token>& tokens, const Array<double>& queries, const Array<double>& scores,
                 const Array<std::int64_t>& lengths, const Array<double>& start_first,
                 const Array<double>& start_second, const Array<double>& outside, const Array<double>& references,
                 const Array<double>& references_outside, const std::string& loss_name, const std::string& rule_name,
                 double rate, double second_rate, double polyak_factor, std::int64_t steps,
                 const Array<std::int64_t>& record, int threads, std::optional<py::function> report) {
    attsvm::Batch<Token> batch = batch_view(tokens, queries, scores, lengths);
    const Index B = batch.problems, n = batch.samples, T = batch.tokens, d = batch.dimension, e = batch.query_dimension;
    take_parameters(batch, start_first, start_second);
    if (references.ndim() != 4) throw std::invalid_argument("references: need four axes");
    batch.references = references.shape(1);
    batch.outside = outside.data();
    batch.reference = references.data();
    batch.reference_outside = references_outside.data();
    expect_shape("outside", outside, {B});
    expect_shape("references", references, {B, batch.references, e, d});
    expect_shape("references_outside", references_outside, {B, batch.references, 2});
    const attsvm::Loss loss = loss_named(loss_name);
    const attsvm::StepRule rule{rule_named(rule_name), rate, second_rate, polyak_factor};

    const Index recorded = record.size();
    auto first = copy_of(start_first);
    auto second = copy_of(start_second);
    auto weight = make_array<double>({B, n, T});
    auto log_weight = make_array<double>({B, n, T});
    auto selected = make_array<std::int64_t>({B, n});
    auto losses = make_array<double>({B, recorded});
    auto loss_gap = make_array<double>({B, recorded});
    auto norm = make_array<double>({B, recorded});
    auto log_grad_norm = make_array<double>({B, recorded});
    auto max_attention = make_array<double>({B, recorded});
    auto cosine_gap = make_array<double>({B, batch.references, recorded});
    const attsvm::BatchResult result{
        first.mutable_data(),         second.mutable_data(),        weight.mutable_data(),    log_weight.mutable_data(),
        selected.mutable_data(),      losses.mutable_data(),        loss_gap.mutable_data(),  norm.mutable_data(),
        log_grad_norm.mutable_data(), max_attention.mutable_data(), cosine_gap.mutable_data()};
    const attsvm::Schedule schedule{steps, view(record)};

    PythonMonitor monitor(std::move(report));
    {
        const py::gil_scoped_release no_gil;
        attsvm::Progress progress(&monitor, static_cast<double>(B) * static_cast<double>(steps));
        attsvm::descend(batch, loss, rule, schedule, threads, progress, result);
    }
    monitor.rethrow();
    return py::dict("first"_a = first, "second"_a = second, "attention"_a = weight, "log_attention"_a = log_weight,
                    "selected"_a = selected, "loss"_a = losses, "loss_gap"_a = loss_gap, "norm"_a = norm,
                    "log_grad_norm"_a = log_grad_norm, "max_attention"_a = max_attention, "cosine_gap"_a = cosine_gap);
}

template <class Token>
py::tuple loss_and_gradient(const Array<Token>& tokens, const Array<double>& queries, const Array<double>& scores,
                            const Array<std::int64_t>& lengths, const Array<double>& first, const Array<double>& second,
                            const std::string& loss_name, int threads) {
    attsvm::Batch<Token> batch = batch_view(tokens, queries, scores, lengths);
    take_parameters(batch, first, second);
    const attsvm::Loss loss = loss_named(loss_name);
    auto value = make_array<double>({batch.problems});
    auto first_gradient = copy_of(first);
    auto second_gradient = copy_of(second);
    double* const values = value.mutable_data();
    double* const into_first = first_gradient.mutable_data();
    double* const into_second = second_gradient.mutable_data();
    {
        const py::gil_scoped_release no_gil;
        attsvm::loss_and_gradient(batch, loss, first.data(), second.data(), threads, values, into_first, into_second);
    }
    return py::make_tuple(value, first_gradient, second_gradient);
}

// y_i v'x_it for every token, 0 at padding.
template <class Token>
Array<double> token_scores(const Array<Token>& tokens, const Array<double>& labels, const Array<double>& value,
                           const Array<std::int64_t>& lengths, int threads) {
    if (tokens.ndim() != 4) throw std::invalid_argument("tokens: need four axes");
    const Index B = tokens.shape(0), n = tokens.shape(1), T = tokens.shape(2), d = tokens.shape(3);
    expect_shape("labels", labels, {B, n});
    expect_shape("value", value, {B, d});
    expect_shape("lengths", lengths, {B, n});
    auto scores = make_array<double>({B, n, T});
    {
        double* const out = scores.mutable_data();
        const Token* const X = tokens.data();
        const double* const y = labels.data();
        const double* const v = value.data();
        const std::int64_t* const length = lengths.data();
        const py::gil_scoped_release no_gil;
        const double numbers = static_cast<double>(tokens.size());
        attsvm::Team(attsvm::worth_sharing(numbers) ? threads : 1).for_ranges(B * n, [&](Index row, Index last, int) {
            for (; row < last; ++row) {
                const Index valid = std::min<Index>(length[row], T);
                attsvm::rows_dot(X + row * T * d, valid, d, v + row / n * d, out + row * T);
                for (Index t = 0; t < T; ++t) out[row * T + t] = t < valid ? y[row] * out[row * T + t] : 0.0;
            }
        });
    }
    return scores;
}

template <class Token>
void bind_for_storage(py::module_& module) {
    module.def("descend", &descend<Token>, py::kw_only(), "tokens"_a.noconvert(), "queries"_a.noconvert(),
               "scores"_a.noconvert(), "lengths"_a.noconvert(), "first"_a.noconvert(), "second"_a.noconvert(),
               "outside"_a.noconvert(), "references"_a.noconvert(), "references_outside"_a.noconvert(), "loss"_a,
               "rule"_a, "rate"_a, "second_rate"_a, "polyak_factor"_a, "steps"_a, "record"_a.noconvert(), "threads"_a,
               "report"_a);
    module.def("loss_and_gradient", &loss_and_gradient<Token>, py::kw_only(), "tokens"_a.noconvert(),
               "queries"_a.noconvert(), "scores"_a.noconvert(), "lengths"_a.noconvert(), "first"_a.noconvert(),
               "second"_a.noconvert(), "loss"_a, "threads"_a);
    module.def("token_scores", &token_scores<Token>, py::kw_only(), "tokens"_a.noconvert(), "labels"_a.noconvert(),
               "value"_a.noconvert(), "lengths"_a.noconvert(), "threads"_a);
}

}  // namespace

void bind_descent(py::module_& module) {
    bind_for_storage<double>(module);
    bind_for_storage<float>(module);
}
