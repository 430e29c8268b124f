// Cholesky factorisations that are asked whether to go on.
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

}  // namespace

int main() {
    a_factorisation_in_blocks_is_that_of_the_whole();
    an_indefinite_matrix_has_none();
    a_factorisation_stops_where_it_is_told_to();
    return attsvm_test::report();
}
