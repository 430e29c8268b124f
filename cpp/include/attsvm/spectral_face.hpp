// Newton's method on a face of the unit ball of the spectral norm: the exact end of a spectral-norm SVM.
//
// A*(λ) = U C V' for the singular vectors U and V of the largest singular value τ of W, C symmetric and positive
// definite with tr C = 1. Once their number and the active constraints are known, the SVM is the smooth problem
//     min τ  s.t.  ½ (U' W V + V' W' U) = τ I,   A_r(W) = b_r (r active)
// whose multipliers are C and λ, C = U' A*(λ) V. The curvature of the largest eigenvalues of B = [0 W; W' 0] is
// ⟨C, P' dB Θ dB P⟩, with P = (U; V) / √2 and Θ the pseudo-inverse of τ I - B off the face; steps solve the quadratic
// problems that it makes. (Overton, "Large-scale optimization of eigenvalues", SIAM Journal on Optimization 2, 1992.)
#pragma once

#include <optional>

#include "attsvm/newton_equations.hpp"

namespace attsvm::inline ATTSVM_PRECISION::spectral {

class Face {
   public:
    // The face of the `active` constraints and the multiplicity, from a W and multipliers near the solution. `all` must
    // outlive it.
    Face(const nuclear::Constraints& all, const std::vector<Index>& active, Index multiplicity, Matrix W,
         const Vector& dual);

    // For `solve_faces`
    bool newton();
    nuclear::Candidate candidate() const;
    std::optional<Face> revised() const;

   private:
    Real step();
    TransposingMap inverse_curvature(Real tau, Real proximal) const;
    void decompose();

    const nuclear::Constraints* all_;
    Index multiplicity_;
    nuclear::ChosenConstraints chosen_;
    Vector dual_;  // of the active constraints
    Matrix W_;
    SingularBases bases_;  // of W; those of the face such that C is diagonal
    Vector C_;
};

}  // namespace attsvm::inline ATTSVM_PRECISION::spectral
