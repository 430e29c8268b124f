#include "attsvm/certificate.hpp"

namespace attsvm {

namespace {
constexpr double infinity = std::numeric_limits<double>::infinity();
}

OptimalityCertificate certify_optimality(const PrimalDualPair& pair) {
    const double gain = sum<double>(pair.size, [&](Index r) { return pair.rhs[r] * pair.dual[r]; });
    const OptimalityCertificate none{infinity, infinity, 0.0, pair.norm, infinity};
    const bool finite = std::isfinite(gain + pair.norm + pair.dual_norm + pair.difference);
    if (!finite || !(gain > 0 && pair.norm > 0)) return none;
    double smallest = infinity, largest_dual = 0.0;
    bool fixed_scale = false;
    for (Index r = 0; r < pair.size; ++r) {
        if (pair.equality[r])
            fixed_scale |= pair.rhs[r] != 0;
        else if (pair.rhs[r] > 0)
            smallest = std::min(smallest, pair.values[r] / pair.rhs[r]);
        largest_dual = std::max(largest_dual, std::abs(pair.dual[r]));
    }
    const double scaling = fixed_scale ? 1.0 : smallest > 0 ? 1.0 / smallest : infinity;
    if (!std::isfinite(scaling)) return none;

    double penalty = 0.0, of_equalities = 0.0, kkt = pair.difference / pair.norm, shortfall = 0.0;
    for (Index r = 0; r < pair.size; ++r) {
        const auto violation = [&](double value) {
            const double missing = pair.rhs[r] - value;
            return pair.equality[r] ? std::abs(missing) : std::max(missing, 0.0);
        };
        const bool scaled = pair.rhs[r] > 0 && !pair.equality[r];
        const double missed = violation_in_units(violation(pair.values[r]), pair.rhs[r], pair.unit[r], pair.norm);
        kkt = std::max(kkt, missed);
        if (pair.equality[r]) {
            of_equalities += pair.dual[r] * (pair.rhs[r] - scaling * pair.values[r]);
            continue;
        }
        if (scaled)
            shortfall = std::max(shortfall, missed);
        else
            penalty += std::abs(pair.dual[r]) * violation(scaling * pair.values[r]);
        kkt = std::max(
            {kkt, std::abs(pair.dual[r] * (pair.values[r] - pair.rhs[r])) / gain, -pair.dual[r] / largest_dual});
    }
    penalty += std::abs(of_equalities);
    const double primal_value = 0.5 * (scaling * pair.norm) * (scaling * pair.norm) + penalty;
    const double dual_value = gain - 0.5 * pair.dual_norm * pair.dual_norm;
    return {std::abs(primal_value - dual_value) / primal_value, kkt, 0.0, pair.norm, shortfall};
}

OptimalityCertificate certify_optimality(const Team& team, const UnitConstraints& constraints, const double* V,
                                         const double* dual, double* values) {
    const UnitProblem problem = constraints.problem();
    MarginProducts products(team, problem.map);
    Buffer<double>& W = products.V();
    products.adjoint(dual);
    const double dual_norm = products.norm();
    for (Index k = 0; k < W.size(); ++k) W[k] = V[k] - W[k];
    const double difference = products.norm();
    std::copy(V, V + W.size(), W.data());
    const double size = products.norm();
    products.margins(values);

    Buffer<double> unit(problem.size());
    double largest_row = 0.0;
    for (Index r = 0; r < problem.size(); ++r) {
        unit[r] = constraints.row_norm(r) * constraints.scale();
        largest_row = std::max(largest_row, constraints.row_norm(r));
    }
    OptimalityCertificate certificate = certify_optimality(
        {problem.size(), values, problem.rhs, dual, problem.equality, unit.data(), size, dual_norm, difference});
    certificate.rounding = 64.0 * std::numeric_limits<double>::epsilon() * (largest_row * (constraints.scale() * size));
    return certificate;
}

double farkas_residual(const Team& team, const UnitProblem& problem, const double* dual) {
    double gain = 0.0, absolute_gain = 0.0, weight = 0.0;
    for (Index r = 0; r < problem.size(); ++r) {
        if (!problem.equality[r] && dual[r] < 0) return infinity;
        gain += problem.rhs[r] * dual[r];
        absolute_gain += std::abs(problem.rhs[r] * dual[r]);
        if (problem.rhs[r] != 0) weight += std::abs(dual[r]);
    }
    if (!(gain > 0)) return infinity;
    MarginProducts products(team, problem.map);
    products.adjoint(dual);
    return absolute_gain / gain * products.norm() / weight;
}

}  // namespace attsvm
