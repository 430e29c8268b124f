// The largest margin of a W of l_p norm 1, by a primal-dual interior-point method for any p > 1.
//
//     max γ  s.t.  A(W) - s = γ b,  s >= 0,  |W_jc| <= r_jc^(1/p),  Σ r = 1
//
// An entry (r, W) of the ball lies in a power cone, whose barrier -log(r^(2/p) - W²) - log r is self-concordant: the
// number of steps does not depend on p, as it does where |W|^p, which is 0 or infinite for large p, is expanded in W.
// The two bounds have the slacks r^(1/p) - W and r^(1/p) + W and the multipliers y⁺ and y⁻, r >= 0 has v:
//
//     A*(λ) = y⁺ - y⁻,    (y⁺ + y⁻) r^(1/p-1) / p + v = κ,    b'λ = 1
//
// Mehrotra's corrector has the second derivatives of r^(1/p) too: without them there are twice as many steps.
//
// The solution W / γ gets its digits from Newton's method on the active set.
#include "attsvm/entrywise_methods.hpp"
#include "attsvm/lp_newton.hpp"
#include "attsvm/margin_program.hpp"
#include "attsvm/newton_equations.hpp"

namespace attsvm::inline ATTSVM_PRECISION {
namespace {

using nuclear::Candidate;
using nuclear::Constraints;

class LpInteriorPoint : nuclear::MarginProgram {
   public:
    LpInteriorPoint(const Constraints& constraints, const SvmNorm& norm) : MarginProgram(constraints), norm_(norm) {
        constexpr double least = 1e-3;
        const Array U = constraints.adjoint(dual_).array();
        W_ = Array::Zero(U.rows(), U.cols());
        r_ = Array::Constant(U.rows(), U.cols(), 1.0 / static_cast<double>(U.size()));
        above_ = below_ = root();
        const Real start = U.abs().mean() + least;
        upper_ = U.max(Real(0.0)) + start;
        lower_ = (-U).max(Real(0.0)) + start;
        const Real mu = (above_ * (upper_ + lower_)).mean() / 2.0;
        v_ = mu / r_;
        kappa_ = ((upper_ + lower_) * root() / (norm_.p * r_) + v_).mean();
        start_slack(mu);
    }

    // One step. False when the iterates come no nearer.
    bool step(const GoesOn& goes_on) {
        constexpr double shortest_step = 1e-6;
        const Real p = norm_.p, degree = 3.0 * static_cast<double>(W_.size()) + inequality_.sum();
        const Real mu =
            ((above_ * upper_).sum() + (below_ * lower_).sum() + (r_ * v_).sum() + slack_.dot(dual_)) / degree;
        // r^(1/p) and its derivatives
        const Array root = this->root(), slope = root / (p * r_), bend = (1.0 / p - 1.0) * slope / r_;
        const Array of_above = upper_ / above_, of_below = lower_ / below_, both = upper_ + lower_, of_r = v_ / r_;
        // Without r, whose own coefficient is `stiffness`: U = A*(λ) changes by dW / weights + share (dκ - ...).
        const Array curvature = of_r - both * bend, sum = of_above + of_below;
        const Array stiffness = slope.square() * sum + curvature, share = slope * (of_above - of_below) / stiffness;
        const Array weights = stiffness / (4.0 * slope.square() * of_above * of_below + sum * curvature);
        const NewtonEquations equations(constraints_, weights.matrix(), divided_by_dual(slack_), goes_on);
        if (!equations.succeeded() || !numext::isfinite(mu)) return false;
        const Vector& rhs = constraints_.rhs();
        const auto by_margin = equations.solve(Matrix::Zero(W_.rows(), W_.cols()), rhs),
                   by_kappa = equations.solve(-share.matrix(), Vector::Zero(rhs.size()));
        const Real of_margin = rhs.dot(by_margin.dual), cross = rhs.dot(by_kappa.dual);
        const Real of_kappa =
            stiffness.inverse().sum() - (share * by_kappa.W.array()).sum() + cross * cross / of_margin;
        const Vector margins = constraints_.values(W_.matrix());
        const Array U = constraints_.adjoint(dual_).array();

        // Towards the point of the central path with this μ, with the curvature that a first direction shows.
        const auto towards = [&](Real target, const Direction* first) {
            Array at_above = Array::Constant(W_.rows(), W_.cols(), target), at_below = at_above, at_r = at_above;
            Vector at_slack = Vector::Constant(constraints_.count(), target);
            Array off_above = root - W_ - above_, off_below = root + W_ - below_, off_r = slope * both + v_ - kappa_;
            if (first != nullptr) {
                at_above -= first->above * first->upper;
                at_below -= first->below * first->lower;
                at_r -= first->r * first->v;
                at_slack -= first->slack.cwiseProduct(first->dual);
                const Array turn = 0.5 * bend * first->r.square();
                off_above += turn;
                off_below += turn;
                off_r += (first->upper + first->lower) * bend * first->r + (1.0 / p - 2.0) / r_ * both * turn;
            }
            const Array to_upper = at_above / above_ - upper_, to_lower = at_below / below_ - lower_;
            const Array to_v = at_r / r_ - v_, pull_up = to_upper - of_above * off_above,
                        pull_down = to_lower - of_below * off_below;
            const Array on_r = slope * (pull_up + pull_down) + to_v + off_r;
            const Array unbalanced = U - (upper_ - lower_) - (pull_up - pull_down) + share * on_r;
            const Vector aim = divided_by_dual(at_slack);
            const auto fixed = equations.solve(unbalanced.matrix(), aim + margin_ * rhs - margins);
            const Real missing_gain = 1.0 - rhs.dot(dual_ + fixed.dual);
            const Real missing_r = 1.0 - r_.sum() - (share * fixed.W.array()).sum() - (on_r / stiffness).sum();
            Direction to;
            to.kappa = (cross / of_margin * missing_gain - missing_r) / of_kappa;
            to.margin = (missing_gain - cross * to.kappa) / of_margin;
            to.dual = fixed.dual + to.margin * by_margin.dual + to.kappa * by_kappa.dual;
            to.W = (fixed.W + to.margin * by_margin.W + to.kappa * by_kappa.W).array();
            to.r = share * to.W + (on_r - to.kappa) / stiffness;
            to.above = slope * to.r - to.W + off_above;
            to.below = slope * to.r + to.W + off_below;
            to.upper = to_upper - of_above * to.above;
            to.lower = to_lower - of_below * to.below;
            to.v = to_v - of_r * to.r;
            to.slack = aim - slack_ - divided_by_dual(slack_.cwiseProduct(to.dual));
            to.primal_step = std::min<Real>({largest_step(above_, to.above), largest_step(below_, to.below),
                                             largest_step(r_, to.r), largest_step(slack_, to.slack)});
            to.dual_step = std::min<Real>({largest_step(upper_, to.upper), largest_step(lower_, to.lower),
                                           largest_step(v_, to.v), largest_step(dual_, to.dual)});
            return to;
        };
        const auto complementarity = [&](const Direction& along, Real primal, Real dual) {
            return (((above_ + primal * along.above) * (upper_ + dual * along.upper)).sum() +
                    ((below_ + primal * along.below) * (lower_ + dual * along.lower)).sum() +
                    ((r_ + primal * along.r) * (v_ + dual * along.v)).sum() +
                    (slack_ + primal * along.slack).dot(dual_ + dual * along.dual)) /
                   degree;
        };
        return predict_and_correct(mu, 3, shortest_step, towards, complementarity,
                                   [this](const auto&... step) { move(step...); });
    }

    // γ and N*(A*λ): no W of norm 1 has a margin above the second, and W has γ, once γ is positive.
    Real margin() const { return margin_; }
    Real limit() const { return norm_.dual()(constraints_.adjoint(dual_)); }
    // The solution, found by Newton's method from where the iterates are.
    Candidate on_active_set(Real good) const {
        LpNewton newton(constraints_, norm_, W_.matrix() / margin_, dual_, active_since(dual_before_, slack_before_));
        Candidate found;
        newton.go_to(norm_.p, good, &found);
        return found;
    }
    Candidate candidate() const {
        const Matrix W = W_.matrix() / margin_;
        return {constraints_, W, norm_(W), dual_ / limit()};
    }

   private:
    struct Direction {
        Array W, r, above, below, upper, lower, v;
        Vector dual, slack;
        Real margin, kappa, primal_step, dual_step;
    };

    Array root() const { return LpMap::power(LpMap::logs(r_), 1.0 / norm_.p); }
    void move(const Direction& along, Real primal, Real dual) {
        dual_before_ = dual_;
        slack_before_ = slack_;
        W_ += primal * along.W;
        r_ += primal * along.r;
        above_ += primal * along.above;
        below_ += primal * along.below;
        slack_ += primal * along.slack;
        margin_ += primal * along.margin;
        upper_ += dual * along.upper;
        lower_ += dual * along.lower;
        v_ += dual * along.v;
        kappa_ += dual * along.kappa;
        dual_ += dual * along.dual;
    }

    SvmNorm norm_;
    Array W_, r_, above_, below_, upper_, lower_, v_;
    Real kappa_;
    Vector dual_before_, slack_before_;  // the last step
};

}  // namespace

Candidate by_lp_interior_point(const Constraints& constraints, const SvmNorm& norm, Progress& progress,
                               bool calling_thread, double good) {
    LpInteriorPoint point(constraints, norm);
    Candidate best = nuclear::by_steps(point, 1e-3, good, progress, calling_thread,
                                       [&](Candidate& nearest) { nearest.replace_by(point.on_active_set(good)); });
    best.unique = 1;
    return best;
}

}  // namespace attsvm::inline ATTSVM_PRECISION
