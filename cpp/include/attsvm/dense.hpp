// Factorisations and products of dense matrices, as plain functions: Eigen's templates for them, which are slow to
// compile, are instantiated in one source file. Blocks of matrices are passed without a copy.
#pragma once

#include <Eigen/Core>
#include <functional>
#include <vector>

#include "attsvm/pack.hpp"
#include "attsvm/precision.hpp"

namespace attsvm::inline ATTSVM_PRECISION {

using Matrix = Eigen::Matrix<Real, Eigen::Dynamic, Eigen::Dynamic>;
using Vector = Eigen::Matrix<Real, Eigen::Dynamic, 1>;
using Array = Eigen::Array<Real, Eigen::Dynamic, Eigen::Dynamic>;
using MatrixView = Eigen::Ref<const Matrix>;

// A B, A' B and A B'
Matrix times(const MatrixView& A, const MatrixView& B);
Matrix transpose_times(const MatrixView& A, const MatrixView& B);
Matrix times_transpose(const MatrixView& A, const MatrixView& B);
void transpose_times(const MatrixView& A, const MatrixView& B, Eigen::Ref<Matrix> product);
// A x and A' x
Vector apply(const MatrixView& A, const Vector& x);
Vector apply_transpose(const MatrixView& A, const Vector& x);
// M += multiple B B', in the lower triangle
void add_gram(Eigen::Ref<Matrix> M, Real multiple, const MatrixView& B);
// G G' or G' G, whichever is smaller
Matrix smaller_gram(const Matrix& G);

// A vector of norm 1 in a fixed random direction
Vector fixed_random(Index size);

// Eigenvalues of a symmetric matrix, rising, and their vectors; only the lower triangle is read. They are NaN where
// that is not finite.
struct SymmetricEigen {
    Vector values;
    Matrix vectors;
};
SymmetricEigen eigen(const Matrix& symmetric);
Vector eigenvalues(const Matrix& symmetric);
// Orthogonal matrices with left' G right = diag(values), the singular values, falling. Those far below the largest have
// half of the digits.
struct SingularBases {
    Vector values;
    Matrix left, right;
};
SingularBases singular_bases(const Matrix& G);
// |G|_op and |G|_*
Real spectral_norm(const Matrix& G);
Real nuclear_norm(const Matrix& G);

// Whether to go on, asked in the midst of what takes long for large matrices. What was stopped is of no use.
using GoesOn = std::function<bool()>;

// M = L L' of a positive definite M, of which only the lower triangle is read.
class Cholesky {
   public:
    Cholesky() = default;
    explicit Cholesky(Matrix M, const GoesOn& goes_on = {});

    bool succeeded() const { return succeeded_; }
    // L, and what M had above the diagonal
    const Matrix& factor() const { return L_; }
    // Smallest share of a diagonal entry of M that is left when the rows before are eliminated.
    Real smallest_pivot() const;
    Vector solve(Vector b) const;
    Matrix solve_columns(Matrix B) const;
    // The inverse of L times B
    Matrix solve_lower(Matrix B, const GoesOn& goes_on = {}) const;

   private:
    Matrix L_;
    bool succeeded_ = false;
};

Matrix symmetric_part(const Matrix& full);
// Of a definite M that rounding may have left indefinite: with as much more on the diagonal as it takes, beginning with
// the bound of what rounding may take from it (Higham, "Accuracy and stability of numerical algorithms", 2002, theorem
// 10.3).
Cholesky factorised(const Matrix& M, const GoesOn& goes_on = {});
// Largest t for which X + t dX is positive semidefinite, X = L L'; 0 where dX is not finite.
Real definite_step(const Cholesky& factor, const Matrix& along);
// The same where X is the identity
Real definite_step(const Matrix& along);

// Rows of a positive semidefinite M, in order, that are not combinations of those before; only its lower triangle is
// read.
std::vector<Index> independent_rows(const Matrix& M, Real least_pivot);

}  // namespace attsvm::inline ATTSVM_PRECISION
