// The Newton equations of norms of entries and of the spectral norm.
#pragma once

#include "attsvm/nuclear_constraints.hpp"

namespace attsvm::inline ATTSVM_PRECISION {

// The lower triangle of A diag(h) A*, for a weight of every entry of W, (dimension × query_dimension). Two constraints
// of samples i and j have the entry D_r' diag(Σ_c l_ic l_jc h_c) D_s, so that no row of A is formed.
Matrix weighted_gram(const nuclear::Constraints& constraints, const Matrix& weights);

// The linear map B -> left E right', where E has the entries own_ij G_ij + crossed_ij G_ji of G = left' B right. Only
// the square block that has both G_ij and G_ji has crossed entries, which are symmetric in i and j, as own are there.
struct TransposingMap {
    Matrix left, right, own, crossed;

    Matrix operator()(const Matrix& B) const;
    Matrix of_inner(const Matrix& G) const;
    // The lower triangle of A H A*
    Matrix gram(const nuclear::Constraints& constraints) const;
};

// The lower triangle of A* diag(θ) A on the entries of W, for a weight of every constraint.
Matrix gram_of_entries(const nuclear::Constraints& constraints, const Vector& theta, Progress& progress);

// The step dW of the entries and that of the multipliers,
//
//     dW / h - A*(dλ) = f,    A(dW) + q dλ = b,
//
// with h > 0, and q > 0 for inequalities and 0 for equalities. Solved for the entries where these are fewer than the
// inequalities, and else for the multipliers:
//
//     (diag(1 / h) + A* diag(1 / q) A) dW = f + A*(b / q),    (A diag(h) A* + diag(q)) dλ = b - A(h f)
class NewtonEquations {
   public:
    struct Step {
        Matrix W;
        Vector dual;
    };

    NewtonEquations(const nuclear::Constraints& constraints, Matrix weights, Vector quotients, const GoesOn& goes_on);

    bool succeeded() const { return factor_.succeeded() && (!for_entries_ || of_equalities_.succeeded()); }
    // An empty f or b is 0.
    Step solve(const Matrix& f, const Vector& b) const;

   private:
    Step solve_for_entries(const Matrix& f, const Vector& b) const;
    Step solve_for_multipliers(const Matrix& f, Vector b) const;

    const nuclear::Constraints& constraints_;
    Matrix weights_;    // h
    Vector quotients_;  // q
    bool for_entries_;
    Cholesky factor_;
    // For entries only: the roots of h, 1 / q, which is 0 of equalities, and the rows of these times the roots
    Matrix root_;
    Vector theta_;
    std::vector<Index> equalities_;
    Matrix rows_of_equalities_;
    Cholesky of_equalities_;
};

}  // namespace attsvm::inline ATTSVM_PRECISION
