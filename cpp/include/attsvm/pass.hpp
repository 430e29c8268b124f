// The pass: query directions in; margins, top weights and the gradient of the margin in every query direction out.
//
//     a_i = X_i q_i     s_i = softmax(a_i)     m_i = <s_i, g_i>     c_i = s_i ∘ (g_i - m_i)     u_i = X_i' c_i
#pragma once

#include "attsvm/buffer.hpp"
#include "attsvm/loss.hpp"
#include "attsvm/products.hpp"
#include "attsvm/team.hpp"
#include "attsvm/token_softmax.hpp"

namespace attsvm {

// One problem (or one pack of problems): a view of memory that others own. `Token` is how tokens are stored.
template <class Token, class Real>
struct Problem {
    Index samples, tokens, dimension, query_dimension;
    const Token* X;              // (samples, tokens, dimension)
    const Real* Z;               // (samples, query_dimension)
    const Real* score;           // (samples, tokens): y_i v'x_it of a linear head
    const std::int64_t* length;  // (samples, lanes): valid tokens of every sample
};

template <class Token, class Real>
class Pass {
   public:
    Pass(const Problem<Token, Real>& problem, Loss loss, int threads)
        : problem_(problem),
          loss_(loss),
          length_(problem.samples),
          best_(problem.samples),
          rows_(problem.samples),
          stride_(padded_to_columns<Real>(problem.tokens)),
          score_(problem.samples * stride_),
          scratch_(threads * 3 * stride_),
          outcome_(problem.samples),
          log_scale_(padded_to_columns<Real>(problem.samples)),
          margin_(padded_to_columns<Real>(problem.samples)) {
        constexpr int lanes = NumberTraits<Real>::lanes;
        for (Index i = 0; i < problem.samples; ++i)
            std::copy_n(problem.score + i * problem.tokens, problem.tokens, score_.data() + i * stride_);
        for (Index i = 0; i < problem.samples; ++i) {
            for (int k = 0; k < lanes; ++k) {
                const Index length = static_cast<Index>(problem.length[i * lanes + k]);
                set_lane(length_[i], k, static_cast<double>(length));
                rows_[i] = std::max(rows_[i], length);
                double best = lane(score(i)[0], k);
                for (Index t = 1; t < length; ++t) best = std::max(best, lane(score(i)[t], k));
                set_lane(best_[i], k, best);
            }
        }
    }

    const Problem<Token, Real>& problem() const { return problem_; }
    const TokenGradient<Real>& outcome(Index i) const { return outcome_[i]; }
    Loss loss() const { return loss_; }

    // U (samples, dimension): row i is dm_i/dq_i in units of exp(outcome(i).log_scale).
    void run(const Team& team, const Real* Q, Real* U) {
        const Index d = problem_.dimension;
        team.for_ranges(problem_.samples, [&](Index i, Index last, int thread) {
            Real* const logit = scratch_.data() + thread * 3 * stride_;
            for (; i < last; ++i) {
                const Token* X = problem_.X + i * problem_.tokens * d;
                // While a sample is worked on, out of the cache, the next one is read from memory.
                Ahead ahead(X + problem_.tokens * d, i + 1 < last ? rows_[i + 1] * d : 0);
                rows_dot(X, rows_[i], d, Q + i * d, logit, ahead);
                mask_logits(rows_[i], length_[i], logit);
                outcome_[i] = token_gradient(rows_[i], score(i), logit, logit + stride_, logit + 2 * stride_);
                rows_combine(X, rows_[i], d, logit, U + i * d, ahead);
            }
        });
    }

    // Attention of sample i, weights and their logarithms (tokens), and the index of its top token.
    void attention(Index i, const Real* q, Real* weight, Real* log_weight, Real& top) {
        const Index d = problem_.dimension;
        const Index T = problem_.tokens;
        const Real nothing(-std::numeric_limits<double>::infinity());
        Real* const logit = scratch_.data();
        rows_dot(problem_.X + i * T * d, rows_[i], d, q, logit);
        mask_logits(rows_[i], length_[i], logit);
        const TopToken<Real> found(rows_[i], score(i), logit);
        top = found.index;
        const Real remaining = sum<Real>(rows_[i], [&](Index t) {
            return select(top == Real(static_cast<double>(t)), Real(0.0), exp(logit[t] - found.logit));
        });
        const Real log_sum = log1p(remaining);
        for (Index t = 0; t < T; ++t) {
            log_weight[t] = t < rows_[i] ? (logit[t] - found.logit) - log_sum : nothing;
            weight[t] = exp(log_weight[t]);
        }
    }

    // Factors that take the rows of U to the gradient of the mean loss in units of exp(log_unit), the largest unit of
    // any sample: l'(m_i) exp(outcome(i).log_scale - log_unit) / n. Where no sample moves, log_unit is -inf and they
    // are 0.
    void sample_weights(Real* weight, Real& log_unit) {
        const Index n = problem_.samples;
        const Real nothing(-std::numeric_limits<double>::infinity());
        for (Index i = 0; i < n; ++i) {
            log_scale_[i] = outcome_[i].log_scale;
            margin_[i] = outcome_[i].margin;
        }
        log_unit = nothing;
        for (Index i = 0; i < n; ++i) log_unit = larger(log_scale_[i], log_unit);
        const Column<Real> subtracted(select(log_unit > nothing, log_unit, Real(0.0))), share(Real(1.0) / count());
        for (Index i = 0; i < n; i += column_lanes<Real>)
            store_column(weight + i, loss_slope(loss_, load_column(&margin_[i])) *
                                         exp(load_column(&log_scale_[i]) - subtracted) * share);
    }

    // The loss, averaged over samples.
    Real loss_mean() const {
        return sum<Real>(problem_.samples, [&](Index i) { return loss_value(loss_, outcome_[i].margin); }) / count();
    }
    Real top_weight_mean() const {
        return sum<Real>(problem_.samples, [&](Index i) { return outcome_[i].top_weight; }) / count();
    }

    // Loss less its infimum (every sample attending to its best token alone), in units of exp(log_unit).
    Real loss_gap(Real log_unit) const {
        const Real unit = exp(log_unit);
        return sum<Real>(problem_.samples, [&](Index i) { return excess(i, log_unit, unit); }) / count();
    }

   private:
    const Real* score(Index i) const { return score_.data() + i * stride_; }
    Real count() const { return Real(static_cast<double>(problem_.samples)); }

    Real excess(Index i, Real log_unit, Real unit) const {
        const TokenGradient<Real>& at = outcome_[i];
        const Real missed = best_[i] - at.top_score;
        const Real shortfall = select(missed > Real(0.0), (missed - exp(at.log_scale) * at.mean_shift) * exp(-log_unit),
                                      -at.mean_shift * exp(at.log_scale - log_unit));
        return scaled_excess(loss_, best_[i], shortfall, unit);
    }

    Problem<Token, Real> problem_;
    Loss loss_;
    Buffer<Real> length_;
    Buffer<Real> best_;
    Buffer<Index> rows_;
    Index stride_;
    Buffer<Real> score_;
    Buffer<Real> scratch_;
    Buffer<TokenGradient<Real>> outcome_;
    Buffer<Real> log_scale_, margin_;
};

}  // namespace attsvm
