// Columns: what one instruction works on along an array. Of an array of doubles, a register full of neighbours; of an
// array of packs, one pack. Loops over columns are one text for both.
#pragma once

#include "attsvm/elementary.hpp"

namespace attsvm {

template <class Real>
using Column = std::conditional_t<is_pack<Real>, Real, NativePack<double>>;

// Elements of an array in one column.
template <class Real>
inline constexpr Index column_lanes = is_pack<Real> ? 1 : native_lanes<double>;

template <class Real>
ATTSVM_INLINE Index padded_to_columns(Index count) {
    constexpr Index lanes = column_lanes<Real>;
    return (count + lanes - 1) / lanes * lanes;
}

template <class Real>
ATTSVM_INLINE Column<Real> load_column(const Real* from) {
    if constexpr (is_pack<Real>)
        return *from;
    else
        return load(from);
}
template <class Real>
ATTSVM_INLINE void store_column(Real* to, Column<Real> x) {
    if constexpr (is_pack<Real>)
        *to = x;
    else
        store(to, x);
}

// The positions first, first + 1, ... of the elements of a column.
template <class Real>
ATTSVM_INLINE Column<Real> positions(Index first) {
    Column<Real> where(static_cast<double>(first));
    if constexpr (!is_pack<Real>)
        for (int k = 0; k < native_lanes<double>; ++k) where.v[k] += static_cast<double>(k);
    return where;
}

// One number from the elements of a column: their sum, or the largest of them.
template <class Real>
ATTSVM_INLINE Real column_sum(Column<Real> x) {
    if constexpr (is_pack<Real>)
        return x;
    else
        return sum_lanes(x);
}
template <class Real>
ATTSVM_INLINE Real column_largest(Column<Real> x) {
    if constexpr (is_pack<Real>)
        return x;
    else
        return largest_lane(x);
}

}  // namespace attsvm
