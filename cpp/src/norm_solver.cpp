#include "attsvm/norm_solver.hpp"

#include "attsvm/dual_svm.hpp"
#include "attsvm/exact_constraints.hpp"

namespace attsvm {

bool NormSolver::decided_at_once() {
    if (!constraints_.contradiction() && !constraints_.trivial() && constraints_.within_float64()) return false;
    if (decide_feasibility() == SvmStatus::optimal) *result_.unique = 1;
    return true;
}

SvmStatus NormSolver::decide_feasibility() {
    clear(nan);
    solve_frobenius(svm_, nullptr, FrobeniusMethod::automatic, tolerance_, team_, progress_, calling_thread_, result_);
    return static_cast<SvmStatus>(*result_.status);
}

// The certificate of a W (dimension × query_dimension) with multipliers λ, all in units of the unit problem; A(W) is
// left in `values`.
//
// Gap: (f - g) / f with g = b'λ / N*(A*λ) and f = N(W), raised by |λ_r| / N*(A*λ) times the miss where a constraint is
// missed.
//
// KKT residual: the largest of the violations, of max(-λ_r, 0) / max |λ|, |λ_r (A_r(W) - b_r)| / b'λ, N*(A*λ) - 1, and
// (N(W) - <A*λ, W>) / N(W).
OptimalityCertificate NormSolver::certify(const Matrix& W, const Vector& dual, Vector& values) const {
    const nuclear::Constraints unit(problem_, team_);
    values = unit.values(W);
    const double norm = norm_(W), dual_norm = norm_.dual()(unit.adjoint(dual)), gain = unit.rhs().dot(dual);
    if (!std::isfinite(norm + dual_norm + gain) || !(norm > 0 && dual_norm > 0 && gain > 0))
        return {infinity, infinity, 0.0, norm, infinity};

    const double largest_dual = dual.cwiseAbs().maxCoeff();
    double largest_row = 0.0, shortfall = 0.0, kkt = std::max(dual_norm - 1.0, (norm - values.dot(dual)) / norm);
    for (Index r = 0; r < unit.count(); ++r) {
        const double size = constraints_.row_norm(r) * constraints_.scale();
        largest_row = std::max(largest_row, size);
        const double missed = size * unit.problem().violation(r, values[r]);
        if (!unit.is_equality(r) && unit.rhs()[r] > 0.0) shortfall = std::max(shortfall, missed);
        kkt = std::max({kkt, missed, std::abs(dual[r] * (values[r] - unit.rhs()[r])) / gain,
                        unit.is_equality(r) ? 0.0 : -dual[r] / largest_dual});
    }
    return {nuclear::duality_gap(unit, values, norm, dual / dual_norm), kkt,
            64.0 * std::numeric_limits<double>::epsilon() * (largest_row * std::max(norm, W.norm())), norm, shortfall};
}

bool NormSolver::is_optimal(const nuclear::Candidate& best) {
    if (!std::isfinite(best.distance)) return false;
    const Buffer<double> all = basis_ ? lifted(best.W.data()) : Buffer<double>();
    const Matrix W = basis_ ? Matrix(Eigen::Map<const Matrix>(all.data(), svm_.dimension, best.W.cols())) : best.W;
    Vector values;
    OptimalityCertificate certificate = certify(W, best.dual, values);
    if (!improves(certificate)) return false;
    write_dual(best.dual.data(), 1.0);
    write_margins(values.data());
    write_factors_of(W.data());
    const double norm = constraints_.scale() * certificate.norm,
                 more = lengthen(certificate.rounding, constraints_.scale() * std::max(certificate.norm, W.norm()));
    certificate.gap += more;
    certificate.kkt += more;
    if (!certificate.holds(tolerance_.optimality)) {
        leave_unresolved();
        worst_ = infinity;
        return false;
    }
    finish(SvmStatus::optimal, norm * (1.0 + more), certificate.gap, certificate.kkt, best.steps);
    *result_.unique = best.unique;
    return is_finished();
}

// Makes a W that rounding leaves short of its margins on the data as given longer, unless equalities fix its size, and
// returns by what share: the product left' right is rounded once more where it is formed.
double NormSolver::lengthen(double rounding, double size) {
    constexpr double most_rounding = 2e-10;
    if (!(rounding > most_rounding)) return 0.0;
    ExactConstraints<double> exact(team_, progress_, calling_thread_, svm_, constraints_);
    Buffer<double> values(problem_.size());
    exact.margins(result_.left, result_.right, result_.factors, values.data());
    const bool by_basis = problem_.map.query_dimension < svm_.query_dimension;  // else `right` is the identity
    const double product = by_basis ? 4.0 * std::numeric_limits<double>::epsilon() * size : 0.0;
    double factor = 1.0;
    for (Index r = 0; r < problem_.size(); ++r) {
        const int exponent = exact.exponent(r) + exact.scale_exponent();
        const double rhs = std::ldexp(svm_.rhs[constraints_.place(r)], -exponent);
        if (problem_.equality[r] && rhs != 0.0) return 0.0;
        if (problem_.equality[r] || !(rhs > 0.0)) continue;
        const double safe = values[r] - std::ldexp(product * constraints_.row_norm(r), -exponent);
        if (!(safe > 0.5 * rhs)) return infinity;
        factor = std::max(factor, rhs / safe);
    }
    for (Index k = 0; k < result_.factors * svm_.dimension; ++k) result_.left[k] *= factor;
    for (Index r = 0; r < problem_.size(); ++r)
        result_.margins[constraints_.place(r)] =
            std::ldexp(factor * values[r], exact.exponent(r) + exact.scale_exponent());
    return factor - 1.0;
}

}  // namespace attsvm
