// The matrix of the Newton equations of norms of entries.
#pragma once

#include "attsvm/nuclear_constraints.hpp"

namespace attsvm::inline ATTSVM_PRECISION {

// The lower triangle of A diag(h) A*, for a weight of every entry of W, (dimension × query_dimension). Two constraints
// of samples i and j have the entry D_r' diag(Σ_c l_ic l_jc h_c) D_s, so that no row of A is formed.
Matrix weighted_gram(const nuclear::Constraints& constraints, const Matrix& weights);

}  // namespace attsvm::inline ATTSVM_PRECISION
