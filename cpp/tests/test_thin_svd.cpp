// Singular values and vectors against matrices that are made of known ones.
#include "attsvm/dense.hpp"
#include "attsvm/thin_svd.hpp"
#include "check.hpp"

namespace {

using attsvm::Index;
using attsvm::Matrix;
using attsvm::ThinSvd;
using attsvm::Vector;

constexpr double eps = std::numeric_limits<double>::epsilon();

// Orthonormal columns
Matrix orthonormal(Index rows, Index columns) {
    const Vector entries = attsvm::fixed_random(rows * rows);
    const Matrix M = Eigen::Map<const Matrix>(entries.data(), rows, rows);
    return attsvm::eigen(M + M.transpose()).vectors.leftCols(columns);
}
// 10^(-decades), falling evenly
Vector graded(Index count, double decades) {
    return Vector::LinSpaced(count, 0.0, -decades).unaryExpr([](double e) { return std::pow(10.0, e); });
}
double largest_difference(const Matrix& A, const Matrix& B) { return (A - B).lpNorm<Eigen::Infinity>(); }
Matrix of_pairs(const ThinSvd& svd, Index count, Index rows, Index columns, bool with_values) {
    Matrix sum = Matrix::Zero(rows, columns);
    for (Index k = 0; k < count; ++k)
        sum += (with_values ? svd.value(k) : 1.0) * Eigen::Map<const Vector>(svd.left(k), rows) *
               Eigen::Map<const Vector>(svd.right(k), columns).transpose();
    return sum;
}
double departure_from_orthonormal(const ThinSvd& svd, Index rows, Index columns) {
    const Eigen::Map<const Matrix> U(svd.left(0), rows, svd.size()), V(svd.right(0), columns, svd.size());
    const Matrix one = Matrix::Identity(svd.size(), svd.size());
    return std::max(largest_difference(U.transpose().lazyProduct(U), one),
                    largest_difference(V.transpose().lazyProduct(V), one));
}

// G = U Σ V' as terms, each halved: rows of `left` are σ_k u_k, twice.
ThinSvd of_terms(const Matrix& U, const Vector& sizes, const Matrix& V) {
    Matrix left(U.rows(), 2 * sizes.size()), right(V.rows(), 2 * sizes.size());
    left << 0.5 * U * sizes.asDiagonal(), 0.5 * U * sizes.asDiagonal();
    right << V, V;
    return {left.cols(), U.rows(), V.rows(), left.data(), right.data()};
}

void small_singular_values_of_terms_have_all_digits() {
    for (const auto& [rows, columns, count] : {std::array<Index, 3>{6, 9, 6}, {40, 40, 40}, {70, 33, 20}}) {
        const Matrix U = orthonormal(rows, count), V = orthonormal(columns, count);
        const Vector sizes = graded(count, 11.0);
        const ThinSvd svd = of_terms(U, sizes, V);
        CHECK(svd.rank() == count);
        const double allowed = 20.0 * static_cast<double>(rows) * eps;
        for (Index k = 0; k < count; ++k) CHECK(std::abs(svd.value(k) / sizes[k] - 1.0) <= allowed);
        CHECK(largest_difference(of_pairs(svd, count, rows, columns, false), U.lazyProduct(V.transpose())) <= allowed);
    }
}

void entries_are_those_of_the_decomposition() {
    for (const auto& [rows, columns, count, decades] : {std::tuple<Index, Index, Index, double>{5, 8, 5, 2.0},
                                                        {64, 64, 64, 0.0},
                                                        {64, 64, 64, 10.0},
                                                        {33, 80, 33, 3.0},
                                                        {80, 33, 33, 20.0},
                                                        {96, 96, 40, 1.0},
                                                        {96, 96, 1, 0.0},
                                                        {61, 61, 61, 1.0}}) {
        const Matrix U = orthonormal(rows, count), V = orthonormal(columns, count);
        const Matrix G = (U * graded(count, decades).asDiagonal()).lazyProduct(V.transpose());
        const Matrix by_rows = G.transpose();  // row after row, as ThinSvd reads it
        const ThinSvd svd(rows, columns, by_rows.data());
        const double allowed = 4.0 * static_cast<double>(std::max(rows, columns)) * eps;
        CHECK(largest_difference(of_pairs(svd, svd.size(), rows, columns, true), G) <= allowed);
        CHECK(departure_from_orthonormal(svd, rows, columns) <= allowed);
    }
}

void zero_has_no_singular_values() {
    const Matrix zero = Matrix::Zero(20, 30);
    CHECK(ThinSvd(20, 30, zero.data()).size() == 0);
    CHECK(ThinSvd(4, 5, 6, zero.data(), zero.data()).size() == 0);
}

}  // namespace

int main() {
    small_singular_values_of_terms_have_all_digits();
    entries_are_those_of_the_decomposition();
    zero_has_no_singular_values();
    return attsvm_test::report();
}
