#include <optional>
#include <variant>

#include "arrays.hpp"
#include "attsvm/batch.hpp"
#include "bind.hpp"
#include "interpreter.hpp"

namespace py = pybind11;
using namespace pybind11::literals;
using attsvm::Index;

namespace {

using MaybeArray = std::optional<Array<double>>;

// A head as Python makes it: token scores (B, n, T) of a fixed one; of others labels (B, n) and v (B, d), or with
// hidden units (B, m, d) their weights (B, m), or classes (B, m, d), whose numbers are the labels.
struct CoreHead {
    attsvm::HeadKind kind;
    MaybeArray scores;
    Array<double> labels;
    MaybeArray vector, hidden;
    double penalty;
    bool trained;

    attsvm::Head<double> view(Index B, Index n, Index T, Index d) const {
        if (kind.scored) return {kind, {data_of("scores", scores, {B, n, T})}, false};
        attsvm::HeadArrays<double> arrays{nullptr, data_of("labels", labels, {B, n}), nullptr, nullptr, 0, penalty};
        if (kind.hidden) {
            arrays.units = hidden && hidden->ndim() == 3 ? hidden->shape(1) : 0;
            arrays.hidden = data_of("hidden", hidden, {B, arrays.units, d});
        }
        const bool of_units = kind.vector == attsvm::VectorSize::units;
        if (kind.vector != attsvm::VectorSize::none)
            arrays.vector = data_of("vector", vector, {B, of_units ? arrays.units : d});
        if (trained && !kind.trainable) throw std::invalid_argument("head: only v can be trained");
        return {kind, arrays, trained};
    }

   private:
    static const double* data_of(const char* name, const MaybeArray& array, std::initializer_list<Index> shape) {
        if (!array) throw std::invalid_argument(std::string(name) + ": needed for this head");
        expect_shape(name, *array, shape);
        return array->data();
    }
};

// Tokens (B, s, T, d), queries (B, n, e), the number of tokens of each query (B, n) and which sequence has them (n), or
// nothing where s = n.
struct CoreProblem {
    Tokens tokens;
    Array<double> queries;
    Array<std::int64_t> lengths, sequence;
    CoreHead head;
};

// The blocks of parameters, each (B, rows, columns), and the norm (B) of what W has outside the spans of tokens and
// queries.
struct CoreParameters {
    attsvm::ParameterKind kind;
    std::vector<Array<double>> blocks;
    Array<double> outside;
};

// Unit directions (B, R, e, d), the components (B, R, 2) of their outside parts, and unit vectors (B, R', d) for v.
struct CoreReferences {
    Array<double> inside, outside, head;
};

// Checks the shapes of blocks of parameters and returns the sizes with their inner one.
attsvm::Sizes check_blocks(attsvm::ParameterKind kind, const std::vector<Array<double>>& blocks, Index B,
                           attsvm::Sizes sizes) {
    if (blocks.size() != kind.blocks().size()) throw std::invalid_argument("blocks: need another number of them");
    for (std::size_t k = 0; k < blocks.size(); ++k) {
        const attsvm::BlockShape& shape = kind.blocks()[k];
        if (blocks[k].ndim() != 3 || blocks[k].size() == 0)
            throw std::invalid_argument("blocks: need three axes, none empty");
        if (sizes.inner == 0 && shape.rows == attsvm::Axis::inner) sizes.inner = blocks[k].shape(1);
        if (sizes.inner == 0 && shape.columns == attsvm::Axis::inner) sizes.inner = blocks[k].shape(2);
        expect_shape("blocks", blocks[k], {B, size_of(shape.rows, sizes), size_of(shape.columns, sizes)});
    }
    kind.visit([&]<class Kind>(Kind) {
        if (Kind::square && sizes.query_dimension != sizes.dimension)
            throw std::invalid_argument("queries: need the dimension of the tokens");
    });
    return sizes;
}

// The arrays of a batch, checked to belong together.
attsvm::BatchArrays batch_arrays(const CoreProblem& problem) {
    const py::array& tokens = any_type(problem.tokens);
    const Array<double>& queries = problem.queries;
    const Array<std::int64_t>&lengths = problem.lengths, &sequence = problem.sequence;
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
    attsvm::BatchArrays batch{};
    batch.problems = B;
    batch.sequences = sequences;
    batch.samples = n;
    batch.tokens = T;
    batch.dimension = d;
    batch.query_dimension = e;
    batch.Z = queries.data();
    batch.head = problem.head.view(B, n, T, d);
    batch.length = lengths.data();
    batch.sequence = sequence.size() == 0 ? nullptr : sequence.data();
    return batch;
}

attsvm::BatchArrays batch_arrays(const CoreProblem& problem, const CoreParameters& at) {
    attsvm::BatchArrays batch = batch_arrays(problem);
    batch.parameter = at.kind;
    batch.inner = check_blocks(at.kind, at.blocks, batch.problems, batch.sizes()).inner;
    return batch;
}

// work(the batch with its tokens)
template <class Work>
void with_tokens(const attsvm::BatchArrays& batch, const Tokens& tokens, Work work) {
    std::visit([&]<class Token>(const Array<Token>& array) { work(attsvm::Batch<Token>{batch, array.data()}); },
               tokens);
}

// pointer(array) of every array
template <class Arrays, class Pointer>
auto pointers(Arrays& arrays, Pointer pointer) {
    std::array<decltype(pointer(arrays[0])), attsvm::most_blocks> result{};
    std::transform(arrays.begin(), arrays.end(), result.begin(), pointer);
    return result;
}
attsvm::ConstBlockArrays data_of(const std::vector<Array<double>>& blocks) {
    return pointers(blocks, [](const Array<double>& block) { return block.data(); });
}
attsvm::BlockArrays mutable_data_of(std::vector<Array<double>>& blocks) {
    return pointers(blocks, [](Array<double>& block) { return block.mutable_data(); });
}

Array<double> copy_of(const Array<double>& array) {
    Array<double> copy(std::vector<py::ssize_t>(array.shape(), array.shape() + array.ndim()));
    std::copy(array.data(), array.data() + array.size(), copy.mutable_data());
    return copy;
}
std::vector<Array<double>> copies_of(const std::vector<Array<double>>& arrays) {
    std::vector<Array<double>> copies;
    for (const Array<double>& array : arrays) copies.push_back(copy_of(array));
    return copies;
}

bool all_finite(const std::vector<Array<double>>& arrays) {
    return std::ranges::all_of(arrays, [](const Array<double>& array) {
        const double* const x = array.data();
        return attsvm::sum<double>(array.size(), [x](Index k) { return x[k] - x[k]; }) == 0.0;  // inf - inf is NaN
    });
}

py::dict descend(const CoreProblem& problem, const CoreParameters& start, const CoreReferences* references,
                 const attsvm::Loss& loss, const attsvm::StepRule& rule, bool certify,
                 const std::vector<attsvm::Geometry>& certified_norms, std::int64_t steps,
                 const Array<std::int64_t>& record, bool record_attention, bool record_parameters, int threads,
                 const std::optional<py::function>& report) {
    attsvm::BatchArrays batch = batch_arrays(problem, start);
    const Index B = batch.problems, n = batch.samples, T = batch.tokens, d = batch.dimension, e = batch.query_dimension;
    const bool trains_head = batch.head.trained;
    const bool compared = references != nullptr;
    if (compared) {
        if (references->inside.ndim() != 4) throw std::invalid_argument("references: need four axes");
        if (references->head.ndim() != 3) throw std::invalid_argument("head references: need three axes");
        batch.references = references->inside.shape(1);
        batch.reference = references->inside.data();
        batch.reference_outside = references->outside.data();
        batch.head_references = references->head.shape(1);
        batch.head_reference = references->head.data();
        expect_shape("references", references->inside, {B, batch.references, e, d});
        expect_shape("references outside", references->outside, {B, batch.references, 2});
        expect_shape("head references", references->head, {B, batch.head_references, trains_head ? d : 0});
    }
    batch.outside = start.outside.data();
    batch.certify = certify;
    batch.certified_norms = certified_norms;
    expect_shape("outside", start.outside, {B});
    if (rule.batch < 0 || rule.batch > n) throw std::invalid_argument("batch: must lie in 0..n");

    const Index recorded = record.size();
    std::vector<Array<double>> blocks = copies_of(start.blocks), recorded_blocks;
    if (record_parameters)
        for (const Array<double>& block : blocks)
            recorded_blocks.push_back(make_array<double>({B, recorded, block.shape(1), block.shape(2)}));
    Results results;
    const auto make_if = [&](bool asked, const char* name, std::initializer_list<Index> shape) {
        return asked ? results.make(name, shape) : nullptr;
    };
    double* const head = make_if(trains_head, "head", {B, d});
    if (trains_head) std::copy_n(batch.head.arrays.vector, B * d, head);
    double* series = results.make("series", {trains_head ? 6 : 5, B, recorded});
    const auto next_series = [&] { return std::exchange(series, series + B * recorded); };
    std::vector<double> largest_score(static_cast<std::size_t>(B));
    const attsvm::BatchResult result{mutable_data_of(blocks),
                                     head,
                                     results.make("attention", {B, n, T}),
                                     results.make("log_attention", {B, n, T}),
                                     results.make<std::int64_t>("selected", {B, n}),
                                     next_series(),
                                     next_series(),
                                     next_series(),
                                     trains_head ? next_series() : nullptr,
                                     next_series(),
                                     next_series(),
                                     largest_score.data(),
                                     make_if(rule.flows(), "balance_drift", {B, recorded}),
                                     make_if(compared, "cosine_gap", {B, batch.references, recorded}),
                                     make_if(compared, "head_cosine_gap", {B, batch.head_references, recorded}),
                                     make_if(certify, "margin", {B, recorded}),
                                     make_if(certify, "certified_cosine", {B, recorded}),
                                     certify ? results.make<std::int64_t>("top", {B, recorded, n}) : nullptr,
                                     make_if(certify, "certified_ratio", {B, std::ssize(certified_norms), recorded}),
                                     make_if(record_attention, "recorded_attention", {B, recorded, n, T}),
                                     make_if(record_attention, "recorded_log_attention", {B, recorded, n, T}),
                                     mutable_data_of(recorded_blocks),
                                     make_if(record_parameters && trains_head, "recorded_head", {B, recorded, d})};
    const attsvm::Schedule schedule{steps, view(record), record_attention};

    without_gil(report, static_cast<double>(B) * static_cast<double>(steps), [&](attsvm::Progress& progress) {
        with_tokens(batch, problem.tokens,
                    [&](const auto& with) { attsvm::descend(with, loss, rule, schedule, threads, progress, result); });
    });
    results.add("largest_score", py::float_(std::ranges::max(largest_score)));
    results.add("blocks", py::cast(blocks));
    results.add("recorded_blocks", py::cast(recorded_blocks));
    return results.by_name();
}

Array<double> parameter_matrices(attsvm::ParameterKind kind, const std::vector<Array<double>>& blocks,
                                 Index query_dimension, Index dimension) {
    if (blocks.empty() || blocks[0].ndim() != 3) throw std::invalid_argument("blocks: need three axes");
    const Index B = blocks[0].shape(0);
    const attsvm::Sizes sizes = check_blocks(kind, blocks, B, {0, query_dimension, dimension, 0});
    auto V = make_array<double>({B, query_dimension, dimension});
    attsvm::parameter_matrices(kind, B, sizes, data_of(blocks), V.mutable_data());
    return V;
}

py::tuple loss_and_gradient(const CoreProblem& problem, const CoreParameters& at, const attsvm::Loss& loss,
                            int threads) {
    const attsvm::BatchArrays batch = batch_arrays(problem, at);
    auto value = make_array<double>({batch.problems});
    std::vector<double> largest_score(static_cast<std::size_t>(batch.problems));
    std::vector<Array<double>> gradients = copies_of(at.blocks);
    auto head = make_array<double>({batch.problems, batch.head.trained ? batch.dimension : 0});
    double* const values = value.mutable_data();
    double* const into_head = head.mutable_data();
    const attsvm::ConstBlockArrays blocks = data_of(at.blocks);
    const attsvm::BlockArrays into_blocks = mutable_data_of(gradients);
    {
        const ReleasedGil no_gil;
        with_tokens(batch, problem.tokens, [&](const auto& with) {
            attsvm::loss_and_gradient(with, loss, blocks, batch.head.arrays.vector, threads, values,
                                      largest_score.data(), into_blocks, into_head);
        });
    }
    return py::make_tuple(value, std::ranges::max(largest_score), gradients, head);
}

Array<double> token_scores(const Tokens& tokens, const Array<double>& labels, const Array<double>& value,
                           const Array<std::int64_t>& lengths, const Array<std::int64_t>& sequence, int threads) {
    const py::array& array = any_type(tokens);
    if (array.ndim() != 4) throw std::invalid_argument("tokens: need four axes");
    if (labels.ndim() != 2) throw std::invalid_argument("labels: need two axes");
    const Index B = array.shape(0), n = labels.shape(1), T = array.shape(2);
    const CoreHead head{attsvm::HeadKind::of<attsvm::LinearHead>(), {}, labels, value, {}, 0.0, false};
    const CoreProblem problem{tokens, make_array<double>({B, n, 1}), lengths, sequence, head};
    const attsvm::BatchArrays batch = batch_arrays(problem);
    auto scores = make_array<double>({B, n, T});
    {
        double* const out = scores.mutable_data();
        const ReleasedGil no_gil;
        with_tokens(batch, tokens, [&](const auto& with) { attsvm::token_scores(with, threads, out); });
    }
    return scores;
}

}  // namespace

void bind_descent(py::module_& module) {
    py::register_local_exception_translator([](std::exception_ptr thrown) {
        try {
            if (thrown) std::rethrow_exception(thrown);
        } catch (const attsvm::Stiff& error) {
            py::set_error(PyExc_FloatingPointError, error.what());
        }
    });
    py::class_<CoreHead>(module, "Head")
        .def(py::init([](const std::string& kind, const MaybeArray& scores, const Array<double>& labels,
                         const MaybeArray& vector, const MaybeArray& hidden, double penalty, bool trained) {
                 return CoreHead{attsvm::HeadKind(kind), scores, labels, vector, hidden, penalty, trained};
             }),
             py::kw_only(), "kind"_a, "scores"_a, "labels"_a, "vector"_a, "hidden"_a, "penalty"_a, "trained"_a);
    py::class_<CoreProblem>(module, "Problem")
        .def(py::init<Tokens, Array<double>, Array<std::int64_t>, Array<std::int64_t>, CoreHead>(), py::kw_only(),
             "tokens"_a, "queries"_a, "lengths"_a, "sequence"_a, "head"_a);
    py::class_<CoreParameters>(module, "Parameters")
        .def(py::init<attsvm::ParameterKind, std::vector<Array<double>>, Array<double>>(), py::kw_only(), "kind"_a,
             "blocks"_a, "outside"_a);
    py::class_<CoreReferences>(module, "References")
        .def(py::init<Array<double>, Array<double>, Array<double>>(), py::kw_only(), "inside"_a, "outside"_a, "head"_a);
    module.def("descend", &descend, py::kw_only(), "problem"_a, "start"_a, "references"_a, "loss"_a, "rule"_a,
               "certify"_a, "certified_norms"_a, "steps"_a, "record"_a, "record_attention"_a, "record_parameters"_a,
               "threads"_a, "report"_a);
    module.def("all_finite", &all_finite, "arrays"_a);
    module.def("loss_and_gradient", &loss_and_gradient, py::kw_only(), "problem"_a, "at"_a, "loss"_a, "threads"_a);
    module.def("parameter_matrices", parameter_matrices, py::kw_only(), "kind"_a, "blocks"_a, "query_dimension"_a,
               "dimension"_a);
    module.def("token_scores", &token_scores, py::kw_only(), "tokens"_a, "labels"_a, "value"_a, "lengths"_a,
               "sequence"_a, "threads"_a);
}
