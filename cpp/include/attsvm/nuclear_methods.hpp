// The two methods for SVMs in the nuclear norm. What they find has still to be certified.
#pragma once

#include "attsvm/nuclear_constraints.hpp"

namespace attsvm::inline ATTSVM_PRECISION::nuclear {

// A primal-dual interior-point method: few steps, each of which solves an equation for every constraint.
Candidate by_interior_point(const Constraints& constraints, Progress& progress, bool calling_thread);

// A first-order method: many cheap steps.
Candidate by_thresholding(const Constraints& constraints, int most_steps, Progress& progress, bool calling_thread);

}  // namespace attsvm::inline ATTSVM_PRECISION::nuclear
