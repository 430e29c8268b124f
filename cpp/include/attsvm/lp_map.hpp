// The map between W and U = A*(λ) for the l_p norm: φ(w) = sign(w) |w|^(p-1), φ(W) = U, and its inverse ψ(u) = sign(u)
// |u|^(q-1), q = p / (p-1).
#pragma once

#include "attsvm/elementary.hpp"
#include "attsvm/nuclear_constraints.hpp"

namespace attsvm::inline ATTSVM_PRECISION {

struct LpMap {
    Real p;

    Real q() const { return p / (p - 1.0); }
    // log |x|
    static Array logs(const Array& x) {
        return x.unaryExpr([](Real entry) { return numext::log(numext::abs(entry)); });
    }
    // |x|^a from log |x|
    static Array power(const Array& logs, Real a) {
        Array values = a * logs;
        exponentiate(values.data(), values.size());
        return values;
    }
    // ψ(U) from U and log |U|
    Array inverse(const Array& U, const Array& logs) const { return U.sign() * power(logs, q() - 1.0); }

    // φ(W + move) = U + along, linear: move = target + weights * along.
    struct Linear {
        Array weights, target;
    };
    // In every entry the chord between where W and where U is, or the tangent where these are close. The ratio of
    // weights to that of the largest entry is bounded by `widest`.
    Linear linear(const Array& W, const Array& U, const Array& log_U) const {
        constexpr double close = 1e-3;
        const Array log_W = logs(W), size = log_W.max((q() - 1.0) * log_U);
        const Array ahead = inverse(U, log_U) - W, missing = U - W.sign() * power(log_W, p - 1.0);
        const Array tangents = power(size, 2.0 - p) / (p - 1.0);
        Array weights = (ahead.abs() > close * W.abs()).select(ahead / missing, tangents);
        const Real at_largest = numext::exp(Real((2.0 - p) * size.maxCoeff())) / (p - 1.0);
        if (p > 2.0)
            weights = weights.min(widest() * at_largest);
        else
            weights = weights.max(at_largest / widest());
        return {weights, weights * missing};
    }
    Real widest() const { return 1.0 / in_precision(p > 2.0 ? 1e-8 : 1e-10); }

   private:
    static void exponentiate(double* entries, Index count) {
        constexpr int lanes = 8;
        Index k = 0;
        for (; k + lanes <= count; k += lanes) {
            Pack<double, lanes> pack;
            std::memcpy(&pack, entries + k, sizeof pack);
            pack = attsvm::exp(pack);
            std::memcpy(entries + k, &pack, sizeof pack);
        }
        for (; k < count; ++k) entries[k] = std::exp(entries[k]);
    }
    template <class Number>
    static void exponentiate(Number* entries, Index count) {
        for (Index k = 0; k < count; ++k) entries[k] = numext::exp(entries[k]);
    }
};

}  // namespace attsvm::inline ATTSVM_PRECISION
