#include <pybind11/stl.h>

#include <array>
#include <optional>

#include "arrays.hpp"
#include "attsvm/batch.hpp"
#include "bind.hpp"
#include "interpreter.hpp"
#include "step_rule.hpp"

namespace py = pybind11;
using namespace pybind11::literals;
using attsvm::Index;

namespace {

attsvm::Loss loss_named(const std::string& name) {
    if (name == "logistic") return attsvm::Loss::logistic;
    if (name == "exponential") return attsvm::Loss::exponential;
    if (name == "correlation") return attsvm::Loss::correlation;
    if (name == "log") return attsvm::Loss::log;
    if (name == "squared") return attsvm::Loss::squared;
    throw std::invalid_argument("loss: unknown name '" + name + "'");
}

attsvm::HeadKind head_named(const std::string& name) {
    if (name == "fixed") return attsvm::HeadKind::fixed;
    if (name == "linear") return attsvm::HeadKind::linear;
    if (name == "relu") return attsvm::HeadKind::relu;
    if (name == "penalised") return attsvm::HeadKind::penalised;
    if (name == "softmax") return attsvm::HeadKind::softmax;
    throw std::invalid_argument("head: unknown name '" + name + "'");
}

// What a head is made of: token scores (B, n, T) of a fixed one; of others labels (B, n) and v (B, d), or with hidden
// units (B, m, d) their weights (B, m), or classes (B, m, d), whose numbers are the labels.
struct HeadArrays {
    std::string kind;
    const Array<double>&scores, &labels, &vector, &hidden;
    double penalty;
    bool trained;

    attsvm::Head<double> view(Index B, Index n, Index T, Index d) const {
        const attsvm::HeadKind which = head_named(kind);
        if (which == attsvm::HeadKind::fixed) {
            expect_shape("scores", scores, {B, n, T});
            return {which, scores.data()};
        }
        expect_shape("labels", labels, {B, n});
        const bool relu = which == attsvm::HeadKind::relu, softmax = which == attsvm::HeadKind::softmax;
        const Index units = (relu || softmax) && hidden.ndim() == 3 ? hidden.shape(1) : 0;
        if (relu || softmax) expect_shape("hidden", hidden, {B, units, d});
        expect_shape("vector", vector, {B, relu ? units : softmax ? 0 : d});
        if (trained && which != attsvm::HeadKind::linear) throw std::invalid_argument("head: only v can be trained");
        return {which, nullptr, labels.data(), vector.data(), hidden.data(), units, penalty};
    }
};

// The arrays of a batch, checked to belong together.
template <class Token>
attsvm::Batch<Token> batch_view(const Array<Token>& tokens, const Array<double>& queries, const HeadArrays& head,
                                const Array<std::int64_t>& lengths, const Array<std::int64_t>& sequence) {
    if (tokens.ndim() != 4) throw std::invalid_argument("tokens: need four axes");
    if (queries.ndim() != 3) throw std::invalid_argument("queries: need three axes");
    const Index B = tokens.shape(0), sequences = tokens.shape(1), T = tokens.shape(2), d = tokens.shape(3);
    const Index n = queries.shape(1), e = queries.shape(2);
    if (n < 1 || T < 1 || d < 1 || e < 1) throw std::invalid_argument("tokens: no axis may be empty");
    expect_shape("queries", queries, {B, n, e});
    expect_shape("lengths", lengths, {B, n});
    for (const std::int64_t valid : view(lengths))
        if (valid < 1 || valid > T) throw std::invalid_argument("lengths: must lie in 1..T");
    expect_shape("sequence", sequence, {sequence.size() == 0 ? 0 : n});
    if (sequence.size() == 0 && sequences != n) throw std::invalid_argument("tokens: need one sequence per query");
    for (const std::int64_t at : view(sequence))
        if (at < 0 || at >= sequences) throw std::invalid_argument("sequence: must name one of the tokens' sequences");
    attsvm::Batch<Token> batch{};
    batch.problems = B;
    batch.sequences = sequences;
    batch.samples = n;
    batch.tokens = T;
    batch.dimension = d;
    batch.query_dimension = e;
    batch.X = tokens.data();
    batch.Z = queries.data();
    batch.head = head.view(B, n, T, d);
    batch.trains_head = head.trained;
    batch.length = lengths.data();
    batch.sequence = sequence.size() == 0 ? nullptr : sequence.data();
    return batch;
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
py::dict descend(const Array<Token>& tokens, const Array<double>& queries, const std::string& head_kind,
                 const Array<double>& scores, const Array<double>& labels, const Array<double>& start_vector,
                 const Array<double>& hidden, double penalty, bool trains_head, const Array<std::int64_t>& lengths,
                 const Array<std::int64_t>& sequence, const Array<double>& start_first,
                 const Array<double>& start_second, const Array<double>& outside, const Array<double>& references,
                 const Array<double>& references_outside, const Array<double>& head_references, bool certify,
                 const std::string& loss_name, const std::string& rule_name, const std::array<double, 3>& rates,
                 const std::array<double, 3>& decays, double polyak_factor, double largest_step, double ridge,
                 const std::string& movement, const std::array<double, 3>& inertia, Index batch_size,
                 std::uint64_t seed, std::int64_t steps, const Array<std::int64_t>& record, int threads,
                 const std::optional<py::function>& report) {
    attsvm::Batch<Token> batch = batch_view(
        tokens, queries, {head_kind, scores, labels, start_vector, hidden, penalty, trains_head}, lengths, sequence);
    const Index B = batch.problems, n = batch.samples, T = batch.tokens, d = batch.dimension, e = batch.query_dimension;
    take_parameters(batch, start_first, start_second);
    if (references.ndim() != 4) throw std::invalid_argument("references: need four axes");
    if (head_references.ndim() != 3) throw std::invalid_argument("head_references: need three axes");
    batch.references = references.shape(1);
    batch.outside = outside.data();
    batch.reference = references.data();
    batch.reference_outside = references_outside.data();
    batch.head_references = head_references.shape(1);
    batch.head_reference = head_references.data();
    batch.certify = certify;
    expect_shape("outside", outside, {B});
    expect_shape("references", references, {B, batch.references, e, d});
    expect_shape("references_outside", references_outside, {B, batch.references, 2});
    expect_shape("head_references", head_references, {B, batch.head_references, trains_head ? d : 0});
    const attsvm::Loss loss = loss_named(loss_name);
    if (batch_size < 0 || batch_size > n) throw std::invalid_argument("batch_size: must lie in 0..n");
    const StepRuleArguments arguments{rule_name, rates,    decays,  polyak_factor, largest_step,
                                      ridge,     movement, inertia, batch_size,    seed};
    const attsvm::StepRule rule = arguments.rule();

    const Index recorded = record.size(), head_recorded = trains_head ? recorded : 0;
    const Index certified = certify ? recorded : 0;
    auto first = copy_of(start_first);
    auto second = copy_of(start_second);
    auto head = copy_of(start_vector);
    auto weight = make_array<double>({B, n, T});
    auto log_weight = make_array<double>({B, n, T});
    auto selected = make_array<std::int64_t>({B, n});
    auto losses = make_array<double>({B, recorded});
    auto loss_gap = make_array<double>({B, recorded});
    auto norm = make_array<double>({B, recorded});
    auto log_grad_norm = make_array<double>({B, recorded});
    auto max_attention = make_array<double>({B, recorded});
    auto head_norm = make_array<double>({B, head_recorded});
    auto cosine_gap = make_array<double>({B, batch.references, recorded});
    auto head_cosine_gap = make_array<double>({B, batch.head_references, recorded});
    auto margin = make_array<double>({B, certified});
    auto certified_cosine = make_array<double>({B, certified});
    auto top = make_array<std::int64_t>({B, certified, n});
    const attsvm::BatchResult result{first.mutable_data(),
                                     second.mutable_data(),
                                     head.mutable_data(),
                                     weight.mutable_data(),
                                     log_weight.mutable_data(),
                                     selected.mutable_data(),
                                     losses.mutable_data(),
                                     loss_gap.mutable_data(),
                                     norm.mutable_data(),
                                     log_grad_norm.mutable_data(),
                                     max_attention.mutable_data(),
                                     head_norm.mutable_data(),
                                     cosine_gap.mutable_data(),
                                     head_cosine_gap.mutable_data(),
                                     margin.mutable_data(),
                                     certified_cosine.mutable_data(),
                                     top.mutable_data()};
    const attsvm::Schedule schedule{steps, view(record)};

    without_gil(report, static_cast<double>(B) * static_cast<double>(steps), [&](attsvm::Progress& progress) {
        attsvm::descend(batch, loss, rule, schedule, threads, progress, result);
    });
    return py::dict("first"_a = first, "second"_a = second, "head"_a = head, "attention"_a = weight,
                    "log_attention"_a = log_weight, "selected"_a = selected, "loss"_a = losses, "loss_gap"_a = loss_gap,
                    "norm"_a = norm, "log_grad_norm"_a = log_grad_norm, "max_attention"_a = max_attention,
                    "head_norm"_a = head_norm, "cosine_gap"_a = cosine_gap, "head_cosine_gap"_a = head_cosine_gap,
                    "margin"_a = margin, "certified_cosine"_a = certified_cosine, "top"_a = top);
}

template <class Token>
py::tuple loss_and_gradient(const Array<Token>& tokens, const Array<double>& queries, const std::string& head_kind,
                            const Array<double>& scores, const Array<double>& labels, const Array<double>& vector,
                            const Array<double>& hidden, double penalty, bool trains_head,
                            const Array<std::int64_t>& lengths, const Array<std::int64_t>& sequence,
                            const Array<double>& first, const Array<double>& second, const std::string& loss_name,
                            int threads) {
    attsvm::Batch<Token> batch = batch_view(
        tokens, queries, {head_kind, scores, labels, vector, hidden, penalty, trains_head}, lengths, sequence);
    take_parameters(batch, first, second);
    const attsvm::Loss loss = loss_named(loss_name);
    auto value = make_array<double>({batch.problems});
    auto first_gradient = copy_of(first);
    auto second_gradient = copy_of(second);
    auto head_gradient = copy_of(vector);
    double* const values = value.mutable_data();
    double* const into_first = first_gradient.mutable_data();
    double* const into_second = second_gradient.mutable_data();
    double* const into_head = head_gradient.mutable_data();
    {
        const ReleasedGil no_gil;
        attsvm::loss_and_gradient(batch, loss, first.data(), second.data(), vector.data(), threads, values, into_first,
                                  into_second, into_head);
    }
    return py::make_tuple(value, first_gradient, second_gradient, head_gradient);
}

// y_i v'x_it for every token that sample i may attend to, 0 at padding.
template <class Token>
Array<double> token_scores(const Array<Token>& tokens, const Array<double>& labels, const Array<double>& value,
                           const Array<std::int64_t>& lengths, const Array<std::int64_t>& sequence, int threads) {
    if (tokens.ndim() != 4) throw std::invalid_argument("tokens: need four axes");
    if (labels.ndim() != 2) throw std::invalid_argument("labels: need two axes");
    const Index B = tokens.shape(0), n = labels.shape(1), T = tokens.shape(2), d = tokens.shape(3);
    const auto ones = make_array<double>({B, n, 1});
    attsvm::Batch<Token> batch = batch_view(
        tokens, ones, {"linear", Array<double>(), labels, value, Array<double>(), 0.0, false}, lengths, sequence);
    auto scores = make_array<double>({B, n, T});
    {
        double* const out = scores.mutable_data();
        const double* const y = labels.data();
        const double* const v = value.data();
        const std::int64_t* const length = lengths.data();
        const ReleasedGil no_gil;
        const double numbers = static_cast<double>(scores.size()) * static_cast<double>(d);
        attsvm::Team(attsvm::worth_sharing(numbers) ? threads : 1).for_ranges(B * n, [&](Index row, Index last, int) {
            for (; row < last; ++row) {
                const Index i = row % n, from = batch.sequence == nullptr ? i : Index{batch.sequence[i]};
                const Index valid = std::min<Index>(length[row], T);
                attsvm::rows_dot(batch.tokens_of(row / n) + from * T * d, valid, d, v + row / n * d, out + row * T);
                for (Index t = 0; t < T; ++t) out[row * T + t] = t < valid ? y[row] * out[row * T + t] : 0.0;
            }
        });
    }
    return scores;
}

template <class Token>
void bind_for_storage(py::module_& module) {
    module.def("descend", &descend<Token>, py::kw_only(), "tokens"_a.noconvert(), "queries"_a.noconvert(),
               "head_kind"_a, "scores"_a.noconvert(), "labels"_a.noconvert(), "vector"_a.noconvert(),
               "hidden"_a.noconvert(), "penalty"_a, "trains_head"_a, "lengths"_a.noconvert(), "sequence"_a.noconvert(),
               "first"_a.noconvert(), "second"_a.noconvert(), "outside"_a.noconvert(), "references"_a.noconvert(),
               "references_outside"_a.noconvert(), "head_references"_a.noconvert(), "certify"_a, "loss"_a, "rule"_a,
               "rates"_a, "decays"_a, "polyak_factor"_a, "largest_step"_a, "ridge"_a, "movement"_a, "inertia"_a,
               "batch_size"_a, "seed"_a, "steps"_a, "record"_a.noconvert(), "threads"_a, "report"_a);
    module.def("loss_and_gradient", &loss_and_gradient<Token>, py::kw_only(), "tokens"_a.noconvert(),
               "queries"_a.noconvert(), "head_kind"_a, "scores"_a.noconvert(), "labels"_a.noconvert(),
               "vector"_a.noconvert(), "hidden"_a.noconvert(), "penalty"_a, "trains_head"_a, "lengths"_a.noconvert(),
               "sequence"_a.noconvert(), "first"_a.noconvert(), "second"_a.noconvert(), "loss"_a, "threads"_a);
    module.def("token_scores", &token_scores<Token>, py::kw_only(), "tokens"_a.noconvert(), "labels"_a.noconvert(),
               "value"_a.noconvert(), "lengths"_a.noconvert(), "sequence"_a.noconvert(), "threads"_a);
}

}  // namespace

void bind_descent(py::module_& module) {
    bind_for_storage<double>(module);
    bind_for_storage<float>(module);
}
