// The pass: query directions in; margins, top weights and the gradient of the margin in every query direction out.
//
//     a_i = X_i q_i     s_i = softmax(a_i)     m_i = <s_i, g_i>     c_i = s_i ∘ (g_i - m_i)     u_i = X_i' c_i
#pragma once

#include "attsvm/head.hpp"
#include "attsvm/outcomes.hpp"
#include "attsvm/team.hpp"

namespace attsvm {

// One problem (or one pack of problems): a view of memory that others own. `Token` is how tokens are stored. Several
// samples may attend to the tokens of one sequence, each to as many of the first as its length says.
template <class Token, class Real>
struct Problem {
    Index samples, tokens, dimension, query_dimension;
    const Token* X;  // (sequences, tokens, dimension)
    const Real* Z;   // (samples, query_dimension)
    Head<Real> head;
    const std::int64_t* length;              // (samples, lanes): valid tokens of every sample
    const std::int64_t* sequence = nullptr;  // (samples): where its tokens are; sample i has sequence i if not given

    const Token* tokens_of(Index i) const {
        return X + (sequence == nullptr ? i : static_cast<Index>(sequence[i])) * tokens * dimension;
    }
};

template <class Token, class Real>
class Pass {
   public:
    Pass(const Problem<Token, Real>& problem, Loss loss, int threads)
        : problem_(problem),
          length_(problem.samples),
          rows_(problem.samples),
          stride_(padded_to_columns<Real>(problem.tokens)),
          score_(problem.samples * stride_),
          scratch_(threads * 3 * stride_),
          mixture_stride_(problem.head.nonlinear() ? 2 * problem.dimension + problem.head.units : 0),
          mixture_(threads * mixture_stride_),
          outcomes_(problem.samples, loss, infimum_with(problem.head)) {
        constexpr int lanes = NumberTraits<Real>::lanes;
        for (Index i = 0; i < problem.samples; ++i)
            for (int k = 0; k < lanes; ++k) {
                const Index length = static_cast<Index>(problem.length[i * lanes + k]);
                set_lane(length_[i], k, static_cast<double>(length));
                rows_[i] = std::max(rows_[i], length);
            }
        if (has_fixed_head()) take_scores();
    }

    // Works on these samples alone from now on, which stay in the caller's memory; on all of them where none are named.
    void choose(std::span<const Index> samples) { outcomes_.choose(samples); }
    Index rows() const { return outcomes_.rows(); }

    const Problem<Token, Real>& problem() const { return problem_; }
    // Those of the last run.
    Outcomes<Real>& outcomes() { return outcomes_; }
    bool has_fixed_head() const { return problem_.head.kind == HeadKind::fixed; }

    // U (rows, dimension): a row is dm_i/dq_i of its sample, in units of exp(log_scale) of the sample's outcome. Where
    // asked for, also the mixtures o_i (rows, dimension).
    void run(const Team& team, const Real* Q, Real* U, Real* mixtures = nullptr) {
        const Index d = problem_.dimension;
        team.for_ranges(rows(), [&](Index row, Index last, int thread) {
            Real* const gradient = scratch_.data() + thread * 3 * stride_;
            for (; row < last; ++row) {
                const Index i = outcomes_.sample(row);
                const Token* X = problem_.tokens_of(i);
                // While a sample is worked on, out of the cache, the next one is read from memory.
                const Index next = row + 1 < last ? outcomes_.sample(row + 1) : i;
                Ahead ahead(problem_.tokens_of(next), next == i ? 0 : rows_[next] * d);
                outcomes_[row] = differentiate(i, Q + row * d, thread, ahead);
                rows_combine(X, rows_[i], d, gradient, U + row * d, ahead);
                if (mixtures != nullptr) {
                    rows_combine(X, rows_[i], d, gradient + stride_, mixtures + row * d, ahead);
                    for (Index k = 0; k < d; ++k) mixtures[row * d + k] *= outcomes_[row].top_weight;
                }
            }
        });
    }

    // Attention of sample i, weights and their logarithms (tokens), and the index of its top token.
    void attention(Index i, const Real* q, int thread, Real* weight, Real* log_weight, Real& top) {
        const Index d = problem_.dimension;
        const Index T = problem_.tokens;
        Real* const logit = scratch_.data() + thread * 3 * stride_;
        rows_dot(problem_.tokens_of(i), rows_[i], d, q, logit);
        mask_logits(rows_[i], length_[i], logit);
        top = attention_weights(rows_[i], T, score_.data() + i * stride_, logit, weight, log_weight);
    }

    // For every sample, how far the logit of its top token stands above the others at least, and the difference of the
    // tokens that the step now moves it along: the row Σ_t λ_t (x_top - x_t), λ_t = max(0, weight_i dm_i/da_t).
    struct Separation {
        Real margin, top, multipliers;
    };
    Separation separation(Index i, const Real* q, Real weight, Real* row) {
        const Index rows = rows_[i], d = problem_.dimension;
        const Real nothing(-std::numeric_limits<double>::infinity()), zero(0.0);
        Real* const gradient = scratch_.data();
        Ahead none;
        differentiate(i, q, 0, none);
        Real* const logit = gradient + 2 * stride_;
        rows_dot(problem_.tokens_of(i), rows, d, q, logit);
        mask_logits(rows, length_[i], logit);
        const TopToken<Real> found(rows, score_.data() + i * stride_, logit);
        Separation out{Real(0.0), found.index, zero};
        Real second = nothing;
        for (Index t = 0; t < rows; ++t) {
            const auto is_top = found.index == Real(static_cast<double>(t));
            second = larger(select(is_top, nothing, logit[t]), second);
            gradient[t] = select(is_top, zero, -larger(weight * gradient[t], zero));
            out.multipliers -= gradient[t];
        }
        for (Index t = 0; t < rows; ++t)
            gradient[t] = select(found.index == Real(static_cast<double>(t)), out.multipliers, gradient[t]);
        rows_combine(problem_.tokens_of(i), rows, d, gradient, row);
        out.margin = found.logit - second;
        return out;
    }

   private:
    static Infimum infimum_with(const Head<Real>& head) {
        if (head.kind == HeadKind::fixed) return Infimum::of_best_tokens;
        return head.kind == HeadKind::linear ? Infimum::zero : Infimum::unknown;
    }

    void take_scores() {
        constexpr int lanes = NumberTraits<Real>::lanes;
        for (Index i = 0; i < problem_.samples; ++i) {
            Real* const score = score_.data() + i * stride_;
            std::copy_n(problem_.head.score + i * problem_.tokens, problem_.tokens, score);
            for (int k = 0; k < lanes; ++k) {
                double best = lane(score[0], k);
                for (Index t = 1; t < static_cast<Index>(lane(length_[i], k)); ++t)
                    best = std::max(best, lane(score[t], k));
                set_lane(outcomes_.best(i), k, best);
            }
        }
    }

    // Leaves dm/da (tokens) at the head of the thread's memory, then the weights in units of the top one.
    TokenGradient<Real> differentiate(Index i, const Real* q, int thread, Ahead& ahead) {
        Real* const logit = scratch_.data() + thread * 3 * stride_;
        Real* const weight = logit + stride_;
        rows_dot(problem_.tokens_of(i), rows_[i], problem_.dimension, q, logit, ahead);
        mask_logits(rows_[i], length_[i], logit);
        Real margin(0.0);
        if (!has_fixed_head()) margin = find_scores(i, logit, weight, thread);
        TokenGradient<Real> out =
            token_gradient(rows_[i], score_.data() + i * stride_, logit, weight, weight + stride_);
        if (problem_.head.nonlinear()) out.margin = margin;
        return out;
    }

    // Token scores of a head that is not fixed, from the logits, and with a nonlinear one the margin.
    Real find_scores(Index i, const Real* logit, Real* weight, int thread) {
        const Token* const X = problem_.tokens_of(i);
        const Index rows = rows_[i], d = problem_.dimension;
        const Real label = problem_.head.label[i];
        const Real* slope = problem_.head.vector;
        Real margin(0.0);
        if (problem_.head.nonlinear()) {
            Real* const mixture = mixture_.data() + thread * mixture_stride_;
            Real* const gradient = mixture + d;
            Real top = logit[0], total(0.0);
            for (Index t = 1; t < rows; ++t) top = larger(logit[t], top);
            for (Index t = 0; t < rows; ++t) {
                weight[t] = exp(logit[t] - top);
                total += weight[t];
            }
            rows_combine(X, rows, d, weight, mixture);
            const Real share = Real(1.0) / total;
            for (Index k = 0; k < d; ++k) mixture[k] *= share;
            margin = problem_.head.margin(label, d, mixture, gradient, gradient + d);
            slope = gradient;
        }
        Real* const score = score_.data() + i * stride_;
        rows_dot(X, rows, d, slope, score);
        if (!problem_.head.nonlinear())
            for (Index t = 0; t < rows; ++t) score[t] *= label;
        return margin;
    }

    Problem<Token, Real> problem_;
    Buffer<Real> length_;
    Buffer<Index> rows_;
    Index stride_;
    Buffer<Real> score_;
    Buffer<Real> scratch_;
    Index mixture_stride_;
    Buffer<Real> mixture_;
    Outcomes<Real> outcomes_;
};

}  // namespace attsvm
