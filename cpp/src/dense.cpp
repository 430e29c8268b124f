#include "attsvm/dense.hpp"

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <Eigen/QR>
#include <random>

namespace attsvm::inline ATTSVM_PRECISION {

Matrix times(const MatrixView& A, const MatrixView& B) { return A * B; }
Matrix transpose_times(const MatrixView& A, const MatrixView& B) { return A.transpose() * B; }
Matrix times_transpose(const MatrixView& A, const MatrixView& B) { return A * B.transpose(); }
void transpose_times(const MatrixView& A, const MatrixView& B, Eigen::Ref<Matrix> product) {
    product.noalias() = A.transpose() * B;
}
Vector apply(const MatrixView& A, const Vector& x) { return A * x; }
Vector apply_transpose(const MatrixView& A, const Vector& x) { return A.transpose() * x; }
void add_gram(Matrix& M, Real multiple, const Matrix& B) { M.selfadjointView<Eigen::Lower>().rankUpdate(B, multiple); }
Matrix smaller_gram(const Matrix& G) { return G.rows() < G.cols() ? times_transpose(G, G) : transpose_times(G, G); }

Vector fixed_random(Index size) {
    std::mt19937_64 bits(0);
    Vector entries(size);
    for (Real& entry : entries) entry = static_cast<double>(bits()) * 0x1p-63 - 1.0;
    return entries.normalized();
}

SymmetricEigen eigen(const Matrix& symmetric) {
    const Eigen::SelfAdjointEigenSolver<Matrix> solver(symmetric);
    return {solver.eigenvalues(), solver.eigenvectors()};
}
Vector eigenvalues(const Matrix& symmetric) {
    return Eigen::SelfAdjointEigenSolver<Matrix>(symmetric, Eigen::EigenvaluesOnly).eigenvalues();
}

Real spectral_norm(const Matrix& G) {
    return numext::sqrt(std::max<Real>(eigenvalues(smaller_gram(G)).maxCoeff(), 0.0));
}

// With R the triangular factor of G, the eigenvalues of [0 R; R' 0] are the singular values of G and their negatives.
Real nuclear_norm(const Matrix& G) {
    const Eigen::HouseholderQR<Matrix> factors(G.rows() < G.cols() ? Matrix(G.transpose()) : G);
    const Index size = std::min(G.rows(), G.cols());
    Matrix both = Matrix::Zero(2 * size, 2 * size);
    both.bottomLeftCorner(size, size) = factors.matrixQR().topRows(size).triangularView<Eigen::Upper>();
    return 0.5 * eigenvalues(both).lpNorm<1>();
}

// Of many rows in the blocks of Eigen's own.
Cholesky::Cholesky(Matrix M, const GoesOn& goes_on) : L_(std::move(M)) {
    constexpr Index many = 1024, block = 128;
    const Index size = L_.rows(), width = goes_on && size >= many ? block : size;
    for (Index k = 0; k < size; k += width) {
        if (goes_on && !goes_on()) return;
        const Index last = std::min(k + width, size), rest = size - last;
        auto corner = L_.block(k, k, last - k, last - k);
        Eigen::Ref<Matrix> in_place = corner;
        if (Eigen::LLT<Eigen::Ref<Matrix>>(in_place).info() != Eigen::Success) return;
        if (rest == 0) break;
        auto below = L_.block(last, k, rest, last - k);
        corner.adjoint().triangularView<Eigen::Upper>().solveInPlace<Eigen::OnTheRight>(below);
        L_.bottomRightCorner(rest, rest).selfadjointView<Eigen::Lower>().rankUpdate(below, Real(-1.0));
    }
    succeeded_ = true;
}
Real Cholesky::smallest_pivot() const {
    Real smallest = 1.0;
    for (Index k = 0; k < L_.rows(); ++k)
        smallest = std::min<Real>(smallest, L_(k, k) * L_(k, k) / L_.row(k).head(k + 1).squaredNorm());
    return smallest;
}
Vector Cholesky::solve(Vector b) const {
    L_.triangularView<Eigen::Lower>().solveInPlace(b);
    L_.triangularView<Eigen::Lower>().adjoint().solveInPlace(b);
    return b;
}
Matrix Cholesky::solve_columns(Matrix B) const {
    L_.triangularView<Eigen::Lower>().solveInPlace(B);
    L_.triangularView<Eigen::Lower>().adjoint().solveInPlace(B);
    return B;
}
Matrix Cholesky::solve_lower(Matrix B, const GoesOn& goes_on) const {
    constexpr Index block = 64;
    const Index width = goes_on ? block : B.cols();
    for (Index c = 0; c < B.cols() && (!goes_on || goes_on()); c += width) {
        auto columns = B.middleCols(c, std::min(width, B.cols() - c));
        L_.triangularView<Eigen::Lower>().solveInPlace(columns);
    }
    return B;
}

Matrix symmetric_part(const Matrix& full) { return 0.5 * (full + full.transpose()); }
Cholesky factorised(const Matrix& M, const GoesOn& goes_on) {
    Cholesky factor;
    for (const double share : {1e-15, 1e-13, 1e-11}) {
        Matrix larger = M;
        larger.diagonal() *= Real(1.0) + in_precision(share);
        factor = Cholesky(std::move(larger), goes_on);
        if (factor.succeeded()) break;
    }
    return factor;
}
Real definite_step(const Cholesky& factor, const Matrix& along) {
    const Matrix scaled = factor.solve_lower(factor.solve_lower(along).transpose());
    const Real least = eigenvalues(scaled)[0];
    return least < 0.0 ? -1.0 / least : std::numeric_limits<double>::infinity();
}

std::vector<Index> independent_rows(const Matrix& M, Real least_pivot) {
    std::vector<Index> kept;
    Matrix L(M.rows(), M.rows());  // its first rows: of those that are kept
    for (Index r = 0; r < M.rows(); ++r) {
        const Index before = std::ssize(kept);
        Vector row(before);
        for (Index k = 0; k < before; ++k)
            row[k] = (M(r, kept[static_cast<std::size_t>(k)]) - L.row(k).head(k).dot(row.head(k))) / L(k, k);
        const Real pivot = M(r, r) - row.squaredNorm();
        if (!(pivot > least_pivot * M(r, r))) continue;
        L.row(before).head(before) = row;
        L(before, before) = numext::sqrt(pivot);
        kept.push_back(r);
    }
    return kept;
}

}  // namespace attsvm::inline ATTSVM_PRECISION
