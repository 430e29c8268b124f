// The nuclear-norm SVM by a first-order method: primal-dual hybrid gradient with singular value thresholding.
//
//     W⁺ = threshold(W + τ A*(λ), τ),   λ⁺ = (λ + σ (b - A(2 W⁺ - W)))₊,   τ σ |A|² <= 1
//
// The step is taken twice over and drawn back towards the start of the epoch (Halpern's iteration); an epoch starts
// anew from its latest point when the steps have become short. (Chambolle, Pock, "A first-order primal-dual algorithm
// for convex problems with applications to imaging", Journal of Mathematical Imaging and Vision 40, 2011; Lu, Yang,
// "Restarted Halpern PDHG for linear programming", 2024.) The active constraints and the rank of W settle long before
// their numbers do, which is what the method is for.
#include "attsvm/nuclear_face.hpp"
#include "attsvm/nuclear_methods.hpp"

namespace attsvm::inline ATTSVM_PRECISION::nuclear {
namespace {

// Largest |A(W)| of a W of Frobenius norm 1, by Lanczos' method on A A* from a fixed random start.
double estimate_operator_norm(const Constraints& constraints) {
    const Index most_steps = std::min<Index>(30, constraints.count());
    Vector at = fixed_random(constraints.count());
    Vector before = Vector::Zero(at.size());
    Matrix tridiagonal = Matrix::Zero(most_steps, most_steps);
    for (Index k = 0; k < most_steps; ++k) {
        Vector image = constraints.values(constraints.adjoint(at));
        if (k > 0) image -= tridiagonal(k, k - 1) * before;
        tridiagonal(k, k) = image.dot(at);
        image -= tridiagonal(k, k) * at;
        const double beside = image.norm();
        if (k + 1 == most_steps || !(beside > 1e-12 * tridiagonal(0, 0))) break;
        tridiagonal(k + 1, k) = beside;
        before = std::exchange(at, image / beside);
    }
    return std::sqrt(eigenvalues(tridiagonal).maxCoeff());
}

class Thresholding {
   public:
    explicit Thresholding(const Constraints& constraints)
        : constraints_(constraints),
          operator_norm_(1.05 * estimate_operator_norm(constraints)),
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
        if (in_epoch_ == 0.0) first_move_ = moved;
        const bool much_shorter = moved < 0.04 * first_move_;
        const bool shorter_and_rising = moved < 0.64 * first_move_ && moved > last_move_;
        if (in_epoch_ > 0.0 && (much_shorter || shorter_and_rising || in_epoch_ > 0.36 * steps_)) {
            start_epoch();
        } else {
            const double share = (in_epoch_ + 1.0) / (in_epoch_ + 2.0);
            now_.W = share * (2.0 * next_.W - now_.W) + (1.0 - share) * start_.W;
            now_.dual = share * (2.0 * next_.dual - now_.dual) + (1.0 - share) * start_.dual;
            in_epoch_ += 1.0;
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
        return {constraints_, active(), rank(), latest.dual, times_transpose(vectors * value_.asDiagonal(), vectors)};
    }

   private:
    struct Point {
        Matrix W;
        Vector dual;
    };

    void start_epoch() {
        const double primal = (next_.W - start_.W).norm(), dual = (next_.dual - start_.dual).norm();
        if (primal > 0.0 && dual > 0.0) weight_ *= std::sqrt(std::clamp(dual / primal / weight_, 0.01, 100.0));
        now_ = start_ = next_;
        in_epoch_ = 0.0;
    }
    // next_.W = U (Σ - τ)₊ V' of U Σ V', from the eigenvectors of the smaller Gram matrix: singular values above
    // τ are far above its rounding.
    void threshold(const Matrix& full, double tau) {
        const auto [square, vectors] = eigen(smaller_gram(full));
        Index kept = 0;
        while (kept < square.size() && square[square.size() - 1 - kept] > tau * tau) ++kept;
        const Vector value = square.tail(kept).cwiseSqrt();
        const Matrix of_unit = vectors.rightCols(kept) * value.cwiseInverse().asDiagonal();
        if (full.rows() < full.cols()) {
            left_ = vectors.rightCols(kept);
            right_ = transpose_times(full, of_unit);
        } else {
            right_ = vectors.rightCols(kept);
            left_ = times(full, of_unit);
        }
        value_ = value.array() - tau;
        next_.W = times_transpose(left_ * value_.asDiagonal(), right_);
    }

    const Constraints& constraints_;
    double operator_norm_;
    double weight_ = 1.0;  // sqrt(σ / τ)
    Point now_, start_, next_;
    Matrix left_, right_;  // singular vectors of the latest W
    Vector value_;         // and its singular values
    double first_move_ = 0.0, last_move_ = 0.0, in_epoch_ = 0.0, steps_ = 0.0;
};

}  // namespace

// Tries the face that the steps point to, and those which that one points to, once it hardly changes any more.
Candidate by_thresholding(const Constraints& constraints, int most_steps, Progress& progress, bool calling_thread) {
    constexpr int between_looks = 20;
    constexpr double good = 1e-10, near_enough = 0.3, hopeless = 1e6;
    Thresholding iteration(constraints);
    const double work_of_step = iteration.work_of_step();
    Candidate best;
    std::vector<Index> active;
    Index rank = 0, steps = 0, next_try = 0;
    while (steps < most_steps && best.distance > good && progress.advance(0.0, calling_thread)) {
        for (int k = 0; k < between_looks; ++k) iteration.step();
        steps += between_looks;
        Candidate now = iteration.candidate();
        if (now.dual.size() > 0 && constraints.rhs().dot(now.dual) > hopeless) break;
        std::vector<Index> now_active = iteration.active(), changed;
        std::set_symmetric_difference(active.begin(), active.end(), now_active.begin(), now_active.end(),
                                      std::back_inserter(changed));
        const bool settled = changed.size() <= now_active.size() / 1000 && iteration.rank() == rank;
        active = std::move(now_active);
        rank = iteration.rank();
        if (calling_thread) progress.note(static_cast<double>(now.distance), std::ssize(active));
        const double work_of_face = 3.0 * Face::work_of_step(std::ssize(active), rank, constraints.order());
        const bool affordable = work_of_face <= static_cast<double>(steps) * work_of_step;
        if (settled && affordable && steps >= next_try && now.distance < near_enough) {
            solve_faces(iteration.face(now), good, best);
            next_try = steps + steps / 4;
        }
        best.replace_by(std::move(now));
    }
    best.steps = steps;
    return best;
}

}  // namespace attsvm::inline ATTSVM_PRECISION::nuclear
