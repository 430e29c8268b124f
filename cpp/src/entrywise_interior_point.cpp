// The largest margin of a W of max or l1 norm 1, by a primal-dual interior-point method.
//
//     max γ  s.t.  A(W) - s = γ b,  s >= 0,  N(W) <= 1          min t  s.t.  b'λ = 1,  λ >= 0,  N*(A*λ) <= t
//
// One of the two norms is the largest entry of a matrix: of W in the max norm, of U = A*(λ) in the l1 norm. With t = 1
// in the first case and x for that matrix, the entries of t - x and t + x are nonnegative, with multipliers y⁺ and y⁻,
// whose difference is the other matrix and whose sum is t in the first case and 1 in the second. The smallest W with
// A(W) >= b is W / γ and its multipliers are λ / t; where there is none, γ and t go to 0. Both programs have interior
// points whatever the constraints, and the method starts from them, with Mehrotra's predictor and corrector.
//
// Near the end, the entries that are at the bound and the active constraints leave linear equations C x = b, C'λ = c,
// which give all digits.
#include "attsvm/entrywise_methods.hpp"
#include "attsvm/margin_program.hpp"
#include "attsvm/newton_equations.hpp"

namespace attsvm::inline ATTSVM_PRECISION {
namespace {

using nuclear::Candidate;
using nuclear::Constraints;

class InteriorPoint : nuclear::MarginProgram {
   public:
    InteriorPoint(const Constraints& constraints, const SvmNorm& norm) : MarginProgram(constraints), norm_(norm) {
        const Index d = constraints.left(), e = constraints.right();
        const Array U = constraints.adjoint(dual_).array();
        const Real entries = static_cast<double>(d * e), least = 1e-3;
        if (bounds_primal()) {
            bound_ = 1.0;
            bounded_ = Array::Zero(d, e);
            const Real start = U.abs().mean() + least;
            upper_ = U.max(Real(0.0)) + start;
            lower_ = (-U).max(Real(0.0)) + start;
        } else {
            bound_ = 2.0 * U.abs().maxCoeff();
            if (!(bound_ > 0.0)) bound_ = 1.0;
            bounded_ = U;
            upper_ = lower_ = Array::Constant(d, e, 0.5 / entries);
        }
        const Real mu = ((bound_ - bounded_) * upper_ + (bound_ + bounded_) * lower_).sum() / (2.0 * entries);
        start_slack(mu);
    }

    // One step. False when the iterates come no nearer.
    bool step(const GoesOn& goes_on) {
        constexpr double shortest_step = 1e-6;
        const Array above = bound_ - bounded_, below = bound_ + bounded_;
        const Array of_above = upper_ / above, of_below = lower_ / below, stiffness = of_above + of_below;
        const Real degree = 2.0 * static_cast<double>(above.size()) + inequality_.sum();
        const Real mu = ((above * upper_).sum() + (below * lower_).sum() + slack_.dot(dual_)) / degree;
        const Array weights = bounds_primal() ? Array(stiffness.inverse()) : stiffness;
        const NewtonEquations equations(constraints_, weights.matrix(), divided_by_dual(slack_), goes_on);
        if (!equations.succeeded() || !numext::isfinite(mu)) return false;
        const Vector& rhs = constraints_.rhs();
        const auto by_margin = equations.solve(Matrix::Zero(above.rows(), above.cols()), rhs);
        const Real of_margin = rhs.dot(by_margin.dual);
        const Vector margins = constraints_.values(primal());
        const Array skew = of_below - of_above, skewness = skew / stiffness;
        const auto by_skew =
            bounds_primal() ? NewtonEquations::Step() : equations.solve(skewness.matrix(), Vector::Zero(rhs.size()));

        // Towards the point of the central path with this μ, with the curvature that a first direction shows.
        const auto towards = [&](Real target, const Direction* first) {
            Array at_above = Array::Constant(above.rows(), above.cols(), target), at_below = at_above;
            Vector at_slack = Vector::Constant(constraints_.count(), target);
            if (first != nullptr) {
                at_above -= first->above * first->upper;
                at_below -= first->below * first->lower;
                at_slack -= first->slack.cwiseProduct(first->dual);
            }
            at_above /= above;
            at_below /= below;
            const Array pull = at_above - at_below;
            const Vector aim = divided_by_dual(at_slack);
            Direction to;
            if (bounds_primal()) {
                // x = W: A*(λ + dλ) = pull + stiffness dx, where A*(λ) = y⁺ - y⁻
                const Array unbalanced = upper_ - lower_ - pull;
                const auto fixed = equations.solve(unbalanced.matrix(), aim + margin_ * rhs - margins);
                to.margin = (1.0 - rhs.dot(dual_ + fixed.dual)) / of_margin;
                to.dual = fixed.dual + to.margin * by_margin.dual;
                to.bounded = (fixed.W + to.margin * by_margin.W).array();
                to.bound = 0.0;
            } else {
                // x = A*(λ): W = pull + stiffness dx + skew dt
                const auto fixed = equations.solve((pull / stiffness).matrix(), aim);
                const Real missing_gain = 1.0 - rhs.dot(dual_ + fixed.dual);
                const Real missing_sum =
                    (at_above + at_below).sum() + (skewness * (pull - fixed.W.array())).sum() - 1.0;
                const Real cross = -rhs.dot(by_skew.dual);
                const Real of_bound = (4.0 * of_above * of_below / stiffness + skewness * by_skew.W.array()).sum() +
                                      cross * cross / of_margin;
                to.bound = (missing_sum - cross / of_margin * missing_gain) / of_bound;
                to.margin = (missing_gain + cross * to.bound) / of_margin - margin_;
                to.dual = fixed.dual + (margin_ + to.margin) * by_margin.dual + to.bound * by_skew.dual;
                to.bounded = constraints_.adjoint(to.dual).array();
            }
            to.above = to.bound - to.bounded;
            to.below = to.bound + to.bounded;
            to.upper = at_above - upper_ - of_above * to.above;
            to.lower = at_below - lower_ - of_below * to.below;
            to.slack = aim - slack_ - divided_by_dual(slack_.cwiseProduct(to.dual));
            const Real of_bounds = std::min<Real>(largest_step(above, to.above), largest_step(below, to.below));
            const Real of_forces = std::min<Real>(largest_step(upper_, to.upper), largest_step(lower_, to.lower));
            to.primal_step = std::min<Real>(bounds_primal() ? of_bounds : of_forces, largest_step(slack_, to.slack));
            to.dual_step = std::min<Real>(bounds_primal() ? of_forces : of_bounds, largest_step(dual_, to.dual));
            return to;
        };
        const auto complementarity = [&](const Direction& along, Real p, Real q) {
            const Real of_bounds = bounds_primal() ? p : q, of_forces = bounds_primal() ? q : p;
            return (((above + of_bounds * along.above) * (upper_ + of_forces * along.upper)).sum() +
                    ((below + of_bounds * along.below) * (lower_ + of_forces * along.lower)).sum() +
                    (slack_ + p * along.slack).dot(dual_ + q * along.dual)) /
                   degree;
        };
        return predict_and_correct(mu, 3, shortest_step, towards, complementarity,
                                   [this](const auto&... step) { move(step...); });
    }

    // γ and N*(A*λ): no W of norm 1 has a margin above the second, and W has γ, once γ is positive.
    Real margin() const { return margin_; }
    Real limit() const { return norm_.dual()(constraints_.adjoint(dual_)); }
    Candidate candidate() const {
        const Matrix W = primal() / margin_;
        return {constraints_, W, norm_(W), dual_ / limit()};
    }

    // What is active in the solution: constraints, and the entries at the bound with their signs (else 0).
    struct ActiveSet {
        std::vector<Index> constraints;
        Array sign;

        bool operator==(const ActiveSet& other) const {
            return constraints == other.constraints && (sign == other.sign).all();
        }
    };
    // Of the multiplier of a bound and the distance from it, one tends to 0, as of λ_r and s_r.
    ActiveSet active_set() const {
        ActiveSet set;
        set.constraints = active_since(before_.dual, before_.slack);
        const auto at_bound = [](const Array& force, const Array& distance, const Array& force_before,
                                 const Array& distance_before) {
            return Array((force * distance_before > distance * force_before).template cast<Real>());
        };
        set.sign = at_bound(upper_, bound_ - bounded_, before_.upper, before_.above) -
                   at_bound(lower_, bound_ + bounded_, before_.lower, before_.below);
        return set;
    }

    // The solution of the equations on the active set, nearest to where the iterates are. `set` becomes the one that it
    // points to: without what has the wrong sign, and with what is missed.
    Candidate on_active_set(ActiveSet& set) const {
        const Index d = constraints_.left(), e = constraints_.right(), m = constraints_.count();
        const std::vector<Index>& active = set.constraints;
        const Array sign = set.sign;
        // The unknown entries of W: those within the bound and the bound itself, or those that are not 0.
        std::vector<Index> free;
        for (Index k = 0; k < d * e; ++k)
            if ((sign.data()[k] == 0.0) == bounds_primal()) free.push_back(k);
        const Index rows = std::ssize(active), entries = std::ssize(free),
                    columns = entries + (bounds_primal() ? 1 : 0);
        if (rows == 0 || columns == 0) return {};
        const std::vector<Index> sample = constraints_.map().sample_of_rows();
        const auto& D = constraints_.differences();
        const auto& Z = constraints_.queries();
        const auto at = [](const std::vector<Index>& indices, Index k) { return indices[static_cast<std::size_t>(k)]; };
        Matrix C(rows, columns);
        for (Index a = 0; a < rows; ++a)
            for (Index k = 0; k < entries; ++k)
                C(a, k) = D(at(free, k) % d, at(active, a)) * Z(at(free, k) / d, at(sample, at(active, a)));
        const Real limit_now = limit();
        Vector x(columns), c(columns), rhs(rows), dual(rows);
        const Matrix W_now = primal() / margin_;
        for (Index k = 0; k < entries; ++k) x[k] = W_now.data()[at(free, k)], c[k] = sign.data()[at(free, k)];
        if (bounds_primal()) {
            x[entries] = 1.0 / margin_;
            c[entries] = 1.0;
            const Vector of_signs = constraints_.values(sign.matrix());
            for (Index a = 0; a < rows; ++a) C(a, entries) = of_signs[at(active, a)];
        }
        for (Index a = 0; a < rows; ++a) {
            rhs[a] = constraints_.rhs()[at(active, a)];
            dual[a] = dual_[at(active, a)] / limit_now;
        }
        if (!correct(C, rhs, c, x, dual)) return {};

        Matrix W = bounds_primal() ? Matrix(x[entries] * sign.matrix()) : Matrix(Matrix::Zero(d, e));
        for (Index k = 0; k < entries; ++k) W.data()[at(free, k)] = x[k];
        Vector all = Vector::Zero(m), clipped = all;
        for (Index a = 0; a < rows; ++a) {
            const Index r = at(active, a);
            all[r] = dual[a];
            clipped[r] = inequality_[r] == 0.0 ? dual[a] : std::max<Real>(dual[a], 0.0);
        }
        const Matrix U = constraints_.adjoint(clipped);
        const Real bound = bounds_primal() ? x[entries] : 1.0;
        ActiveSet next = revised(set, W, all, constraints_.adjoint(all), bound);
        Candidate found(constraints_, W, norm_(W), clipped / std::max<Real>(norm_.dual()(U), 1.0));
        if (next == set) found.unique = uniqueness(C, x, sign, U, W, clipped, active);
        set = std::move(next);
        return found;
    }

   private:
    struct Point {
        Array bounded, above, below, upper, lower;
        Vector dual, slack;
    };
    struct Direction : Point {
        Real margin, bound, primal_step, dual_step;
    };

    // `set` without constraints of negative multipliers and entries that are pushed or lie the wrong way, and with the
    // constraints that W misses and the entries beyond the bound.
    ActiveSet revised(const ActiveSet& set, const Matrix& W, const Vector& dual, const Matrix& U, Real bound) const {
        constexpr double missed = in_precision(1e-11);
        ActiveSet next;
        next.sign = set.sign;
        const Vector excess = constraints_.values(W) - constraints_.rhs();
        for (Index r = 0, a = 0; r < constraints_.count(); ++r) {
            const bool was = a < std::ssize(set.constraints) && set.constraints[static_cast<std::size_t>(a)] == r;
            a += was ? 1 : 0;
            if (inequality_[r] == 0.0 || (was ? dual[r] > 0.0 : excess[r] < -missed)) next.constraints.push_back(r);
        }
        // Of the two matrices, one lies within the bound and the other pushes where it is at the bound.
        const Matrix& within = bounds_primal() ? W : U;
        const Matrix& push = bounds_primal() ? U : W;
        for (Index k = 0; k < next.sign.size(); ++k) {
            Real& sign = next.sign.data()[k];
            if (sign != 0.0)
                sign = sign * push.data()[k] > 0.0 ? sign : 0.0;
            else if (numext::abs(within.data()[k]) > bound * (1.0 + missed))
                sign = within.data()[k] < 0.0 ? -1.0 : 1.0;
        }
        if (next == set) exchange_one(next, excess, dual, U, missed);
        return next;
    }
    // Of equations that nearly hold, and cannot all hold, the dual value rises along what they miss, which leaves the
    // other equations as they are. What stops it first is exchanged: a multiplier that falls to 0, whose constraint
    // leaves, or an entry of A*(λ) that comes to its bound, and of W has then any value (the dual simplex method).
    void exchange_one(ActiveSet& set, const Vector& excess, const Vector& dual, const Matrix& U, double missed) const {
        constexpr double nearly_met = 1e-4;
        Vector missing = Vector::Zero(excess.size());
        for (const Index r : set.constraints) missing[r] = -excess[r];
        const Real most_missing = missing.lpNorm<Eigen::Infinity>();
        if (!(most_missing > missed && most_missing <= nearly_met)) return;
        const Matrix reach = constraints_.adjoint(missing);
        Real farthest = std::numeric_limits<double>::infinity();
        Index leaving = -1, entry = -1;
        for (const Index r : set.constraints) {
            if (inequality_[r] == 0.0 || !(missing[r] < 0.0) || !(dual[r] < -farthest * missing[r])) continue;
            farthest = -dual[r] / missing[r];
            leaving = r;
        }
        for (Index k = 0; k < set.sign.size(); ++k) {
            const Real sign = set.sign.data()[k], direction = reach.data()[k] < 0.0 ? -1.0 : 1.0;
            const bool comes = bounds_primal() ? sign * direction < 0.0 : sign == 0.0;
            const Real to_bound = (bounds_primal() ? Real(0.0) : Real(1.0)) - direction * U.data()[k];
            if (!comes || !(to_bound < farthest * numext::abs(reach.data()[k]))) continue;
            farthest = to_bound / numext::abs(reach.data()[k]);
            entry = k;
        }
        if (entry >= 0)
            set.sign.data()[entry] = bounds_primal() ? 0.0 : reach.data()[entry] < 0.0 ? -1.0 : 1.0;
        else if (leaving >= 0)
            std::erase(set.constraints, leaving);
    }

    bool bounds_primal() const { return norm_.kind == SvmNorm::Kind::max; }
    Matrix primal() const { return bounds_primal() ? Matrix(bounded_.matrix()) : Matrix((upper_ - lower_).matrix()); }
    void move(const Direction& along, Real primal, Real dual) {
        const Real of_bounds = bounds_primal() ? primal : dual, of_forces = bounds_primal() ? dual : primal;
        before_ = {bounded_, bound_ - bounded_, bound_ + bounded_, upper_, lower_, dual_, slack_};
        bounded_ += of_bounds * along.bounded;
        bound_ += of_bounds * along.bound;
        upper_ += of_forces * along.upper;
        lower_ += of_forces * along.lower;
        slack_ += primal * along.slack;
        margin_ += primal * along.margin;
        dual_ += dual * along.dual;
    }

    // Moves x and λ by as little as it takes for C x = b and C'λ = c, in rounds, each of which has more digits.
    static bool correct(const Matrix& C, const Vector& rhs, const Vector& c, Vector& x, Vector& dual) {
        constexpr int rounds = 3;
        constexpr double proximal = in_roundings(1e-14);
        const bool wide = C.rows() < C.cols();
        Matrix gram = smaller_gram(C);
        gram.diagonal().array() += proximal * gram.trace();
        const Cholesky factor(std::move(gram));
        if (!factor.succeeded()) return false;
        for (int k = 0; k < rounds; ++k) {
            const Vector missing = rhs - apply(C, x), unbalanced = c - apply_transpose(C, dual);
            x += wide ? apply_transpose(C, factor.solve(missing)) : factor.solve(apply_transpose(C, missing));
            dual += wide ? factor.solve(apply(C, unbalanced)) : apply(C, factor.solve(unbalanced));
        }
        return x.allFinite() && dual.allFinite();
    }

    // Every solution meets C x = b, with the constraints of positive multipliers and the entries that A*(λ) puts at the
    // bound. It is unique if that has no other solution; it is not if there are fewer equations than unknowns and
    // nothing else is active.
    std::int8_t uniqueness(const Matrix& C, const Vector& x, const Array& sign, const Matrix& U, const Matrix& W,
                           const Vector& dual, const std::vector<Index>& active) const {
        constexpr double clear = 1e-7, independent = 1e-12;
        const Vector excess = constraints_.values(W) - constraints_.rhs();
        const Real most = dual.cwiseAbs().maxCoeff(), force = U.lpNorm<Eigen::Infinity>();
        bool strict_primal = true, strict_dual = true;
        std::vector<bool> is_active(static_cast<std::size_t>(constraints_.count()));
        for (const Index r : active) {
            is_active[static_cast<std::size_t>(r)] = true;
            strict_dual &= inequality_[r] == 0.0 || dual[r] > clear * most;
        }
        for (Index r = 0; r < constraints_.count(); ++r)
            strict_primal &= is_active[static_cast<std::size_t>(r)] || excess[r] > clear;
        for (Index k = 0; k < sign.size(); ++k) {
            const Real w = numext::abs(W.data()[k]), u = numext::abs(U.data()[k]);
            if (bounds_primal() && sign.data()[k] == 0.0) strict_primal &= w < (1.0 - clear) * x[x.size() - 1];
            if (bounds_primal() && sign.data()[k] != 0.0) strict_dual &= u > clear * force;
            if (!bounds_primal() && sign.data()[k] == 0.0) strict_dual &= u < 1.0 - clear;
            if (!bounds_primal() && sign.data()[k] != 0.0) strict_primal &= w > clear * norm_(W);
        }
        if (C.rows() < C.cols()) return strict_primal ? 0 : -1;
        const Vector values = eigenvalues(smaller_gram(C));
        return strict_dual && values[0] > independent * values[values.size() - 1] ? 1 : -1;
    }

    SvmNorm norm_;
    Real bound_;                     // t
    Array bounded_, upper_, lower_;  // x, y⁺, y⁻
    Point before_;                   // the last step
};

}  // namespace

Candidate by_entrywise_interior_point(const Constraints& constraints, const SvmNorm& norm, Progress& progress,
                                      bool calling_thread, double good) {
    constexpr int most_exchanges = 6;
    InteriorPoint point(constraints, norm);
    return nuclear::by_steps(point, 1e-2, good, progress, calling_thread, [&](Candidate& best) {
        auto set = point.active_set();
        for (int k = 0; k < most_exchanges && best.distance > good; ++k) {
            const auto tried = set;
            best.replace_by(point.on_active_set(set));
            if (set == tried) break;
        }
    });
}

}  // namespace attsvm::inline ATTSVM_PRECISION
