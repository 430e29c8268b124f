// Elementary functions of numbers, packs and arrays.
#pragma once

#include <algorithm>
#include <bit>

#include "attsvm/pack.hpp"

namespace attsvm {

namespace detail {

// x 2^k for a whole number k in [-1100, 1100], right also where the product is subnormal.
template <int N>
ATTSVM_INLINE Pack<double, N> scale_by_power_of_two(Pack<double, N> x, Pack<double, N> k) {
    using Doubles = Pack<double, N>;
#ifdef __AVX512F__
    if constexpr (N == 8) return Doubles(_mm512_maskz_scalef_pd(0xff, x.v, k.v));
#endif
    // In two factors: one alone could not reach the subnormal numbers. Adding 3·2^51 puts a whole number into the low
    // bits of the sum.
    using Bits = typename VectorOf<std::int64_t, N>::type;
    constexpr double rounder = 6755399441055744.0;
    const Doubles half = k * Doubles(0.5) + Doubles(rounder);
    const Doubles rest = (k - (half - Doubles(rounder))) + Doubles(rounder);
    const auto power = [](Doubles bits) {
        const Bits shifted = (std::bit_cast<Bits>(bits.v) + 1023) << 52;
        return Doubles(std::bit_cast<typename Doubles::Lanes>(shifted));
    };
    return x * power(half) * power(rest);
}
// The same where x and the product are normal numbers; k stands in the last bits of `sum`.
template <int N>
ATTSVM_INLINE Pack<double, N> add_to_exponent(Pack<double, N> x, Pack<double, N> sum) {
    using Bits = typename VectorOf<std::int64_t, N>::type;
    const Bits bits = std::bit_cast<Bits>(x.v) + (std::bit_cast<Bits>(sum.v) << 52);
    return Pack<double, N>(std::bit_cast<typename Pack<double, N>::Lanes>(bits));
}

inline constexpr double log2_e = 1.4426950408889634;
inline constexpr double ln2_high = 6.93145751953125e-1;  // few bits, so that its product with an exponent is exact
inline constexpr double ln2_low = 1.42860682030941723212e-6;

// x less `exponent` times ln 2.
template <class Real>
ATTSVM_INLINE Real less_ln2(Real x, Real exponent) {
    return (x - exponent * Real(ln2_high)) - exponent * Real(ln2_low);
}

#ifdef __AVX512F__
// e^x in the range that `exp` keeps to, with x = (k + j/8) ln 2 + r: a register holds the eight 2^{j/8}, which leaves
// less to the polynomial.
ATTSVM_INLINE Pack<double, 8> exp_by_eighths(Pack<double, 8> x) {
    using Doubles = Pack<double, 8>;
    constexpr double rounder = 844424930131968.0;  // 3·2^48: the last bits of a sum with it count eighths
    // 2^{j/8} rounded, and what rounding left.
    constexpr Doubles::Lanes power = {1.0,
                                      1.0905077326652577,
                                      1.189207115002721,
                                      1.2968395546510096,
                                      1.4142135623730951,
                                      1.5422108254079407,
                                      1.681792830507429,
                                      1.8340080864093424};
    constexpr Doubles::Lanes power_rest = {0.0,
                                           -3.046782079812471e-17,
                                           3.982015231465646e-17,
                                           2.5382502794888315e-17,
                                           -9.667293313452913e-17,
                                           7.949834809697621e-17,
                                           8.199010020581497e-17,
                                           3.283107224245627e-17};
    const Doubles sum = x * Doubles(log2_e) + Doubles(rounder);
    const Doubles exponent = sum - Doubles(rounder);
    const Doubles r = less_ln2(x, exponent);
    const auto eighth = std::bit_cast<__m512i>(sum.v);
    const Doubles high(_mm512_maskz_permutexvar_pd(0xff, eighth, power));
    const Doubles low(_mm512_maskz_permutexvar_pd(0xff, eighth, power_rest));

    // (e^r - 1 - r) / r² on |r| <= ln(2)/16: Chebyshev fit of degree 5, error 5.2e-15.
    const Doubles r2 = r * r;
    const Doubles q01 = Doubles(0.16666666666666724) * r + Doubles(0.5000000000000051);
    const Doubles q23 = Doubles(0.008333333327862411) * r + Doubles(0.0416666666174281);
    const Doubles q45 = Doubles(1.9842046413244086e-4) * r + Doubles(1.388958780664985e-3);
    const Doubles q = (q45 * r2 + q23) * r2 + q01;
    return scale_by_power_of_two((high * (q * r2 + r) + low) + high, exponent);
}
#endif

}  // namespace detail

// e^x in every lane to about one unit in the last place; 0 below the smallest subnormal, NaN stays NaN.
template <int N>
ATTSVM_INLINE Pack<double, N> exp(Pack<double, N> x) {
    using Doubles = Pack<double, N>;
    const bool normal = Doubles::Compare::all(Doubles(708.0) >= magnitude(x));
    if (!normal) x = smaller(Doubles(720.0), larger(Doubles(-760.0), x));
#ifdef __AVX512F__
    if constexpr (N == 8) return detail::exp_by_eighths(x);
#endif
    constexpr double rounder = 6755399441055744.0;  // 3·2^51: a sum with it has a whole number in its last bits
    const Doubles sum = x * Doubles(detail::log2_e) + Doubles(rounder), exponent = sum - Doubles(rounder);
    const Doubles r = detail::less_ln2(x, exponent);

    // (e^r - 1 - r) / r² on |r| <= ln(2)/2: Chebyshev fit of degree 10, error 1.4e-18.
    const Doubles r2 = r * r;
    const Doubles r4 = r2 * r2;
    const Doubles q01 = Doubles(0.16666666666666669) * r + Doubles(0.5);
    const Doubles q23 = Doubles(0.008333333333326136) * r + Doubles(0.041666666666666664);
    const Doubles q45 = Doubles(1.9841269874820627e-4) * r + Doubles(1.3888888888883748e-3);
    const Doubles q67 = Doubles(2.7557255400206422e-6) * r + Doubles(2.4801587325547743e-5);
    const Doubles q89 = Doubles(2.5105217004720745e-8) * r + Doubles(2.7557273643110300e-7);
    const Doubles q0 = q23 * r2 + q01;
    const Doubles q4 = q67 * r2 + q45;
    const Doubles q8 = Doubles(2.0914686968086876e-9) * r2 + q89;
    const Doubles q = (q8 * r4 + q4) * r4 + q0;
    const Doubles of_r = (q * r2 + r) + Doubles(1.0);
    return normal ? detail::add_to_exponent(of_r, sum) : detail::scale_by_power_of_two(of_r, exponent);
}

ATTSVM_INLINE double exp(double x) { return std::exp(x); }
ATTSVM_INLINE double sqrt(double x) { return std::sqrt(x); }
template <int N>
ATTSVM_INLINE Pack<double, N> sqrt(Pack<double, N> x) {
    for (int k = 0; k < N; ++k) x.v[k] = std::sqrt(x.v[k]);
    return x;
}
template <class Real>
ATTSVM_INLINE Real log(Real x) {
    return lanewise(x, [](double y) { return std::log(y); });
}
template <class Real>
ATTSVM_INLINE Real log1p(Real x) {
    return lanewise(x, [](double y) { return std::log1p(y); });
}
template <class Real>
ATTSVM_INLINE Real expm1(Real x) {
    return lanewise(x, [](double y) { return std::expm1(y); });
}

// expm1(s x) / s for 0 <= s <= 1, also where s has underflown to 0.
template <class Real>
Real scaled_expm1(Real x, Real s) {
    const Real small = s * x;
    const Real direct = expm1(small) / select(s > Real(0.0), s, Real(1.0));
    return select(s * s * x * x > Real(1e-16), direct, x * (Real(1.0) + small * Real(0.5)));
}

// log1p(s x) / s for 0 <= s <= 1 and s x > -1, also where s has underflown to 0.
template <class Real>
Real scaled_log1p(Real x, Real s) {
    const Real small = s * x;
    const Real direct = log1p(small) / select(s > Real(0.0), s, Real(1.0));
    return select(s * s * x * x > Real(1e-16), direct, x * (Real(1.0) - small * Real(0.5)));
}

// Arrays. Each function has one text for an array of packs and one for an array of doubles, which lays its SIMD along
// the array. The order of every sum depends on the length alone.

// Σ_t f(t)
template <class Real, class Term>
ATTSVM_INLINE Real sum(Index count, Term term) {
    if constexpr (is_pack<Real>) {
        Real total(0.0);
        for (Index t = 0; t < count; ++t) total += term(t);
        return total;
    } else {
        constexpr Index strands = 8;
        Real strand[strands] = {};
        Index t = 0;
        for (; t + strands <= count; t += strands)
            for (Index k = 0; k < strands; ++k) strand[k] += term(t + k);
        for (Index k = 0; t < count; ++t, ++k) strand[k] += term(t);
        return ((strand[0] + strand[4]) + (strand[2] + strand[6])) +
               ((strand[1] + strand[5]) + (strand[3] + strand[7]));
    }
}

template <class Real>
bool all_zero(const Real* x, Index count) {
    return std::all_of(x, x + count, [](Real y) { return !any<Real>(y != Real(0.0)); });
}

template <class Real>
ATTSVM_INLINE Real sum_of_squares(const Real* x, Index count) {
    return sum<Real>(count, [x](Index k) { return x[k] * x[k]; });
}

// Euclidean norm from the sum of squares, right also where that under- or overflows. Static, for the sources that are
// compiled without contraction of products and sums: they share no symbol with the others.
template <class Real>
static Real norm_of_square(Real square, const Real* x, Index count) {
    if (!any<Real>(square < Real(1e-280)) && !any<Real>(square > Real(1e280))) return sqrt(square);
    Real peak(0.0);
    for (Index k = 0; k < count; ++k) peak = larger(peak, magnitude(x[k]));
    const auto usable = (peak > Real(0.0));
    const Real unit = select(usable, peak, Real(1.0));
    const Real scaled = sum<Real>(count, [x, unit](Index k) {
        const Real y = x[k] / unit;
        return y * y;
    });
    return sqrt(select(square >= Real(1e-280), select(Real(1e280) >= square, square, scaled), scaled)) *
           select(square >= Real(1e-280), select(Real(1e280) >= square, Real(1.0), unit), unit);
}

template <class Real>
static Real norm(const Real* x, Index count) {
    return norm_of_square(sum_of_squares(x, count), x, count);
}

}  // namespace attsvm
