#include "attsvm/norm_solver.hpp"

#include "attsvm/dual_svm.hpp"

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

// On the constraints as given, or where their coordinates are too many, on those that the candidates were found with.
void NormSolver::solve_in_octuple_precision(const UnitProblem& problem) {
    constexpr double most_products = 1e8;  // in a step
    if (!is_certified()) {
        if (decide_feasibility() == SvmStatus::infeasible) return;
        leave_unresolved();
    }
    const Index m = problem_.size(), n = svm_.samples, d = svm_.dimension, e = svm_.query_dimension;
    const auto is_affordable = [&](const MarginMap& map) {
        const auto rows = static_cast<double>(m), order = static_cast<double>(map.dimension + map.query_dimension);
        const double of_norm = norm_.is_of_entries() ? 0.0 : order * order * order;
        const double unknowns = norm_.is_of_entries() ? std::min(rows, static_cast<double>(map.coordinates())) : rows;
        return unknowns * unknowns * (rows + order) + of_norm <= most_products;
    };
    const auto solved = [&](const UnitProblem& unit, const double* lacking) {
        return attsvm::solve_in_octuple_precision(unit, lacking, static_cast<int>(norm_.kind), norm_.p, d, e, team_,
                                                  progress_, calling_thread_);
    };
    MarginMap map{n, d, e, problem_.map.start, nullptr, nullptr, {}, {}};
    if (is_affordable(map)) {
        ExactConstraints<double> exact(team_, progress_, calling_thread_, svm_, constraints_);
        Buffer<double> differences(m * d), lacking(m * d), queries(n * e), rhs(m);
        exact.factors(differences.data(), lacking.data(), queries.data());
        map.D = differences.data();
        map.L = queries.data();
        for (Index r = 0; r < m; ++r) rhs[r] = exact.rhs(r);
        const RoundedCandidate found = solved({map, rhs.data(), problem_.equality}, lacking.data());
        if (found.W[0].size() > 0 && std::isfinite(found.distance) && !progress_.stopped())
            is_exactly_optimal(exact, found);
        return;
    }
    if (!is_affordable(problem.map)) return;
    const RoundedCandidate found = solved(problem, nullptr);
    if (found.W[0].size() == 0) return;
    nuclear::Candidate candidate;
    candidate.W = Eigen::Map<const Matrix>(found.W[0].data(), problem.map.dimension, problem.map.query_dimension);
    candidate.dual = Eigen::Map<const Vector>(found.dual[0].data(), found.dual[0].size());
    candidate.distance = found.distance;
    candidate.steps = found.steps;
    is_optimal(candidate, found.unique);
}

// What is certified already, but less well, comes back where this fails.
bool NormSolver::is_exactly_optimal(ExactConstraints<double>& exact, const RoundedCandidate& found) {
    const Index e = svm_.query_dimension;
    const Written before = written();
    const InParts W = scaled(found.W, exact.scale_exponent());
    clear(0.0);
    write_factors_of_whole(W);
    if (is_optimal_as_written(exact, e <= result_.factors, found)) return true;
    Buffer<double> V = in_query_basis(W[0]), values(problem_.size());
    if (write_with_margins(V, values.data()) && is_optimal_as_written(exact, e <= svm_.samples, found)) return true;
    restore(before);
    return false;
}

// The certificate of the factors in the result and of multipliers in the units of `exact`.
bool NormSolver::is_optimal_as_written(ExactConstraints<double>& exact, bool product_is_exact,
                                       const RoundedCandidate& found) {
    const Index m = problem_.size(), d = svm_.dimension, e = svm_.query_dimension;
    Buffer<double> of_rows(m);
    double length = 0.0;
    if (!measure_as_written(exact, product_is_exact, of_rows, length)) return false;
    Vector rhs(m), dual(m), unit(m);
    for (Index r = 0; r < m; ++r) {
        rhs[r] = exact.rhs(r);
        dual[r] = found.dual[0][r];
        unit[r] = std::ldexp(1.0, exact.exponent(r) + exact.scale_exponent());
    }
    const InParts multipliers = scaled(found.dual, [&](Index r) { return -exact.exponent(r); });
    exact.set_multipliers(pointers_to(multipliers), 0);
    if (!std::isfinite(exact.weighted_norm())) return false;
    const Eigen::Map<const Matrix> adjoint(exact.entries().data(), d, e);
    const Matrix W = std::ldexp(1.0, -exact.scale_exponent()) *
                     times_transpose(Eigen::Map<const Matrix>(result_.left, d, result_.factors),
                                     Eigen::Map<const Matrix>(result_.right, e, result_.factors));
    OptimalityCertificate certificate = certify({norm_(W), length, norm_.dual()(adjoint), W.cwiseProduct(adjoint).sum(),
                                                 Eigen::Map<const Vector>(of_rows.data(), m), rhs, dual, unit});
    certificate.rounding = rounding(exact, std::max(norm_(W), length));
    if (!improves(certificate)) return false;
    for (Index r = 0; r < m; ++r) result_.dual[constraints_.place(r)] = multipliers[0][r];
    write_margins(exact, of_rows);
    finish(SvmStatus::optimal, std::ldexp(certificate.norm, exact.scale_exponent()), certificate.gap, certificate.kkt,
           found.steps);
    *result_.unique = found.unique;
    return true;
}

// Gap: (f - g) / f with g = b'λ / N*(A*λ) and f = N(W). Where constraints are missed, f is raised by what the misses
// are worth: by |λ_r| / N*(A*λ) times the miss of an inequality, and by |Σ λ_r (b_r - A_r(W))| / N*(A*λ) of the
// equalities.
//
// KKT residual: the largest of the violations, of N*(A*λ) - 1 and (N(W) - <A*λ, W>) / N(W), and of max(-λ_r, 0) / max
// |λ| and |λ_r (A_r(W) - b_r)| / b'λ of the inequalities.
OptimalityCertificate NormSolver::certify(const NormPair& pair) const {
    const double gain = pair.rhs.dot(pair.dual);
    if (!std::isfinite(pair.norm + pair.dual_norm + gain) || !(pair.norm > 0 && pair.dual_norm > 0 && gain > 0))
        return {infinity, infinity, 0.0, pair.norm, infinity};
    const double largest_dual = pair.dual.cwiseAbs().maxCoeff();
    double shortfall = 0.0, of_inequalities = 0.0, of_equalities = 0.0;
    double kkt = std::max(pair.dual_norm - 1.0, (pair.norm - pair.inner) / pair.norm);
    for (Index r = 0; r < pair.rhs.size(); ++r) {
        const double missing = pair.rhs[r] - pair.values[r], dual = pair.dual[r];
        const double violation = problem_.equality[r] ? std::abs(missing) : std::max(missing, 0.0);
        const double missed = violation_in_units(violation, pair.rhs[r], pair.unit[r], pair.length);
        kkt = std::max(kkt, missed);
        if (problem_.equality[r]) {
            of_equalities += dual * missing;
            continue;
        }
        of_inequalities += std::abs(dual) * violation;
        if (pair.rhs[r] > 0.0) shortfall = std::max(shortfall, missed);
        kkt = std::max({kkt, std::abs(dual * missing) / gain, -dual / largest_dual});
    }
    const double primal_value = pair.norm + (of_inequalities + std::abs(of_equalities)) / pair.dual_norm;
    const double gap = std::abs(primal_value - gain / pair.dual_norm) / primal_value;
    return {std::isfinite(gap) ? gap : infinity, kkt, 0.0, pair.norm, shortfall};
}

// The certificate of a W (dimension × query_dimension) of these values with multipliers λ, all in units of the unit
// problem.
OptimalityCertificate NormSolver::certify(const nuclear::Constraints& unit, const Matrix& W, const Vector& dual,
                                          const Vector& values) const {
    const double norm = norm_(W), length = W.norm();
    Vector units(unit.count());
    for (Index r = 0; r < unit.count(); ++r) units[r] = constraints_.row_norm(r) * constraints_.scale();
    OptimalityCertificate certificate =
        certify({norm, length, norm_.dual()(unit.adjoint(dual)), values.dot(dual), values, unit.rhs(), dual, units});
    certificate.rounding = 64.0 * std::numeric_limits<double>::epsilon() * (units.maxCoeff() * std::max(norm, length));
    return certificate;
}

// Where float64 may be wrong about the margins, or W misses some, they are made those of W as it is written, on the
// data as given.
bool NormSolver::is_optimal(const nuclear::Candidate& best, std::int8_t unique) {
    constexpr double most_rounding = 2e-10, near_enough = 1e-3;
    if (!std::isfinite(best.distance)) return false;
    const nuclear::Constraints unit(problem_, team_);
    Buffer<double> V = lifted(best.W.data());
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
    *result_.unique = unique;
    return is_finished();
}

}  // namespace attsvm
