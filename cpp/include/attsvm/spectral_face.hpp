// Newton's method on a face of the unit ball of the spectral norm: the exact end of a spectral-norm SVM.
//
// Of the eigenvectors of B = [0 W; W' 0], those P = (P1; P2) of the largest eigenvalue τ hold the singular vectors that
// A*(λ) = 2 P1 C P2' is made of, C symmetric and positive definite with tr C = 1. Once their number and the active
// constraints are known, the SVM is the smooth problem
//     min τ  s.t.  P' B P = τ I,   A_r(W) = b_r (r active)
// whose multipliers are C and λ. The curvature of the largest eigenvalues is ⟨C, P' dB Θ dB P⟩, with Θ the
// pseudo-inverse of τ I - B off the face; steps solve the quadratic problems that it makes. (Overton, "Large-scale
// optimization of eigenvalues", SIAM Journal on Optimization 2, 1992.)
#pragma once

#include <optional>

#include "attsvm/nuclear_constraints.hpp"

namespace attsvm::inline ATTSVM_PRECISION::spectral {

// The matrix, on the entries of W, of dW -> Y1 dW R2 + R1 dW Y2 + Y12 dW' R12 + R12 dW' Y12 with the blocks of two
// symmetric matrices of order left + right.
Matrix symmetrised_product(Index left, const Matrix& Y, const Matrix& R);

class Face {
   public:
    // The face of the `active` constraints and the multiplicity, from a W and multipliers near the solution. `all` must
    // outlive it. W has this many rows and columns in the coordinates of the caller.
    Face(const nuclear::Constraints& all, Index rows, Index columns, const std::vector<Index>& active,
         Index multiplicity, Matrix W, const Vector& dual);

    // For `solve_faces`
    bool newton();
    nuclear::Candidate candidate() const;
    std::optional<Face> revised() const;

   private:
    Real step();
    std::int8_t uniqueness() const;
    Index rest() const { return all_->order() - multiplicity_; }
    auto face() const { return eigen_.vectors.rightCols(multiplicity_); }
    void decompose();

    const nuclear::Constraints* all_;
    Index rows_, columns_, multiplicity_;
    nuclear::ChosenConstraints chosen_;
    Vector dual_;  // of the active constraints
    Matrix W_, C_;
    SymmetricEigen eigen_;  // of B
};

}  // namespace attsvm::inline ATTSVM_PRECISION::spectral
