// Whether a solution of an SVM is the only one.
#pragma once

#include "attsvm/nuclear_constraints.hpp"
#include "attsvm/svm_norm.hpp"

namespace attsvm::inline ATTSVM_PRECISION {

// 1 where no other W than that of a candidate with its last digits is a solution, 0 where there are others, and -1
// where rounding might decide. W has this many rows and columns in the coordinates of the caller.
std::int8_t uniqueness(const nuclear::Constraints& constraints, const SvmNorm& norm, Index rows, Index columns,
                       const nuclear::Candidate& found);

}  // namespace attsvm::inline ATTSVM_PRECISION
