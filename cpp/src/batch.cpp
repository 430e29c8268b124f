#include "attsvm/batch.hpp"

namespace attsvm {

namespace {

// The problems that stand in the lanes of one number: one for `double`, several for a pack. A last pack that is not
// full repeats its last problem; what the repetitions give is not kept.
template <class Real>
struct Lanes {
    static constexpr Index width = NumberTraits<Real>::lanes;
    Index first, problems;

    Index problem(Index lane) const { return std::min(first + lane, problems - 1); }
    Index kept() const { return std::min(width, problems - first); }

    template <class From>
    Buffer<Real> gather(const From* from, Index count) const {
        auto packed = Buffer<Real>::not_filled(count);
        for (Index k = 0; k < width; ++k) {
            const From* one = from + problem(k) * count;
            for (Index j = 0; j < count; ++j) set_lane(packed[j], static_cast<int>(k), static_cast<double>(one[j]));
        }
        return packed;
    }
    // To the record `at` of `records` of every problem.
    template <class To>
    void scatter(const Buffer<Real>& packed, To* to, Index at = 0, Index records = 1) const {
        for (Index k = 0; k < kept(); ++k)
            for (Index j = 0; j < packed.size(); ++j)
                to[(problem(k) * records + at) * packed.size() + j] =
                    static_cast<To>(lane(packed[j], static_cast<int>(k)));
    }
};

// The head and the lengths of the problems of `lanes`.
template <class Real>
struct LanesOfData {
    LanesOfData(const BatchArrays& batch, Lanes<Real> lanes, const double* trained_head)
        : Z(lanes.gather(batch.Z, batch.samples * batch.query_dimension)),
          score(lanes.gather(batch.head.arrays.score, batch.score_size())),
          label(lanes.gather(batch.head.arrays.label, batch.label_size())),
          vector(lanes.gather(batch.head.trained ? trained_head : batch.head.arrays.vector, batch.head_size())),
          hidden(lanes.gather(batch.head.arrays.hidden, batch.hidden_size())),
          length(batch.samples * Lanes<Real>::width),
          head{batch.head.kind,
               {score.data(), label.data(), vector.data(), hidden.data(), batch.head.arrays.units,
                Real(batch.head.arrays.penalty)},
               batch.head.trained} {
        for (Index k = 0; k < Lanes<Real>::width; ++k)
            for (Index i = 0; i < batch.samples; ++i)
                length[i * Lanes<Real>::width + k] = batch.length[lanes.problem(k) * batch.samples + i];
    }
    LanesOfData(const LanesOfData&) = delete;
    LanesOfData& operator=(const LanesOfData&) = delete;

    template <class Token>
    Problem<Token, Real> problem(const BatchArrays& batch, const Token* X) const {
        return {batch.samples, batch.tokens, batch.dimension, batch.query_dimension, X,
                Z.data(),      head,         length.data(),   batch.sequence};
    }

    Buffer<Real> Z, score, label, vector, hidden;
    Buffer<std::int64_t> length;
    Head<Real> head;
};

// The blocks of parameters of the problems of `lanes`.
template <class Real>
struct LanesOfBlocks {
    template <class From>
    LanesOfBlocks(const BatchArrays& batch, Lanes<Real> lanes, const From& from) {
        for (Index k = 0; k < batch.block_count(); ++k) {
            const auto at = static_cast<std::size_t>(k);
            blocks[at] = lanes.gather(from[at], batch.block_size(k));
            pointers[at] = blocks[at].data();
        }
        values = std::span<Real* const>(pointers).first(static_cast<std::size_t>(batch.block_count()));
    }
    LanesOfBlocks(const LanesOfBlocks&) = delete;
    LanesOfBlocks& operator=(const LanesOfBlocks&) = delete;

    void scatter(Lanes<Real> lanes, const BlockArrays& to, Index at = 0, Index records = 1) const {
        for (std::size_t k = 0; k < values.size(); ++k) lanes.scatter(blocks[k], to[k], at, records);
    }

    std::array<Buffer<Real>, most_blocks> blocks;
    std::array<Real*, most_blocks> pointers{};
    std::span<Real* const> values;
};

// Runs the problems of `lanes` and writes their results.
template <class Real, class Token>
void descend_lanes(const BatchArrays& batch, Lanes<Real> lanes, const Token* X, Loss loss, const StepRule& rule,
                   const Schedule& schedule, int threads, Progress& progress, bool calling_thread,
                   const BatchResult& result) {
    const Index n = batch.samples, T = batch.tokens, size = batch.matrix_size();
    const auto recorded = static_cast<Index>(schedule.record.size());
    LanesOfData<Real> data(batch, lanes, result.head);
    const Buffer<Real> outside = lanes.gather(batch.outside, 1);
    const Buffer<Real> reference = lanes.gather(batch.reference, batch.references * size);
    const Buffer<Real> reference_outside = lanes.gather(batch.reference_outside, batch.references * 2);
    const Buffer<Real> head_reference = lanes.gather(batch.head_reference, batch.head_references * batch.dimension);
    LanesOfBlocks<Real> parameters(batch, lanes, result.blocks);
    auto weight = Buffer<Real>::not_filled(n * T), log_weight = Buffer<Real>::not_filled(n * T);
    Buffer<Real> top(n);

    Descent<Token, Real> descent(data.problem(batch, X), loss, rule, Team(threads),
                                 {batch.parameter, batch.inner, parameters.values, outside[0],
                                  batch.head.trained ? data.vector.data() : nullptr},
                                 {batch.references, reference.data(), reference_outside.data(), batch.head_references,
                                  head_reference.data(), batch.certify, batch.certified_norms});
    const bool ended = descent.run(schedule, progress, calling_thread, [&](std::size_t at, const Record<Real>& record) {
        for (int k = 0; k < lanes.kept(); ++k) {
            const Index problem = lanes.problem(k);
            const Index slot = problem * recorded + static_cast<Index>(at);
            const auto put_each = [&](std::span<const Real> gaps, double* to) {
                const auto count = static_cast<Index>(gaps.size());
                for (Index r = 0; r < count; ++r)
                    to[(problem * count + r) * recorded + static_cast<Index>(at)] =
                        lane(gaps[static_cast<std::size_t>(r)], k);
            };
            result.loss[slot] = lane(record.loss, k);
            result.loss_gap[slot] = lane(record.loss_gap, k);
            result.norm[slot] = lane(record.norm, k);
            result.log_grad_norm[slot] = lane(record.log_grad_norm, k);
            result.max_attention[slot] = lane(record.max_attention, k);
            if (rule.flows()) result.balance_drift[slot] = lane(record.balance_drift, k);
            put_each(record.cosine_gap, result.cosine_gap);
            if (batch.head.trained) result.head_norm[slot] = lane(record.head_norm, k);
            put_each(record.head_cosine_gap, result.head_cosine_gap);
            if (batch.certify) {
                result.margin[slot] = lane(record.margin, k);
                result.certified_cosine[slot] = lane(record.certified_cosine, k);
                put_each(record.certified_ratio, result.certified_ratio);
                for (Index i = 0; i < n; ++i)
                    result.top[slot * n + i] =
                        static_cast<std::int64_t>(lane(record.top[static_cast<std::size_t>(i)], k));
            }
        }
        if (result.recorded_weight != nullptr) {
            descent.attention(weight.data(), log_weight.data(), top.data());
            lanes.scatter(weight, result.recorded_weight, static_cast<Index>(at), recorded);
            lanes.scatter(log_weight, result.recorded_log_weight, static_cast<Index>(at), recorded);
        }
        if (result.recorded_blocks[0] != nullptr)
            parameters.scatter(lanes, result.recorded_blocks, static_cast<Index>(at), recorded);
        if (result.recorded_head != nullptr)
            lanes.scatter(data.vector, result.recorded_head, static_cast<Index>(at), recorded);
    });
    const Real largest_score = descent.largest_score();
    for (int k = 0; k < lanes.kept(); ++k) result.largest_score[lanes.problem(k)] = lane(largest_score, k);
    if (!ended) return;
    descent.attention(weight.data(), log_weight.data(), top.data());
    lanes.scatter(weight, result.weight);
    lanes.scatter(log_weight, result.log_weight);
    lanes.scatter(top, result.selected);
    parameters.scatter(lanes, result.blocks);
    if (batch.head.trained) lanes.scatter(data.vector, result.head);
}

// Tokens of one problem. Where they stay in a core's own cache, are read often, and the caller's memory is not aligned
// to its lines, they are copied to memory that is: every register's width would otherwise be read from two lines.
template <class Token>
class CachedTokens {
   public:
    CachedTokens(const Token* tokens, Index count, std::int64_t reads) : tokens_(tokens) {
        if (is_aligned(tokens) || count * Index{sizeof(Token)} > largest || reads < fewest) return;
        copy_ = Buffer<Token>::not_filled(count);
        std::copy_n(tokens, count, copy_.data());
    }
    const Token* data() const { return copy_.size() == 0 ? tokens_ : copy_.data(); }

   private:
    static constexpr Index largest = 2'097'152, fewest = 20;  // bytes, and reads
    static bool is_aligned(const Token* tokens) { return reinterpret_cast<std::uintptr_t>(tokens) % 64 == 0; }

    Buffer<Token> copy_;
    const Token* tokens_;
};

// A pass takes 0.2 to 0.5 ns a number, of which a second thread saves half at most, and its start 50 to 100 us.
ThreadPlan plan_of_passes(int threads, Index jobs, double numbers_per_job, std::int64_t passes) {
    return {threads, jobs, numbers_per_job, 0.4 * static_cast<double>(passes)};
}

}  // namespace

template <class Token>
void descend(const Batch<Token>& batch, Loss loss, const StepRule& rule, const Schedule& schedule, int threads,
             Progress& progress, const BatchResult& result) {
    if (batch.runs_in_packs()) {
        using Real = NativePack<double>;
        constexpr Index width = Lanes<Real>::width;
        const Index packs = (batch.problems + width - 1) / width;
        const double numbers = static_cast<double>(width) * batch.numbers_per_problem();
        const ThreadPlan plan = plan_of_passes(threads, packs, numbers, schedule.steps + 1);
        parallel_for_each(Team(plan.across), packs, progress, [&](Index pack, bool calling_thread) {
            const Lanes<Real> lanes{pack * width, batch.problems};
            const Buffer<Real> X = lanes.gather(batch.X, batch.token_size());
            descend_lanes(batch, lanes, X.data(), loss, rule, schedule, 1, progress, calling_thread, result);
        });
    } else {
        const ThreadPlan plan =
            plan_of_passes(threads, batch.problems, batch.numbers_per_problem(), schedule.steps + 1);
        parallel_for_each(Team(plan.across), batch.problems, progress, [&](Index b, bool calling_thread) {
            const CachedTokens<Token> cached(batch.tokens_of(b), batch.token_size(), schedule.steps);
            descend_lanes(batch, Lanes<double>{b, batch.problems}, cached.data(), loss, rule, schedule, plan.within,
                          progress, calling_thread, result);
        });
    }
}

template <class Token>
void loss_and_gradient(const Batch<Token>& batch, Loss loss, const ConstBlockArrays& blocks, const double* head,
                       int threads, double* value, double* largest_score, const BlockArrays& gradients,
                       double* head_gradient) {
    const ThreadPlan plan = plan_of_passes(threads, batch.problems, batch.numbers_per_problem(), 1);
    Progress progress(nullptr, 1.0);
    parallel_for_each(Team(plan.across), batch.problems, progress, [&](Index b, bool) {
        const Lanes<double> lane{b, batch.problems};
        LanesOfData<double> data(batch, lane, head);
        LanesOfBlocks<double> at(batch, lane, blocks);
        BlockArrays of_problem{};
        for (Index k = 0; k < batch.block_count(); ++k)
            of_problem[static_cast<std::size_t>(k)] = gradients[static_cast<std::size_t>(k)] + b * batch.block_size(k);
        Descent<Token, double> descent(
            data.problem(batch, batch.tokens_of(b)), loss, StepRule{}, Team(plan.within),
            {batch.parameter, batch.inner, at.values, 0.0, batch.head.trained ? data.vector.data() : nullptr}, {});
        value[b] = descent.gradient(std::span<double* const>(of_problem).first(at.values.size()),
                                    head_gradient + (batch.head.trained ? b * batch.dimension : 0));
        largest_score[b] = descent.largest_score();
    });
}

void parameter_matrices(ParameterKind kind, Index problems, const Sizes& sizes, const ConstBlockArrays& blocks,
                        double* V) {
    BatchArrays batch{};
    batch.problems = problems;
    batch.dimension = sizes.dimension;
    batch.query_dimension = sizes.query_dimension;
    batch.inner = sizes.inner;
    batch.parameter = kind;
    for (Index b = 0; b < problems; ++b) {
        LanesOfBlocks<double> values(batch, {b, problems}, blocks);
        Parameters<double> parameters(kind, batch.sizes(), nullptr, values.values);
        const double* const matrix = parameters.matrix(Team(1));
        std::copy_n(matrix, batch.matrix_size(), V + b * batch.matrix_size());
    }
}

template <class Token>
void token_scores(const Batch<Token>& batch, int threads, double* scores) {
    const Index n = batch.samples, T = batch.tokens, d = batch.dimension;
    const double numbers = static_cast<double>(batch.problems) * batch.numbers_per_problem();
    Team(worth_starting(threads, numbers)).for_ranges(batch.problems * n, [&](Index row, Index last, int) {
        const auto tokens_of = [&](Index at) {
            const Index i = at % n, from = batch.sequence == nullptr ? i : Index{batch.sequence[i]};
            return batch.tokens_of(at / n) + from * T * d;
        };
        for (; row < last; ++row) {
            const Index valid = std::min<Index>(batch.length[row], T);
            double* const out = scores + row * T;
            Prefetcher next(tokens_of(std::min(row + 1, last - 1)), row + 1 < last ? T * d : 0);
            rows_dot(tokens_of(row), valid, d, batch.head.arrays.vector + row / n * d, out, next);
            for (Index t = 0; t < T; ++t) out[t] = t < valid ? batch.head.arrays.label[row] * out[t] : 0.0;
        }
    });
}

template void descend(const Batch<double>&, Loss, const StepRule&, const Schedule&, int, Progress&, const BatchResult&);
template void descend(const Batch<float>&, Loss, const StepRule&, const Schedule&, int, Progress&, const BatchResult&);
template void loss_and_gradient(const Batch<double>&, Loss, const ConstBlockArrays&, const double*, int, double*,
                                double*, const BlockArrays&, double*);
template void loss_and_gradient(const Batch<float>&, Loss, const ConstBlockArrays&, const double*, int, double*,
                                double*, const BlockArrays&, double*);
template void token_scores(const Batch<double>&, int, double*);
template void token_scores(const Batch<float>&, int, double*);

}  // namespace attsvm
