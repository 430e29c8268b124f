// What makes the answer of a solver trustworthy, computed from the constraints alone.
#pragma once

#include "attsvm/svm_problem.hpp"

namespace attsvm {

// How far a W and multipliers are from proving each other optimal.
struct OptimalityCertificate {
    double gap;       // relative duality gap
    double kkt;       // largest residual of the optimality conditions
    double rounding;  // what a float64 W may leave of them
    double norm;      // |w|, in the units of the unit problem

    bool holds(double tolerance) const {
        constexpr double largest_rounding = 1e-6;
        const double most = tolerance + std::min(rounding, largest_rounding);
        return gap <= most && kkt <= most;
    }
};

// The certificate of a w, given by V, with multipliers λ; A(w) is left in `values`.
//
// Gap: (f - g) / f with the dual value g = b'λ - ½|A*λ|² and f = ½|s w|², where s scales w so that every constraint
// with a positive right-hand side holds. Where the others (right-hand side <= 0, equality) are missed, f is raised by
// |λ_r| times the miss. s is 1 when an equality has a right-hand side other than 0.
//
// KKT residual: the largest of the violations, of max(-λ_r, 0) / max |λ|, |λ_r (A_r(w) - b_r)| / b'λ, |w - A*λ| / |w|.
inline OptimalityCertificate certify_optimality(const Team& team, const UnitConstraints& constraints, const double* V,
                                                const double* dual, double* values) {
    constexpr double infinity = std::numeric_limits<double>::infinity();
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

    const double gain = sum<double>(problem.size(), [&](Index r) { return problem.rhs[r] * dual[r]; });
    const bool finite = std::isfinite(gain + dual_norm + difference + size);
    if (!finite || !(gain > 0 && size > 0)) return {infinity, infinity, 0.0, size};
    double smallest = infinity, largest_dual = 0.0, largest_row = 0.0;
    bool fixed_scale = false;
    for (Index r = 0; r < problem.size(); ++r) {
        if (problem.equality[r])
            fixed_scale |= problem.rhs[r] != 0;
        else if (problem.rhs[r] > 0)
            smallest = std::min(smallest, values[r] / problem.rhs[r]);
        largest_dual = std::max(largest_dual, std::abs(dual[r]));
        largest_row = std::max(largest_row, constraints.row_norm(r));
    }
    const double scaling = fixed_scale ? 1.0 : smallest > 0 ? 1.0 / smallest : infinity;
    if (!std::isfinite(scaling)) return {infinity, infinity, 0.0, size};

    double penalty = 0.0, kkt = difference / size;
    for (Index r = 0; r < problem.size(); ++r) {
        const bool scaled = problem.rhs[r] > 0 && !problem.equality[r];
        if (!scaled) penalty += std::abs(dual[r]) * problem.violation(r, scaling * values[r]);
        kkt = std::max({kkt, constraints.row_norm(r) * (constraints.scale() * problem.violation(r, values[r])),
                        std::abs(dual[r] * (values[r] - problem.rhs[r])) / gain,
                        problem.equality[r] ? 0.0 : -dual[r] / largest_dual});
    }
    const double primal_value = 0.5 * (scaling * size) * (scaling * size) + penalty;
    const double dual_value = gain - 0.5 * dual_norm * dual_norm;
    return {std::abs(primal_value - dual_value) / primal_value, kkt,
            64.0 * std::numeric_limits<double>::epsilon() * (largest_row * (constraints.scale() * size)), size};
}

// How far multipliers are from proving that no W meets the constraints: |A*λ| / Σ |λ_r| over the constraints with b_r
// other than 0, divided by b'λ / Σ |b_r λ_r|. Infinite if a sign or b'λ is wrong.
inline double farkas_residual(const Team& team, const UnitProblem& problem, const double* dual) {
    double gain = 0.0, absolute_gain = 0.0, weight = 0.0;
    for (Index r = 0; r < problem.size(); ++r) {
        if (!problem.equality[r] && dual[r] < 0) return std::numeric_limits<double>::infinity();
        gain += problem.rhs[r] * dual[r];
        absolute_gain += std::abs(problem.rhs[r] * dual[r]);
        if (problem.rhs[r] != 0) weight += std::abs(dual[r]);
    }
    if (!(gain > 0)) return std::numeric_limits<double>::infinity();
    MarginProducts products(team, problem.map);
    products.adjoint(dual);
    return absolute_gain / gain * products.norm() / weight;
}

}  // namespace attsvm
