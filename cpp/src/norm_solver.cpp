#include "attsvm/norm_solver.hpp"

#include "attsvm/dual_svm.hpp"
#include "attsvm/twice_precision.hpp"

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

void NormSolver::solve_in_twice_precision(const UnitProblem& problem, const Vector& frobenius) {
    constexpr double most_products = 1e8;  // in a step
    const auto m = static_cast<double>(problem.size()), entries = static_cast<double>(problem.map.coordinates());
    const auto order = static_cast<double>(problem.map.dimension + problem.map.query_dimension);
    const double of_norm =
        norm_.kind == SvmNorm::Kind::spectral ? entries * entries * (entries + m) : order * order * order;
    if (m * m * (m + order) + of_norm > most_products) return;
    const RoundedCandidate found =
        attsvm::solve_in_twice_precision(problem, static_cast<int>(norm_.kind), norm_.p, frobenius.data(),
                                         svm_.dimension, svm_.query_dimension, team_, progress_, calling_thread_);
    if (found.W.size() == 0) return;
    nuclear::Candidate candidate;
    candidate.W = Eigen::Map<const Matrix>(found.W.data(), problem.map.dimension, problem.map.query_dimension);
    candidate.dual = Eigen::Map<const Vector>(found.dual.data(), found.dual.size());
    candidate.distance = found.distance;
    candidate.steps = found.steps;
    candidate.unique = found.unique;
    is_optimal(candidate);
}

// The certificate of a W (dimension × query_dimension) of these values with multipliers λ, all in units of the unit
// problem.
//
// Gap: (f - g) / f with g = b'λ / N*(A*λ) and f = N(W), raised by |λ_r| / N*(A*λ) times the miss where a constraint is
// missed.
//
// KKT residual: the largest of the violations, of max(-λ_r, 0) / max |λ|, |λ_r (A_r(W) - b_r)| / b'λ, N*(A*λ) - 1, and
// (N(W) - <A*λ, W>) / N(W).
OptimalityCertificate NormSolver::certify(const nuclear::Constraints& unit, const Matrix& W, const Vector& dual,
                                          const Vector& values) const {
    const double norm = norm_(W), dual_norm = norm_.dual()(unit.adjoint(dual)), gain = unit.rhs().dot(dual);
    if (!std::isfinite(norm + dual_norm + gain) || !(norm > 0 && dual_norm > 0 && gain > 0))
        return {infinity, infinity, 0.0, norm, infinity};

    const double largest_dual = dual.cwiseAbs().maxCoeff(), length = W.norm();
    double largest_row = 0.0, shortfall = 0.0, kkt = std::max(dual_norm - 1.0, (norm - values.dot(dual)) / norm);
    for (Index r = 0; r < unit.count(); ++r) {
        const double size = constraints_.row_norm(r) * constraints_.scale();
        largest_row = std::max(largest_row, size);
        const double missed = violation_in_units(unit.problem().violation(r, values[r]), unit.rhs()[r], size, length);
        if (!unit.is_equality(r) && unit.rhs()[r] > 0.0) shortfall = std::max(shortfall, missed);
        kkt = std::max({kkt, missed, std::abs(dual[r] * (values[r] - unit.rhs()[r])) / gain,
                        unit.is_equality(r) ? 0.0 : -dual[r] / largest_dual});
    }
    return {nuclear::duality_gap(unit, values, norm, dual / dual_norm), kkt,
            64.0 * std::numeric_limits<double>::epsilon() * (largest_row * std::max(norm, length)), norm, shortfall};
}

// Where float64 may be wrong about the margins, or W misses some, they are made those of W as it is written, on the
// data as given.
bool NormSolver::is_optimal(const nuclear::Candidate& best) {
    constexpr double most_rounding = 2e-10, near_enough = 1e-3;
    if (!std::isfinite(best.distance)) return false;
    const nuclear::Constraints unit(problem_, team_);
    Buffer<double> V = basis_ ? lifted(best.W.data()) : Buffer<double>(best.W.size());
    if (!basis_) std::copy(best.W.data(), best.W.data() + best.W.size(), V.data());
    const Eigen::Map<const Matrix> W(V.data(), svm_.dimension, best.W.cols());
    Vector values = unit.values(W);
    OptimalityCertificate certificate = certify(unit, W, best.dual, values);
    const bool fails = best.distance <= near_enough && !certificate.holds(tolerance_.optimality);
    if (certificate.rounding > most_rounding || fails) {
        const Buffer<double> left = copy(result_.left, result_.factors * svm_.dimension),
                             right = copy(result_.right, result_.factors * svm_.query_dimension);
        const bool reached = write_with_margins(V, values.data());
        std::copy(left.data(), left.data() + left.size(), result_.left);
        std::copy(right.data(), right.data() + right.size(), result_.right);
        if (!reached) return false;
        certificate = certify(unit, W, best.dual, values);
    }
    if (!improves(certificate)) return false;
    write_dual(best.dual.data(), 1.0);
    write_margins(values.data());
    write_factors_of(V.data());
    finish(SvmStatus::optimal, constraints_.scale() * certificate.norm, certificate.gap, certificate.kkt, best.steps);
    *result_.unique = best.unique;
    return is_finished();
}

}  // namespace attsvm
