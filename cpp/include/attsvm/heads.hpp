// Heads: the prediction f(o) from the mixture o of a sample's tokens, and the score of every token.
//
//     fixed        Σ s_t g_t, token scores g_t given once: a linear head that does not change
//     linear       v'o, which may be trained too         g_t = y v'x_t
//     relu         w' max(Ho, 0)                         g_t = y x_t'H'(w ∘ [Ho > 0])
//     penalised    v'o - λ|o|²                           g_t = y x_t'(v - 2λ o)
//     softmax      log softmax(Ho)_y, y a class          g_t = x_t'H'(e_y - softmax(Ho))
//
// y f(o) is a sample's margin, g_t its slope in the weight of token t, y the label, which the last head has in f. A
// head is one struct, and an entry of `Heads` at the end of this file.
#pragma once

#include "attsvm/buffer.hpp"
#include "attsvm/products.hpp"
#include "attsvm/type_list.hpp"

namespace attsvm {

// A view of the arrays of a head, which others own; those that its kind does not need are null.
template <class Real>
struct HeadArrays {
    const Real* score = nullptr;   // fixed: (samples, tokens), labels included
    const Real* label = nullptr;   // (samples), of all but fixed heads
    const Real* vector = nullptr;  // v (dimension) or w (units)
    const Real* hidden = nullptr;  // H (units, dimension)
    Index units = 0;
    Real penalty{0.0};  // λ
};

// The length of a head's vector.
enum class VectorSize { none, dimension, units };

struct FixedHead {
    static constexpr std::string_view name = "fixed";
    static constexpr bool scored = true;      // token scores are given
    static constexpr bool trainable = false;  // the vector may be trained
    static constexpr bool nonlinear = false;  // the slope depends on the mixture: there is a function `margin`
    static constexpr VectorSize vector = VectorSize::none;
    static constexpr bool hidden = false;  // H is needed
};

struct LinearHead : FixedHead {
    static constexpr std::string_view name = "linear";
    static constexpr bool scored = false, trainable = true;
    static constexpr VectorSize vector = VectorSize::dimension;
};

struct ReluHead : FixedHead {
    static constexpr std::string_view name = "relu";
    static constexpr bool scored = false, nonlinear = true, hidden = true;
    static constexpr VectorSize vector = VectorSize::units;

    // The margin at a mixture, and its gradient in it (dimension). `active` is memory for the units.
    template <class Real>
    static Real margin(const HeadArrays<Real>& head, Real y, Index d, const Real* o, Real* gradient, Real* active) {
        rows_dot(head.hidden, head.units, d, o, active);
        Real value(0.0);
        for (Index k = 0; k < head.units; ++k) {
            const auto on = active[k] > Real(0.0);
            value += head.vector[k] * select(on, active[k], Real(0.0) * active[k]);  // NaN stays visible
            active[k] = select(on, y * head.vector[k], Real(0.0));
        }
        rows_combine(head.hidden, head.units, d, active, gradient);
        return y * value;
    }
};

struct PenalisedHead : FixedHead {
    static constexpr std::string_view name = "penalised";
    static constexpr bool scored = false, nonlinear = true;
    static constexpr VectorSize vector = VectorSize::dimension;

    template <class Real>
    static Real margin(const HeadArrays<Real>& head, Real y, Index d, const Real* o, Real* gradient, Real*) {
        Real value(0.0);
        const Real twice = head.penalty + head.penalty;
        for (Index k = 0; k < d; ++k) {
            value += (head.vector[k] - head.penalty * o[k]) * o[k];
            gradient[k] = y * (head.vector[k] - twice * o[k]);
        }
        return y * value;
    }
};

struct SoftmaxHead : FixedHead {
    static constexpr std::string_view name = "softmax";
    static constexpr bool scored = false, nonlinear = true, hidden = true;

    template <class Real>
    static Real margin(const HeadArrays<Real>& head, Real y, Index d, const Real* o, Real* gradient, Real* active) {
        rows_dot(head.hidden, head.units, d, o, active);
        const Real value = log_probability(head.units, y, active);
        rows_combine(head.hidden, head.units, d, active, gradient);
        return value;
    }

   private:
    // log softmax(a)_y; leaves e_y - softmax(a), whose entry y is the sum of the other probabilities, in place of a.
    template <class Real>
    static Real log_probability(Index units, Real y, Real* a) {
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

using Heads = TypeList<FixedHead, LinearHead, ReluHead, PenalisedHead, SoftmaxHead>;

// One of `Heads`, chosen at run time.
class HeadKind {
   public:
    explicit HeadKind(std::string_view name) : HeadKind(Heads::find("head", name)) {}
    template <class Kind>
    static constexpr HeadKind of() {
        return HeadKind(Heads::index_of<Kind>());
    }

    bool scored = true, trainable = false, nonlinear = false, hidden = false;
    VectorSize vector = VectorSize::none;

    template <class Real>
    Real margin(const HeadArrays<Real>& head, Real y, Index d, const Real* o, Real* gradient, Real* active) const {
        return Heads::visit(index_, [&]<class Kind>(Kind) {
            if constexpr (Kind::nonlinear)
                return Kind::margin(head, y, d, o, gradient, active);
            else
                return Real(0.0);
        });
    }

   private:
    explicit constexpr HeadKind(int index) : index_(index) {
        Heads::visit(index, [this]<class Kind>(Kind) {
            scored = Kind::scored;
            trainable = Kind::trainable;
            nonlinear = Kind::nonlinear;
            hidden = Kind::hidden;
            vector = Kind::vector;
        });
    }
    int index_;
};

template <class Real>
struct Head {
    HeadKind kind = HeadKind::of<FixedHead>();
    HeadArrays<Real> arrays;
    bool trained = false;

    // Linear, and not trained: token scores are given, or computed once.
    bool is_fixed() const { return kind.scored || (kind.trainable && !trained); }
};

}  // namespace attsvm
