// Numbers of twice the precision of float64, as sums of two of them: an error of about 2⁻¹⁰⁴. Sources that use them are
// compiled without contraction of products and sums (CMakeLists.txt), on which the error terms rely.
//
// Dekker, "A floating-point technique for extending the available precision", Numerische Mathematik 18, 1971.
#pragma once

#include <Eigen/Core>
#include <cmath>
#include <limits>

#include "attsvm/pack.hpp"

namespace attsvm {

// a + b = sum + error
ATTSVM_INLINE double sum_error(double a, double b, double sum) {
    const double virtual_b = sum - a;
    return (a - (sum - virtual_b)) + (b - virtual_b);
}
// a b = product + error
ATTSVM_INLINE double product_error(double a, double b, double product) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    return std::fma(a, b, -product);
#else
    constexpr double splitter = 134217729.0;  // 2^27 + 1
    const double ca = splitter * a, cb = splitter * b;
    const double ah = ca - (ca - a), bh = cb - (cb - b);
    const double al = a - ah, bl = b - bh;
    return ((ah * bh - product) + ah * bl + al * bh) + al * bl;
#endif
}

struct TwoDoubles {
    double high = 0.0, low = 0.0;

    TwoDoubles() = default;
    TwoDoubles(double high_, double low_ = 0.0) : high(high_), low(low_) {}  // NOLINT: a double is one of them
    explicit operator double() const { return high; }

    // high + low, for a low part far below the high one; what is not finite has none
    static TwoDoubles sum(double high, double low) {
        const double total = high + low;
        return std::isfinite(total) ? TwoDoubles(total, low - (total - high)) : TwoDoubles(high);
    }

    friend TwoDoubles operator-(const TwoDoubles& a) { return {-a.high, -a.low}; }
    friend TwoDoubles operator+(const TwoDoubles& a, const TwoDoubles& b) {
        const double high = a.high + b.high;
        return sum(high, sum_error(a.high, b.high, high) + (a.low + b.low));
    }
    friend TwoDoubles operator-(const TwoDoubles& a, const TwoDoubles& b) { return a + -b; }
    friend TwoDoubles operator*(const TwoDoubles& a, const TwoDoubles& b) {
        const double high = a.high * b.high;
        return sum(high, product_error(a.high, b.high, high) + (a.high * b.low + a.low * b.high));
    }
    [[gnu::noinline]] friend TwoDoubles operator/(const TwoDoubles& a, const TwoDoubles& b) {
        const double first = a.high / b.high;
        if (!std::isfinite(first)) return first;
        const TwoDoubles rest = a - b * first;
        const double second = rest.high / b.high;
        return TwoDoubles::sum(first, second) + (rest - b * second).high / b.high;
    }
    TwoDoubles& operator+=(const TwoDoubles& b) { return *this = *this + b; }
    TwoDoubles& operator-=(const TwoDoubles& b) { return *this = *this - b; }
    TwoDoubles& operator*=(const TwoDoubles& b) { return *this = *this * b; }
    TwoDoubles& operator/=(const TwoDoubles& b) { return *this = *this / b; }

    friend bool operator==(const TwoDoubles& a, const TwoDoubles& b) { return a.high == b.high && a.low == b.low; }
    friend bool operator<(const TwoDoubles& a, const TwoDoubles& b) {
        return a.high < b.high || (a.high == b.high && a.low < b.low);
    }
    friend bool operator>(const TwoDoubles& a, const TwoDoubles& b) { return b < a; }
    friend bool operator<=(const TwoDoubles& a, const TwoDoubles& b) { return a < b || a == b; }
    friend bool operator>=(const TwoDoubles& a, const TwoDoubles& b) { return b <= a; }

    friend bool isfinite(const TwoDoubles& a) { return std::isfinite(a.high); }
    friend bool isinf(const TwoDoubles& a) { return std::isinf(a.high); }
    friend bool isnan(const TwoDoubles& a) { return std::isnan(a.high); }
    friend TwoDoubles abs(const TwoDoubles& a) { return a.high < 0 ? -a : a; }
    [[gnu::noinline]] friend TwoDoubles sqrt(const TwoDoubles& a) {
        const double root = std::sqrt(a.high);
        if (!(root > 0) || !std::isfinite(root)) return root;
        return TwoDoubles(root) + (a - TwoDoubles(root) * root).high / (2.0 * root);
    }
    // e^a - 1 by its series at a / 2^halvings, doubled as often
    [[gnu::noinline]] friend TwoDoubles exp(const TwoDoubles& a) {
        constexpr int halvings = 9, terms = 10;
        constexpr double largest = 700.0;
        if (!(std::abs(a.high) < largest)) return std::exp(a.high);
        const TwoDoubles log_two(0.6931471805599453, 2.3190468138462996e-17);
        const double exponent = std::nearbyint(a.high / log_two.high);
        const TwoDoubles rest = (a - log_two * exponent) * std::ldexp(1.0, -halvings);
        TwoDoubles less_one = 0.0;
        for (int k = terms; k > 0; --k) less_one = rest * (1.0 + less_one) / static_cast<double>(k);
        for (int k = 0; k < halvings; ++k) less_one = less_one * (2.0 + less_one);
        const TwoDoubles result = 1.0 + less_one;
        const int power = static_cast<int>(exponent);
        return {std::ldexp(result.high, power), std::ldexp(result.low, power)};
    }
    // A step of Newton's method for e^x = a
    [[gnu::noinline]] friend TwoDoubles log(const TwoDoubles& a) {
        const double first = std::log(a.high);
        if (!(std::abs(first) < 700.0)) return first;
        return first + (a * exp(TwoDoubles(-first)) - 1.0);
    }
    [[gnu::noinline]] friend TwoDoubles pow(const TwoDoubles& a, const TwoDoubles& power) {
        return exp(power * log(a));
    }
};

}  // namespace attsvm

template <>
struct std::numeric_limits<attsvm::TwoDoubles> : std::numeric_limits<double> {
    static constexpr int digits = 104, digits10 = 31;
    static attsvm::TwoDoubles epsilon() { return 0x1p-103; }
    static attsvm::TwoDoubles min() { return std::numeric_limits<double>::min(); }
    static attsvm::TwoDoubles max() { return std::numeric_limits<double>::max(); }
    static attsvm::TwoDoubles lowest() { return std::numeric_limits<double>::lowest(); }
    static attsvm::TwoDoubles infinity() { return std::numeric_limits<double>::infinity(); }
    static attsvm::TwoDoubles quiet_NaN() { return std::numeric_limits<double>::quiet_NaN(); }
};

template <>
struct Eigen::NumTraits<attsvm::TwoDoubles> : Eigen::GenericNumTraits<attsvm::TwoDoubles> {
    using Real = attsvm::TwoDoubles;
    using NonInteger = Real;
    using Nested = Real;
    using Literal = double;
    enum {
        IsComplex = 0,
        IsInteger = 0,
        IsSigned = 1,
        RequireInitialization = 1,
        ReadCost = 2,
        AddCost = 20,
        MulCost = 20,
    };
    static Real epsilon() { return std::numeric_limits<Real>::epsilon(); }
    static Real dummy_precision() { return 1e-28; }
};

template <class Operation>
struct Eigen::ScalarBinaryOpTraits<double, attsvm::TwoDoubles, Operation> {
    using ReturnType = attsvm::TwoDoubles;
};
template <class Operation>
struct Eigen::ScalarBinaryOpTraits<attsvm::TwoDoubles, double, Operation> {
    using ReturnType = attsvm::TwoDoubles;
};
