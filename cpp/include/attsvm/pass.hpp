// Forward and backward pass: query directions in; margins, top weights and the gradient of the margin in every query
// direction out.
//
//     a_i = X_i q_i     s_i = softmax(a_i)     m_i = <s_i, g_i>     c_i = s_i ∘ (g_i - m_i)     u_i = X_i' c_i
#pragma once

#include "attsvm/heads.hpp"
#include "attsvm/sample_losses.hpp"
#include "attsvm/threads.hpp"

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
          mixture_stride_(problem.head.kind.nonlinear ? 2 * problem.dimension + problem.head.arrays.units : 0),
          mixture_(threads * mixture_stride_),
          token_norm_(problem.samples),
          score_range_(problem.samples),
          largest_score_(problem.samples),
          losses_(problem.samples, loss, infimum_with(problem.head)) {
        constexpr int lanes = NumberTraits<Real>::lanes;
        for (Index i = 0; i < problem.samples; ++i)
            for (int k = 0; k < lanes; ++k) {
                const Index length = static_cast<Index>(problem.length[i * lanes + k]);
                set_lane(length_[i], k, static_cast<double>(length));
                rows_[i] = std::max(rows_[i], length);
            }
        std::fill_n(token_norm_.data(), problem.samples, Real(-1.0));
        if (problem.head.kind.scored)
            for (Index i = 0; i < problem.samples; ++i) {
                std::copy_n(problem.head.arrays.score + i * problem.tokens, problem.tokens, &score_[i * stride_]);
                rank_scores(i);
            }
    }

    // Works on these samples alone from now on, which stay in the caller's memory; on all of them where none are named.
    void choose(std::span<const Index> samples) { losses_.choose(samples); }
    Index rows() const { return losses_.rows(); }

    const Problem<Token, Real>& problem() const { return problem_; }
    // Those of the last run.
    SampleLosses<Real>& losses() { return losses_; }

    // U (rows, dimension): a row is dm_i/dq_i of its sample, in units of exp(log_scale) of the sample. Where
    // asked for, also the mixtures o_i (rows, dimension). The query directions are `query_stride` apart.
    void run(const Team& team, const Real* Q, Index query_stride, Real* U, Real* mixtures = nullptr) {
        const Index d = problem_.dimension;
        const Team sharing = team.for_work(rows() * problem_.tokens * d);
        // Tokens that stay in the second cache of the threads are there from step to step.
        constexpr Index second_cache = 1'048'576;
        const Index bytes = rows() * problem_.tokens * d * Index{sizeof(Token)};
        const bool from_memory = bytes > sharing.threads() * second_cache;
        sharing.for_ranges(rows(), [&](Index row, Index last, int thread) {
            const Real* const gradient = scratch_.data() + thread * 3 * stride_;
            for (; row < last; ++row) {
                const Index i = losses_.sample(row);
                const Token* X = problem_.tokens_of(i);
                // While a sample is worked on, out of the cache, the next one is read from memory.
                const Index next = row + 1 < last ? losses_.sample(row + 1) : i;
                Prefetcher next_tokens(problem_.tokens_of(next), from_memory && next != i ? rows_[next] * d : 0);
                losses_[row] = differentiate(i, Q + row * query_stride, thread, next_tokens);
                rows_combine(X, rows_[i], d, gradient, U + row * d, next_tokens);
                if (mixtures != nullptr) {
                    rows_combine(X, rows_[i], d, gradient + stride_, mixtures + row * d, next_tokens);
                    for (Index k = 0; k < d; ++k) mixtures[row * d + k] *= losses_[row].top_weight;
                }
            }
        });
    }

    // Runs keep the logits for `attention` from now on.
    void keep_logits() {
        if (logits_.size() == 0) logits_ = Buffer<Real>(problem_.samples * stride_);
    }
    // The length of the longest token of a sample, which the rounding of a gradient is measured by.
    Real token_norm(Index row) const { return token_norm_[losses_.sample(row)]; }
    // The largest size of a token score of a fixed head, of the samples that there has been a run of.
    Real largest_score() const {
        Real largest(0.0);
        for (Index i = 0; i < problem_.samples; ++i) largest = larger(largest_score_[i], largest);
        return largest;
    }

    // At most Σ_t |dm_i/da_t| |x_it| of the sample of this row, in units of its log_scale: from the range of its
    // scores, or for its query direction from the gradient itself.
    Real term_bound(Index row) const {
        const Index i = losses_.sample(row);
        return Real(2.0 * static_cast<double>(rows_[i])) * score_range_[i] * token_norm_[i];
    }
    Real term_size(Index row, const Real* q) {
        const Index i = losses_.sample(row);
        Prefetcher none;
        differentiate(i, q, 0, none);
        const Real* const gradient = scratch_.data();
        return token_norm_[i] * sum<Real>(rows_[i], [gradient](Index t) { return magnitude(gradient[t]); });
    }

    // The same by coordinate (dimension): Σ_t |dm_i/da_t| |x_it|
    void term_sizes(Index row, const Real* q, Real* size) {
        const Index i = losses_.sample(row), d = problem_.dimension;
        const Token* const X = problem_.tokens_of(i);
        Prefetcher none;
        differentiate(i, q, 0, none);
        for (Index k = 0; k < d; ++k) {
            size[k] = Real(0.0);
            for (Index t = 0; t < rows_[i]; ++t) {
                const Real x(X[t * d + k]), slope = scratch_[t];
                size[k] += magnitude(slope) * magnitude(x);
            }
        }
    }

    // Attention of sample i in the last run, weights and their logarithms (tokens), and the index of its top token.
    void attention(Index i, Real* weight, Real* log_weight, Real& top) const {
        const Index at = i * stride_;
        top = attention_weights(rows_[i], problem_.tokens, &score_[at], &logits_[at], weight, log_weight);
    }

    // Of a sample, how far the logit of its top token stands above the others at least (+inf where there is no other),
    // and what it adds to the bound of the SVM: the multipliers λ_t = max(0, weight_i dm_i/da_t), their sum, and the
    // row Σ_t λ_t (x_top - x_t).
    struct MarginCertificate {
        Real margin, top, multipliers;
    };
    MarginCertificate margin_certificate(Index i, const Real* q, Real weight, Real* row) {
        const Index rows = rows_[i], d = problem_.dimension;
        const Real nothing(-std::numeric_limits<double>::infinity()), zero(0.0);
        Real* const gradient = scratch_.data();
        Prefetcher none;
        differentiate(i, q, 0, none);
        Real* const logit = gradient + 2 * stride_;
        rows_dot(problem_.tokens_of(i), rows, d, q, logit);
        mask_logits(rows, length_[i], logit);
        const TopToken<Real> found(rows, score_.data() + i * stride_, logit);
        MarginCertificate out{Real(0.0), found.index, zero};
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
    // From the squares of their lengths (tokens)
    Real longest_token(Index i, const Real* square) const {
        const Index rows = rows_[i], d = problem_.dimension;
        const Token* const X = problem_.tokens_of(i);
        Real largest(0.0), longest(0.0);
        for (Index t = 0; t < rows; ++t) largest = larger(square[t], largest);
        if constexpr (std::is_same_v<Token, Real>)  // in single precision no square leaves the range of Real
            if (any<Real>(largest < Real(1e-280)) || any<Real>(largest > Real(1e280))) {
                for (Index t = 0; t < rows; ++t) longest = larger(norm(X + t * d, d), longest);
                return longest;
            }
        return sqrt(largest);
    }
    static Infimum infimum_with(const Head<Real>& head) {
        if (head.is_fixed()) return Infimum::of_best_tokens;
        return head.kind.nonlinear ? Infimum::unknown : Infimum::zero;
    }

    // Of the scores of a sample's tokens the best, their range, and the largest size.
    void rank_scores(Index i) {
        const Real* const score = &score_[i * stride_];
        for (int k = 0; k < NumberTraits<Real>::lanes; ++k) {
            double best = lane(score[0], k), worst = best;
            for (Index t = 1; t < static_cast<Index>(lane(length_[i], k)); ++t) {
                best = std::max(best, lane(score[t], k));
                worst = std::min(worst, lane(score[t], k));
            }
            set_lane(losses_.best(i), k, best);
            set_lane(score_range_[i], k, best - worst);
            set_lane(largest_score_[i], k, std::max(best, -worst));
        }
    }

    // The logits of a sample. What is measured of its tokens and of their scores by a fixed head takes the first of the
    // reads that they are computed by.
    void find_logits(Index i, const Real* q, Real* logit, Prefetcher& next_tokens) {
        const Token* const X = problem_.tokens_of(i);
        const Index rows = rows_[i], d = problem_.dimension;
        if (!any<Real>(token_norm_[i] < Real(0.0))) return rows_dot(X, rows, d, q, logit, next_tokens);
        const bool scores = problem_.head.is_fixed() && !problem_.head.kind.scored;
        const Real* const v = problem_.head.arrays.vector;
        Real *const score = &score_[i * stride_], *const square = logit + stride_;
        if (!scores) {
            rows_dot(X, rows, d, q, logit, square, next_tokens);
        } else if (all_zero(q, d)) {  // at the usual start
            std::fill_n(logit, rows, Real(0.0));
            rows_dot(X, rows, d, v, score, square, next_tokens);
        } else {
            rows_dot(X, rows, d, q, logit, v, score, square, next_tokens);
        }
        token_norm_[i] = longest_token(i, square);
        if (!scores) return;
        const Real label = problem_.head.arrays.label[i];
        for (Index t = 0; t < rows; ++t)
            score[t] = select(length_[i] > Real(static_cast<double>(t)), label * score[t], Real(0.0));
        rank_scores(i);
    }

    // Leaves dm/da (tokens) at the head of the thread's memory, then the weights in units of the top one.
    TokenGradient<Real> differentiate(Index i, const Real* q, int thread, Prefetcher& next_tokens) {
        Real* const logit = scratch_.data() + thread * 3 * stride_;
        Real* const weight = logit + stride_;
        find_logits(i, q, logit, next_tokens);
        mask_logits(rows_[i], length_[i], logit);
        if (logits_.size() != 0) std::copy_n(logit, stride_, &logits_[i * stride_]);
        Real margin(0.0);
        if (!problem_.head.is_fixed()) margin = find_scores(i, logit, weight, thread);
        TokenGradient<Real> out =
            token_gradient(rows_[i], score_.data() + i * stride_, logit, weight, weight + stride_);
        if (problem_.head.kind.nonlinear) out.margin = margin;
        return out;
    }

    // Token scores of a head that is not fixed, from the logits, and with a nonlinear one the margin.
    Real find_scores(Index i, const Real* logit, Real* weight, int thread) {
        const Token* const X = problem_.tokens_of(i);
        const Index rows = rows_[i], d = problem_.dimension;
        const Real label = problem_.head.arrays.label[i];
        const Real* slope = problem_.head.arrays.vector;
        Real margin(0.0);
        if (problem_.head.kind.nonlinear) {
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
            margin = problem_.head.kind.margin(problem_.head.arrays, label, d, mixture, gradient, gradient + d);
            slope = gradient;
        }
        Real* const score = score_.data() + i * stride_;
        rows_dot(X, rows, d, slope, score);
        if (!problem_.head.kind.nonlinear)
            for (Index t = 0; t < rows; ++t) score[t] *= label;
        Real best = score[0], worst = score[0];
        for (Index t = 1; t < rows; ++t) {
            best = larger(score[t], best);
            worst = smaller(score[t], worst);
        }
        score_range_[i] = best - worst;
        return margin;
    }

    Problem<Token, Real> problem_;
    Buffer<Real> length_;
    Buffer<Index> rows_;
    Index stride_;
    Buffer<Real> score_;
    Buffer<Real> scratch_;
    Index mixture_stride_;
    Buffer<Real> mixture_, token_norm_, score_range_, largest_score_, logits_;
    SampleLosses<Real> losses_;
};

}  // namespace attsvm
