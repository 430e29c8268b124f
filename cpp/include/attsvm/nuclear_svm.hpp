// SVMs in the nuclear norm.
#pragma once

#include "attsvm/dual_svm.hpp"

namespace attsvm {

enum class NuclearMethod { automatic, thresholding, interior_point };

// Solves every SVM of a batch.
void solve_nuclear(const SvmBatch<double>& batch, NuclearMethod method, SvmTolerance tolerance, int threads,
                   Progress& progress, const SvmResultView& result);

}  // namespace attsvm
