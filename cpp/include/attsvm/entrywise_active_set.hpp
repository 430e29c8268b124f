// The last digits of SVMs in the max and the l1 norm.
#pragma once

#include "attsvm/nuclear_constraints.hpp"
#include "attsvm/svm_norm.hpp"

namespace attsvm::inline ATTSVM_PRECISION {

// What is active in a solution: constraints, and entries with their signs (else 0), of W at the bound in the max norm,
// and of W other than 0 in the l1 norm.
struct EntrywiseActiveSet {
    std::vector<Index> constraints;
    Array sign;

    bool operator==(const EntrywiseActiveSet& other) const {
        return constraints == other.constraints && (sign == other.sign).all();
    }
};

// Active constraints and entries leave linear equations C x = b, C'λ = c. Solves them as near to W and the multipliers,
// with N*(A*λ) = 1, as they allow, and then those that their solution points to. `best` becomes the nearest
// candidate.
void solve_active_sets(const nuclear::Constraints& constraints, const SvmNorm& norm, EntrywiseActiveSet set,
                       const Matrix& W, const Vector& dual, Real good, nuclear::Candidate& best);

}  // namespace attsvm::inline ATTSVM_PRECISION
