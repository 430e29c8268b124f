// Losses l(m) of the margin m = y f(X): value, slope l', and the excess l(m) - l(b) over the best margin b >= m.
//
// `log` is that of a margin which is the attention on the tokens that are right; `squared` that of a margin which is
// the log-probability of the right class: (1 - e^m)².
#pragma once

#include <limits>

#include "attsvm/elementary.hpp"

namespace attsvm {

enum class Loss { logistic, exponential, correlation, log, squared };

template <class Real>
Real loss_value(Loss loss, Real m) {
    switch (loss) {
        case Loss::exponential:
            return exp(-m);
        case Loss::correlation:
            return -m;
        case Loss::log:
            return -log(m);
        case Loss::squared:
            return expm1(m) * expm1(m);
        case Loss::logistic:
            break;
    }
    const Real size = larger(m, -m);
    return larger(-m, Real(0.0)) + log1p(exp(-size));
}

template <class Real>
Real loss_slope(Loss loss, Real m) {
    switch (loss) {
        case Loss::exponential:
            return -exp(-m);
        case Loss::correlation:
            return Real(-1.0);
        case Loss::log:
            return Real(-1.0) / m;
        case Loss::squared:
            return Real(2.0) * expm1(m) * exp(m);
        case Loss::logistic:
            break;
    }
    return Real(-1.0) / (Real(1.0) + exp(m));
}

// log(-l'(m)), far beyond where l' underflows.
template <class Real>
Real log_loss_slope(Loss loss, Real m) {
    switch (loss) {
        case Loss::exponential:
            return -m;
        case Loss::correlation:
            return Real(0.0) * m;
        case Loss::log:
            return -log(m);
        case Loss::squared:
            return log(Real(-2.0) * expm1(m)) + m;
        case Loss::logistic:
            break;
    }
    return -(larger(m, Real(0.0)) + log1p(exp(-larger(m, -m))));
}

// [l(b - s x) - l(b)] / s, the excess for a shortfall s x >= 0 of the margin, as a multiple of the scale s <= 1;
// without cancellation, and also where s has underflown to 0.
template <class Real>
Real scaled_excess(Loss loss, Real b, Real x, Real s) {
    switch (loss) {
        case Loss::exponential:
            return exp(-b) * scaled_expm1(x, s);
        case Loss::correlation:
            return x;
        case Loss::log:
            return -scaled_log1p(-x / b, s);
        case Loss::squared:
            return Real(std::numeric_limits<double>::quiet_NaN());  // not with a fixed head
        case Loss::logistic:
            break;
    }
    return scaled_log1p(scaled_expm1(x, s) / (Real(1.0) + exp(b)), s);
}

}  // namespace attsvm
