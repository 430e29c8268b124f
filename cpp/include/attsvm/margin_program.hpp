// What primal-dual interior-point methods share, whatever the norm: the largest margin γ of a W of norm 1,
//
//     max γ  s.t.  A(W) - s = γ b,  s >= 0                      b'λ = 1,  λ >= 0  in its dual
#pragma once

#include "attsvm/nuclear_constraints.hpp"

namespace attsvm::inline ATTSVM_PRECISION::nuclear {

class MarginProgram {
   protected:
    explicit MarginProgram(const Constraints& constraints)
        : constraints_(constraints), inequality_(constraints.count()), margin_(0.0) {
        for (Index r = 0; r < constraints.count(); ++r) inequality_[r] = constraints.is_equality(r) ? 0.0 : 1.0;
        dual_ = inequality_;
        const Real gain = constraints.rhs().dot(dual_);
        if (gain > 0.0) dual_ /= gain;
    }
    // s λ = μ at the start, where W = 0.
    void start_slack(Real mu) {
        slack_ = divided_by_dual(Vector::Constant(constraints_.count(), mu));
        for (Index r = 0; r < constraints_.count(); ++r)
            if (inequality_[r] != 0.0 && constraints_.rhs()[r] > 0.0)
                margin_ = std::min<Real>(margin_, -slack_[r] / constraints_.rhs()[r]);
    }
    // x_r / λ_r on inequalities, 0 on equalities
    Vector divided_by_dual(const Vector& x) const {
        Vector quotient(x.size());
        for (Index r = 0; r < x.size(); ++r) quotient[r] = inequality_[r] != 0.0 ? x[r] / dual_[r] : 0.0;
        return quotient;
    }
    // Largest t for which x + t dx >= 0 on inequalities
    Real largest_step(const Vector& at, const Vector& along) const {
        Real largest = std::numeric_limits<double>::infinity();
        for (Index r = 0; r < at.size(); ++r)
            if (inequality_[r] != 0.0 && along[r] < 0.0) largest = std::min<Real>(largest, -at[r] / along[r]);
        return largest;
    }
    // Mehrotra's step: towards(μ, first) is a direction with its largest steps, with the curvature that a first one
    // shows; complementarity(direction, p, q) is μ after steps p and q. False where the steps come out too short.
    template <class Towards, class Complementarity, class Move>
    static bool predict_and_correct(Real mu, int power, Real shortest_step, Towards towards,
                                    Complementarity complementarity, Move move) {
        const auto straight = towards(0.0, nullptr);
        const Real reached = complementarity(straight, std::min<Real>(1.0, straight.primal_step),
                                             std::min<Real>(1.0, straight.dual_step));
        const Real share = std::clamp<Real>(reached / mu, 1e-3, 1.0);
        const auto curved = towards((power == 3 ? share * share * share : share * share) * mu, &straight);
        const Real least = std::min<Real>({curved.primal_step, curved.dual_step, 1.0});
        if (!(least > shortest_step)) return false;
        const Real boldness = 0.9 + 0.09 * least;
        move(curved, std::min<Real>(1.0, boldness * curved.primal_step),
             std::min<Real>(1.0, boldness * curved.dual_step));
        return true;
    }

    const Constraints& constraints_;
    Vector inequality_;  // 1, and 0 for equalities
    Vector dual_, slack_;
    Real margin_;
};

}  // namespace attsvm::inline ATTSVM_PRECISION::nuclear
