// The largest margin of a W of l_p norm 1, by a primal-dual interior-point method for any p from 1, the l1 norm, to ∞,
// the max norm.
//
//     max γ  s.t.  A(W) - s = γ b,  s >= 0,  |W_jc| <= r_jc^(1/p),  Σ r = 1
//
// An entry (r, W) of the ball lies in a power cone, whose barrier -log(r^(2/p) - W²) - log r is self-concordant: the
// number of steps does not depend on p, as it does where |W|^p, which is 0 or infinite for large p, is expanded in W.
// The two bounds have the slacks r^(1/p) - W and r^(1/p) + W and the multipliers y⁺ and y⁻, r >= 0 has v:
//
//     A*(λ) = y⁺ - y⁻,    (y⁺ + y⁻) r^(1/p-1) / p + v = κ,    b'λ = 1
//
// The program has an interior point whatever the constraints, and the method starts from one; where no W meets them, γ
// goes to 0. Mehrotra's corrector has the second derivatives of r^(1/p) too: without them there are twice as many
// steps.
//
// The solution W / γ gets its digits from the equations of what is active: linear ones for the max and the l1 norm, and
// else by Newton's method.
#include "attsvm/entrywise_active_set.hpp"
#include "attsvm/entrywise_methods.hpp"
#include "attsvm/lp_newton.hpp"
#include "attsvm/margin_program.hpp"
#include "attsvm/newton_equations.hpp"

namespace attsvm::inline ATTSVM_PRECISION {
namespace {

using nuclear::Candidate;
using nuclear::Constraints;

// Of arrays of what the bounds r^(1/p) - W and r^(1/p) + W and r >= 0 of the entries have, side by side
template <class Arrays>
auto above(Arrays& of_all) {
    return of_all.leftCols(of_all.cols() / 3);
}
template <class Arrays>
auto below(Arrays& of_all) {
    return of_all.middleCols(of_all.cols() / 3, of_all.cols() / 3);
}
template <class Arrays>
auto of_r(Arrays& of_all) {
    return of_all.rightCols(of_all.cols() / 3);
}

class InteriorPoint : nuclear::MarginProgram {
   public:
    InteriorPoint(const Constraints& constraints, const SvmNorm& norm)
        : MarginProgram(constraints),
          norm_(norm),
          per_p_(norm.kind == SvmNorm::Kind::max   ? Real(0.0)
                 : norm.kind == SvmNorm::Kind::sum ? Real(1.0)
                                                   : 1.0 / norm.p) {
        constexpr double least = 1e-3;
        U_ = constraints.adjoint(dual_);
        const Array U = U_.array();
        const Index d = U.rows(), e = U.cols();
        W_ = Array::Zero(d, e);
        slacks_ = forces_ = Array::Constant(d, 3 * e, 1.0 / static_cast<double>(U.size()));
        const Array root = this->root();
        const Real start = U.abs().mean() + least;
        above(slacks_) = below(slacks_) = root;
        above(forces_) = U.max(Real(0.0)) + start;
        below(forces_) = (-U).max(Real(0.0)) + start;
        const Array both = above(forces_) + below(forces_);
        const Real mu = (root * both).mean() / 2.0;
        of_r(forces_) = mu / of_r(slacks_);
        kappa_ = (per_p_ * both * root / of_r(slacks_) + of_r(forces_)).mean();
        start_slack(mu);
    }

    // One step. False when the iterates come no nearer.
    bool step(const GoesOn& goes_on) {
        constexpr double shortest_step = 1e-6;
        const Real degree = 3.0 * static_cast<double>(W_.size()) + inequality_.sum();
        const Real mu = ((slacks_ * forces_).sum() + slack_.dot(dual_)) / degree;
        const Array per_slack = slacks_.inverse(), per_force = forces_.inverse(), ratio = forces_ * per_slack;
        const auto of_above = above(ratio), of_below = below(ratio), per_r = of_r(per_slack);
        // r^(1/p) and its derivatives
        const Array root = this->root(), slope = per_p_ * root * per_r, bend = (per_p_ - 1.0) * slope * per_r;
        // Without r, whose own coefficient is `stiffness`: U = A*(λ) changes by dW / weights + share (dκ - ...).
        const Array both = above(forces_) + below(forces_), sum = of_above + of_below;
        const Array curvature = of_r(ratio) - both * bend, stiffness = slope.square() * sum + curvature;
        const Array per_stiffness = stiffness.inverse(), share = slope * (of_above - of_below) * per_stiffness;
        const Array weights = stiffness / (4.0 * slope.square() * of_above * of_below + sum * curvature);
        const NewtonEquations equations(constraints_, weights.matrix(), divided_by_dual(slack_), goes_on);
        if (!equations.succeeded() || !numext::isfinite(mu)) return false;
        const Vector& rhs = constraints_.rhs();
        const auto by_margin = equations.solve({}, rhs);
        // r does not change in the max norm.
        const auto by_kappa = norm_.kind == SvmNorm::Kind::max
                                  ? NewtonEquations::Step{Matrix::Zero(W_.rows(), W_.cols()), Vector::Zero(rhs.size())}
                                  : equations.solve(-share.matrix(), {});
        const Real of_margin = rhs.dot(by_margin.dual), cross = rhs.dot(by_kappa.dual);
        const Real of_kappa = per_stiffness.sum() - (share * by_kappa.W.array()).sum() + cross * cross / of_margin;
        const Vector missing = margin_ * rhs - constraints_.values(W_.matrix());
        const Array unbalanced = U_.array() - (above(forces_) - below(forces_));

        // Towards the point of the central path with this μ, with the curvature that a first direction shows.
        const auto towards = [&](Real target, const Direction* first) {
            Array at = Array::Constant(slacks_.rows(), slacks_.cols(), target);
            Vector at_slack = Vector::Constant(constraints_.count(), target);
            Array off_above = root - W_ - above(slacks_), off_below = root + W_ - below(slacks_),
                  off_r = slope * both + of_r(forces_) - kappa_;
            if (first != nullptr) {
                at -= first->slacks * first->forces;
                at_slack -= first->slack.cwiseProduct(first->dual);
                const auto dr = of_r(first->slacks);
                const Array turn = 0.5 * bend * dr.square();
                off_above += turn;
                off_below += turn;
                off_r +=
                    (above(first->forces) + below(first->forces)) * bend * dr + (per_p_ - 2.0) * per_r * both * turn;
            }
            at = at * per_slack - forces_;
            const Array pull_up = above(at) - of_above * off_above, pull_down = below(at) - of_below * off_below;
            const Array on_r = slope * (pull_up + pull_down) + of_r(at) + off_r;
            const Vector aim = divided_by_dual(at_slack);
            const auto fixed =
                equations.solve((unbalanced - (pull_up - pull_down) + share * on_r).matrix(), aim + missing);
            const Real missing_gain = 1.0 - rhs.dot(dual_ + fixed.dual);
            const Real missing_r = 1.0 - of_r(slacks_).sum() - (share * fixed.W.array() + on_r * per_stiffness).sum();
            Direction to;
            to.kappa = (cross / of_margin * missing_gain - missing_r) / of_kappa;
            to.margin = (missing_gain - cross * to.kappa) / of_margin;
            to.dual = fixed.dual + to.margin * by_margin.dual + to.kappa * by_kappa.dual;
            to.W = (fixed.W + to.margin * by_margin.W + to.kappa * by_kappa.W).array();
            to.slacks.resize(slacks_.rows(), slacks_.cols());
            of_r(to.slacks) = share * to.W + (on_r - to.kappa) * per_stiffness;
            above(to.slacks) = slope * of_r(to.slacks) - to.W + off_above;
            below(to.slacks) = slope * of_r(to.slacks) + to.W + off_below;
            to.forces = at - ratio * to.slacks;
            to.slack = aim - slack_ - divided_by_dual(slack_.cwiseProduct(to.dual));
            const auto largest = [](const Array& along) {
                const Real fastest = along.minCoeff();
                return fastest < 0.0 ? Real(-1.0 / fastest) : Real(std::numeric_limits<double>::infinity());
            };
            to.primal_step = std::min<Real>(largest(to.slacks * per_slack), largest_step(slack_, to.slack));
            to.dual_step = std::min<Real>(largest(to.forces * per_force), largest_step(dual_, to.dual));
            return to;
        };
        const auto complementarity = [&](const Direction& along, Real primal, Real dual) {
            return (((slacks_ + primal * along.slacks) * (forces_ + dual * along.forces)).sum() +
                    (slack_ + primal * along.slack).dot(dual_ + dual * along.dual)) /
                   degree;
        };
        return predict_and_correct(mu, 3, shortest_step, towards, complementarity,
                                   [this](const auto&... step) { move(step...); });
    }

    // γ and N*(A*λ): no W of norm 1 has a margin above the second, and W has γ, once γ is positive.
    Real margin() const { return margin_; }
    Real limit() const { return norm_.dual()(U_); }
    // `best` becomes the solution of what is active, where that is nearer. Of a slack and its multiplier, one tends to
    // 0, the one that fell by more.
    void finish(Real good, Candidate& best) const {
        const std::vector<Index> active = active_since(before_.dual, before_.slack);
        const Matrix W = W_.matrix() / margin_;
        if (norm_.kind == SvmNorm::Kind::power) {
            Candidate found;
            LpNewton(constraints_, norm_, W, dual_, active).go_to(norm_.p, good, &found);
            best.replace_by(std::move(found));
            return;
        }
        const Array tight = (forces_ * before_.slacks > slacks_ * before_.forces).template cast<Real>();
        const Array sign = norm_.kind == SvmNorm::Kind::max ? Array(above(tight) - below(tight))
                                                            : Array(W_.sign() * (1.0 - of_r(tight)));
        solve_active_sets(constraints_, norm_, {active, sign}, W, dual_ / limit(), good, best);
    }
    Candidate candidate() const {
        const Matrix W = W_.matrix() / margin_;
        return {constraints_, W, norm_(W), dual_ / limit()};
    }

   private:
    struct Point {
        Array slacks, forces;
        Vector dual, slack;
    };
    struct Direction : Point {
        Array W;
        Real margin, kappa, primal_step, dual_step;
    };

    // r^(1/p)
    Array root() const {
        if (norm_.kind == SvmNorm::Kind::power) return LpMap::power(LpMap::logs(of_r(slacks_)), per_p_);
        return norm_.kind == SvmNorm::Kind::sum ? Array(of_r(slacks_)) : Array::Ones(W_.rows(), W_.cols());
    }
    void move(const Direction& along, Real primal, Real dual) {
        before_ = {slacks_, forces_, dual_, slack_};
        W_ += primal * along.W;
        slacks_ += primal * along.slacks;
        slack_ += primal * along.slack;
        margin_ += primal * along.margin;
        forces_ += dual * along.forces;
        kappa_ += dual * along.kappa;
        dual_ += dual * along.dual;
        U_ = constraints_.adjoint(dual_);
    }

    SvmNorm norm_;
    Real per_p_;                 // 1 / p
    Array W_, slacks_, forces_;  // of the bounds and of r >= 0: their values and multipliers
    Real kappa_;
    Matrix U_;      // A*(λ)
    Point before_;  // the last step
};

}  // namespace

Candidate by_entrywise_interior_point(const Constraints& constraints, const SvmNorm& norm, Progress& progress,
                                      bool calling_thread, double good) {
    const bool is_power = norm.kind == SvmNorm::Kind::power;
    InteriorPoint point(constraints, norm);
    return nuclear::by_steps(point, is_power ? 1e-3 : 1e-2, good, progress, calling_thread,
                             [&](Candidate& nearest) { point.finish(good, nearest); });
}

}  // namespace attsvm::inline ATTSVM_PRECISION
