// Batches of problems of one shape: which engine runs them, and how they are shared among threads.
#pragma once

#include "attsvm/descent.hpp"

namespace attsvm {

// Views of a batch in the caller's memory, problem after problem.
template <class Token>
struct Batch {
    Index problems, samples, tokens, dimension, query_dimension, inner, references;
    const Token* X;                   // (problems, samples, tokens, dimension)
    const double* Z;                  // (problems, samples, query_dimension)
    const double* score;              // (problems, samples, tokens)
    const std::int64_t* length;       // (problems, samples)
    const double* outside;            // (problems): norm of W outside the spans of tokens and queries
    const double* reference;          // (problems, references, query_dimension, dimension)
    const double* reference_outside;  // (problems, references, 2)

    Index matrix_size() const { return query_dimension * dimension; }
    Index first_size() const { return inner == 0 ? matrix_size() : inner * dimension; }
    Index second_size() const { return query_dimension * inner; }
    double numbers_per_problem() const {
        return static_cast<double>(samples) * static_cast<double>(tokens) * static_cast<double>(dimension);
    }
};

// Where a batch's results go.
struct BatchResult {
    // Parameters, the start, then the end: V (problems, query_dimension, dimension) and nothing, or where the batch has
    // an inner dimension K' (problems, inner, dimension) and Q (problems, query_dimension, inner).
    double *first, *second;
    double *weight, *log_weight;                                     // (problems, samples, tokens)
    std::int64_t* selected;                                          // (problems, samples)
    double *loss, *loss_gap, *norm, *log_grad_norm, *max_attention;  // (problems, recorded)
    double* cosine_gap;                                              // (problems, references, recorded)
};

// Many problems go to one thread each; few large ones have their samples shared out.
struct ThreadPlan {
    int across, within;
    ThreadPlan(int threads, Index jobs, double numbers_per_job) {
        const bool many = jobs >= threads;
        across = many ? threads : 1;
        within = many || !worth_sharing(numbers_per_job) ? 1 : threads;
    }
};

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
        Buffer<Real> packed(count);
        for (Index k = 0; k < width; ++k) {
            const From* one = from + problem(k) * count;
            for (Index j = 0; j < count; ++j) set_lane(packed[j], static_cast<int>(k), static_cast<double>(one[j]));
        }
        return packed;
    }
    template <class To>
    void scatter(const Buffer<Real>& packed, To* to) const {
        for (Index k = 0; k < kept(); ++k)
            for (Index j = 0; j < packed.size(); ++j)
                to[problem(k) * packed.size() + j] = static_cast<To>(lane(packed[j], static_cast<int>(k)));
    }
};

// Runs the problems of `lanes` and writes their results.
template <class Real, class Token, class Stored>
void descend_lanes(const Batch<Stored>& batch, Lanes<Real> lanes, const Token* X, Loss loss, StepRule rule,
                   const Schedule& schedule, int threads, Progress& progress, bool calling_thread,
                   const BatchResult& result) {
    const Index n = batch.samples, T = batch.tokens, size = batch.matrix_size();
    const auto recorded = static_cast<Index>(schedule.record.size());
    const Buffer<Real> Z = lanes.gather(batch.Z, n * batch.query_dimension);
    const Buffer<Real> score = lanes.gather(batch.score, n * T);
    const Buffer<Real> outside = lanes.gather(batch.outside, 1);
    const Buffer<Real> reference = lanes.gather(batch.reference, batch.references * size);
    const Buffer<Real> reference_outside = lanes.gather(batch.reference_outside, batch.references * 2);
    Buffer<Real> first = lanes.gather(result.first, batch.first_size());
    Buffer<Real> second = lanes.gather(result.second, batch.second_size());
    Buffer<std::int64_t> length(n * Lanes<Real>::width);
    for (Index k = 0; k < Lanes<Real>::width; ++k)
        for (Index i = 0; i < n; ++i) length[i * Lanes<Real>::width + k] = batch.length[lanes.problem(k) * n + i];

    Descent<Token, Real> descent(
        {n, T, batch.dimension, batch.query_dimension, X, Z.data(), score.data(), length.data()}, loss, rule,
        Team(threads), {batch.inner, first.data(), second.data(), outside[0]},
        {batch.references, reference.data(), reference_outside.data()});
    descent.run(schedule, progress, calling_thread, [&](std::size_t at, const Record<Real>& record) {
        for (int k = 0; k < lanes.kept(); ++k) {
            const Index slot = lanes.problem(k) * recorded + static_cast<Index>(at);
            result.loss[slot] = lane(record.loss, k);
            result.loss_gap[slot] = lane(record.loss_gap, k);
            result.norm[slot] = lane(record.norm, k);
            result.log_grad_norm[slot] = lane(record.log_grad_norm, k);
            result.max_attention[slot] = lane(record.max_attention, k);
            for (Index r = 0; r < batch.references; ++r)
                result.cosine_gap[(lanes.problem(k) * batch.references + r) * recorded + static_cast<Index>(at)] =
                    lane(record.cosine_gap[static_cast<std::size_t>(r)], k);
        }
    });
    Buffer<Real> weight(n * T), log_weight(n * T), top(n);
    descent.attention(weight.data(), log_weight.data(), top.data());
    lanes.scatter(weight, result.weight);
    lanes.scatter(log_weight, result.log_weight);
    lanes.scatter(top, result.selected);
    lanes.scatter(first, result.first);
    lanes.scatter(second, result.second);
}

// Whether a batch is run in packs: there are problems for the lanes, and a pack of them stays in a core's own cache.
template <class Token>
bool runs_in_packs(const Batch<Token>& batch) {
    constexpr double largest = 8192.0;
    return 2 * batch.problems > native_lanes<double> && batch.numbers_per_problem() <= largest;
}

template <class Token>
void descend(const Batch<Token>& batch, Loss loss, StepRule rule, const Schedule& schedule, int threads,
             Progress& progress, const BatchResult& result) {
    if (runs_in_packs(batch)) {
        using Real = NativePack<double>;
        constexpr Index width = Lanes<Real>::width;
        const Index packs = (batch.problems + width - 1) / width;
        share_jobs(threads, packs, progress, [&](Index pack, bool calling_thread) {
            const Lanes<Real> lanes{pack * width, batch.problems};
            const Buffer<Real> X = lanes.gather(batch.X, batch.samples * batch.tokens * batch.dimension);
            descend_lanes(batch, lanes, X.data(), loss, rule, schedule, 1, progress, calling_thread, result);
        });
    } else {
        const ThreadPlan plan(threads, batch.problems, batch.numbers_per_problem());
        share_jobs(plan.across, batch.problems, progress, [&](Index b, bool calling_thread) {
            const Token* X = batch.X + b * batch.samples * batch.tokens * batch.dimension;
            descend_lanes(batch, Lanes<double>{b, batch.problems}, X, loss, rule, schedule, plan.within, progress,
                          calling_thread, result);
        });
    }
}

// Loss (problems) and its gradients, shaped as the parameters, at the parameters.
template <class Token>
void loss_and_gradient(const Batch<Token>& batch, Loss loss, const double* first, const double* second, int threads,
                       double* value, double* first_gradient, double* second_gradient) {
    const Index n = batch.samples;
    const ThreadPlan plan(threads, batch.problems, batch.numbers_per_problem());
    Progress progress(nullptr, 1.0);
    share_jobs(plan.across, batch.problems, progress, [&](Index b, bool) {
        const Lanes<double> lane{b, batch.problems};
        Buffer<double> at = lane.gather(first, batch.first_size()), beside = lane.gather(second, batch.second_size());
        const Problem<Token, double> problem{n,
                                             batch.tokens,
                                             batch.dimension,
                                             batch.query_dimension,
                                             batch.X + b * n * batch.tokens * batch.dimension,
                                             batch.Z + b * n * batch.query_dimension,
                                             batch.score + b * n * batch.tokens,
                                             batch.length + b * n};
        Descent<Token, double> descent(problem, loss, StepRule{}, Team(plan.within),
                                       {batch.inner, at.data(), beside.data(), 0.0}, {});
        value[b] = descent.gradient(first_gradient + b * batch.first_size(), second_gradient + b * batch.second_size());
    });
}

}  // namespace attsvm
