// The pass: query directions in; losses, top weights and the gradient in every query direction out.
//
//     a_i = X_i q_i     s_i = softmax(a_i)     c_i = l'(m_i) s_i ∘ (g_i - <s_i, g_i>)     u_i = X_i' c_i
#pragma once

#include "attsvm/buffer.hpp"
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
          scratch_(threads * 4 * padded(problem.tokens)),
          outcome_(problem.samples) {
        constexpr int lanes = NumberTraits<Real>::lanes;
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
    Real length(Index i) const { return length_[i]; }
    Index rows(Index i) const { return rows_[i]; }
    Loss loss() const { return loss_; }

    // U (samples, dimension): row i is dloss_i/dq_i in units of exp(outcome(i).log_scale).
    void run(const Team& team, const Real* Q, Real* U) {
        const Index d = problem_.dimension;
        const Index stride = padded(problem_.tokens);
        team.for_ranges(problem_.samples, [&](Index i, Index last, int thread) {
            Real* logit = scratch_.data() + thread * 4 * stride;
            const TokenScratch<Real> scratch{logit + stride, logit + 2 * stride, logit + 3 * stride};
            for (; i < last; ++i) {
                const Token* X = problem_.X + i * problem_.tokens * d;
                // While a sample is worked on, out of the cache, the next one is read from memory.
                const Index next = i + 1 < last ? rows_[i + 1] * d : 0;
                const Token* const ahead = X + problem_.tokens * d;
                rows_dot(X, rows_[i], d, Q + i * d, logit, Ahead(ahead, next / 2));
                outcome_[i] = token_gradient(rows_[i], length_[i], score(i), loss_, logit, scratch);
                rows_combine(X, rows_[i], d, logit, U + i * d, Ahead(ahead + next / 2, next - next / 2));
            }
        });
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
    static Index padded(Index count) { return (count + 7) / 8 * 8; }
    const Real* score(Index i) const { return problem_.score + i * problem_.tokens; }
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
    Buffer<Real> scratch_;
    Buffer<TokenGradient<Real>> outcome_;
};

}  // namespace attsvm
