// SVMs in the l_p norm along p: at p = 2 the Frobenius SVM is the solution, from which Newton's method goes on in steps
// of log(p-1).
#include "attsvm/entrywise_methods.hpp"
#include "attsvm/lp_newton.hpp"

namespace attsvm::inline ATTSVM_PRECISION {

// Steps that fail are halved.
nuclear::Candidate by_lp_homotopy(const nuclear::Constraints& constraints, const SvmNorm& norm, const Vector& dual,
                                  Progress& progress, bool calling_thread) {
    constexpr double insignificant = 1e-12, longest_step = 1.0, shortest_step = 0.1;
    const Real end = numext::log(norm.p - 1.0), most = dual.cwiseAbs().maxCoeff();
    std::vector<Index> active;
    for (Index r = 0; r < dual.size(); ++r)
        if (constraints.is_equality(r) || dual[r] > insignificant * most) active.push_back(r);
    nuclear::Candidate best;
    LpNewton here(constraints, norm, constraints.adjoint(dual), dual, std::move(active));
    Real at = 0.0, step = longest_step;
    Index steps = 0;
    while (step >= shortest_step && progress.advance(0.0, calling_thread)) {
        const bool last = numext::abs(end - at) <= step;
        const Real to = last ? end : (end < 0.0 ? at - step : at + step);
        LpNewton there = here;
        ++steps;
        if (there.go_to(last ? norm.p : 1.0 + numext::exp(to), nuclear::last_digits, last ? &best : nullptr)) {
            if (last) break;
            here = std::move(there);
            at = to;
            step = std::min<Real>(2.0 * step, longest_step);
        } else {
            step = std::min<Real>(0.5 * step, 0.5 * numext::abs(to - at));
        }
    }
    best.steps = steps;
    return best;
}

}  // namespace attsvm::inline ATTSVM_PRECISION
