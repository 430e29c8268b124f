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
        const auto& rhs = constraints.rhs();
        for (Index r = 0; r < constraints.count(); ++r) inequality_[r] = constraints.is_equality(r) ? 0.0 : 1.0;
        // With s λ = μ at W = 0, s = -γ b: the constraints with b_r > 0 are met from the start. A b_r that is nothing
        // beside the largest is like 0: multipliers would be as large as the inverse of that share.
        constexpr double negligible = 1e-12;
        dual_ = inequality_;
        const Real largest = rhs.cwiseProduct(inequality_).maxCoeff();
        least_rhs_ = negligible * largest;
        for (Index r = 0; r < constraints.count(); ++r)
            if (inequality_[r] != 0.0 && rhs[r] > least_rhs_) dual_[r] = largest / rhs[r];
        const Real gain = rhs.dot(dual_);
        if (gain > 0.0) dual_ /= gain;
    }
    // s λ = μ at the start, where W = 0.
    void start_slack(Real mu) {
        slack_ = divided_by_dual(Vector::Constant(constraints_.count(), mu));
        for (Index r = 0; r < constraints_.count(); ++r)
            if (inequality_[r] != 0.0 && constraints_.rhs()[r] > least_rhs_)
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
    //
    // Of constraints that nearly agree, the central path turns sharply where μ is small, and iterates far from it are
    // held up by what is nearly 0 of them. In four times the precision, which takes longer in any case, a step that
    // cannot be a full one is followed by steps towards the path with the same μ, until one of these is.
    template <class Towards, class Complementarity, class Move>
    bool predict_and_correct(Real mu, int power, Real shortest_step, Towards towards, Complementarity complementarity,
                             Move move) {
        constexpr bool stays_centred = sizeof(Real) > sizeof(double);
        constexpr double nearly_full = 0.99, boldness_of_short = 0.9, boldness_of_centring = 0.7;
        const auto least = [](const auto& along) { return std::min<Real>({along.primal_step, along.dual_step, 1.0}); };
        const auto goes = [&](const auto& along, Real boldness) {
            const Real primal = std::min<Real>(1.0, boldness * along.primal_step),
                       dual = std::min<Real>(1.0, boldness * along.dual_step);
            move(along, primal, dual);
            return std::min<Real>(primal, dual);
        };
        if (off_centre_) {
            const auto centred = towards(mu, nullptr);
            if (!(least(centred) > shortest_step)) return false;
            off_centre_ = goes(centred, boldness_of_centring) < 1.0;
            return true;
        }
        const auto straight = towards(0.0, nullptr);
        const Real reached = complementarity(straight, std::min<Real>(1.0, straight.primal_step),
                                             std::min<Real>(1.0, straight.dual_step));
        const Real share = std::clamp<Real>(reached / mu, 1e-3, 1.0);
        const auto curved = towards((power == 3 ? share * share * share : share * share) * mu, &straight);
        if (!(least(curved) > shortest_step)) return false;
        off_centre_ = stays_centred && least(curved) < nearly_full;
        goes(curved, off_centre_ ? Real(boldness_of_short) : 0.9 + 0.09 * least(curved));
        return true;
    }

    // The active constraints of the solution. Of λ_r and s_r one tends to 0: it is the one that fell by more since they
    // were these, whatever their scales (Tapia).
    std::vector<Index> active_since(const Vector& dual, const Vector& slack) const {
        std::vector<Index> active;
        for (Index r = 0; r < constraints_.count(); ++r)
            if (inequality_[r] == 0.0 || dual_[r] * slack[r] > slack_[r] * dual[r]) active.push_back(r);
        return active;
    }

    const Constraints& constraints_;
    Vector inequality_;  // 1, and 0 for equalities
    Vector dual_, slack_;
    Real margin_, least_rhs_;
    bool off_centre_ = false;
};

// Steps until the best candidate is no farther than `good`, or they come no nearer. Where γ is near its limit,
// finish(best) looks for the solution from there, unless what the iterates are is good enough.
template <class InteriorPoint, class Finish>
Candidate by_steps(InteriorPoint& point, double near_enough, double good, Progress& progress, bool calling_thread,
                   Finish finish) {
    constexpr Index most_steps = sizeof(Real) > sizeof(double) ? 400 : 100;
    constexpr double hopeless = in_precision(1e-14);
    Candidate best;
    Index steps = 0;
    const auto goes_on = [&] { return progress.advance(0.0, calling_thread); };
    while (steps < most_steps && best.distance > good && goes_on()) {
        ++steps;
        if (!point.step(goes_on)) break;
        const Real limit = point.limit();
        if (!(limit > hopeless)) break;
        if (calling_thread) progress.note(static_cast<double>(1.0 - point.margin() / limit), -1);
        if (limit - point.margin() > near_enough * limit) continue;
        if (good <= last_digits) finish(best);
        if (best.distance > good) best.replace_by(point.candidate());
    }
    best.steps = steps;
    return best;
}

}  // namespace attsvm::inline ATTSVM_PRECISION::nuclear
