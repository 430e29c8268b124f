// The nuclear-norm SVM by a first-order method: primal-dual hybrid gradient with singular value thresholding.
//
//     W⁺ = threshold(W + τ A*(λ), τ),   λ⁺ = (λ + σ (b - A(2 W⁺ - W)))₊,   τ σ |A|² <= 1
//
// The step is taken twice over and drawn back towards the start of the round (Halpern's iteration); a round starts anew
// from its latest point when the steps have become short. (Chambolle, Pock, "A first-order primal-dual algorithm for
// convex problems with applications to imaging", Journal of Mathematical Imaging and Vision 40, 2011; Lu, Yang,
// "Restarted Halpern PDHG for linear programming", 2024.) The active constraints and the rank of W settle long before
// their numbers do, which is what the method is for.
#pragma once

#include <random>
#include <utility>

#include "attsvm/nuclear_face.hpp"

namespace attsvm::nuclear {

class Thresholding {
   public:
    explicit Thresholding(const Constraints& constraints)
        : constraints_(constraints),
          operator_norm_(1.05 * estimate_operator_norm()),
          now_{Matrix::Zero(constraints.left(), constraints.right()), Vector::Zero(constraints.count())},
          start_(now_),
          next_(now_) {}

    void step() {
        const double tau = 1.0 / (operator_norm_ * weight_), sigma = weight_ / operator_norm_;
        threshold(now_.W + tau * constraints_.adjoint(now_.dual), tau);
        next_.dual = now_.dual + sigma * (constraints_.rhs() - constraints_.values(2.0 * next_.W - now_.W));
        for (Index r = 0; r < constraints_.count(); ++r)
            if (!constraints_.is_equality(r)) next_.dual[r] = std::max(next_.dual[r], 0.0);

        const double moved =
            weight_ * (next_.W - now_.W).squaredNorm() + (next_.dual - now_.dual).squaredNorm() / weight_;
        if (in_round_ == 0.0) first_move_ = moved;
        const bool much_shorter = moved < 0.04 * first_move_;
        const bool shorter_and_rising = moved < 0.64 * first_move_ && moved > last_move_;
        if (in_round_ > 0.0 && (much_shorter || shorter_and_rising || in_round_ > 0.36 * steps_)) {
            start_round();
        } else {
            const double share = (in_round_ + 1.0) / (in_round_ + 2.0);
            now_.W = share * (2.0 * next_.W - now_.W) + (1.0 - share) * start_.W;
            now_.dual = share * (2.0 * next_.dual - now_.dual) + (1.0 - share) * start_.dual;
            in_round_ += 1.0;
        }
        last_move_ = moved;
        steps_ += 1.0;
    }

    // Multiplications of one step, more or less; those of an eigenvalue decomposition count for several.
    double work_of_step() const {
        const auto m = static_cast<double>(constraints_.count()), k = static_cast<double>(constraints_.left());
        const auto l = static_cast<double>(constraints_.right()), least = std::min(k, l);
        return 2.0 * m * k + 50.0 * least * least * least + 4.0 * k * l * least;
    }

    // The latest W, and λ scaled into the dual.
    Candidate candidate() const {
        const double spectral = spectral_norm(constraints_.adjoint(next_.dual));
        if (!(spectral > 0.0)) return {};
        return {constraints_, next_.W, value_.sum(), next_.dual / spectral};
    }

    std::vector<Index> active() const {
        std::vector<Index> active;
        for (Index r = 0; r < constraints_.count(); ++r)
            if (constraints_.is_equality(r) || next_.dual[r] > 0.0) active.push_back(r);
        return active;
    }
    Index rank() const { return value_.size(); }
    Face face(const Candidate& latest) const {
        Matrix vectors(constraints_.order(), rank());
        vectors << left_, right_;
        return {constraints_, active(), rank(), latest.dual, vectors * value_.asDiagonal() * vectors.transpose()};
    }

   private:
    struct Point {
        Matrix W;
        Vector dual;
    };

    void start_round() {
        const double primal = (next_.W - start_.W).norm(), dual = (next_.dual - start_.dual).norm();
        if (primal > 0.0 && dual > 0.0) weight_ *= std::sqrt(std::clamp(dual / primal / weight_, 0.01, 100.0));
        now_ = start_ = next_;
        in_round_ = 0.0;
    }

    // next_.W = U (Σ - τ)₊ V' of U Σ V', from the eigenvectors of the smaller Gram matrix: singular values above τ are
    // far above its rounding.
    void threshold(const Matrix& full, double tau) {
        const Eigen::SelfAdjointEigenSolver<Matrix> squares(smaller_gram(full));
        const Vector& square = squares.eigenvalues();
        Index kept = 0;
        while (kept < square.size() && square[square.size() - 1 - kept] > tau * tau) ++kept;
        const Vector value = square.tail(kept).cwiseSqrt();
        const Vector inverse = value.cwiseInverse();
        if (full.rows() < full.cols()) {
            left_ = squares.eigenvectors().rightCols(kept);
            right_ = full.transpose() * left_ * inverse.asDiagonal();
        } else {
            right_ = squares.eigenvectors().rightCols(kept);
            left_ = full * right_ * inverse.asDiagonal();
        }
        value_ = value.array() - tau;
        next_.W = left_ * value_.asDiagonal() * right_.transpose();
    }

    // Largest |A(W)| of a W of Frobenius norm 1, by Lanczos' method on A A* from a fixed random start.
    double estimate_operator_norm() const {
        constexpr Index most_steps = 30;
        std::mt19937_64 bits(0);
        Vector at(constraints_.count());
        for (double& entry : at) entry = static_cast<double>(bits()) * 0x1p-63 - 1.0;
        at.normalize();
        Vector before = Vector::Zero(at.size()), diagonal(most_steps), beside(most_steps);
        Index steps = 0;
        bool exhausted = false;
        while (!exhausted && steps < std::min(most_steps, at.size())) {
            Vector image = constraints_.values(constraints_.adjoint(at));
            if (steps > 0) image -= beside[steps - 1] * before;
            diagonal[steps] = image.dot(at);
            image -= diagonal[steps] * at;
            beside[steps] = image.norm();
            exhausted = !(beside[steps] > 1e-12 * diagonal[0]);
            before = std::exchange(at, image / beside[steps]);
            ++steps;
        }
        Eigen::SelfAdjointEigenSolver<Matrix> tridiagonal;
        tridiagonal.computeFromTridiagonal(diagonal.head(steps), beside.head(steps - 1), Eigen::EigenvaluesOnly);
        return std::sqrt(tridiagonal.eigenvalues().maxCoeff());
    }

    const Constraints& constraints_;
    double operator_norm_;
    double weight_ = 1.0;  // sqrt(σ / τ)
    Point now_, start_, next_;
    Matrix left_, right_;  // singular vectors of the latest W
    Vector value_;         // and its singular values
    double first_move_ = 0.0, last_move_ = 0.0, in_round_ = 0.0, steps_ = 0.0;
};

}  // namespace attsvm::nuclear
