// Cholesky factorisations that are asked whether to go on, eigenvalues and nuclear norms against closed forms.
#include "attsvm/dense.hpp"

#include "check.hpp"

namespace {

using attsvm::Cholesky;
using attsvm::Index;
using attsvm::Matrix;

Matrix definite(Index size) {
    Matrix M(size, size);
    for (Index r = 0; r < size; ++r)
        for (Index c = 0; c < size; ++c) M(r, c) = 1.0 / (1.0 + static_cast<double>(r > c ? r - c : c - r));
    M.diagonal().array() += 1.0;
    return M;
}
double largest_difference(const Matrix& A, const Matrix& B) { return (A - B).cwiseAbs().maxCoeff(); }

void a_factorisation_in_blocks_is_that_of_the_whole() {
    for (const Index size : {5, 300, 1100}) {
        const Matrix M = definite(size), B = M.leftCols(std::min<Index>(size, 130));
        const auto always = [] { return true; };
        const Cholesky whole(M), in_blocks(M, always);
        CHECK(whole.succeeded() && in_blocks.succeeded());
        CHECK(largest_difference(whole.solve_columns(B), in_blocks.solve_columns(B)) <= 1e-13);
        CHECK(largest_difference(M * in_blocks.solve_columns(B), B) <= 1e-12);
        CHECK(largest_difference(whole.solve_lower(B), in_blocks.solve_lower(B, always)) <= 1e-13);
    }
}

void an_indefinite_matrix_has_none() {
    Matrix M = definite(1100);
    M(1090, 1090) = -1.0;
    CHECK(!Cholesky(M, [] { return true; }).succeeded());
    CHECK(!Cholesky(std::move(M)).succeeded());
}

void a_factorisation_stops_where_it_is_told_to() {
    int asked = 0;
    const Cholesky stopped(definite(1100), [&] { return ++asked < 3; });
    CHECK(!stopped.succeeded());
    CHECK(asked == 3);
}

// Whose eigenvalues are 2 - 2 cos(π k / (size + 1))
Matrix second_differences(Index size) {
    Matrix M = 2.0 * Matrix::Identity(size, size);
    for (Index k = 1; k < size; ++k) M(k, k - 1) = M(k - 1, k) = -1.0;
    return M;
}

void eigenvalues_of_second_differences_are_those_of_the_closed_form() {
    for (const Index size : {1, 2, 7, 60}) {
        const auto [values, vectors] = attsvm::eigen(second_differences(size));
        const attsvm::Vector alone = attsvm::eigenvalues(second_differences(size));
        for (Index k = 0; k < size; ++k) {
            const double half = std::acos(-1.0) * static_cast<double>(k + 1) / (2.0 * static_cast<double>(size + 1));
            const double right = 4.0 * std::sin(half) * std::sin(half);
            CHECK(std::abs(values[k] - right) <= 1e-14);
            CHECK(std::abs(alone[k] - right) <= 1e-14);
        }
        CHECK(largest_difference(second_differences(size) * vectors, vectors * values.asDiagonal()) <= 1e-14);
    }
}

// The squares of what is beside the diagonal are not numbers.
void eigenvectors_are_orthonormal_whatever_the_sizes_of_entries() {
    for (const double small : {1e-100, 1e-155, 1e-160, 1e-200}) {
        Matrix M = Matrix::Zero(6, 6);
        for (Index k = 0; k < 6; ++k) M(k, k) = k < 2 ? 1.0 : small;
        for (Index r = 1; r < 6; ++r) M(r, 0) = M(0, r) = small * static_cast<double>(r);
        const auto [values, vectors] = attsvm::eigen(M);
        CHECK(largest_difference(vectors.transpose() * vectors, Matrix::Identity(6, 6)) <= 1e-14);
        CHECK(largest_difference(M * vectors, vectors * values.asDiagonal()) <= 1e-14);
    }
}

void the_nuclear_norm_of_orthogonal_columns_is_the_sum_of_their_lengths() {
    Matrix G(3, 2);
    G << 1.0, 2.0, 2.0, 1.0, 2.0, -2.0;
    CHECK(std::abs(attsvm::nuclear_norm(G) - 6.0) <= 1e-14);
    CHECK(std::abs(attsvm::nuclear_norm(G.transpose()) - 6.0) <= 1e-14);
    CHECK(std::abs(attsvm::nuclear_norm(1e-170 * G) - 6e-170) <= 1e-184);
}

void singular_bases_are_orthogonal_and_leave_the_singular_values() {
    for (const auto& [rows, columns] : {std::pair<Index, Index>{5, 3}, {3, 5}, {4, 4}, {1, 6}, {6, 1}})
        for (const Index rank : {Index{0}, Index{1}, Index{4}}) {
            const Matrix G = Matrix::Random(rows, rank) * Matrix::Random(rank, columns);
            const auto [values, left, right] = attsvm::singular_bases(G);
            CHECK(largest_difference(left.transpose() * left, Matrix::Identity(rows, rows)) <= 1e-14);
            CHECK(largest_difference(right.transpose() * right, Matrix::Identity(columns, columns)) <= 1e-14);
            Matrix diagonal = Matrix::Zero(rows, columns);
            diagonal.diagonal() = values;
            CHECK(largest_difference(left.transpose() * G * right, diagonal) <= 1e-7 * G.norm());
            CHECK(values.size() == std::min(rows, columns) && values.minCoeff() >= 0.0);
            CHECK(std::abs(values[0] - attsvm::spectral_norm(G)) <= 1e-14 * G.norm());
        }
}

void small_eigenvalues_beside_large_ones_have_digits() {
    Matrix M = Matrix::Identity(3, 3);
    M.bottomRightCorner(2, 2) << 1e-18, 0.5e-18, 0.5e-18, 1e-18;
    const attsvm::Vector values = attsvm::eigenvalues(M);
    CHECK(std::abs(values[0] - 0.5e-18) <= 1e-28);
    CHECK(std::abs(values[1] - 1.5e-18) <= 1e-28);
}

void what_is_not_finite_has_no_eigenvalues_and_no_norm() {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    for (const double value : {infinity, -infinity, std::numeric_limits<double>::quiet_NaN()})
        for (Index r = 0; r < 3; ++r)
            for (Index c = 0; c <= r; ++c) {
                Matrix M = Matrix::Identity(3, 3);
                M(r, c) = value;
                CHECK(attsvm::eigenvalues(M).array().isNaN().all());
                CHECK(attsvm::eigen(M).values.array().isNaN().all());
                CHECK(attsvm::singular_bases(M).values.array().isNaN().all());
                CHECK(std::isnan(attsvm::nuclear_norm(M)));
                CHECK(std::isnan(attsvm::spectral_norm(M)));
                CHECK(attsvm::definite_step(Cholesky(Matrix::Identity(3, 3)), M) == 0.0);
            }
}

}  // namespace

int main() {
    a_factorisation_in_blocks_is_that_of_the_whole();
    an_indefinite_matrix_has_none();
    a_factorisation_stops_where_it_is_told_to();
    eigenvalues_of_second_differences_are_those_of_the_closed_form();
    eigenvectors_are_orthonormal_whatever_the_sizes_of_entries();
    the_nuclear_norm_of_orthogonal_columns_is_the_sum_of_their_lengths();
    singular_bases_are_orthogonal_and_leave_the_singular_values();
    small_eigenvalues_beside_large_ones_have_digits();
    what_is_not_finite_has_no_eigenvalues_and_no_norm();
    return attsvm_test::report();
}
