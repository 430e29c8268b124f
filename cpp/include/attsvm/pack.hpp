// A pack: several numbers, one per lane, that the arithmetic of the core treats as one number.
//
// The core is written once, on a number type `Real`. With `Real = double` it runs one problem and lays its SIMD along
// arrays; with `Real = Pack<double, N>` the same text runs N problems, one per lane.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace attsvm {

using Index = std::ptrdiff_t;

#define ATTSVM_INLINE [[gnu::always_inline]] inline

// The compiler's own vector of N numbers.
template <class T, int N>
struct VectorOf {
    typedef T type __attribute__((vector_size(N * sizeof(T))));
};

// Lanes compared, and chosen between: by the compiler's vectors, with instructions that it does not find itself, or by
// the mask registers of AVX-512.
template <class T, int N>
struct ComparisonOfVectors {
    using Lanes = typename VectorOf<T, N>::type;
    using Mask = typename VectorOf<std::conditional_t<sizeof(T) == 8, std::int64_t, std::int32_t>, N>::type;

    ATTSVM_INLINE static Mask less(Lanes a, Lanes b) { return a < b; }
    ATTSVM_INLINE static Mask less_equal(Lanes a, Lanes b) { return a <= b; }
    ATTSVM_INLINE static Mask equal(Lanes a, Lanes b) { return a == b; }
    ATTSVM_INLINE static Mask different(Lanes a, Lanes b) { return a != b; }
    ATTSVM_INLINE static Lanes choose(Mask mask, Lanes yes, Lanes no) { return mask ? yes : no; }
    // The second where either is NaN.
    ATTSVM_INLINE static Lanes larger(Lanes a, Lanes b) { return a > b ? a : b; }
    ATTSVM_INLINE static Lanes smaller(Lanes a, Lanes b) { return a < b ? a : b; }
    // Where the mask holds, the larger of a and b; elsewhere a.
    ATTSVM_INLINE static Lanes larger_where(Mask mask, Lanes a, Lanes b) { return mask && b > a ? b : a; }
    ATTSVM_INLINE static bool any(Mask mask) {
        bool found = false;
        for (int k = 0; k < N; ++k) found |= mask[k] != 0;
        return found;
    }
    ATTSVM_INLINE static bool all(Mask mask) {
        bool each = true;
        for (int k = 0; k < N; ++k) each &= mask[k] != 0;
        return each;
    }
    // The first lane where the mask holds, which it does in one.
    ATTSVM_INLINE static int first(Mask mask) {
        int k = 0;
        while (mask[k] == 0) ++k;
        return k;
    }
};

template <class T, int N>
struct Comparison : ComparisonOfVectors<T, N> {};

#if defined(__AVX2__) && !defined(__AVX512F__)
template <>
struct Comparison<double, 4> : ComparisonOfVectors<double, 4> {
    ATTSVM_INLINE static Lanes larger(Lanes a, Lanes b) { return _mm256_max_pd(a, b); }
    ATTSVM_INLINE static Lanes smaller(Lanes a, Lanes b) { return _mm256_min_pd(a, b); }
    ATTSVM_INLINE static Lanes larger_where(Mask mask, Lanes a, Lanes b) { return _mm256_max_pd(mask ? b : a, a); }
    ATTSVM_INLINE static bool any(Mask mask) { return lanes(mask) != 0; }
    ATTSVM_INLINE static bool all(Mask mask) { return lanes(mask) == 0xf; }
    ATTSVM_INLINE static int first(Mask mask) { return std::countr_zero(lanes(mask)); }

   private:
    ATTSVM_INLINE static unsigned lanes(Mask mask) {
        return static_cast<unsigned>(_mm256_movemask_pd(std::bit_cast<__m256d>(mask)));
    }
};
#endif

#ifdef __AVX512F__
template <>
struct Comparison<double, 8> {
    using Lanes = VectorOf<double, 8>::type;
    struct Mask {
        __mmask8 lanes;
    };

    ATTSVM_INLINE static Mask less(Lanes a, Lanes b) { return {_mm512_cmp_pd_mask(a, b, _CMP_LT_OQ)}; }
    ATTSVM_INLINE static Mask less_equal(Lanes a, Lanes b) { return {_mm512_cmp_pd_mask(a, b, _CMP_LE_OQ)}; }
    ATTSVM_INLINE static Mask equal(Lanes a, Lanes b) { return {_mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ)}; }
    ATTSVM_INLINE static Mask different(Lanes a, Lanes b) { return {_mm512_cmp_pd_mask(a, b, _CMP_NEQ_UQ)}; }
    ATTSVM_INLINE static Lanes choose(Mask mask, Lanes yes, Lanes no) {
        return _mm512_mask_blend_pd(mask.lanes, no, yes);
    }
    ATTSVM_INLINE static Lanes larger(Lanes a, Lanes b) { return _mm512_maskz_max_pd(0xff, a, b); }
    ATTSVM_INLINE static Lanes smaller(Lanes a, Lanes b) { return _mm512_maskz_min_pd(0xff, a, b); }
    ATTSVM_INLINE static Lanes larger_where(Mask mask, Lanes a, Lanes b) {
        return _mm512_mask_max_pd(a, mask.lanes, b, a);
    }
    ATTSVM_INLINE static bool any(Mask mask) { return mask.lanes != 0; }
    ATTSVM_INLINE static bool all(Mask mask) { return mask.lanes == 0xff; }
    ATTSVM_INLINE static int first(Mask mask) { return std::countr_zero(mask.lanes); }
};
#endif

template <class T, int N>
struct Pack {
    using Lanes = typename VectorOf<T, N>::type;
    using Compare = Comparison<T, N>;
    using Mask = typename Compare::Mask;

    Lanes v;

    Pack() = default;
    // Less zero, which leaves every number as it is: a sum with zero would be computed, for the sign of -0.
    ATTSVM_INLINE Pack(T value) : v(value - Lanes{}) {}
    ATTSVM_INLINE explicit Pack(Lanes lanes) : v(lanes) {}

    ATTSVM_INLINE Pack operator-() const { return Pack(-v); }
    ATTSVM_INLINE Pack& operator+=(Pack b) { return v += b.v, *this; }
    ATTSVM_INLINE Pack& operator-=(Pack b) { return v -= b.v, *this; }
    ATTSVM_INLINE Pack& operator*=(Pack b) { return v *= b.v, *this; }
    ATTSVM_INLINE friend Pack operator+(Pack a, Pack b) { return Pack(a.v + b.v); }
    ATTSVM_INLINE friend Pack operator-(Pack a, Pack b) { return Pack(a.v - b.v); }
    ATTSVM_INLINE friend Pack operator*(Pack a, Pack b) { return Pack(a.v * b.v); }
    ATTSVM_INLINE friend Pack operator/(Pack a, Pack b) { return Pack(a.v / b.v); }
    ATTSVM_INLINE friend Mask operator<(Pack a, Pack b) { return Compare::less(a.v, b.v); }
    ATTSVM_INLINE friend Mask operator>(Pack a, Pack b) { return Compare::less(b.v, a.v); }
    ATTSVM_INLINE friend Mask operator>=(Pack a, Pack b) { return Compare::less_equal(b.v, a.v); }
    ATTSVM_INLINE friend Mask operator==(Pack a, Pack b) { return Compare::equal(a.v, b.v); }
    ATTSVM_INLINE friend Mask operator!=(Pack a, Pack b) { return Compare::different(a.v, b.v); }
    ATTSVM_INLINE friend Pack select(Mask mask, Pack yes, Pack no) { return Pack(Compare::choose(mask, yes.v, no.v)); }
    ATTSVM_INLINE friend Pack larger(Pack a, Pack b) { return Pack(Compare::larger(a.v, b.v)); }
    ATTSVM_INLINE friend Pack smaller(Pack a, Pack b) { return Pack(Compare::smaller(a.v, b.v)); }
    ATTSVM_INLINE friend Pack larger_where(Mask mask, Pack a, Pack b) {
        return Pack(Compare::larger_where(mask, a.v, b.v));
    }
};

// What a number type is made of: its scalar, how many lanes it has, and the result of comparing two of it.
template <class Real>
struct NumberTraits {
    using Scalar = Real;
    using Mask = bool;
    static constexpr int lanes = 1;
};

template <class T, int N>
struct NumberTraits<Pack<T, N>> {
    using Scalar = T;
    using Mask = typename Pack<T, N>::Mask;
    static constexpr int lanes = N;
};

template <class Real>
inline constexpr bool is_pack = NumberTraits<Real>::lanes > 1;

// Lanes of a register of the instruction set that this translation unit is compiled for.
#if defined(__AVX512F__)
inline constexpr int register_bytes = 64;
#elif defined(__AVX2__)
inline constexpr int register_bytes = 32;
#else
inline constexpr int register_bytes = 16;
#endif
template <class T>
inline constexpr int native_lanes = register_bytes / static_cast<int>(sizeof(T));
template <class T>
using NativePack = Pack<T, native_lanes<T>>;

// --- Choosing ---

ATTSVM_INLINE double select(bool mask, double yes, double no) { return mask ? yes : no; }

// Whether a comparison holds in any lane.
template <class Real>
ATTSVM_INLINE bool any(typename NumberTraits<Real>::Mask mask) {
    if constexpr (NumberTraits<Real>::lanes > 1)
        return Real::Compare::any(mask);
    else
        return mask;
}

// The larger of two; the second where either is NaN.
ATTSVM_INLINE double larger(double a, double b) { return a > b ? a : b; }
ATTSVM_INLINE double smaller(double a, double b) { return a < b ? a : b; }

ATTSVM_INLINE double magnitude(double x) { return std::abs(x); }
template <int N>
ATTSVM_INLINE Pack<double, N> magnitude(Pack<double, N> x) {
    using Bits = typename VectorOf<std::int64_t, N>::type;
    return Pack<double, N>(std::bit_cast<typename Pack<double, N>::Lanes>(std::bit_cast<Bits>(x.v) & INT64_MAX));
}

// --- Lanes ---

ATTSVM_INLINE double lane(double x, int) { return x; }
template <class T, int N>
ATTSVM_INLINE T lane(Pack<T, N> x, int k) {
    return x.v[k];
}
ATTSVM_INLINE void set_lane(double& x, int, double value) { x = value; }
template <class T, int N>
ATTSVM_INLINE void set_lane(Pack<T, N>& x, int k, T value) {
    x.v[k] = value;
}

template <class Real, class Function>
ATTSVM_INLINE Real lanewise(Real x, Function function) {
    if constexpr (is_pack<Real>) {
        for (int k = 0; k < NumberTraits<Real>::lanes; ++k) set_lane(x, k, function(lane(x, k)));
        return x;
    } else {
        return function(x);
    }
}

// --- Memory ---

template <class T>
ATTSVM_INLINE NativePack<T> load(const T* from) {
    NativePack<T> x;
    std::memcpy(&x, from, sizeof x);
    return x;
}
// Single precision in memory, double precision in the register.
ATTSVM_INLINE NativePack<double> load(const float* from) {
#if defined(__AVX512F__)
    return NativePack<double>(_mm512_maskz_cvtps_pd(0xff, _mm256_loadu_ps(from)));
#elif defined(__AVX2__)
    return NativePack<double>(_mm256_cvtps_pd(_mm_loadu_ps(from)));
#else
    VectorOf<float, native_lanes<double>>::type x;
    std::memcpy(&x, from, sizeof x);
    return NativePack<double>(__builtin_convertvector(x, NativePack<double>::Lanes));
#endif
}
ATTSVM_INLINE void store(double* to, NativePack<double> x) { std::memcpy(to, &x, sizeof x); }

// The first `count` lanes of a register, less than all: the others are 0 when read, and not written.
template <class Stored>
ATTSVM_INLINE NativePack<double> load_some(const Stored* from, Index count) {
#if defined(__AVX512F__)
    const auto mask = static_cast<__mmask8>((1u << count) - 1u);
    if constexpr (std::is_same_v<Stored, double>)
        return NativePack<double>(_mm512_maskz_loadu_pd(mask, from));
    else
        return NativePack<double>(_mm512_maskz_cvtps_pd(0xff, _mm256_maskz_loadu_ps(mask, from)));
#elif defined(__AVX2__)
    const __m128i mask = _mm_cmpgt_epi32(_mm_set1_epi32(static_cast<int>(count)), _mm_setr_epi32(0, 1, 2, 3));
    if constexpr (std::is_same_v<Stored, double>)
        return NativePack<double>(_mm256_maskload_pd(from, _mm256_cvtepi32_epi64(mask)));
    else
        return NativePack<double>(_mm256_cvtps_pd(_mm_maskload_ps(from, mask)));
#else
    NativePack<double> x(0.0);
    for (Index k = 0; k < count; ++k) x.v[k] = static_cast<double>(from[k]);
    return x;
#endif
}
ATTSVM_INLINE void store_some(double* to, NativePack<double> x, Index count) {
#if defined(__AVX512F__)
    _mm512_mask_storeu_pd(to, static_cast<__mmask8>((1u << count) - 1u), x.v);
#elif defined(__AVX2__)
    // A store by a mask is slow on some processors.
    __m128d lanes = _mm256_castpd256_pd128(x.v);
    if (count >= 2) {
        _mm_storeu_pd(to, lanes);
        lanes = _mm256_extractf128_pd(x.v, 1);
    }
    if (count % 2 == 1) _mm_store_sd(to + (count - 1), lanes);
#else
    for (Index k = 0; k < count; ++k) to[k] = x.v[k];
#endif
}

// The lanes first, first + 1, ... of x. By shuffles of the register: a copy by address would keep x in memory.
template <int first, class T, int N, std::size_t... k>
ATTSVM_INLINE Pack<T, sizeof...(k)> lanes_from(Pack<T, N> x, std::index_sequence<k...>) {
    return Pack<T, sizeof...(k)>(__builtin_shufflevector(x.v, x.v, (first + static_cast<int>(k))...));
}

// One number from the lanes, always in the same order: halves are joined with halves.
template <class T, int N, class Join>
ATTSVM_INLINE T fold_lanes(Pack<T, N> x, Join join) {
    if constexpr (N == 1) {
        return x.v[0];
    } else {
        constexpr auto half = std::make_index_sequence<N / 2>{};
        return fold_lanes(join(lanes_from<0>(x, half), lanes_from<N / 2>(x, half)), join);
    }
}
template <class T, int N>
ATTSVM_INLINE T sum_lanes(Pack<T, N> x) {
    return fold_lanes(x, [](auto a, auto b) { return a + b; });
}
// The sums of the lanes of eight registers, each in the order of `sum_lanes`.
ATTSVM_INLINE void sum_lanes_of_eight(const NativePack<double>* x, double* sums) {
#ifdef __AVX512F__
    // Halves of two registers are joined in one, then quarters of four, then single lanes of all.
    using Lanes = NativePack<double>::Lanes;
    Lanes half[4], quarter[2];
    for (int k = 0; k < 4; ++k)
        half[k] = __builtin_shufflevector(x[k].v, x[k + 4].v, 0, 1, 2, 3, 8, 9, 10, 11) +
                  __builtin_shufflevector(x[k].v, x[k + 4].v, 4, 5, 6, 7, 12, 13, 14, 15);
    for (int k = 0; k < 2; ++k)
        quarter[k] = __builtin_shufflevector(half[k], half[k + 2], 0, 1, 8, 9, 4, 5, 12, 13) +
                     __builtin_shufflevector(half[k], half[k + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    const Lanes sum = __builtin_shufflevector(quarter[0], quarter[1], 0, 8, 2, 10, 4, 12, 6, 14) +
                      __builtin_shufflevector(quarter[0], quarter[1], 1, 9, 3, 11, 5, 13, 7, 15);
    std::memcpy(sums, &sum, sizeof sum);
#elif defined(__AVX2__)
    // The same of four registers at a time.
    using Lanes = NativePack<double>::Lanes;
    for (int from = 0; from < 8; from += 4) {
        Lanes half[2];
        for (int k = 0; k < 2; ++k)
            half[k] = __builtin_shufflevector(x[from + k].v, x[from + k + 2].v, 0, 1, 4, 5) +
                      __builtin_shufflevector(x[from + k].v, x[from + k + 2].v, 2, 3, 6, 7);
        const Lanes sum = __builtin_shufflevector(half[0], half[1], 0, 4, 2, 6) +
                          __builtin_shufflevector(half[0], half[1], 1, 5, 3, 7);
        std::memcpy(sums + from, &sum, sizeof sum);
    }
#else
    for (int k = 0; k < 8; ++k) sums[k] = sum_lanes(x[k]);
#endif
}
template <class T, int N>
ATTSVM_INLINE T largest_lane(Pack<T, N> x) {
    return fold_lanes(x, [](auto a, auto b) { return larger(a, b); });
}

}  // namespace attsvm
