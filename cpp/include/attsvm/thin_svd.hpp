// Singular values and vectors of a matrix to high relative accuracy, by one-sided Jacobi rotations after QR
// decompositions with pivoting and a product with eigenvectors, which leaves them little to do (Demmel et al.,
// "Computing the singular value decomposition with high relative accuracy", 1999, algorithm 3.1).
//
// A gradient G = Σ_i x_i y_i' has terms whose sizes may differ by more than 2^53. Given by its terms, each of its
// singular values has a small relative error, where the directions of the x_i and those of the y_i are well
// conditioned; from the entries of G only those near the largest would.
#pragma once

#include "attsvm/buffer.hpp"

namespace attsvm {

class ThinSvd {
   public:
    // Of G (rows, columns).
    ThinSvd(Index rows, Index columns, const double* G);
    // Of left' right; left (depth, rows), right (depth, columns).
    ThinSvd(Index depth, Index rows, Index columns, const double* left, const double* right);

    // Singular values other than zero, falling, each with its unit vectors: G = Σ_k σ_k u_k v_k'. Those below 1e-60 of
    // the largest are taken as zero.
    Index size() const { return value_.size(); }
    double value(Index k) const { return value_[k]; }
    const double* left(Index k) const { return left_.data() + k * rows_; }
    const double* right(Index k) const { return right_.data() + k * columns_; }

    // How many are not zero beside the largest: at least 1e-12 of it.
    Index rank() const;

   private:
    void decompose(Index depth, const double* left, const double* right);
    void take(Index count, Index of_x, Index of_y, const double* pairs, Buffer<double>& x, Buffer<double>& y);

    Index rows_, columns_;
    Buffer<double> value_, left_, right_;
};

}  // namespace attsvm
