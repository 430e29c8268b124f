// Heads: the prediction f(o) from the mixture o of a sample's tokens, and what it says of every token.
//
//     fixed        Σ s_t g_t, token scores g_t given once: a linear head that does not change
//     linear       v'o, trained with attention           g_t = y v'x_t
//     relu         w' max(Ho, 0)                         g_t = y x_t'H'(w ∘ [Ho > 0])
//     penalised    v'o - λ|o|²                           g_t = y x_t'(v - 2λ o)
//
// y f(o) is a sample's margin, g_t its slope in the weight of token t, y the label.
#pragma once

#include "attsvm/buffer.hpp"
#include "attsvm/products.hpp"

namespace attsvm {

enum class HeadKind { fixed, linear, relu, penalised };

// A view of memory that others own.
template <class Real>
struct Head {
    HeadKind kind = HeadKind::fixed;
    const Real* score = nullptr;   // fixed: (samples, tokens), labels included
    const Real* label = nullptr;   // (samples), of all but fixed heads
    const Real* vector = nullptr;  // v (dimension) or w (units)
    const Real* hidden = nullptr;  // relu: H (units, dimension)
    Index units = 0;
    Real penalty{0.0};  // λ

    // Whether the slope g depends on the mixture.
    bool nonlinear() const { return kind == HeadKind::relu || kind == HeadKind::penalised; }

    // f(o), and its gradient in o (dimension). `active` is memory for the units.
    Real operator()(Index d, const Real* o, Real* gradient, Real* active) const {
        if (kind == HeadKind::relu) {
            rows_dot(hidden, units, d, o, active);
            Real value(0.0);
            for (Index k = 0; k < units; ++k) {
                const auto on = active[k] > Real(0.0);
                value += vector[k] * select(on, active[k], Real(0.0) * active[k]);  // NaN stays visible
                active[k] = select(on, vector[k], Real(0.0));
            }
            rows_combine(hidden, units, d, active, gradient);
            return value;
        }
        Real value(0.0);
        const Real twice = penalty + penalty;
        for (Index k = 0; k < d; ++k) {
            value += (vector[k] - penalty * o[k]) * o[k];
            gradient[k] = vector[k] - twice * o[k];
        }
        return value;
    }
};

}  // namespace attsvm
