// Newton's method on a face of the unit ball of the spectral norm: the exact end of a nuclear-norm SVM.
//
// With G = A*(λ), the eigenvectors P of [0 G; G' 0] for the eigenvalues near 1 hold the singular vectors that W is made
// of: W is the corner of X = 2 P C P', C symmetric and positive definite. Once the rank of W and the active constraints
// are known, the SVM is the smooth system
//     A_r(W) = b_r (r active),   P' [0 G; G' 0] P = I
// in λ and C. P moves with λ by first-order perturbation of eigenvectors, which makes the Newton equations
//     M dλ + B dC = b - A(W),   B' dλ = I - P' [0 G; G' 0] P,
// with M the coupling of X and the pseudo-inverse of I - [0 G; G' 0] off the face. (Overton, "Large-scale optimization
// of eigenvalues", SIAM Journal on Optimization 2, 1992.)
#pragma once

#include <optional>

#include "attsvm/nuclear_constraints.hpp"

namespace attsvm::inline ATTSVM_PRECISION::nuclear {

class Face {
   public:
    // The face of the `active` constraints and the `rank`, from a point near the solution: λ and X with W in its
    // corner. `all` must outlive it.
    Face(const Constraints& all, std::vector<Index> active, Index rank, const Vector& dual, const Matrix& X);

    // Multiplications of one step, more or less.
    static double work_of_step(Index active, Index rank, Index order);
    // For `solve_faces`
    bool newton();
    Candidate candidate() const;  // nothing where C is not positive definite
    std::optional<Face> revised() const;

   private:
    // The entries of a symmetric matrix in a column, those off the diagonal times √2: at_pair(p, q, place, weight)
    template <class AtPair>
    void each_pair(AtPair at_pair) const {
        const Real root_two = numext::sqrt(Real(2.0));
        for (Index p = 0, at = 0; p < rank_; ++p)
            for (Index q = 0; q <= p; ++q, ++at) at_pair(p, q, at, p == q ? 1.0 : root_two);
    }
    // The values of the active constraints, for each such entry of C
    Matrix values_of_pairs() const;
    auto face() const { return eigen_.vectors.rightCols(rank_); }
    // The same split into the singular vectors: left ones above, right ones below
    auto face_left() const { return face().topRows(all_->left()); }
    auto face_right() const { return face().bottomRows(all_->right()); }
    Matrix X() const { return 2.0 * times_transpose(times(face(), C_), face()); }
    void decompose() { eigen_ = eigen(chosen_.constraints().symmetric_adjoint(dual_)); }
    // Largest amount by which the equations were missed before the step; not finite where they have no solution.
    Real step();

    const Constraints* all_;
    Vector dual_;  // of the active constraints
    Index rank_;
    ChosenConstraints chosen_;  // the active constraints
    SymmetricEigen eigen_;      // of [0 G; G' 0]
    Matrix C_;
};

}  // namespace attsvm::inline ATTSVM_PRECISION::nuclear
