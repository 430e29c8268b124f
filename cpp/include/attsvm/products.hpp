// Matrix products C = A B whose every entry is summed in the same order, whatever the number of threads.
//
// One register kernel serves all: columns of B and C lie along SIMD registers (or each is a pack), A is read entry by
// entry at any two strides, so A and A' cost the same.
#pragma once

#include "attsvm/pack.hpp"
#include "attsvm/team.hpp"

namespace attsvm {

template <class Real>
struct Strided {
    const Real* data;
    Index row_stride;
    Index column_stride;
    const Real& operator()(Index r, Index s) const { return data[r * row_stride + s * column_stride]; }
};

// For each row of A the range of columns that may be other than zero.
struct Extents {
    const Index* begin = nullptr;
    const Index* end = nullptr;
};

namespace detail {

// How the kernel's tiles fill the registers, and what a column of a tile is.
template <class Real>
struct Tile {
    using Column = Real;
    static constexpr Index rows = 3, columns = register_bytes == 64 ? 4 : 2, lanes = 1;
};
template <>
struct Tile<double> {
    using Column = NativePack<double>;
    static constexpr Index rows = register_bytes == 64 ? 6 : 4, columns = register_bytes == 64 ? 4 : 2,
                           lanes = native_lanes<double>;
};

template <class Real>
ATTSVM_INLINE typename Tile<Real>::Column load_column(const Real* from) {
    if constexpr (is_pack<Real>)
        return *from;
    else
        return load(from);
}
template <class Real>
ATTSVM_INLINE void store_column(Real* to, typename Tile<Real>::Column x) {
    if constexpr (is_pack<Real>)
        *to = x;
    else
        store(to, x);
}

template <int rows, int columns, class Real>
ATTSVM_INLINE void tile_product(Strided<Real> A, Index first, Index last, const Real* B, Index ldb, Real* C,
                                Index ldc) {
    using Column = typename Tile<Real>::Column;
    constexpr Index lanes = Tile<Real>::lanes;
    Column c[rows][columns];
    for (int r = 0; r < rows; ++r)
        for (int k = 0; k < columns; ++k) c[r][k] = Column(0.0);
    for (Index s = first; s < last; ++s) {
        Column b[columns];
        for (int k = 0; k < columns; ++k) b[k] = load_column(B + s * ldb + k * lanes);
        for (int r = 0; r < rows; ++r) {
            const Column a(A(r, s));
            for (int k = 0; k < columns; ++k) c[r][k] += a * b[k];
        }
    }
    for (int r = 0; r < rows; ++r)
        for (int k = 0; k < columns; ++k) store_column(C + r * ldc + k * lanes, c[r][k]);
}

template <int rows, class Real>
void row_block_product(Strided<Real> A, Index first, Index last, const Real* B, Index ldb, Real* C, Index ldc,
                       Index columns) {
    constexpr Index lanes = Tile<Real>::lanes;
    constexpr int wide = static_cast<int>(Tile<Real>::columns);
    Index k = 0;
    for (; k + wide * lanes <= columns; k += wide * lanes)
        tile_product<rows, wide>(A, first, last, B + k, ldb, C + k, ldc);
    for (; k + lanes <= columns; k += lanes) tile_product<rows, 1>(A, first, last, B + k, ldb, C + k, ldc);
    for (; k < columns; ++k)
        for (int r = 0; r < rows; ++r) {
            Real total(0.0);
            for (Index s = first; s < last; ++s) total += A(r, s) * B[s * ldb + k];
            C[r * ldc + k] = total;
        }
}

}  // namespace detail

// C (rows × columns) = A (rows × depth) B (depth × columns); B and C have contiguous rows.
template <class Real>
void multiply(const Team& team, Index rows, Index depth, Index columns, Strided<Real> A, Extents extents, const Real* B,
              Real* C) {
    constexpr Index height = detail::Tile<Real>::rows;
    // Bands of columns narrow enough that a band of B stays in the second cache, and blocks of rows, make the tasks.
    constexpr Index band = is_pack<Real> ? 64 : 8 * detail::Tile<Real>::lanes;
    const Index bands = (columns + band - 1) / band;
    const Index blocks = (rows + height - 1) / height;
    team.for_ranges(bands * blocks, [&](Index task, Index last_task, int) {
        for (; task < last_task; ++task) {
            const Index k = task / blocks * band;
            const Index r = task % blocks * height;
            const Index count = std::min(height, rows - r);
            Index first = 0;
            Index last = depth;
            if (extents.begin != nullptr) {
                first = *std::min_element(extents.begin + r, extents.begin + r + count);
                last = *std::max_element(extents.end + r, extents.end + r + count);
            }
            const Index width = std::min(band, columns - k);
            const Strided<Real> block{&A(r, 0), A.row_stride, A.column_stride};
            if (count == height) {
                detail::row_block_product<height>(block, first, last, B + k, columns, C + r * columns + k, columns,
                                                  width);
            } else {
                for (Index j = 0; j < count; ++j)
                    detail::row_block_product<1>(Strided<Real>{&A(r + j, 0), A.row_stride, A.column_stride}, first,
                                                 last, B + k, columns, C + (r + j) * columns + k, columns, width);
            }
        }
    });
}

// Memory that will be read next, asked for a cache line at a time while other work is done.
class Ahead {
   public:
    Ahead() = default;
    template <class T>
    Ahead(const T* data, Index count)
        : at_(reinterpret_cast<const char*>(data)), end_(at_ + count * Index{sizeof(T)}) {}

    // Asks for as many bytes as the caller has just read.
    ATTSVM_INLINE void fetch(Index bytes) {
        for (const char* const until = std::min(end_, at_ + bytes); at_ < until; at_ += line)
            __builtin_prefetch(at_, 0, 2);
    }

   private:
    static constexpr Index line = 64;
    const char* at_ = nullptr;
    const char* end_ = nullptr;
};

namespace detail {

constexpr Index group = 8;

// a_t = <x_t, q> for `rows` rows at once: one column of q serves them all.
template <int rows, class Token>
ATTSVM_INLINE void dot_group(const Token* X, Index d, const double* q, double* a) {
    constexpr Index lanes = native_lanes<double>;
    NativePack<double> total[rows];
    for (int j = 0; j < rows; ++j) total[j] = 0.0;
    Index k = 0;
    for (; k + lanes <= d; k += lanes) {
        const NativePack<double> part = load(q + k);
        for (int j = 0; j < rows; ++j) total[j] += load(X + j * d + k) * part;
    }
    for (int j = 0; j < rows; ++j) {
        double rest = 0.0;
        for (Index c = k; c < d; ++c) rest += static_cast<double>(X[j * d + c]) * q[c];
        a[j] = sum_lanes(total[j]) + rest;
    }
}

// u += Σ_t c_t x_t over `rows` rows
template <int rows, class Token>
ATTSVM_INLINE void combine_group(const Token* X, Index d, const double* c, double* u) {
    constexpr Index lanes = native_lanes<double>;
    Index k = 0;
    for (; k + lanes <= d; k += lanes) {
        NativePack<double> total = load(u + k);
        for (int j = 0; j < rows; ++j) total += NativePack<double>(c[j]) * load(X + j * d + k);
        store(u + k, total);
    }
    for (; k < d; ++k)
        for (int j = 0; j < rows; ++j) u[k] += c[j] * static_cast<double>(X[j * d + k]);
}

}  // namespace detail

// a_t = <x_t, q> for the rows x_t of X
template <class Token, class Real>
void rows_dot(const Token* X, Index rows, Index d, const Real* q, Real* a, Ahead ahead = {}) {
    Index t = 0;
    if constexpr (is_pack<Real>) {
        constexpr Index group = 4;
        for (; t + group <= rows; t += group) {
            Real total[group] = {Real(0.0), Real(0.0), Real(0.0), Real(0.0)};
            for (Index k = 0; k < d; ++k)
                for (Index j = 0; j < group; ++j) total[j] += X[(t + j) * d + k] * q[k];
            for (Index j = 0; j < group; ++j) a[t + j] = total[j];
        }
        for (; t < rows; ++t) {
            Real total(0.0);
            for (Index k = 0; k < d; ++k) total += X[t * d + k] * q[k];
            a[t] = total;
        }
    } else {
        constexpr Index bytes = detail::group * Index{sizeof(Token)};
        for (; t + detail::group <= rows; t += detail::group) {
            ahead.fetch(bytes * d);
            detail::dot_group<detail::group>(X + t * d, d, q, a + t);
        }
        for (; t < rows; ++t) detail::dot_group<1>(X + t * d, d, q, a + t);
    }
}

// u = Σ_t c_t x_t
template <class Token, class Real>
void rows_combine(const Token* X, Index rows, Index d, const Real* c, Real* u, Ahead ahead = {}) {
    if constexpr (is_pack<Real>) {
        constexpr Index wide = 8;
        const auto strip = [&]<Index width>(std::integral_constant<Index, width>, Index k) {
            Real total[width];
            for (Index j = 0; j < width; ++j) total[j] = Real(0.0);
            for (Index t = 0; t < rows; ++t)
                for (Index j = 0; j < width; ++j) total[j] += c[t] * X[t * d + k + j];
            for (Index j = 0; j < width; ++j) u[k + j] = total[j];
        };
        Index k = 0;
        for (; k + wide <= d; k += wide) strip(std::integral_constant<Index, wide>{}, k);
        for (; k < d; ++k) strip(std::integral_constant<Index, 1>{}, k);
    } else {
        constexpr Index bytes = detail::group * Index{sizeof(Token)};
        std::fill(u, u + d, 0.0);
        Index t = 0;
        for (; t + detail::group <= rows; t += detail::group) {
            ahead.fetch(bytes * d);
            detail::combine_group<detail::group>(X + t * d, d, c + t, u);
        }
        for (; t < rows; ++t) detail::combine_group<1>(X + t * d, d, c + t, u);
    }
}

}  // namespace attsvm
