// Softmax over the tokens of one sample, and its gradient, free of cancellation.
//
// For token scores g and weights s = softmax(a), dloss/da_t = l'(m) s_t (g_t - ḡ) with ḡ = <s, g>. As the top weight
// tends to one every entry tends to zero, the top one as a difference of numbers near each other. Here scores are taken
// relative to the top token's, Δ_t = g_t - g_top, so that ḡ - g_top = Σ s_t Δ_t has no large part to lose, and the top
// entry is minus the sum of the others. All weights are multiples of the largest weight that moves anything (that of
// the heaviest token with Δ_t ≠ 0), whose logarithm is kept apart: nothing underflows however far the logits are apart.
#pragma once

#include <limits>

#include "attsvm/loss.hpp"

namespace attsvm {

template <class Real>
struct TokenGradient {
    Real log_scale;         // log of the unit that the gradient and `mean_shift` are in; -inf where nothing moves
    Real mean_shift;        // (ḡ - g_top) / unit
    Real top_score;         // g_top
    Real margin;            // ḡ
    Real top_weight;        // s_top
    Real remaining_weight;  // Σ_{t≠top} exp(a_t - a_top)
    Real top;               // index of the top token
    Real top_logit;         // a_top
};

template <class Real>
struct TokenScratch {
    Real* weight;         // exp(a_t - a_top)
    Real* moving_weight;  // the same in units of the heaviest weight that moves anything; 0 where Δ_t = 0
    Real* shift;          // Δ_t
};

// Takes logits, gives l'(m) (dm/da_t) / unit in their place. Tokens from `length` on do not exist.
template <class Real>
TokenGradient<Real> token_gradient(Index tokens, Real length, const Real* score, Loss loss, Real* logit,
                                   TokenScratch<Real> scratch) {
    // Below this log-weight a product with e^{-log_scale} could overflow, and weights are taken from logits again.
    constexpr double deep = -300.0;
    const Real nothing(-std::numeric_limits<double>::infinity());
    Real* __restrict const weight = scratch.weight;
    Real* __restrict const moving = scratch.moving_weight;
    Real* __restrict const shift = scratch.shift;

    TokenGradient<Real> out;
    if constexpr (is_pack<Real>)
        for (Index t = 0; t < tokens; ++t) logit[t] = select(Real(static_cast<double>(t)) >= length, nothing, logit[t]);
    out.top_logit = logit[0];
    out.top_score = score[0];
    out.top = Real(0.0);
    for (Index t = 1; t < tokens; ++t) {
        const auto higher = logit[t] > out.top_logit;
        out.top_logit = select(higher, logit[t], out.top_logit);
        out.top_score = select(higher, score[t], out.top_score);
        out.top = select(higher, Real(static_cast<double>(t)), out.top);
    }

    Real heaviest = nothing;
    for (Index t = 0; t < tokens; ++t) {
        logit[t] -= out.top_logit;
        weight[t] = logit[t];
        shift[t] = score[t] - out.top_score;
        heaviest = larger(select(shift[t] != Real(0.0), logit[t], nothing), heaviest);
    }
    exp_array(weight, tokens);
    const auto moves = heaviest > nothing;
    const Real unit_log = select(moves, heaviest, Real(0.0));
    const Real unit = exp(unit_log);

    if (any(unit_log < Real(deep))) {
        for (Index t = 0; t < tokens; ++t) moving[t] = logit[t] - unit_log;
        exp_array(moving, tokens);
        const Real per_unit = Real(1.0) / select(unit_log < Real(deep), Real(1.0), unit);
        for (Index t = 0; t < tokens; ++t) moving[t] = select(unit_log < Real(deep), moving[t], weight[t] * per_unit);
    } else {
        const Real per_unit = Real(1.0) / unit;
        for (Index t = 0; t < tokens; ++t) moving[t] = weight[t] * per_unit;
    }
    for (Index t = 0; t < tokens; ++t) moving[t] = select(shift[t] != Real(0.0), moving[t], Real(0.0));

    out.remaining_weight = sum<Real>(
        tokens, [&](Index t) { return select(out.top == Real(static_cast<double>(t)), Real(0.0), weight[t]); });
    out.top_weight = Real(1.0) / (Real(1.0) + out.remaining_weight);
    out.mean_shift = sum<Real>(tokens, [&](Index t) { return moving[t] * shift[t]; }) * out.top_weight;
    out.margin = out.top_score + unit * out.mean_shift;
    // Only what was computed from finite logits may be called motionless: NaN must stay visible.
    out.log_scale = select(moves, heaviest, select(out.margin == out.margin, nothing, out.margin));

    const Real slope = loss_slope(loss, out.margin) * out.top_weight;
    for (Index t = 0; t < tokens; ++t) {
        const Real change = slope * (moving[t] * shift[t] - weight[t] * out.mean_shift);
        logit[t] = select(out.top == Real(static_cast<double>(t)), Real(0.0), change);
    }
    const Real others = sum<Real>(tokens, [&](Index t) { return logit[t]; });
    for (Index t = 0; t < tokens; ++t) logit[t] = select(out.top == Real(static_cast<double>(t)), -others, logit[t]);
    return out;
}

}  // namespace attsvm
