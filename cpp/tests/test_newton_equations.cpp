// The Newton equations of norms of entries, for more and for fewer constraints than entries of W, against their
// definition.
#include "attsvm/newton_equations.hpp"

#include <array>
#include <random>

#include "check.hpp"

namespace {

using attsvm::Index;
using attsvm::Matrix;
using attsvm::Real;
using attsvm::Vector;

// Random constraints, of which every `every`-th is an equality, and weights that differ by a factor of 100.
struct Equations {
    Index d, e, n, rows;
    std::mt19937_64 bits{7};
    std::vector<Index> start;
    Matrix D, L, weights;
    Vector rhs, quotients;
    attsvm::Buffer<bool> equality;

    Equations(Index d_, Index e_, Index n_, Index rows_, Index every)
        : d(d_),
          e(e_),
          n(n_),
          rows(rows_),
          D(d_, n_ * rows_),
          L(e_, n_),
          weights(d_, e_),
          rhs(n_ * rows_),
          quotients(n_ * rows_),
          equality(n_ * rows_) {
        std::normal_distribution<double> normal;
        std::uniform_real_distribution<double> exponent(-1.0, 1.0);
        for (Index i = 0; i <= n; ++i) start.push_back(i * rows);
        for (Real& entry : D.reshaped()) entry = normal(bits);
        for (Real& entry : L.reshaped()) entry = normal(bits);
        for (Real& entry : weights.reshaped()) entry = std::pow(10.0, exponent(bits));
        for (Index r = 0; r < rhs.size(); ++r) {
            rhs[r] = 1.0;
            equality[r] = r % every == every - 1;
            quotients[r] = equality[r] ? 0.0 : std::pow(10.0, exponent(bits));
        }
    }
    attsvm::nuclear::Constraints constraints() const {
        return {{{n, d, e, start.data(), D.data(), L.data(), {}, {}}, rhs.data(), equality.data()}, attsvm::Team(2)};
    }
};

void solutions_meet_the_equations() {
    constexpr Index none = 1000;
    for (const auto& [d, e, n, rows, every] : {std::array<Index, 5>{3, 4, 5, 2, none},
                                               {3, 4, 5, 2, 3},
                                               {4, 1, 6, 3, none},
                                               {4, 1, 6, 3, 9},
                                               {3, 5, 9, 7, none},
                                               {3, 5, 9, 7, 8},
                                               {2, 6, 40, 3, 11}}) {
        const Equations of(d, e, n, rows, every);
        const auto constraints = of.constraints();
        const attsvm::NewtonEquations equations(constraints, of.weights, of.quotients, {});
        CHECK(equations.succeeded());
        const Matrix f = Matrix::Random(d, e);
        const auto [W, dual] = equations.solve(f, of.rhs);
        const Matrix of_entries = W.cwiseQuotient(of.weights) - constraints.adjoint(dual) - f;
        const Vector of_constraints = constraints.values(W) + of.quotients.cwiseProduct(dual) - of.rhs;
        CHECK(of_entries.norm() <= 1e-14 * W.cwiseQuotient(of.weights).norm() * static_cast<double>(n * rows));
        CHECK(of_constraints.norm() <= 1e-14 * constraints.values(W).norm() * static_cast<double>(n * rows));
    }
}

void products_of_rows_are_those_of_the_definition() {
    const Equations of(3, 5, 4, 3, 1000);
    const auto constraints = of.constraints();
    const Matrix A = constraints.dense_rows();
    attsvm::Progress progress(nullptr, 1.0);
    const auto agree = [](const Matrix& found, const Matrix& expected) {
        return Matrix((found - expected).triangularView<Eigen::Lower>()).norm() <= 1e-13 * expected.norm();
    };
    CHECK(agree(attsvm::gram_of_entries(constraints, of.quotients, progress),
                A * of.quotients.asDiagonal() * A.transpose()));
    CHECK(
        agree(attsvm::weighted_gram(constraints, of.weights), A.transpose() * of.weights.reshaped().asDiagonal() * A));
}

// For a W taller and wider than square, and a vector
void the_gram_matrix_of_a_transposing_map_is_that_of_its_definition() {
    for (const auto& [d, e] : {std::array<Index, 2>{3, 5}, {5, 3}, {4, 1}}) {
        const Equations of(d, e, 4, 3, 1000);
        const auto constraints = of.constraints();
        const Index square = std::min(d, e);
        const Matrix crossed = Matrix::Random(square, square);
        const attsvm::TransposingMap map{Matrix::Random(d, d), Matrix::Random(e, e), of.weights,
                                         crossed + crossed.transpose()};
        const Matrix A = constraints.dense_rows();
        Matrix H(d * e, d * e);
        for (Index k = 0; k < d * e; ++k) {
            const Matrix G = map.left.transpose() * Matrix::Identity(d * e, d * e).col(k).reshaped(d, e) * map.right;
            Matrix E = map.own.cwiseProduct(G);
            for (Index j = 0; j < square; ++j)
                for (Index i = 0; i < square; ++i) E(i, j) += map.crossed(i, j) * G(j, i);
            H.col(k) = (map.left * E * map.right.transpose()).reshaped();
            CHECK((map(Matrix::Identity(d * e, d * e).col(k).reshaped(d, e)).reshaped() - H.col(k)).norm() <=
                  1e-13 * H.col(k).norm());
        }
        const Matrix expected = A.transpose() * H * A;
        CHECK(Matrix((map.gram(constraints) - expected).triangularView<Eigen::Lower>()).norm() <=
              1e-13 * expected.norm());
    }
}

}  // namespace

int main() {
    solutions_meet_the_equations();
    products_of_rows_are_those_of_the_definition();
    the_gram_matrix_of_a_transposing_map_is_that_of_its_definition();
    return attsvm_test::report();
}
