// Factorisations and products of dense matrices, as plain functions: Eigen's templates for them, which are slow to
// compile, are instantiated in one source file. Blocks of matrices are passed without a copy.
#pragma once

#include <Eigen/Core>

#include "attsvm/pack.hpp"

namespace attsvm {

using Matrix = Eigen::MatrixXd;
using Vector = Eigen::VectorXd;
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
void add_gram(Matrix& M, double multiple, const Matrix& B);
// G G' or G' G, whichever is smaller
Matrix smaller_gram(const Matrix& G);

// A vector of norm 1 in a fixed random direction
Vector fixed_random(Index size);

// Eigenvalues of a symmetric matrix, rising, and their vectors; only the lower triangle is read.
struct SymmetricEigen {
    Vector values;
    Matrix vectors;
};
SymmetricEigen eigen(const Matrix& symmetric);
Vector eigenvalues(const Matrix& symmetric);
// |G|_op and |G|_*
double spectral_norm(const Matrix& G);
double nuclear_norm(const Matrix& G);

// M = L L' of a positive definite M, of which only the lower triangle is read.
class Cholesky {
   public:
    Cholesky() = default;
    explicit Cholesky(Matrix M);

    bool succeeded() const { return succeeded_; }
    Vector solve(Vector b) const;
    Matrix solve_columns(Matrix B) const;
    // The inverse of L times B
    Matrix solve_lower(Matrix B) const;

   private:
    Matrix L_;
    bool succeeded_ = false;
};

}  // namespace attsvm
