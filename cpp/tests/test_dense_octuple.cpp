// Products and singular values of matrices of four times the precision of float64.
#define ATTSVM_OCTUPLE_PRECISION
#include <random>

#include "attsvm/dense.hpp"
#include "attsvm/sliced_products.hpp"
#include "check.hpp"

namespace {

using attsvm::Index;
using attsvm::Matrix;
using attsvm::Real;

constexpr double rounding = 0x1p-200;

// Normal entries with all their digits; those of column k are 10^(grade (k mod 7 - 3)) times as large.
Matrix random(Index rows, Index columns, double grade, unsigned seed) {
    std::mt19937_64 bits(seed);
    std::normal_distribution<double> normal;
    Matrix M(rows, columns);
    for (Index k = 0; k < columns; ++k)
        for (Index i = 0; i < rows; ++i) {
            M(i, k) = normal(bits) + Real(0x1p-53) * normal(bits) + Real(0x1p-106) * normal(bits) +
                      Real(0x1p-159) * normal(bits);
            M(i, k) *= std::pow(10.0, grade * static_cast<double>(k % 7 - 3));
        }
    return M;
}

// C += multiple A B' against loops, with errors beside the sums of the absolute values
Matrix checked_sum(Matrix C, double multiple, const Matrix& A, const Matrix& B, bool symmetric) {
    const Matrix start = C;
    attsvm::add_sliced_product(C, multiple, A, B, symmetric);
    for (Index j = 0; j < C.cols(); ++j)
        for (Index i = 0; i < C.rows(); ++i) {
            if (symmetric && i < j) {
                CHECK(C(i, j) == start(i, j));
                continue;
            }
            Real sum = 0.0, size = 0.0;
            for (Index k = 0; k < A.cols(); ++k) {
                const Real term = A(i, k) * B(j, k);
                sum += term;
                size += abs(term);
            }
            const Real error = C(i, j) - start(i, j) - multiple * sum;
            CHECK(abs(error) <= rounding * (abs(start(i, j)) + std::abs(multiple) * size));
        }
    return C;
}

void products_by_slices_are_those_by_loops() {
    for (const double grade : {0.0, 30.0}) {
        const Matrix A = random(70, 600, grade, 0), B = random(67, 600, -grade, 1);
        for (const bool symmetric : {false, true}) checked_sum(random(70, 67, 0.0, 2), -3.0, A, B, symmetric);
    }
}

void columns_of_zeros_take_no_digits_from_others() {
    Matrix A = random(5, 40, 0.0, 0), B = random(6, 40, 0.0, 1);
    A.col(3).setZero();
    B.col(3) *= 0x1p300;
    const Matrix product = checked_sum(Matrix::Zero(5, 6), 1.0, A, B, false);
    CHECK(checked_sum(Matrix::Zero(6, 5), 1.0, B, A, false) == product.transpose());
}

void rows_of_any_size_have_all_digits() {
    Matrix A = random(5, 40, 0.0, 0);
    A.row(0) *= 0x1p1000;
    A.bottomRows(4) *= 0x1p-600;
    checked_sum(Matrix::Zero(5, 6), 1.0, A, random(6, 40, 0.0, 1), false);
}

void rows_that_are_not_numbers_make_products_that_are_none() {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    for (const double value : {infinity, std::numeric_limits<double>::quiet_NaN()}) {
        Matrix A = random(5, 40, 0.0, 0);
        const Matrix B = random(6, 40, 0.0, 1);
        A(3, 7) = value;
        Matrix C = Matrix::Zero(5, 6);
        attsvm::add_sliced_product(C, 1.0, A, B, false);
        for (Index j = 0; j < 6; ++j)
            for (Index i = 0; i < 5; ++i) CHECK(isfinite(C(i, j)) == (i != 3));
    }
}

// Most eigenvalues of [0 G; G' 0] are 0 there, and only rounding is left beside the diagonal.
void the_nuclear_norm_of_one_product_is_that_of_its_lengths() {
    for (unsigned seed = 0; seed < 200; ++seed) {
        const Matrix a = random(5, 1, 0.0, 2 * seed), b = random(5, 1, 0.0, 2 * seed + 1);
        const Real right = a.norm() * b.norm();
        CHECK(std::abs(static_cast<double>(attsvm::nuclear_norm(a * b.transpose()) / right - 1.0)) <= 64 * rounding);
    }
}

}  // namespace

int main() {
    products_by_slices_are_those_by_loops();
    columns_of_zeros_take_no_digits_from_others();
    rows_of_any_size_have_all_digits();
    rows_that_are_not_numbers_make_products_that_are_none();
    the_nuclear_norm_of_one_product_is_that_of_its_lengths();
    return attsvm_test::report();
}
