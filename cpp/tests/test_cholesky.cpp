// Cholesky factorisations of matrices of condition 1e16 and more against closed forms, and against the bounds of
// Higham, "Accuracy and stability of numerical algorithms", 2002, section 10.1. All holds in four times the precision
// as well (test_cholesky_octuple.cpp).
#include "attsvm/dense.hpp"
#include "check.hpp"

namespace {

using attsvm::Cholesky;
using attsvm::in_precision;
using attsvm::in_roundings;
using attsvm::Index;
using attsvm::Matrix;
using attsvm::Real;
using attsvm::Vector;
namespace numext = attsvm::numext;

constexpr Real eps = std::numeric_limits<Real>::epsilon();

Real number(Index k) { return static_cast<double>(k); }

// Of condition 1e16 at order 12, of 1e32 at 22 and 1e60 at 40
Matrix hilbert(Index order) {
    Matrix M(order, order);
    for (Index r = 0; r < order; ++r)
        for (Index c = 0; c < order; ++c) M(r, c) = Real(1.0) / number(r + c + 1);
    return M;
}
// Its factor, √(2c + 1) r!² / ((r - c)! (r + c + 1)!) (Choi, "Tricks or treats with the Hilbert matrix", 1983)
Real factor_of_hilbert(Index r, Index c) {
    Real entry = numext::sqrt(number(2 * c + 1)) / number(r + 1);
    for (Index k = 1; k <= c; ++k) entry *= number(r - k + 1) / number(r + k + 1);
    return entry;
}

// The largest entry of L L' - M, each as a share of what the diagonal of M allows for
Real backward_error(const Cholesky& cholesky, const Matrix& M) {
    const Matrix L = cholesky.factor().triangularView<Eigen::Lower>();
    Real largest = 0.0;
    const Matrix error = attsvm::times_transpose(L, L) - M;
    for (Index r = 0; r < M.rows(); ++r)
        for (Index c = 0; c < M.rows(); ++c)
            largest = std::max<Real>(largest, numext::abs(error(r, c)) / numext::sqrt(M(r, r) * M(c, c)));
    return largest;
}
// |M x - b| of the x that it gives, as a share of |M| |x|
Real residual(const Cholesky& cholesky, const Matrix& M) {
    Vector b(M.rows());
    for (Index r = 0; r < M.rows(); ++r) b[r] = r % 2 == 0 ? 1.0 : -1.0;
    const Vector x = cholesky.solve(b), unmet = attsvm::apply(M, x) - b;
    return unmet.lpNorm<Eigen::Infinity>() / (M.lpNorm<1>() * x.lpNorm<Eigen::Infinity>());
}
Real allowed(Index order) { return 4.0 * number(order + 2) * eps; }

void factors_of_hilbert_matrices_are_those_of_the_closed_form() {
    for (const Index order : {1, 2, 4, 6}) {
        const Cholesky cholesky(hilbert(order));
        const Real condition = numext::exp(Real(3.5) * number(order));
        CHECK(cholesky.succeeded());
        for (Index r = 0; r < order; ++r)
            for (Index c = 0; c <= r; ++c)
                CHECK(numext::abs(cholesky.factor()(r, c) - factor_of_hilbert(r, c)) <= condition * eps);
        const Real last = factor_of_hilbert(order - 1, order - 1), pivot = last * last * number(2 * order - 1);
        CHECK(numext::abs(cholesky.smallest_pivot() / pivot - Real(1.0)) <= condition * eps);
    }
}

// D T D of second differences T, whose factor has √((k + 2) / (k + 1)) on its diagonal and one over that beside it
void rows_of_very_different_sizes_do_no_harm() {
    const Index order = 70;  // more than one panel
    Vector size(order);
    Matrix M = Matrix::Zero(order, order);
    for (Index k = 0; k < order; ++k) size[k] = std::ldexp(1.0, static_cast<int>(37 * k % 101) - 50);
    for (Index k = 0; k < order; ++k) {
        M(k, k) = 2.0 * size[k] * size[k];
        if (k > 0) M(k, k - 1) = M(k - 1, k) = -size[k] * size[k - 1];
    }
    for (const Cholesky& cholesky : {Cholesky(M), Cholesky(M, [] { return true; })}) {
        CHECK(cholesky.succeeded());
        for (Index k = 0; k < order; ++k) {
            const Real root = numext::sqrt(number(k + 2) / number(k + 1));
            CHECK(numext::abs(cholesky.factor()(k, k) / (size[k] * root) - Real(1.0)) <= allowed(order));
            if (k + 1 < order)
                CHECK(numext::abs(cholesky.factor()(k + 1, k) / (size[k + 1] / root) + Real(1.0)) <= allowed(order));
        }
        const Real pivot = number(order + 1) / number(2 * order);
        CHECK(numext::abs(cholesky.smallest_pivot() - pivot) <= allowed(order));
    }
}

// The same entry everywhere; the Gram matrix of rows with three coordinates
Matrix constant(Index order) { return Matrix::Constant(order, order, 1.0); }
Matrix of_rank_three(Index order) {
    Matrix rows(order, 3);
    for (Index r = 0; r < order; ++r) rows.row(r) << number(r % 7 - 3), number(r * r % 11) / 7.0, number(r % 5);
    return attsvm::times_transpose(rows, rows) + Matrix(Vector::Constant(order, 1e-40).asDiagonal());
}

// What rounding leaves indefinite: the diagonal gains no more than the bound of its rounding asks for.
void semidefinite_matrices_are_factorised_with_little_more_on_the_diagonal() {
    for (const Index order : {8, 12, 22, 40, 100})
        for (const Matrix& M : {hilbert(order), constant(order), of_rank_three(order)}) {
            const Cholesky cholesky = attsvm::factorised(M);
            CHECK(cholesky.succeeded());
            CHECK(backward_error(cholesky, M) <= allowed(order));
            CHECK(residual(cholesky, M) <= allowed(order) * number(order));
        }
}

// The callers of Cholesky that do not try again add to the diagonal first: 1e-14 of the trace, or more; or 1.
void what_callers_add_to_the_diagonal_is_enough() {
    const Index panels = sizeof(Real) == sizeof(double) ? 300 : 100;  // of four times the precision less of the time
    for (const Index order : {Index{12}, Index{40}, panels})
        for (Matrix M : {hilbert(order), constant(order), of_rank_three(order)}) {
            M.diagonal().array() += in_roundings(1e-14) * M.trace();
            const Cholesky cholesky(M);
            CHECK(cholesky.succeeded());
            CHECK(backward_error(cholesky, M) <= allowed(order));
        }
}

// Rows that agree to the last digits have no pivot; to half of them, that of the closed form.
void a_pivot_tells_how_far_a_row_is_from_those_before() {
    Matrix M = constant(2);
    const Real distance = in_precision(1e-6);
    M(1, 1) = Real(1.0) + distance;
    const Cholesky apart(M);
    CHECK(apart.succeeded());
    CHECK(numext::abs(apart.smallest_pivot() * M(1, 1) / distance - Real(1.0)) <= 10.0 * eps / distance);
    CHECK(!Cholesky(constant(2)).succeeded());
    CHECK(attsvm::independent_rows(constant(3), in_precision(1e-12)) == std::vector<Index>{0});
    CHECK(attsvm::independent_rows(M, in_precision(1e-12)) == (std::vector<Index>{0, 1}));
}

}  // namespace

int main() {
    factors_of_hilbert_matrices_are_those_of_the_closed_form();
    rows_of_very_different_sizes_do_no_harm();
    semidefinite_matrices_are_factorised_with_little_more_on_the_diagonal();
    what_callers_add_to_the_diagonal_is_enough();
    a_pivot_tells_how_far_a_row_is_from_those_before();
    return attsvm_test::report();
}
