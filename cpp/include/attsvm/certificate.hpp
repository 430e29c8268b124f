// What makes the answer of a solver trustworthy, computed from the constraints alone.
#pragma once

#include "attsvm/svm_problem.hpp"

namespace attsvm {

// How far a W and multipliers are from proving each other optimal.
struct OptimalityCertificate {
    double gap;              // relative duality gap
    double kkt;              // largest residual of the optimality conditions
    double rounding;         // what a float64 W may leave of them
    double norm;             // |w|, in the units of the unit problem
    double shortfall = 0.0;  // largest b_r - A_r(W) of the inequalities with b_r > 0

    bool holds(double tolerance) const {
        constexpr double largest_rounding = 1e-6, largest_shortfall = 1e-9;
        const double most = tolerance + std::min(rounding, largest_rounding);
        return gap <= most && kkt <= most && shortfall <= std::min(tolerance, largest_shortfall);
    }
};

// A(w), b and λ in units of each row, and |w|, |A*λ| and |w - A*λ|.
struct PrimalDualPair {
    Index size;
    const double *values, *rhs, *dual;
    const bool* equality;
    const double* unit;  // of a row's values, in those of the caller
    double norm, dual_norm, difference;
};

// The certificate but for `rounding`, infinite where a number is not finite or b'λ or the smallest margin not positive.
//
// Gap: (f - g) / f with the dual value g = b'λ - ½|A*λ|² and f = ½|s w|², where s scales w so that every inequality
// with a positive right-hand side holds. Where others are missed, f is raised by what the misses are worth: by |λ_r|
// times the miss of an inequality, and by |Σ λ_r (b_r - A_r(s w))| of the equalities, which a w that is moved onto them
// costs to first order. s is 1 when an equality has a right-hand side other than 0.
//
// KKT residual: the largest of the violations, of |w - A*λ| / |w|, and of max(-λ_r, 0) / max |λ| and
// |λ_r (A_r(w) - b_r)| / b'λ of the inequalities. Violations are in the units of the caller, and where b_r = 0, which
// has none, of |A_r| |w| if that is larger than 1.
OptimalityCertificate certify_optimality(const PrimalDualPair& pair);
inline double violation_in_units(double violation, double rhs, double unit, double norm) {
    return violation * unit / (rhs != 0 ? 1.0 : std::max(1.0, unit * norm));
}

// The certificate of a w, given by V, with multipliers λ of the unit problem, in float64; A(w) is left in `values`.
OptimalityCertificate certify_optimality(const Team& team, const UnitConstraints& constraints, const double* V,
                                         const double* dual, double* values);

// How far multipliers are from proving that no W meets the constraints, in float64: |A*λ| / Σ |λ_r| over the
// constraints with b_r other than 0, divided by b'λ / Σ |b_r λ_r|. Infinite if a sign or b'λ is wrong.
double farkas_residual(const Team& team, const UnitProblem& problem, const double* dual);

}  // namespace attsvm
