// Softmax over the tokens of one sample, and its gradient, free of cancellation.
//
// For token scores g and weights s = softmax(a), the margin is ḡ = <s, g> and dḡ/da_t = s_t (g_t - ḡ). As the top
// weight tends to one every entry tends to zero, the top one as a difference of numbers near each other. Here scores
// are taken relative to the top token's, Δ_t = g_t - g_top, so that D = ḡ - g_top = Σ s_t Δ_t has no large part to
// lose, and the entries are s_t (Δ_t - D), which for the top token is -s_top D. All weights are multiples of the
// largest weight that moves anything (that of the heaviest token with Δ_t ≠ 0), whose logarithm is kept apart: nothing
// underflows however far the logits are apart.
#pragma once

#include <algorithm>
#include <limits>

#include "attsvm/columns.hpp"

namespace attsvm {

template <class Real>
struct TokenGradient {
    Real log_scale;   // log of the unit that the gradient and `mean_shift` are in; -inf where nothing moves
    Real mean_shift;  // (ḡ - g_top) / unit
    Real top_score;   // g_top
    Real margin;      // ḡ
    Real top_weight;  // s_top
    Real top_logit;   // a_top
};

// The first token with the largest logit: its logit, its score, its index.
template <class Real>
struct TopToken {
    Real logit, score, index;

    ATTSVM_INLINE TopToken(Index tokens, const Real* score_of, const Real* logit_of) {
        if constexpr (is_pack<Real>) {
            logit = logit_of[0];
            score = score_of[0];
            index = Real(0.0);
            for (Index t = 1; t < tokens; ++t) {
                const auto higher = logit_of[t] > logit;
                logit = larger(logit_of[t], logit);
                score = select(higher, score_of[t], score);
                index = select(higher, positions<Real>(t), index);
            }
        } else {
            Column<Real> largest = load_column(logit_of);
            for (Index t = column_lanes<Real>; t < tokens; t += column_lanes<Real>)
                largest = larger(load_column(logit_of + t), largest);
            logit = column_largest<Real>(largest);
            Index top = 0;  // also where a NaN equals nothing
            for (Index t = 0; t < tokens; t += column_lanes<Real>) {
                const auto here = load_column(logit_of + t) == Column<Real>(logit);
                if (any<Column<Real>>(here)) {
                    top = t + Column<Real>::Compare::first(here);
                    break;
                }
            }
            score = score_of[top];
            index = static_cast<double>(top);
        }
    }
};

// Logits of tokens that do not exist, in packs of samples of different length and in the rest of a last column.
template <class Real>
ATTSVM_INLINE void mask_logits(Index tokens, Real length, Real* logit) {
    constexpr double nothing = -std::numeric_limits<double>::infinity();
    if constexpr (is_pack<Real>) {
        if (any<Real>(Real(static_cast<double>(tokens)) > length))
            for (Index t = 0; t < tokens; ++t) logit[t] = select(positions<Real>(t) >= length, Real(nothing), logit[t]);
    } else {
        std::fill(logit + tokens, logit + padded_to_columns<Real>(tokens), nothing);
    }
}

// Takes masked logits, gives (dḡ/da_t) / unit in their place. Arrays are padded to whole columns. `weight` and `moving`
// are memory to work in.
template <class Real>
TokenGradient<Real> token_gradient(Index tokens, const Real* score, Real* logit, Real* weight, Real* moving) {
    using Many = Column<Real>;
    constexpr Index step = column_lanes<Real>;
    // Below this log-weight a product with e^{-log_scale} could overflow, and weights are taken from logits again.
    constexpr double deep = -650.0;
    constexpr double nothing = -std::numeric_limits<double>::infinity();
    const Many zero(0.0);
    const Index padded = padded_to_columns<Real>(tokens);

    const TopToken<Real> found(tokens, score, logit);
    const Many top_logit(found.logit), top_score(found.score);
    Many heaviest_log(nothing), heaviest = zero, total = zero, shifted = zero;
    const auto below_top = [&](Index t) { return load_column(logit + t) - top_logit; };
    // A loop of its own: its constants take the registers that the sums below stay in.
    for (Index t = 0; t < padded; t += step) store_column(weight + t, exp(below_top(t)));
    for (Index t = 0; t < padded; t += step) {
        const Many w = load_column(weight + t);
        const Many shift = load_column(score + t) - top_score;
        const auto moves = shift != zero;
        heaviest_log = larger_where(moves, heaviest_log, below_top(t));
        heaviest = larger_where(moves, heaviest, w);
        const Many product = w * shift;
        total += w;
        shifted += product;
        store_column(moving + t, product);
    }
    TokenGradient<Real> out;
    out.top_logit = found.logit;
    out.top_score = found.score;
    out.top_weight = Real(1.0) / column_sum<Real>(total);
    const Real unit_log = column_largest<Real>(heaviest_log);
    const Real unit = column_largest<Real>(heaviest);
    Real total_shift = column_sum<Real>(shifted);
    const auto motionless = unit_log == Real(nothing);
    Real per_unit = Real(1.0) / select(unit > Real(0.0), unit, Real(1.0));

    const Real subtracted = select(motionless, Real(0.0), unit_log);
    if (any<Real>(subtracted < Real(deep))) {
        const auto is_deep = subtracted < Real(deep);
        const Many subtract(subtracted);
        shifted = zero;
        for (Index t = 0; t < padded; t += step) {
            const Many shift = load_column(score + t) - top_score;
            const Many below = load_column(logit + t) - top_logit;
            Many product = select(shift != zero, exp(below - subtract), zero) * shift;
            // Lanes that are not deep go on as they would among others that are not.
            if constexpr (is_pack<Real>) product = select(is_deep, product, load_column(moving + t));
            shifted += product;
            store_column(moving + t, product);
        }
        total_shift = column_sum<Real>(shifted);
        per_unit = select(is_deep, Real(1.0), per_unit);
    }

    out.mean_shift = total_shift * per_unit * out.top_weight;
    out.margin = out.top_score + unit * out.mean_shift;
    // Only what was computed from finite logits may be called motionless: NaN must stay visible.
    out.log_scale = select(motionless, select(out.margin == out.margin, Real(nothing), out.margin), unit_log);

    const Many of_moving(out.top_weight * per_unit), of_weight(out.top_weight * out.mean_shift);
    for (Index t = 0; t < padded; t += step)
        store_column(logit + t, of_moving * load_column(moving + t) - of_weight * load_column(weight + t));
    return out;
}

// Softmax of masked logits, which are padded to whole columns: weights and their logarithms (tokens, of which `rows`
// may exist); the index of the top token.
template <class Real>
Real attention_weights(Index rows, Index tokens, const Real* score, const Real* logit, Real* weight, Real* log_weight) {
    using Many = Column<Real>;
    constexpr Index step = column_lanes<Real>;
    const Many nothing(-std::numeric_limits<double>::infinity()), count(static_cast<double>(rows));
    const TopToken<Real> found(rows, score, logit);
    const Many top(found.index), top_logit(found.logit);
    Many remaining(0.0);
    for (Index t = 0; t < rows; t += step)
        remaining += select(positions<Real>(t) == top, Many(0.0), exp(load_column(logit + t) - top_logit));
    const Many log_sum(log1p(column_sum<Real>(remaining)));
    for (Index t = 0; t < tokens; t += step) {
        const Many below = (load_column(logit + t) - top_logit) - log_sum;
        const Many log_of = select(positions<Real>(t) >= count, nothing, below), of = exp(log_of);
        const Index stored = std::min(tokens - t, step);
        if (stored == step) {
            store_column(log_weight + t, log_of);
            store_column(weight + t, of);
        } else {
            for (int k = 0; k < stored; ++k) log_weight[t + k] = lane(log_of, k), weight[t + k] = lane(of, k);
        }
    }
    return found.index;
}

}  // namespace attsvm
