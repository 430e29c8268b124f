// Heads: the prediction f(o) from the mixture o of a sample's tokens, and what it says of every token.
//
//     fixed        Σ s_t g_t, token scores g_t given once: a linear head that does not change
//     linear       v'o, trained with attention           g_t = y v'x_t
//     relu         w' max(Ho, 0)                         g_t = y x_t'H'(w ∘ [Ho > 0])
//     penalised    v'o - λ|o|²                           g_t = y x_t'(v - 2λ o)
//     softmax      log softmax(Ho)_y, y a class          g_t = x_t'H'(e_y - softmax(Ho))
//
// y f(o) is a sample's margin, g_t its slope in the weight of token t, y the label, which the last head has in f.
#pragma once

#include "attsvm/buffer.hpp"
#include "attsvm/products.hpp"

namespace attsvm {

enum class HeadKind { fixed, linear, relu, penalised, softmax };

// A view of memory that others own.
template <class Real>
struct Head {
    HeadKind kind = HeadKind::fixed;
    const Real* score = nullptr;   // fixed: (samples, tokens), labels included
    const Real* label = nullptr;   // (samples), of all but fixed heads
    const Real* vector = nullptr;  // v (dimension) or w (units)
    const Real* hidden = nullptr;  // H (units, dimension)
    Index units = 0;
    Real penalty{0.0};  // λ

    // Whether the slope g depends on the mixture.
    bool nonlinear() const {
        return kind == HeadKind::relu || kind == HeadKind::penalised || kind == HeadKind::softmax;
    }

    // The margin at a mixture, and its gradient in it (dimension). `active` is memory for the units.
    Real margin(Real y, Index d, const Real* o, Real* gradient, Real* active) const {
        switch (kind) {
            case HeadKind::relu: {
                rows_dot(hidden, units, d, o, active);
                Real value(0.0);
                for (Index k = 0; k < units; ++k) {
                    const auto on = active[k] > Real(0.0);
                    value += vector[k] * select(on, active[k], Real(0.0) * active[k]);  // NaN stays visible
                    active[k] = select(on, y * vector[k], Real(0.0));
                }
                rows_combine(hidden, units, d, active, gradient);
                return y * value;
            }
            case HeadKind::softmax: {
                rows_dot(hidden, units, d, o, active);
                const Real value = log_probability(y, active);
                rows_combine(hidden, units, d, active, gradient);
                return value;
            }
            default:
                break;
        }
        Real value(0.0);
        const Real twice = penalty + penalty;
        for (Index k = 0; k < d; ++k) {
            value += (vector[k] - penalty * o[k]) * o[k];
            gradient[k] = y * (vector[k] - twice * o[k]);
        }
        return y * value;
    }

   private:
    // log softmax(a)_y; leaves e_y - softmax(a), whose entry y is the sum of the other probabilities, in place of a.
    Real log_probability(Real y, Real* a) const {
        const auto is_class = [](Real which, Index k) { return which == Real(static_cast<double>(k)); };
        Real top = a[0], at(0.0), right = a[0];
        for (Index k = 0; k < units; ++k) {
            const auto higher = a[k] > top;
            at = select(higher, Real(static_cast<double>(k)), at);
            top = select(higher, a[k], top);
            right = select(is_class(y, k), a[k], right);
        }
        Real below_top(0.0);
        for (Index k = 0; k < units; ++k) {
            a[k] = exp(a[k] - top);
            below_top += select(is_class(at, k), Real(0.0), a[k]);
        }
        const Real share = Real(1.0) / (Real(1.0) + below_top);
        Real others(0.0);
        for (Index k = 0; k < units; ++k) {
            a[k] = -share * a[k];
            others -= select(is_class(y, k), Real(0.0), a[k]);
        }
        for (Index k = 0; k < units; ++k) a[k] = select(is_class(y, k), others, a[k]);
        return (right - top) - log1p(below_top);
    }
};

}  // namespace attsvm
