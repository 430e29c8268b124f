// Constraints of a nuclear-norm SVM as matrices, and how far a point is from proof.
#pragma once

#include <Eigen/Dense>
#include <cmath>
#include <limits>
#include <vector>

#include "attsvm/svm_problem.hpp"

namespace attsvm::nuclear {

using Matrix = Eigen::MatrixXd;
using Vector = Eigen::VectorXd;
using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// A_r(W) = D_r' W l_i >= b_r, or = b_r, for a W of shape (k, l).
//
// Symmetric matrices of order k + l hold a block of each kind: [(k, k), (k, l); (l, k), (l, l)]. With u_r = (D_r, 0)
// and v_r = (0, l_i), A_r(W) is u_r' X v_r for any such X with W in its corner, and A*(λ) is the corner of Σ λ_r K_r,
// K_r = u_r v_r' + v_r u_r'.
class Constraints {
   public:
    Constraints(const UnitProblem& problem, Team team) : problem_(problem), team_(team) {}

    Index count() const { return problem_.size(); }
    Index left() const { return map().dimension; }
    Index right() const { return map().query_dimension; }
    Index order() const { return left() + right(); }
    bool is_equality(Index r) const { return problem_.equality[r]; }
    Eigen::Map<const Vector> rhs() const { return {problem_.rhs, count()}; }
    const UnitProblem& problem() const { return problem_; }
    const Team& team() const { return team_; }
    Eigen::Map<const Rows> differences() const { return {map().D, count(), left()}; }
    Eigen::Map<const Rows> queries() const { return {map().L, map().samples, right()}; }

    // A(W)
    Vector values(const Matrix& W) const {
        Rows directions(map().samples, left());
        map().directions(team_, W.data(), directions.data());
        Vector values(count());
        map().margins(team_, directions.data(), values.data());
        return values;
    }

    // A*(λ)
    Matrix adjoint(const Vector& dual) const {
        Rows sums(map().samples, left());
        map().token_sums(team_, dual.data(), sums.data());
        Matrix adjoint(left(), right());
        map().from_sums(team_, sums.data(), adjoint.data());
        return adjoint;
    }
    // The same as the corner of a symmetric matrix, with 0 on the diagonal.
    Matrix symmetric_adjoint(const Vector& dual) const {
        Matrix K = Matrix::Zero(order(), order());
        const Matrix G = adjoint(dual);
        K.topRightCorner(left(), right()) = G;
        K.bottomLeftCorner(right(), left()) = G.transpose();
        return K;
    }

    // The lower triangle of the matrix of λ -> A(corner of X K Y + Y K X), K = Σ λ_r K_r.
    Matrix coupling(const Matrix& X, const Matrix& Y) const {
        constexpr double worth_sharing = 4e6;
        const Index k = left(), l = right(), m = count(), n = map().samples;
        const auto D = differences();
        const auto Z = queries();
        const Rows DX = D * X.topLeftCorner(k, k), DY = D * Y.topLeftCorner(k, k);
        const Rows uXv = D * X.topRightCorner(k, l) * Z.transpose(), uYv = D * Y.topRightCorner(k, l) * Z.transpose();
        const Matrix vXv = Z * X.bottomRightCorner(l, l) * Z.transpose();
        const Matrix vYv = Z * Y.bottomRightCorner(l, l) * Z.transpose();
        Matrix coupled(m, m);
        const bool shared = static_cast<double>(m * m) * static_cast<double>(k) >= worth_sharing;
        Progress progress(nullptr, 1.0);
        share_jobs(shared ? team_.threads() : 1, n, progress, [&](Index j, bool) {
            const Index start = map().start[j], width = map().rows(j), rest = m - start;
            Rows panel(rest, k);
            for (Index i = j; i < n; ++i)
                panel.middleRows(map().start[i] - start, map().rows(i)) =
                    vYv(i, j) * DX.middleRows(map().start[i], map().rows(i)) +
                    vXv(i, j) * DY.middleRows(map().start[i], map().rows(i));
            auto column = coupled.block(start, start, rest, width);
            column.noalias() = panel * D.middleRows(start, width).transpose();
            for (Index i = j; i < n; ++i)
                column.middleRows(map().start[i] - start, map().rows(i)).noalias() +=
                    uXv.col(j).segment(map().start[i], map().rows(i)) * uYv.col(i).segment(start, width).transpose() +
                    uYv.col(j).segment(map().start[i], map().rows(i)) * uXv.col(i).segment(start, width).transpose();
        });
        return coupled;
    }

   private:
    const MarginMap& map() const { return problem_.map; }

    UnitProblem problem_;
    Team team_;
};

// Some of the constraints, in their order.
class ChosenConstraints {
   public:
    ChosenConstraints(const Constraints& all, std::vector<Index> chosen)
        : chosen_(std::move(chosen)),
          part_(all.problem().map, chosen_),
          rhs_(part_.count()),
          equality_(part_.count()),
          team_(all.team()) {
        for (Index k = 0; k < count(); ++k) {
            rhs_[k] = all.rhs()[(*this)[k]];
            equality_[k] = all.is_equality((*this)[k]);
        }
    }

    Constraints constraints() const { return {{part_.map(), rhs_.data(), equality_.data()}, team_}; }
    Index count() const { return part_.count(); }
    // The constraint that stands at position k.
    Index operator[](Index k) const { return part_[k]; }

   private:
    std::vector<Index> chosen_;
    PartOfConstraints part_;
    Buffer<double> rhs_;
    Buffer<bool> equality_;
    Team team_;
};

// G G' or G' G, whichever is smaller.
inline Matrix smaller_gram(const Matrix& G) {
    return G.rows() < G.cols() ? Matrix(G * G.transpose()) : Matrix(G.transpose() * G);
}

// |G|_op
inline double spectral_norm(const Matrix& G) {
    const Eigen::SelfAdjointEigenSolver<Matrix> squares(smaller_gram(G), Eigen::EigenvaluesOnly);
    return std::sqrt(std::max(squares.eigenvalues().maxCoeff(), 0.0));
}

// |G|_*: with R the triangular factor of G, the eigenvalues of [0 R; R' 0] are the singular values of G and their
// negatives.
inline double nuclear_norm(const Matrix& G) {
    const Eigen::HouseholderQR<Matrix> factors(G.rows() < G.cols() ? Matrix(G.transpose()) : G);
    const Index size = std::min(G.rows(), G.cols());
    Matrix both = Matrix::Zero(2 * size, 2 * size);
    both.bottomLeftCorner(size, size) = factors.matrixQR().topRows(size).triangularView<Eigen::Upper>();
    return 0.5 * Eigen::SelfAdjointEigenSolver<Matrix>(both, Eigen::EigenvaluesOnly).eigenvalues().lpNorm<1>();
}

// What W has to be multiplied by for its smallest value to be the one asked for; infinite if nothing does, 1 if
// equalities fix its size.
inline double scaling_to_feasible(const Constraints& constraints, const Vector& values) {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    double smallest = infinity;
    bool fixed = false;
    for (Index r = 0; r < constraints.count(); ++r) {
        const double rhs = constraints.rhs()[r];
        if (constraints.is_equality(r))
            fixed |= rhs != 0.0;
        else if (rhs > 0.0)
            smallest = std::min(smallest, values[r] / rhs);
    }
    return fixed || smallest == infinity ? 1.0 : smallest > 0.0 ? 1.0 / smallest : infinity;
}

// Relative duality gap of a W with these values and norm and a λ with |A*(λ)|_op <= 1. A missed constraint raises the
// primal value by |λ_r| times the miss.
inline double duality_gap(const Constraints& constraints, const Vector& values, double norm, const Vector& dual) {
    double primal = norm;
    for (Index r = 0; r < constraints.count(); ++r)
        primal += std::abs(dual[r]) * constraints.problem().violation(r, values[r]);
    const double gap = std::abs(primal - constraints.rhs().dot(dual)) / primal;
    return std::isfinite(gap) ? gap : std::numeric_limits<double>::infinity();
}

// W, scaled to be feasible, and multipliers; and how far they are from proving each other optimal: their gap, or what W
// misses.
struct Candidate {
    Matrix W;
    Vector dual;
    double distance = std::numeric_limits<double>::infinity();

    Candidate() = default;
    Candidate(const Constraints& constraints, Matrix W_, double norm, Vector dual_)
        : W(std::move(W_)), dual(std::move(dual_)) {
        Vector values = constraints.values(W);
        const double scaling = scaling_to_feasible(constraints, values);
        if (!std::isfinite(scaling)) return;
        W *= scaling;
        values *= scaling;
        distance = duality_gap(constraints, values, scaling * norm, dual);
        for (Index r = 0; r < constraints.count(); ++r)
            distance = std::max(distance, constraints.problem().violation(r, values[r]));
    }
};

}  // namespace attsvm::nuclear
