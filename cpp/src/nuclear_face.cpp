#include "attsvm/nuclear_face.hpp"

namespace attsvm::inline ATTSVM_PRECISION::nuclear {

Face::Face(const Constraints& all, std::vector<Index> active, Index rank, const Vector& dual, const Matrix& X)
    : all_(&all), dual_(dual(active)), rank_(rank), chosen_(all, std::move(active)) {
    decompose();
    C_ = 0.5 * transpose_times(face(), times(X, face()));
}

double Face::work_of_step(Index active, Index rank, Index order) {
    const auto a = static_cast<double>(active), pairs = 0.5 * static_cast<double>(rank * (rank + 1));
    const auto size = static_cast<double>(order);
    return a * a * (a / 6.0 + 0.5 * size + 1.5 * pairs) + a * pairs * pairs + 10.0 * size * size * size;
}

bool Face::newton() {
    constexpr int most_steps = 6;
    constexpr double rounding = in_precision(1e-14), near_enough = 1e-3, negative = -1e-6;
    Real last = std::numeric_limits<double>::infinity();
    for (int k = 0; k < most_steps && chosen_.count() > 0; ++k) {
        const Real missing = step();
        if (!numext::isfinite(missing) || !(C_.diagonal().minCoeff() > 0.0)) return false;
        if (missing <= rounding || missing > 0.5 * last) return true;
        last = missing;
        // Where multipliers are negative, `revised` has a better face than this one, whose last digits nobody needs.
        if (missing < near_enough && !chosen_.each_exceeds(negative, dual_)) return true;
    }
    return chosen_.count() > 0;
}

Candidate Face::candidate() const {
    if (!(eigenvalues(C_)[0] > 0.0)) return {};
    Vector dual = chosen_.of_all(*all_, dual_);
    dual /= std::max<Real>(spectral_norm(all_->adjoint(dual)), 1.0);
    return {*all_, 2.0 * times_transpose(times(face_left(), C_), face_right()), C_.trace(), std::move(dual)};
}

Matrix Face::values_of_pairs() const {
    const Constraints part = chosen_.constraints();
    const Matrix of_difference = transpose_times(part.differences(), face_left());
    const Matrix of_query = transpose_times(part.queries(), face_right());
    Matrix of_own_query(part.count(), rank_);
    for (Index i = 0; i < part.map().samples; ++i)
        of_own_query.middleRows(part.map().start[i], part.map().rows(i)).rowwise() = of_query.row(i);
    Matrix B(part.count(), rank_ * (rank_ + 1) / 2);
    each_pair([&](Index p, Index q, Index at, Real weight) {
        B.col(at) = weight * (of_difference.col(p).cwiseProduct(of_own_query.col(q)) +
                              of_difference.col(q).cwiseProduct(of_own_query.col(p)));
    });
    return B;
}

std::optional<Face> Face::revised() const {
    const Matrix X_now = X();
    const Vector values = all_->values(X_now.topRightCorner(all_->left(), all_->right()));
    const Vector dual = chosen_.of_all(*all_, dual_);
    std::optional<std::vector<Index>> active = chosen_.revised(*all_, dual, values);
    if (!active) return {};
    return Face(*all_, *std::move(active), rank_, dual, X_now);
}

Real Face::step() {
    constexpr double proximal = in_precision(1e-12);
    const Constraints part = chosen_.constraints();
    const Index rest = part.order() - rank_, pairs = rank_ * (rank_ + 1) / 2;
    const auto others = eigen_.vectors.leftCols(rest);
    const Vector inverse = (1.0 - eigen_.values.head(rest).array()).inverse();
    Matrix M = part.coupling(X(), times_transpose(others * inverse.asDiagonal(), others));

    const Matrix B = values_of_pairs();
    Vector missing(pairs), middle(pairs);
    each_pair([&](Index p, Index q, Index at, Real weight) {
        missing[at] = p == q ? 1.0 - eigen_.values[rest + p] : 0.0;
        middle[at] = weight * C_(p, q);
    });

    // A multiple of the second equation in the first makes its matrix definite. The proximal terms choose the nearest
    // of many solutions; they vanish with the step.
    const Real multiple = M.trace() / B.squaredNorm();
    add_gram(M, multiple, B);
    M.diagonal().array() += proximal * M.trace();
    const Cholesky outer(std::move(M));
    const Vector short_of = part.rhs() - apply(B, middle);
    const Matrix half = outer.solve_lower(B);
    Matrix K = transpose_times(half, half);
    K.diagonal().array() += proximal * K.trace();
    const Cholesky inner(std::move(K));
    if (!outer.succeeded() || !inner.succeeded()) return std::numeric_limits<double>::quiet_NaN();
    const Vector first = outer.solve(short_of + multiple * apply(B, missing));
    const Vector turn = inner.solve(apply_transpose(B, first) - missing);
    middle += turn;
    dual_ += first - outer.solve(apply(B, turn));
    each_pair([&](Index p, Index q, Index at, Real weight) { C_(p, q) = C_(q, p) = middle[at] / weight; });

    const Matrix before = face();
    decompose();
    const Matrix rotation = transpose_times(before, face());
    C_ = transpose_times(rotation, times(C_, rotation));
    return std::max<Real>(short_of.lpNorm<Eigen::Infinity>(), missing.lpNorm<Eigen::Infinity>());
}

}  // namespace attsvm::inline ATTSVM_PRECISION::nuclear
