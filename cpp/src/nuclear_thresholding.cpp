#include "attsvm/nuclear_thresholding.hpp"

#include <random>

namespace attsvm::nuclear {
namespace {

// Largest |A(W)| of a W of Frobenius norm 1, by Lanczos' method on A A* from a fixed random start.
double estimate_operator_norm(const Constraints& constraints) {
    const Index most_steps = std::min<Index>(30, constraints.count());
    std::mt19937_64 bits(0);
    Vector at(constraints.count());
    for (double& entry : at) entry = static_cast<double>(bits()) * 0x1p-63 - 1.0;
    at.normalize();
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

}  // namespace

Thresholding::Thresholding(const Constraints& constraints)
    : constraints_(constraints),
      operator_norm_(1.05 * estimate_operator_norm(constraints)),
      now_{Matrix::Zero(constraints.left(), constraints.right()), Vector::Zero(constraints.count())},
      start_(now_),
      next_(now_) {}

void Thresholding::step() {
    const double tau = 1.0 / (operator_norm_ * weight_), sigma = weight_ / operator_norm_;
    threshold(now_.W + tau * constraints_.adjoint(now_.dual), tau);
    next_.dual = now_.dual + sigma * (constraints_.rhs() - constraints_.values(2.0 * next_.W - now_.W));
    for (Index r = 0; r < constraints_.count(); ++r)
        if (!constraints_.is_equality(r)) next_.dual[r] = std::max(next_.dual[r], 0.0);

    const double moved = weight_ * (next_.W - now_.W).squaredNorm() + (next_.dual - now_.dual).squaredNorm() / weight_;
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

double Thresholding::work_of_step() const {
    const auto m = static_cast<double>(constraints_.count()), k = static_cast<double>(constraints_.left());
    const auto l = static_cast<double>(constraints_.right()), least = std::min(k, l);
    return 2.0 * m * k + 50.0 * least * least * least + 4.0 * k * l * least;
}

Candidate Thresholding::candidate() const {
    const double spectral = spectral_norm(constraints_.adjoint(next_.dual));
    if (!(spectral > 0.0)) return {};
    return {constraints_, next_.W, value_.sum(), next_.dual / spectral};
}

std::vector<Index> Thresholding::active() const {
    std::vector<Index> active;
    for (Index r = 0; r < constraints_.count(); ++r)
        if (constraints_.is_equality(r) || next_.dual[r] > 0.0) active.push_back(r);
    return active;
}

Face Thresholding::face(const Candidate& latest) const {
    Matrix vectors(constraints_.order(), rank());
    vectors << left_, right_;
    return {constraints_, active(), rank(), latest.dual, times_transpose(vectors * value_.asDiagonal(), vectors)};
}

void Thresholding::start_epoch() {
    const double primal = (next_.W - start_.W).norm(), dual = (next_.dual - start_.dual).norm();
    if (primal > 0.0 && dual > 0.0) weight_ *= std::sqrt(std::clamp(dual / primal / weight_, 0.01, 100.0));
    now_ = start_ = next_;
    in_epoch_ = 0.0;
}

// From the eigenvectors of the smaller Gram matrix: singular values above τ are far above its rounding.
void Thresholding::threshold(const Matrix& full, double tau) {
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

}  // namespace attsvm::nuclear
