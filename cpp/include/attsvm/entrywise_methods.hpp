// The methods for SVMs in norms of entries. What they find has still to be certified.
#pragma once

#include "attsvm/nuclear_constraints.hpp"
#include "attsvm/svm_norm.hpp"

namespace attsvm::inline ATTSVM_PRECISION {

// The max, the l1 or an l_p norm: a primal-dual interior-point method, finished on the active set. A candidate no
// farther than `good` is enough.
nuclear::Candidate by_entrywise_interior_point(const nuclear::Constraints& constraints, const SvmNorm& norm,
                                               Progress& progress, bool calling_thread,
                                               double good = nuclear::last_digits);

// The l_p norm: Newton's method on the active set, along p from the multipliers of the Frobenius norm.
nuclear::Candidate by_lp_homotopy(const nuclear::Constraints& constraints, const SvmNorm& norm, const Vector& dual,
                                  Progress& progress, bool calling_thread);

}  // namespace attsvm::inline ATTSVM_PRECISION
