// Newton's method on a face of the unit ball of the spectral norm: the exact end of a nuclear-norm SVM.
//
// With G = A*(λ), the eigenvectors P of [0 G; G' 0] for the eigenvalues near 1 hold the singular vectors that W is made
// of: W is the corner of X = 2 P C P', C symmetric and positive definite. Once the rank of W and the active constraints
// are known, the SVM is the smooth system
//     A_r(W) = b_r (r active),   P' [0 G; G' 0] P = I
// in λ and C. P moves with λ by first-order perturbation of eigenvectors, which makes the Newton equations
//     M dλ + B dC = b - A(W),   B' dλ = I - P' [0 G; G' 0] P,
// with M the coupling of X and the pseudo-inverse of I - [0 G; G' 0] off the face. (Overton, "Large-scale optimization
// of eigenvalues", SIAM Journal on Optimization 2, 1992.)
#pragma once

#include <optional>

#include "attsvm/nuclear_constraints.hpp"

namespace attsvm::nuclear {

class Face {
    auto face() const { return vectors_.rightCols(rank_); }

   public:
    // The face of the `active` constraints and the `rank`, from a point near the solution: λ and X with W in its
    // corner.
    Face(const Constraints& all, std::vector<Index> active, Index rank, const Vector& dual, const Matrix& X)
        : all_(&all), dual_(dual(active)), rank_(rank), chosen_(all, std::move(active)), part_(chosen_.constraints()) {
        decompose();
        C_ = 0.5 * face().transpose() * X * face();
    }

    // Multiplications of one step, more or less.
    static double work_of_step(Index active, Index rank, Index order) {
        const auto a = static_cast<double>(active), pairs = 0.5 * static_cast<double>(rank * (rank + 1));
        const auto size = static_cast<double>(order);
        return a * a * (a / 6.0 + 0.5 * size + 1.5 * pairs) + a * pairs * pairs + 10.0 * size * size * size;
    }

    // Steps until the equations hold to rounding. False where they lead nowhere: the face is not the right one.
    bool newton() {
        constexpr int most_steps = 6;
        double last = std::numeric_limits<double>::infinity();
        for (int k = 0; k < most_steps && part_.count() > 0; ++k) {
            const double missing = step();
            if (!std::isfinite(missing) || !(C_.diagonal().minCoeff() > 0.0)) return false;
            if (missing <= rounding || missing > 0.5 * last) return true;
            last = missing;
        }
        return part_.count() > 0;
    }

    // W and λ as they stand, with λ put back into its bounds; nothing where C is not positive definite.
    Candidate candidate() const {
        if (!(Eigen::SelfAdjointEigenSolver<Matrix>(C_, Eigen::EigenvaluesOnly).eigenvalues()[0] > 0.0)) return {};
        Vector dual = Vector::Zero(all_->count());
        for (Index k = 0; k < chosen_.count(); ++k)
            dual[chosen_[k]] = part_.is_equality(k) ? dual_[k] : std::max(dual_[k], 0.0);
        dual /= std::max(spectral_norm(all_->adjoint(dual)), 1.0);
        return {*all_, 2.0 * face().topRows(all_->left()) * C_ * face().bottomRows(all_->right()).transpose(),
                C_.trace(), std::move(dual)};
    }

    // The face that this one's solution points to: without the constraints that it would have pull the wrong way, and
    // with those that it misses. Nothing if it is the same.
    std::optional<Face> revised() const {
        constexpr double missed = 1e-10;
        const Matrix X = 2.0 * face() * C_ * face().transpose();
        const Vector values = all_->values(X.topRightCorner(all_->left(), all_->right()));
        Vector dual = Vector::Zero(all_->count());
        std::vector<bool> was_active(static_cast<std::size_t>(all_->count()));
        for (Index k = 0; k < chosen_.count(); ++k) {
            dual[chosen_[k]] = dual_[k];
            was_active[static_cast<std::size_t>(chosen_[k])] = true;
        }
        std::vector<Index> active;
        bool changed = false;
        for (Index r = 0; r < all_->count(); ++r) {
            const bool was = was_active[static_cast<std::size_t>(r)];
            const bool is = all_->is_equality(r) || (was ? dual[r] > 0.0 : values[r] < all_->rhs()[r] - missed);
            if (is) active.push_back(r);
            changed |= is != was;
        }
        if (!changed || active.empty()) return {};
        return Face(*all_, std::move(active), rank_, dual, X);
    }

   private:
    static constexpr double rounding = 1e-14, proximal = 1e-12;

    // Eigenvalues of [0 G; G' 0] and their vectors, the largest last.
    void decompose() {
        const Eigen::SelfAdjointEigenSolver<Matrix> solver(part_.symmetric_adjoint(dual_));
        value_ = solver.eigenvalues();
        vectors_ = solver.eigenvectors();
    }

    // Largest amount by which the equations were missed before the step; not finite where they have no solution.
    double step() {
        const Index rest = part_.order() - rank_, pairs = rank_ * (rank_ + 1) / 2;
        const auto others = vectors_.leftCols(rest);
        const Vector inverse = (1.0 - value_.head(rest).array()).inverse();
        Matrix M =
            part_.coupling(2.0 * face() * C_ * face().transpose(), others * inverse.asDiagonal() * others.transpose());

        // The entries of a symmetric matrix in a column, those off the diagonal times √2.
        const double root_two = std::sqrt(2.0);
        const auto each_pair = [&](auto&& at_pair) {
            for (Index p = 0, at = 0; p < rank_; ++p)
                for (Index q = 0; q <= p; ++q, ++at) at_pair(p, q, at, p == q ? 1.0 : root_two);
        };
        const Matrix of_difference = part_.differences() * face().topRows(part_.left());
        const Matrix of_query = part_.queries() * face().bottomRows(part_.right());
        Matrix of_own_query(part_.count(), rank_);
        const MarginMap& map = part_.problem().map;
        for (Index i = 0; i < map.samples; ++i)
            of_own_query.middleRows(map.start[i], map.rows(i)) = of_query.row(i).replicate(map.rows(i), 1);
        Matrix B(part_.count(), pairs);
        Vector missing(pairs), middle(pairs);
        each_pair([&](Index p, Index q, Index at, double weight) {
            B.col(at) = weight * (of_difference.col(p).cwiseProduct(of_own_query.col(q)) +
                                  of_difference.col(q).cwiseProduct(of_own_query.col(p)));
            missing[at] = p == q ? 1.0 - value_[rest + p] : 0.0;
            middle[at] = weight * C_(p, q);
        });

        // A multiple of the second equation in the first makes its matrix definite. The proximal terms choose the
        // nearest of many solutions; they vanish with the step.
        const double multiple = M.trace() / B.squaredNorm();
        M.selfadjointView<Eigen::Lower>().rankUpdate(B, multiple);
        M.diagonal().array() += proximal * M.trace();
        const Eigen::LLT<Eigen::Ref<Matrix>> outer(M);
        const Vector short_of = part_.rhs() - B * middle;
        const Matrix spread = outer.solve(B);
        Matrix K = B.transpose() * spread;
        K.diagonal().array() += proximal * K.trace();
        const Eigen::LLT<Eigen::Ref<Matrix>> inner(K);
        if (outer.info() != Eigen::Success || inner.info() != Eigen::Success)
            return std::numeric_limits<double>::quiet_NaN();
        const Vector first = outer.solve(short_of + multiple * (B * missing));
        const Vector turn = inner.solve(B.transpose() * first - missing);
        middle += turn;
        dual_ += first - spread * turn;
        each_pair([&](Index p, Index q, Index at, double weight) { C_(p, q) = C_(q, p) = middle[at] / weight; });

        const Matrix before = face();
        decompose();
        const Matrix rotation = before.transpose() * face();
        C_ = (rotation.transpose() * C_ * rotation).eval();
        return std::max(short_of.lpNorm<Eigen::Infinity>(), missing.lpNorm<Eigen::Infinity>());
    }

    const Constraints* all_;
    Vector dual_;  // of the active constraints
    Index rank_;
    ChosenConstraints chosen_;
    Constraints part_;  // the active constraints
    Vector value_;      // eigenvalues of [0 G; G' 0], rising
    Matrix vectors_;    // and their vectors
    Matrix C_;
};

}  // namespace attsvm::nuclear
