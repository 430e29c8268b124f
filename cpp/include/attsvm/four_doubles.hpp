// Numbers of four times the precision of float64, as sums of four of them: an error of about 2⁻²⁰⁰. Sources that use
// them are compiled without contraction of products and sums (CMakeLists.txt), on which the error terms rely.
//
// Dekker, "A floating-point technique for extending the available precision", Numerische Mathematik 18, 1971; Ogita,
// Rump, Oishi, "Accurate sum and dot product", SIAM Journal on Scientific Computing 26, 2005.
#pragma once

#include <Eigen/Core>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "attsvm/pack.hpp"

#ifdef __FMA__
#include <immintrin.h>
#endif

namespace attsvm {

// Of numbers, and of registers of them: a + b = sum + error
template <class V>
ATTSVM_INLINE V sum_error(V a, V b, V sum) {
    const V virtual_b = sum - a;
    return (a - (sum - virtual_b)) + (b - virtual_b);
}
// a b = product + error
template <class V>
ATTSVM_INLINE V product_error(V a, V b, V product) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    if constexpr (is_pack<V>) {
#if defined(__AVX512F__)
        return V(_mm512_fmsub_pd(a.v, b.v, product.v));
#elif defined(__FMA__)
        return V(_mm256_fmsub_pd(a.v, b.v, product.v));
#else
        for (int k = 0; k < NumberTraits<V>::lanes; ++k) product.v[k] = std::fma(a.v[k], b.v[k], -product.v[k]);
        return product;
#endif
    } else {
        return std::fma(a, b, -product);
    }
#else
    // Half of the digits: 26, rounded. Dekker's multiple of x overflows where x does not.
    const auto half = [](double x) {
        constexpr std::uint64_t unit = std::uint64_t{1} << 27U;
        return std::bit_cast<double>((std::bit_cast<std::uint64_t>(x) + unit / 2) & ~(unit - 1));
    };
    const V ah = lanewise(a, half), bh = lanewise(b, half);
    const V al = a - ah, bl = b - bh;
    return ((ah * bh - product) + ah * bl + al * bh) + al * bl;
#endif
}
// terms[first], ..., terms[last] become their rounded sum and what rounding took from each partial sum.
template <class V>
ATTSVM_INLINE void distill(V* terms, int first, int last) {
    for (int j = last - 1; j >= first; --j) {
        const V total = terms[j] + terms[j + 1];
        terms[j + 1] = sum_error(terms[j], terms[j + 1], total);
        terms[j] = total;
    }
}
// The four parts of the sum of terms, once distilled, come first.
template <class V, int count>
ATTSVM_INLINE void separate(V (&terms)[count]) {
    for (int k = 1; k < 4; ++k) distill(terms, k, count - 1);
    for (const int k : {0, 0, 1, 2}) distill(terms, k, 3);  // where they cancelled, the first lack what the next have
}
// The terms of a + b and of a b, those of the largest size first
template <class V>
ATTSVM_INLINE void terms_of_sum(const V* a, const V* b, V (&terms)[8]) {
    for (int k = 0; k < 4; ++k) terms[2 * k] = a[k], terms[2 * k + 1] = b[k];
}
template <class V>
ATTSVM_INLINE void terms_of_product(const V* a, const V* b, V (&terms)[10]) {
    const auto error = [&](int k, int l) { return product_error(a[k], b[l], a[k] * b[l]); };
    int count = 0;
    for (int order = 0; order < 3; ++order) {
        for (int k = 0; k <= order; ++k) terms[count++] = a[k] * b[order - k];
        for (int k = 0; k < order; ++k) terms[count++] = error(k, order - 1 - k);
    }
    V last = 0.0;  // of the smallest order: what rounding takes is beyond the last part
    for (int k = 0; k < 3; ++k) last += error(k, 2 - k);
    for (int k = 0; k <= 3; ++k) last += a[k] * b[3 - k];
    terms[count] = last;
}

struct FourDoubles {
    double part[4] = {};  // from the largest; the first is the number rounded

    FourDoubles() = default;
    constexpr FourDoubles(double value) : part{value, 0.0, 0.0, 0.0} {}  // NOLINT: a double is one of them
    explicit operator double() const { return part[0]; }

    // The sum of terms, those of the largest size first
    template <int count>
    ATTSVM_INLINE static FourDoubles sum(double (&terms)[count]) {
        distill(terms, 0, count - 1);
        if (!std::isfinite(terms[0])) return terms[0];
        separate(terms);
        FourDoubles result;
        std::copy_n(terms, 4, result.part);
        return result;
    }

    friend FourDoubles operator-(const FourDoubles& a) {
        FourDoubles negative;
        for (int k = 0; k < 4; ++k) negative.part[k] = -a.part[k];
        return negative;
    }
    [[gnu::noinline]] friend FourDoubles operator+(const FourDoubles& a, const FourDoubles& b) {
        double terms[8];
        terms_of_sum(a.part, b.part, terms);
        return sum(terms);
    }
    friend FourDoubles operator-(const FourDoubles& a, const FourDoubles& b) { return a + -b; }
    [[gnu::noinline]] friend FourDoubles operator*(const FourDoubles& a, const FourDoubles& b) {
        const double first = a.part[0] * b.part[0];
        if (!std::isfinite(first)) return first;
        double terms[10];
        terms_of_product(a.part, b.part, terms);
        return sum(terms);
    }
    [[gnu::noinline]] friend FourDoubles operator/(const FourDoubles& a, const FourDoubles& b) {
        double terms[5] = {a.part[0] / b.part[0]};
        if (!std::isfinite(terms[0]) || isinf(b)) return terms[0];
        FourDoubles rest = a;
        for (int k = 1; k < 5; ++k) {
            rest -= b * terms[k - 1];
            terms[k] = rest.part[0] / b.part[0];
        }
        return sum(terms);
    }
    FourDoubles& operator+=(const FourDoubles& b) { return *this = *this + b; }
    FourDoubles& operator-=(const FourDoubles& b) { return *this = *this - b; }
    FourDoubles& operator*=(const FourDoubles& b) { return *this = *this * b; }
    FourDoubles& operator/=(const FourDoubles& b) { return *this = *this / b; }

    friend bool operator==(const FourDoubles& a, const FourDoubles& b) {
        return std::equal(a.part, a.part + 4, b.part);
    }
    friend bool operator<(const FourDoubles& a, const FourDoubles& b) {
        for (int k = 0; k < 3; ++k)
            if (a.part[k] != b.part[k]) return a.part[k] < b.part[k];
        return a.part[3] < b.part[3];
    }
    friend bool operator>(const FourDoubles& a, const FourDoubles& b) { return b < a; }
    friend bool operator<=(const FourDoubles& a, const FourDoubles& b) { return a < b || a == b; }
    friend bool operator>=(const FourDoubles& a, const FourDoubles& b) { return b <= a; }

    friend bool isfinite(const FourDoubles& a) { return std::isfinite(a.part[0]); }
    friend bool isinf(const FourDoubles& a) { return std::isinf(a.part[0]); }
    friend bool isnan(const FourDoubles& a) { return std::isnan(a.part[0]); }
    friend FourDoubles abs(const FourDoubles& a) { return a.part[0] < 0 ? -a : a; }
    // Each step of Newton's method doubles the digits.
    [[gnu::noinline]] friend FourDoubles sqrt(const FourDoubles& a) {
        const double first = std::sqrt(a.part[0]);
        if (!(first > 0) || !std::isfinite(first)) return first;
        FourDoubles root = first;
        for (int k = 0; k < 2; ++k) root += (a - root * root) / (2.0 * root);
        return root;
    }
    // e^a - 1 by its series at a / 2^halvings, doubled as often
    [[gnu::noinline]] friend FourDoubles exp(const FourDoubles& a) {
        constexpr int halvings = 9;
        constexpr std::size_t terms = 18;
        constexpr double largest = 700.0;
        if (!(std::abs(a.part[0]) < largest)) return std::exp(a.part[0]);
        double of_log_two[4] = {0x1.62e42fefa39efp-1, 0x1.abc9e3b39803fp-56, 0x1.7b57a079a1934p-111,
                                -0x1.ace93a4ebe5d1p-165};
        const double exponent = std::nearbyint(a.part[0] / of_log_two[0]);
        const FourDoubles rest = (a - sum(of_log_two) * exponent) * std::ldexp(1.0, -halvings);
        static const auto coefficients = [] {  // 1 / k!
            std::array<FourDoubles, terms + 1> of{1.0};
            for (std::size_t k = 1; k <= terms; ++k) of[k] = of[k - 1] / static_cast<double>(k);
            return of;
        }();
        FourDoubles less_one = 0.0;
        for (std::size_t k = terms; k > 0; --k) less_one = rest * (coefficients[k] + less_one);
        for (int k = 0; k < halvings; ++k) less_one = less_one * (2.0 + less_one);
        FourDoubles result = 1.0 + less_one;
        for (double& x : result.part) x = std::ldexp(x, static_cast<int>(exponent));
        return result;
    }
    // Steps of Halley's method for e^x = a, each of which triples the digits
    [[gnu::noinline]] friend FourDoubles log(const FourDoubles& a) {
        const double first = std::log(a.part[0]);
        if (!(std::abs(first) < 700.0)) return first;
        FourDoubles x = first;
        for (int k = 0; k < 2; ++k) {
            const FourDoubles ratio = a * exp(-x);
            x += 2.0 * (ratio - 1.0) / (ratio + 1.0);
        }
        return x;
    }
    friend FourDoubles pow(const FourDoubles& a, const FourDoubles& power) { return exp(power * log(a)); }
};

// As many of them as a register of float64 has lanes. Where one is not finite, its parts are not those of FourDoubles.
struct FourRegisters {
    using V = NativePack<double>;
    static constexpr Index lanes = native_lanes<double>;

    V part[4];

    explicit FourRegisters(const FourDoubles& each) {
        for (int p = 0; p < 4; ++p) part[p] = each.part[p];
    }
    explicit FourRegisters(const FourDoubles* from) {
        for (Index k = 0; k < lanes; ++k)
            for (int p = 0; p < 4; ++p) part[p].v[k] = from[k].part[p];
    }
    void store(FourDoubles* to) const {
        for (Index k = 0; k < lanes; ++k)
            for (int p = 0; p < 4; ++p) to[k].part[p] = part[p].v[k];
    }
    bool is_finite() const { return !any<V>(part[0] - part[0] != V(0.0)); }
    [[gnu::noinline]] void add_product(const FourRegisters& a, const FourRegisters& b) {
        V product[10], sum[8];
        terms_of_product(a.part, b.part, product);
        distill(product, 0, 9);
        separate(product);
        terms_of_sum<V>(part, product, sum);
        distill(sum, 0, 7);
        separate(sum);
        std::copy_n(sum, 4, part);
    }
};

// y += multiple x
inline void add_multiple(Index size, const FourDoubles& multiple, const FourDoubles* x, FourDoubles* y) {
    const FourRegisters factor(multiple);
    Index k = 0;
    for (; k + FourRegisters::lanes <= size; k += FourRegisters::lanes) {
        FourRegisters sum(y + k);
        sum.add_product(factor, FourRegisters(x + k));
        if (!sum.is_finite()) break;
        sum.store(y + k);
    }
    for (; k < size; ++k) y[k] += multiple * x[k];
}
inline FourDoubles inner_product(Index size, const FourDoubles* x, const FourDoubles* y) {
    FourRegisters sums{FourDoubles(0.0)};
    Index first = 0;
    for (; first + FourRegisters::lanes <= size; first += FourRegisters::lanes)
        sums.add_product(FourRegisters(x + first), FourRegisters(y + first));
    FourDoubles total = 0.0, of_lanes[FourRegisters::lanes];
    if (sums.is_finite()) {
        sums.store(of_lanes);
        for (const FourDoubles& sum : of_lanes) total += sum;
    } else {
        first = 0;
    }
    for (Index k = first; k < size; ++k) total += x[k] * y[k];
    return total;
}

}  // namespace attsvm

template <>
struct std::numeric_limits<attsvm::FourDoubles> : std::numeric_limits<double> {
    static constexpr int digits = 200, digits10 = 60;
    static constexpr attsvm::FourDoubles epsilon() { return 0x1p-199; }
    static constexpr attsvm::FourDoubles min() { return std::numeric_limits<double>::min(); }
    static constexpr attsvm::FourDoubles max() { return std::numeric_limits<double>::max(); }
    static constexpr attsvm::FourDoubles lowest() { return std::numeric_limits<double>::lowest(); }
    static constexpr attsvm::FourDoubles infinity() { return std::numeric_limits<double>::infinity(); }
    static constexpr attsvm::FourDoubles quiet_NaN() { return std::numeric_limits<double>::quiet_NaN(); }
};

template <>
struct Eigen::NumTraits<attsvm::FourDoubles> : Eigen::GenericNumTraits<attsvm::FourDoubles> {
    using Real = attsvm::FourDoubles;
    using NonInteger = Real;
    using Nested = Real;
    using Literal = double;
    enum {
        IsComplex = 0,
        IsInteger = 0,
        IsSigned = 1,
        RequireInitialization = 1,
        ReadCost = 4,
        AddCost = 100,
        MulCost = 200,
    };
    static Real epsilon() { return std::numeric_limits<Real>::epsilon(); }
    static Real dummy_precision() { return 1e-56; }
};

template <class Operation>
struct Eigen::ScalarBinaryOpTraits<double, attsvm::FourDoubles, Operation> {
    using ReturnType = attsvm::FourDoubles;
};
template <class Operation>
struct Eigen::ScalarBinaryOpTraits<attsvm::FourDoubles, double, Operation> {
    using ReturnType = attsvm::FourDoubles;
};
