#include "attsvm/spectral_face.hpp"

namespace attsvm::inline ATTSVM_PRECISION::spectral {

using nuclear::Candidate;
using nuclear::Constraints;

Face::Face(const Constraints& all, const std::vector<Index>& active, Index multiplicity, Matrix W, const Vector& dual)
    : all_(&all), multiplicity_(multiplicity), chosen_(all, active), dual_(dual(active)), W_(std::move(W)) {
    decompose();
}

void Face::decompose() {
    bases_ = singular_bases(W_);
    auto left = bases_.left.leftCols(multiplicity_), right = bases_.right.leftCols(multiplicity_);
    const Matrix G = chosen_.constraints().adjoint(dual_);
    const SymmetricEigen of_C = eigen(symmetric_part(transpose_times(left, times(G, right))));
    left = times(left, of_C.vectors);
    right = times(right, of_C.vectors);
    C_ = of_C.values;
}

bool Face::newton() {
    constexpr int most_steps = 12;
    constexpr double rounding = in_precision(1e-14), last_digits = in_precision(1e-9), near_enough = 1e-3,
                     negative = -1e-6, diverging = 10.0;
    Real last = std::numeric_limits<double>::infinity();
    for (int k = 0; k < most_steps && chosen_.count() > 0; ++k) {
        const Real missing = step();
        if (!(missing < diverging * last)) return false;
        if (missing <= rounding || (missing <= last_digits && missing > 0.5 * last)) return true;
        last = missing;
        if (missing < near_enough && !chosen_.each_exceeds(negative, dual_)) return true;
    }
    return chosen_.count() > 0;
}

Real Face::step() {
    constexpr double proximal = in_precision(1e-8), most_proximal = 1e-2;
    const Constraints part = chosen_.constraints();
    const Index r = multiplicity_;
    const auto U = bases_.left.leftCols(r), V = bases_.right.leftCols(r);
    const Matrix of_face = symmetric_part(transpose_times(U, times(W_, V))), signs = times_transpose(U, V);
    const Real tau = of_face.trace() / static_cast<double>(r);

    // How far the conditions are from being met: τ, the active constraints, and A*(λ) = U C V'
    Matrix uneven = of_face, unbalanced = transpose_times(bases_.left, times(part.adjoint(dual_), bases_.right));
    uneven.diagonal().array() -= tau;
    unbalanced.diagonal().head(r) -= C_;
    const Real missing = std::max<Real>({uneven.lpNorm<Eigen::Infinity>() / tau,
                                         (part.rhs() - part.values(W_)).lpNorm<Eigen::Infinity>(),
                                         unbalanced.lpNorm<Eigen::Infinity>()});

    // The symmetric part of U' W V becomes t I, and the rest of W changes by H⁻¹ A*(λ), where
    //     S λ + t A(U V') = b - A(rest of W),   A(U V')'λ = 1,   S = A H⁻¹ A*
    const TransposingMap inverse =
        inverse_curvature(tau, std::clamp<Real>(missing, proximal, most_proximal) / (tau * static_cast<double>(r)));
    const Vector of_signs = part.values(signs);
    Matrix S = inverse.gram(part);
    add_gram(S, tau, of_signs);  // definite also where only S on what A(U V') leaves is; t is then less by τ A(U V')'λ
    const Cholesky equations = factorised(S);
    if (!equations.succeeded()) return std::numeric_limits<double>::quiet_NaN();
    const Vector by_norm = equations.solve(of_signs);
    const Real of_norm = of_signs.dot(by_norm);
    // in rounds, for what makes S definite in rounded numbers
    Matrix W = W_ - times(U, times_transpose(of_face, V));
    Vector dual = Vector::Zero(part.count());
    for (int round = 0; round < 4; ++round) {
        const Vector fixed = equations.solve(part.rhs() - part.values(W));
        const Real missing_gain = 1.0 - of_signs.dot(dual), t = (of_signs.dot(fixed) - missing_gain) / of_norm;
        const Vector turn = fixed - t * by_norm;
        dual += turn;
        W += (t + tau * missing_gain) * signs + inverse(part.adjoint(turn));
    }
    if (!W.allFinite() || !dual.allFinite()) return std::numeric_limits<double>::quiet_NaN();
    W_ = std::move(W);
    dual_ = std::move(dual);
    decompose();
    return missing;
}

// In the singular bases, H joins single entries with their transposes: c_i / (τ ∓ σ_j) is the curvature of
// (E_ij ± E_ji) / √2 for an i of the face and a j off it, and (c_i + c_j) / 2τ that of the antisymmetric part of two of
// the face, whose symmetric part does not bend. Nothing bends the rest. A proximal term chooses the nearest of many
// solutions; it falls with what is missing (Levenberg and Marquardt).
TransposingMap Face::inverse_curvature(Real tau, Real proximal) const {
    const Index k = all_->left(), l = all_->right(), r = multiplicity_, square = std::min(k, l);
    const auto inverse = [&](Real weight, Real gap) -> Real {
        return 0.5 * gap / (std::max<Real>(weight, 0.0) + proximal * gap);
    };
    TransposingMap map{bases_.left, bases_.right, Matrix::Constant(k, l, 1.0 / proximal), Matrix::Zero(square, square)};
    for (Index i = 0; i < r; ++i) {
        for (Index j = 0; j < r; ++j) {
            map.own(i, j) = i == j ? Real(0.0) : inverse(C_[i] + C_[j], 2.0 * tau);
            map.crossed(i, j) = -map.own(i, j);
        }
        for (Index j = r; j < std::max(k, l); ++j) {
            const Real sigma = j < square ? bases_.values[j] : Real(0.0);
            const Real even = inverse(C_[i], tau - sigma), odd = inverse(C_[i], tau + sigma);
            if (j < l) map.own(i, j) = even + odd;
            if (j < k) map.own(j, i) = even + odd;
            if (j < square) map.crossed(i, j) = map.crossed(j, i) = even - odd;
        }
    }
    return map;
}

Candidate Face::candidate() const {
    const Vector dual = chosen_.of_all(*all_, dual_);
    const Real size = nuclear_norm(all_->adjoint(dual));
    if (!(size > 0.0) || !numext::isfinite(size)) return {};
    return {*all_, W_, spectral_norm(W_), dual / size};
}

std::optional<Face> Face::revised() const {
    const Vector values = all_->values(W_);
    const Vector dual = chosen_.of_all(*all_, dual_);
    const std::optional<std::vector<Index>> active = chosen_.revised(*all_, dual, values);
    if (!active) return {};
    return Face(*all_, *active, multiplicity_, W_, dual);
}

}  // namespace attsvm::inline ATTSVM_PRECISION::spectral
