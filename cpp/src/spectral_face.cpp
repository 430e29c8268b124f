#include "attsvm/spectral_face.hpp"

namespace attsvm::inline ATTSVM_PRECISION::spectral {

using nuclear::Candidate;
using nuclear::Constraints;

Matrix symmetrised_product(Index left, const Matrix& Y, const Matrix& R) {
    const Index right = Y.rows() - left;
    Matrix product(left * right, left * right);
    for (Index d = 0; d < right; ++d)
        for (Index c = 0; c < right; ++c)
            product.block(c * left, d * left, left, left) =
                R(left + d, left + c) * Y.topLeftCorner(left, left) +
                Y(left + d, left + c) * R.topLeftCorner(left, left) +
                Y.col(left + d).head(left) * R.col(left + c).head(left).transpose() +
                R.col(left + d).head(left) * Y.col(left + c).head(left).transpose();
    return product;
}

Face::Face(const Constraints& all, Index rows, Index columns, const std::vector<Index>& active, Index multiplicity,
           Matrix W, const Vector& dual)
    : all_(&all),
      rows_(rows),
      columns_(columns),
      multiplicity_(multiplicity),
      chosen_(all, active),
      dual_(dual(active)),
      W_(std::move(W)) {
    decompose();
    // Of A*(λ) = 2 P1 C P2' with P1'P1 = P2'P2 = ½ I
    const Matrix G = chosen_.constraints().adjoint(dual_);
    const Matrix C = 2.0 * transpose_times(face().topRows(all.left()), times(G, face().bottomRows(all.right())));
    C_ = 0.5 * (C + C.transpose());
}

void Face::decompose() {
    const Index k = all_->left(), l = all_->right();
    Matrix B = Matrix::Zero(k + l, k + l);
    B.bottomLeftCorner(l, k) = W_.transpose();
    eigen_ = eigen(B);
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
    constexpr double proximal = in_precision(1e-9), most_proximal = 1e-2, rounding = in_precision(1e-12);
    const Constraints part = chosen_.constraints();
    const Index k = part.left(), entries = W_.size(), pairs = multiplicity_ * (multiplicity_ + 1) / 2;
    const Real tau = eigen_.values.tail(multiplicity_).mean();
    const auto others = eigen_.vectors.leftCols(rest());
    const Vector inverse = (tau - eigen_.values.head(rest()).array()).inverse();
    const Matrix curvature = times_transpose(others * inverse.asDiagonal(), others);
    const Matrix K = times_transpose(times(face(), C_), face());

    // min t + ½ x'H x  s.t.  E (x, t) = f, in the entries x of dW and the new τ
    Matrix H = Matrix::Zero(entries + 1, entries + 1);
    H.topLeftCorner(entries, entries) = 2.0 * symmetrised_product(k, K, curvature);
    Matrix E = Matrix::Zero(pairs + part.count(), entries + 1);
    Vector f = Vector::Zero(pairs + part.count());
    const Real root_two = numext::sqrt(Real(2.0));
    const auto P1 = face().topRows(k), P2 = face().bottomRows(part.right());
    for (Index p = 0, at = 0; p < multiplicity_; ++p)
        for (Index q = 0; q <= p; ++q, ++at) {
            const Real weight = p == q ? 1.0 : root_two;
            const Matrix pair = weight * (P1.col(p) * P2.col(q).transpose() + P1.col(q) * P2.col(p).transpose());
            E.row(at).head(entries) = pair.reshaped().transpose();
            if (p == q) E(at, entries) = -1.0, f[at] = -eigen_.values[rest() + p];
        }
    E.bottomLeftCorner(part.count(), entries) = part.dense_rows().transpose();
    f.tail(part.count()) = part.rhs() - part.values(W_);

    // How far the conditions are from being met: τ, the active constraints, and A*(λ) = 2 P1 C P2'
    Vector still = Vector::Zero(entries + 1);
    still[entries] = tau;
    const Vector unmet = f - apply(E, still);
    const Matrix unbalanced = part.adjoint(dual_) - 2.0 * K.topRightCorner(k, part.right());
    const Real missing =
        std::max<Real>({unmet.head(pairs).lpNorm<Eigen::Infinity>() / tau,
                        unmet.tail(part.count()).lpNorm<Eigen::Infinity>(), unbalanced.lpNorm<Eigen::Infinity>()});

    // A multiple of the equations makes H definite, and a proximal term chooses the nearest of many solutions; it
    // falls with what is missing (Levenberg and Marquardt), but stays far above the rounding errors of H: where nothing
    // else bends H, they would move W by their ratio.
    const Real curved = H.trace(), multiple = std::max<Real>(curved, 1.0) / E.squaredNorm();
    add_gram(H, multiple, E.transpose());
    H.diagonal().head(entries).array() +=
        std::clamp<Real>(missing, proximal, most_proximal) * curved / static_cast<double>(entries);
    Vector fixed = multiple * apply_transpose(E, f);
    fixed[entries] -= 1.0;
    const Cholesky outer(std::move(H));
    if (!outer.succeeded()) return std::numeric_limits<double>::quiet_NaN();
    const Matrix half = outer.solve_lower(E.transpose());
    Matrix of_multipliers = transpose_times(half, half);
    of_multipliers.diagonal().array() += rounding * of_multipliers.trace();
    const Cholesky inner(std::move(of_multipliers));
    if (!inner.succeeded()) return std::numeric_limits<double>::quiet_NaN();
    // E x = f for x = x₀ + H⁻¹ E' y, in two rounds, for the proximal term
    Vector x = outer.solve(fixed), y = Vector::Zero(f.size());
    for (int round = 0; round < 2; ++round) {
        const Vector turn = inner.solve(f - apply(E, x));
        y += turn;
        x += outer.solve(apply_transpose(E, turn));
    }
    if (!x.allFinite() || !y.allFinite()) return std::numeric_limits<double>::quiet_NaN();
    // The multipliers of the equations are -C and λ, less what the multiple of the equations already exerts.
    for (Index p = 0, at = 0; p < multiplicity_; ++p)
        for (Index q = 0; q <= p; ++q, ++at) C_(p, q) = C_(q, p) = -y[at] / (p == q ? 1.0 : root_two);
    dual_ = y.tail(part.count());
    W_ += x.head(entries).reshaped(W_.rows(), W_.cols());

    const Matrix before = face();
    decompose();
    const Matrix rotation = transpose_times(before, face());
    C_ = transpose_times(rotation, times(C_, rotation));
    return missing;
}

Candidate Face::candidate() const {
    const Vector dual = chosen_.of_all(*all_, dual_);
    const Real size = nuclear_norm(all_->adjoint(dual));
    if (!(size > 0.0) || !numext::isfinite(size)) return {};
    Candidate found(*all_, W_, spectral_norm(W_), dual / size);
    found.unique = uniqueness();
    return found;
}

std::optional<Face> Face::revised() const {
    const Vector values = all_->values(W_);
    const Vector dual = chosen_.of_all(*all_, dual_);
    const std::optional<std::vector<Index>> active = chosen_.revised(*all_, dual, values);
    if (!active) return {};
    return Face(*all_, rows_, columns_, *active, multiplicity_, W_, dual);
}

// Every solution has the singular vectors of A*(λ) with the singular value τ, and is free in the rest but for the
// active constraints: there, (rows - multiplicity) (columns - multiplicity) unknowns.
std::int8_t Face::uniqueness() const {
    constexpr double clear = 1e-7, independent = 1e-10;
    const Index k = all_->left(), l = all_->right(), r = multiplicity_;
    const Real tau = eigen_.values[eigen_.values.size() - 1];
    const Vector excess = all_->values(W_) - all_->rhs();
    const Vector of_C = eigenvalues(C_);
    const bool strict_primal =
        (rest() == 0 || eigen_.values[rest() - 1] < (1.0 - clear) * tau) && chosen_.others_exceed(clear, excess);
    const bool strict_dual = of_C[0] > clear * of_C[r - 1] && chosen_.each_exceeds(clear, dual_);
    const Index here = (k - r) * (l - r), unknowns = (rows_ - r) * (columns_ - r);
    if (unknowns > chosen_.count() || unknowns > here) return strict_primal ? 0 : -1;
    if (!strict_dual) return -1;
    if (here == 0) return 1;
    // A on the complement of the singular vectors
    const auto complement = [r](const MatrixView& P) {
        const Matrix projector = Matrix::Identity(P.rows(), P.rows()) - 2.0 * times_transpose(P, P);
        return Matrix(eigen(projector).vectors.rightCols(P.rows() - r));
    };
    const Matrix left = complement(face().topRows(k)), right = complement(face().bottomRows(l));
    const Constraints part = chosen_.constraints();
    const Matrix D = transpose_times(left, part.differences()), Z = transpose_times(right, part.queries());
    Matrix rows(part.count(), here);
    for (Index i = 0; i < part.map().samples; ++i)
        for (Index a = part.map().start[i]; a < part.map().start[i + 1]; ++a)
            rows.row(a) = (D.col(a) * Z.col(i).transpose()).reshaped().transpose();
    const Vector values = eigenvalues(transpose_times(rows, rows));
    return values[0] > independent ? 1 : strict_primal ? 0 : -1;
}

}  // namespace attsvm::inline ATTSVM_PRECISION::spectral
