// The numbers that the methods for SVMs in norms other than the Frobenius norm compute with. Their sources are compiled
// for float64, and once more for four times its precision (octuple_precision.cpp).
#pragma once

#include <Eigen/Core>

#ifdef ATTSVM_OCTUPLE_PRECISION
#define ATTSVM_PRECISION octuple_precision
#include "attsvm/four_doubles.hpp"
#else
#define ATTSVM_PRECISION float64
#endif

namespace attsvm::inline ATTSVM_PRECISION {

#ifdef ATTSVM_OCTUPLE_PRECISION
using Real = FourDoubles;
#else
using Real = double;
#endif

// abs, sqrt, exp and so on of either
namespace numext = Eigen::numext;

// A tolerance, given for float64: of four times the digits its fourth power
constexpr double in_precision(double share) {
    return sizeof(Real) == sizeof(double) ? share : share * share * share * share;
}
// A multiple of the rounding of Real, given for float64
constexpr double in_roundings(double share) { return sizeof(Real) == sizeof(double) ? share : share * 0x1p-147; }

}  // namespace attsvm::inline ATTSVM_PRECISION
