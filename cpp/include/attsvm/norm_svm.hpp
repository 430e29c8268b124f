// SVMs in the max, l1, l_p and spectral norm.
#pragma once

#include "attsvm/svm_norm.hpp"
#include "attsvm/svm_problem.hpp"

namespace attsvm {

// Solves every SVM of a batch. In a norm of entries W has the rows W_1c, ..., W_dc, one for each coordinate c of the
// queries, in `left`, and the identity in `right`.
void solve_in_norm(const SvmBatch<double>& batch, const SvmNorm& norm, SvmTolerance tolerance, int threads,
                   Progress& progress, const SvmResultView& result);

}  // namespace attsvm
