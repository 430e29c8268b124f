// The method for SVMs in the spectral norm. What it finds has still to be certified.
#pragma once

#include "attsvm/nuclear_constraints.hpp"

namespace attsvm::inline ATTSVM_PRECISION::spectral {

// A primal-dual interior-point method, finished by Newton's method on a face of the ball.
nuclear::Candidate by_interior_point(const nuclear::Constraints& constraints, Progress& progress, bool calling_thread,
                                     double good = nuclear::last_digits);

}  // namespace attsvm::inline ATTSVM_PRECISION::spectral
