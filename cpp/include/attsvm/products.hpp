// Matrix products C = A B whose every entry is summed in the same order, whatever the number of threads.
//
// One register kernel serves all: columns of B and C lie along SIMD registers (or each is a pack), A is read entry by
// entry at any two strides, so A and A' cost the same.
#pragma once

#include "attsvm/columns.hpp"
#include "attsvm/threads.hpp"

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

// How many rows and columns the kernel's tiles have at most, so that they fill the registers: of doubles, and of packs.
inline constexpr int tile_rows = 6, tile_columns = register_bytes == 64 ? 4 : 2;
inline constexpr int pack_tile_rows = 3, pack_tile_columns = register_bytes == 64 ? 5 : 3;

// Adds to C where it `goes_on`. The last of a tile's columns may have fewer elements than a register has lanes.
template <int rows, int columns, bool ends_partly, class Real>
ATTSVM_INLINE void tile_product(Strided<Real> A, Index first, Index last, const Real* B, Index ldb, Real* C, Index ldc,
                                bool goes_on, Index elements_of_last = 0) {
    using Many = Column<Real>;
    constexpr Index lanes = column_lanes<Real>;
    constexpr int whole = ends_partly ? columns - 1 : columns;
    Many c[rows][columns];
    for (int r = 0; r < rows; ++r) {
        for (int k = 0; k < whole; ++k) c[r][k] = goes_on ? load_column(C + r * ldc + k * lanes) : Many(0.0);
        if constexpr (ends_partly)
            c[r][whole] = goes_on ? load_some(C + r * ldc + whole * lanes, elements_of_last) : Many(0.0);
    }
    for (Index s = first; s < last; ++s) {
        Many b[columns];
        for (int k = 0; k < whole; ++k) b[k] = load_column(B + s * ldb + k * lanes);
        if constexpr (ends_partly) b[whole] = load_some(B + s * ldb + whole * lanes, elements_of_last);
        for (int r = 0; r < rows; ++r) {
            const Many a(A(r, s));
            for (int k = 0; k < columns; ++k) c[r][k] += a * b[k];
        }
    }
    for (int r = 0; r < rows; ++r) {
        for (int k = 0; k < whole; ++k) store_column(C + r * ldc + k * lanes, c[r][k]);
        if constexpr (ends_partly) store_some(C + r * ldc + whole * lanes, c[r][whole], elements_of_last);
    }
}

template <int rows>
void row_block_product(Strided<double> A, Index first, Index last, const double* B, Index ldb, double* C, Index ldc,
                       Index columns, bool goes_on) {
    constexpr Index lanes = column_lanes<double>;
    static_assert(tile_columns <= 4);
    Index k = 0;
    for (; k + tile_columns * lanes <= columns; k += tile_columns * lanes)
        tile_product<rows, tile_columns, false>(A, first, last, B + k, ldb, C + k, ldc, goes_on);
    const Index left = (columns - k) / lanes, rest = (columns - k) % lanes;
    if (rest == 0) {
        if (left == 3) tile_product<rows, 3, false>(A, first, last, B + k, ldb, C + k, ldc, goes_on);
        if (left == 2) tile_product<rows, 2, false>(A, first, last, B + k, ldb, C + k, ldc, goes_on);
        if (left == 1) tile_product<rows, 1, false>(A, first, last, B + k, ldb, C + k, ldc, goes_on);
    } else {
        if (left == 3) tile_product<rows, 4, true>(A, first, last, B + k, ldb, C + k, ldc, goes_on, rest);
        if (left == 2) tile_product<rows, 3, true>(A, first, last, B + k, ldb, C + k, ldc, goes_on, rest);
        if (left == 1) tile_product<rows, 2, true>(A, first, last, B + k, ldb, C + k, ldc, goes_on, rest);
        if (left == 0) tile_product<rows, 1, true>(A, first, last, B + k, ldb, C + k, ldc, goes_on, rest);
    }
}

// action(constant) of the constant `count`, 1 to `most`
template <int most, class Action>
ATTSVM_INLINE void with_constant(Index count, Action action) {
    if (count == most) {
        action(std::integral_constant<int, most>{});
    } else if constexpr (most > 1) {
        with_constant<most - 1>(count, action);
    }
}

// The next of at most `most` of what is `left`: the last two are of about equal size.
ATTSVM_INLINE Index next_part(Index left, Index most) {
    return left >= 2 * most ? most : left > most ? (left + 1) / 2 : left;
}

// The range of columns in which these rows of A may be other than zero.
struct Range {
    Index first, last;
};
ATTSVM_INLINE Range range_of_rows(Extents extents, Index row, Index count, Index depth) {
    if (extents.begin == nullptr) return {0, depth};
    return {*std::min_element(extents.begin + row, extents.begin + row + count),
            *std::max_element(extents.end + row, extents.end + row + count)};
}

// The product of packs, by tiles of at most as many rows and columns.
template <int most_rows, int most_columns, class Real>
ATTSVM_INLINE void multiply_packs(Index rows, Index depth, Index columns, Strided<Real> A, Extents extents,
                                  const Real* B, Real* C) {
    for (Index r = 0; r < rows;) {
        const Index height = next_part(rows - r, most_rows);
        const auto [first, last] = range_of_rows(extents, r, height, depth);
        with_constant<most_rows>(height, [&]<int tall>(std::integral_constant<int, tall>) {
            for (Index k = 0; k < columns;) {
                const Index width = next_part(columns - k, most_columns);
                with_constant<most_columns>(width, [&]<int wide>(std::integral_constant<int, wide>) {
                    tile_product<tall, wide, false>(Strided<Real>{&A(r, 0), A.row_stride, A.column_stride}, first, last,
                                                    B + k, columns, C + r * columns + k, columns, false);
                });
                k += width;
            }
        });
        r += height;
    }
}

}  // namespace detail

// A product uses every number it reads many times: it takes many times the work to be worth sharing.
inline constexpr Index product_uses = 8;

// C (rows × columns) = A (rows × depth) B (depth × columns); B and C have contiguous rows.
template <class Real>
void multiply(const Team& team, Index rows, Index depth, Index columns, Strided<Real> A, Extents extents, const Real* B,
              Real* C) {
    if constexpr (is_pack<Real>) {
        detail::multiply_packs<detail::pack_tile_rows, detail::pack_tile_columns>(rows, depth, columns, A, extents, B,
                                                                                  C);
    } else {
        // Bands of columns narrow enough that a layer of B's rows stays in the second cache there, and blocks of rows,
        // make the tasks. The blocks are of equal height, but for one row; those of a single band are as many for every
        // thread.
        constexpr Index height = detail::tile_rows, band = 8 * column_lanes<Real>, layer = 256;
        const Team sharing = team.for_work(rows * depth * columns / product_uses);
        const Index bands = (columns + band - 1) / band;
        const Index least = (rows + height - 1) / height, share = bands == 1 ? sharing.threads() : 1;
        const Index blocks = std::min((least + share - 1) / share * share, rows);
        const auto block_product = [&](Index k, Index block, Index from) {
            const Index r = rows * block / blocks, count = rows * (block + 1) / blocks - r;
            const auto [first, last] = detail::range_of_rows(extents, r, count, depth);
            detail::with_constant<detail::tile_rows>(count, [&]<int tall>(std::integral_constant<int, tall>) {
                detail::row_block_product<tall>(Strided<double>{&A(r, 0), A.row_stride, A.column_stride},
                                                std::max(first, from), std::min(last, from + layer), B + k, columns,
                                                C + r * columns + k, columns, std::min(band, columns - k), from != 0);
            });
        };
        sharing.for_ranges(bands * blocks, [&](Index task, Index last_task, int) {
            for (Index end; task < last_task; task = end) {
                end = std::min(last_task, (task / blocks + 1) * blocks);  // of this band
                for (Index from = 0; from == 0 || from < depth; from += layer)
                    for (Index one = task; one < end; ++one) block_product(one / blocks * band, one % blocks, from);
            }
        });
    }
}

// Software prefetch of memory that will be read next, a few cache lines at a time while other work is done.
class Prefetcher {
   public:
    Prefetcher() = default;
    template <class T>
    Prefetcher(const T* data, Index count)
        : at_(reinterpret_cast<const char*>(data)), end_(at_ + count * Index{sizeof(T)}) {}

    // Prefetches the next bytes, a multiple of a cache line. Some beyond the end do no harm.
    template <int bytes>
    ATTSVM_INLINE void fetch() {
        if (at_ >= end_) return;
        for (int k = 0; k < bytes; k += line) __builtin_prefetch(at_ + k, 0, 2);
        at_ += bytes;
    }

   private:
    static constexpr int line = 64;
    const char* at_ = nullptr;
    const char* end_ = nullptr;
};

namespace detail {

// Rows worked on at once, and the bytes of one register's width of them. The tokens are read twice, so that asking for
// half as much each time brings the next sample in.
constexpr int group = 8;
template <class Token>
inline constexpr int group_bytes = group * native_lanes<double> * static_cast<int>(sizeof(Token));

// a_t = <x_t, q> for `rows` rows at once: one column of q serves them all. A second factor is x_t itself, a third v.
template <int rows, int factors, class Token>
ATTSVM_INLINE void dot_group(const Token* X, Index d, const double* q, const double* v, double* const (&sums)[3],
                             Prefetcher& next) {
    constexpr Index lanes = native_lanes<double>;
    NativePack<double> total[factors][rows];
    for (auto& of_factor : total)
        for (NativePack<double>& one : of_factor) one = 0.0;
    const auto add = [&](auto read, Index k) {
        const NativePack<double> of_q = read(q + k), of_v = factors > 2 ? read(v + k) : of_q;
        for (int j = 0; j < rows; ++j) {
            const NativePack<double> x = read(X + j * d + k);
            total[0][j] += x * of_q;
            if constexpr (factors > 1) total[1][j] += x * x;
            if constexpr (factors > 2) total[2][j] += x * of_v;
        }
    };
    Index k = 0;
    for (; k + lanes <= d; k += lanes) {
        if constexpr (rows > 1) next.fetch<group_bytes<Token> / 2>();
        add([](auto* from) { return load(from); }, k);
    }
    if (k < d) add([d, k](auto* from) { return load_some(from, d - k); }, k);
    for (int f = 0; f < factors; ++f) {
        if constexpr (rows == 8) {
            sum_lanes_of_eight(total[f], sums[f]);
        } else {
            for (int j = 0; j < rows; ++j) sums[f][j] = sum_lanes(total[f][j]);
        }
    }
}
template <int factors, class Token>
void dot_rows(const Token* X, Index rows, Index d, const double* q, const double* v, double* const (&sums)[3],
              Prefetcher& next) {
    Index t = 0;
    const auto dot = [&]<int count>(std::integral_constant<int, count>) {
        for (; t + count <= rows; t += count)
            dot_group<count, factors>(X + t * d, d, q, v, {sums[0] + t, sums[1] + t, sums[2] + t}, next);
    };
    constexpr int at_once = factors > 1 && register_bytes < 64 ? group / 2 : group;  // so many have sums in registers
    dot(std::integral_constant<int, at_once>{});
    if constexpr (at_once > 4) dot(std::integral_constant<int, 4>{});
    dot(std::integral_constant<int, 2>{});
    dot(std::integral_constant<int, 1>{});
}

// u = Σ_t c_t x_t over all rows, `stride` apart, with u in registers; the last may have fewer elements than a register
// has lanes.
template <int registers, bool ends_partly, class Token>
ATTSVM_INLINE void combine_in_registers(const Token* X, Index rows, Index stride, Index d, const double* c, double* u,
                                        Prefetcher& next) {
    constexpr Index lanes = native_lanes<double>;
    constexpr int whole = ends_partly ? registers - 1 : registers;
    const Index rest = d - whole * lanes;
    NativePack<double> total[registers];
    for (int k = 0; k < registers; ++k) total[k] = 0.0;
    for (Index t = 0; t < rows; ++t) {
        const NativePack<double> share(c[t]);
        const Token* const x = X + t * stride;
        if constexpr (registers == group) next.fetch<group_bytes<Token> / 2>();
        for (int k = 0; k < whole; ++k) total[k] += share * load(x + k * lanes);
        if constexpr (ends_partly) total[whole] += share * load_some(x + whole * lanes, rest);
    }
    for (int k = 0; k < whole; ++k) store(u + k * lanes, total[k]);
    if constexpr (ends_partly) store_some(u + whole * lanes, total[whole], rest);
}

}  // namespace detail

// a_t = <x_t, q> for the rows x_t of X
template <class Token, class Real>
void rows_dot(const Token* X, Index rows, Index d, const Real* q, Real* a, Prefetcher& next) {
    if constexpr (is_pack<Real>) {
        detail::multiply_packs<8, 1>(rows, d, 1, Strided<Real>{X, d, 1}, {}, q, a);
    } else {
        detail::dot_rows<1>(X, rows, d, q, q, {a, a, a}, next);
    }
}

// Also |x_t|², with one read of X
template <class Token, class Real>
void rows_dot(const Token* X, Index rows, Index d, const Real* q, Real* a, Real* squares, Prefetcher& next) {
    if constexpr (is_pack<Real>) {
        rows_dot(X, rows, d, q, a, next);
        for (Index t = 0; t < rows; ++t) squares[t] = sum_of_squares(X + t * d, d);
    } else {
        detail::dot_rows<2>(X, rows, d, q, q, {a, squares, a}, next);
    }
}

// And b_t = <x_t, v>
template <class Token, class Real>
void rows_dot(const Token* X, Index rows, Index d, const Real* q, Real* a, const Real* v, Real* b, Real* squares,
              Prefetcher& next) {
    if constexpr (is_pack<Real>) {
        rows_dot(X, rows, d, q, a, squares, next);
        rows_dot(X, rows, d, v, b, next);
    } else {
        detail::dot_rows<3>(X, rows, d, q, v, {a, squares, b}, next);
    }
}

// u = Σ_t c_t x_t
template <class Token, class Real>
void rows_combine(const Token* X, Index rows, Index d, const Real* c, Real* u, Prefetcher& next) {
    if constexpr (is_pack<Real>) {
        detail::multiply_packs<1, 10>(1, rows, d, Strided<Real>{c, 0, 1}, {}, X, u);
    } else {
        constexpr Index lanes = native_lanes<double>, strip = detail::group * lanes;
        const Index stride = d;
        for (; d > strip; d -= strip, X += strip, u += strip)
            detail::combine_in_registers<detail::group, false>(X, rows, stride, strip, c, u, next);
        detail::with_constant<detail::group>(
            (d + lanes - 1) / lanes, [&]<int registers>(std::integral_constant<int, registers>) {
                if (d == registers * lanes)
                    detail::combine_in_registers<registers, false>(X, rows, stride, d, c, u, next);
                else
                    detail::combine_in_registers<registers, true>(X, rows, stride, d, c, u, next);
            });
    }
}

template <class Token, class Real>
void rows_dot(const Token* X, Index rows, Index d, const Real* q, Real* a) {
    Prefetcher nothing;
    rows_dot(X, rows, d, q, a, nothing);
}
template <class Token, class Real>
void rows_combine(const Token* X, Index rows, Index d, const Real* c, Real* u) {
    Prefetcher nothing;
    rows_combine(X, rows, d, c, u, nothing);
}

// Compiled once, in products.cpp.
extern template void multiply(const Team&, Index, Index, Index, Strided<double>, Extents, const double*, double*);
extern template void rows_dot(const double*, Index, Index, const double*, double*, Prefetcher&);
extern template void rows_dot(const float*, Index, Index, const double*, double*, Prefetcher&);
extern template void rows_dot(const double*, Index, Index, const double*, double*, double*, Prefetcher&);
extern template void rows_dot(const float*, Index, Index, const double*, double*, double*, Prefetcher&);
extern template void rows_dot(const double*, Index, Index, const double*, double*, const double*, double*, double*,
                              Prefetcher&);
extern template void rows_dot(const float*, Index, Index, const double*, double*, const double*, double*, double*,
                              Prefetcher&);
extern template void rows_combine(const double*, Index, Index, const double*, double*, Prefetcher&);
extern template void rows_combine(const float*, Index, Index, const double*, double*, Prefetcher&);

}  // namespace attsvm
