// The method for SVMs in the spectral norm. What it finds has still to be certified.
#pragma once

#include "attsvm/nuclear_constraints.hpp"

namespace attsvm::inline ATTSVM_PRECISION::spectral {

// A primal-dual interior-point method, finished by Newton's method on a face of the ball. `entries` is the number of
// rows and of columns of W in the coordinates of the caller, not less than those of the constraints.
nuclear::Candidate by_interior_point(const nuclear::Constraints& constraints, Index rows, Index columns,
                                     Progress& progress, bool calling_thread, double good = nuclear::last_digits);

}  // namespace attsvm::inline ATTSVM_PRECISION::spectral
