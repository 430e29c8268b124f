// The largest margin of a W of nuclear norm 1, by a primal-dual interior-point method that knows its structure.
//
//     max γ  s.t.  A(W) - s = γ b,  s >= 0,  X = [X1 W; W' X2] ⪰ 0,  ½ tr X = 1
//     min t  s.t.  b'λ = 1,  λ >= 0,  S = t I - [0 G; G' 0] ⪰ 0,  G = A*(λ)
//
// The smallest W with A(W) >= b is W / γ and its multipliers are λ / t; where there is none, γ and t go to 0 and λ to
// Farkas multipliers. Both programs have interior points whatever the constraints, and the method starts from them. Its
// directions are those of Helmberg, Rendl, Vanderbei, Wolkowicz, "An interior-point method for semidefinite
// programming", SIAM Journal on Optimization 6, 1996, with Mehrotra's predictor and corrector. The A_r are of rank one,
// which makes the equations of a step as cheap as the Gram matrix of a Frobenius SVM.
#include "attsvm/margin_program.hpp"
#include "attsvm/nuclear_face.hpp"
#include "attsvm/nuclear_methods.hpp"

namespace attsvm::inline ATTSVM_PRECISION::nuclear {
namespace {

class InteriorPoint : MarginProgram {
   public:
    explicit InteriorPoint(const Constraints& constraints) : MarginProgram(constraints) {
        const Index order = constraints.order();
        bound_ = 2.0 * constraints.adjoint(dual_).norm();
        if (!(bound_ > 0.0)) bound_ = 1.0;
        X_ = Matrix::Identity(order, order) * (2.0 / static_cast<double>(order));
        // nearly centred: s λ = μ, where X S = 2 μ I to leading order
        start_slack(bound_ / static_cast<double>(order));
        factorise_dual();
    }

    // One step. False when the iterates come no nearer.
    bool step(const GoesOn& goes_on) {
        constexpr double shortest_step = 1e-4;
        const Cholesky of_X(X_);
        if (!of_X.succeeded()) return false;
        const Real degree = static_cast<double>(constraints_.order()) + inequality_.sum();
        const Real mu = (0.5 * X_.cwiseProduct(S_).sum() + slack_.dot(dual_)) / degree;
        Matrix M = constraints_.coupling(0.5 * X_, S_inverse_);
        M.diagonal() += divided_by_dual(slack_);
        const Cholesky equations = factorised(M, goes_on);
        if (!equations.succeeded()) return false;
        const Vector centre = constraints_.values(corner(S_inverse_));
        const Matrix XS = symmetric_part(times(X_, S_inverse_));
        const Vector of_trace = constraints_.values(corner(XS));
        const Vector by_bound = equations.solve(of_trace), by_margin = equations.solve(constraints_.rhs());
        // of γ alone, positive; of γ and t; and of t once γ is eliminated, a sum of negative terms
        const Real of_margin = constraints_.rhs().dot(by_margin), of_both = constraints_.rhs().dot(by_bound);
        const Real of_bound = of_trace.dot(by_bound) - 0.5 * XS.trace() - of_both / of_margin * of_both;

        // Towards the point of the central path with this μ, with the curvature that a first direction shows.
        const auto towards = [&](Real target, const Direction* first) {
            Vector aim = divided_by_dual(Vector::Constant(constraints_.count(), target));
            Vector rhs = -2.0 * target * centre;
            Matrix bend = Matrix::Zero(X_.rows(), X_.cols());
            if (first != nullptr) {
                bend = symmetric_part(times(first->X, times(first->S, S_inverse_)));
                aim -= divided_by_dual(first->slack.cwiseProduct(first->dual));
                rhs += constraints_.values(corner(bend));
            }
            const Vector fixed = equations.solve(rhs + aim);
            const Real missing_gain = 1.0 - constraints_.rhs().dot(dual_ + fixed);
            const Real missing_trace = 1.0 - target * S_inverse_.trace() + 0.5 * bend.trace() - of_trace.dot(fixed);
            Direction to;
            to.bound = (missing_trace - of_both / of_margin * missing_gain) / of_bound;
            const Real margin = (missing_gain - of_both * to.bound) / of_margin;
            to.margin = margin - margin_;
            to.dual = fixed + to.bound * by_bound + margin * by_margin;
            to.S = -constraints_.symmetric_adjoint(to.dual);
            to.S.diagonal().array() += to.bound;
            to.X = 2.0 * target * S_inverse_ - X_ - bend - symmetric_part(times(X_, times(to.S, S_inverse_)));
            to.slack = aim - slack_ - divided_by_dual(slack_.cwiseProduct(to.dual));
            to.primal_step = std::min<Real>(definite_step(of_X, to.X), largest_step(slack_, to.slack));
            to.dual_step = std::min<Real>(definite_step(of_S_, to.S), largest_step(dual_, to.dual));
            return to;
        };
        const auto complementarity = [&](const Direction& along, Real p, Real q) {
            return (0.5 * (X_ + p * along.X).cwiseProduct(S_ + q * along.S).sum() +
                    (slack_ + p * along.slack).dot(dual_ + q * along.dual)) /
                   degree;
        };
        return predict_and_correct(mu, 2, shortest_step, towards, complementarity,
                                   [this](const auto&... step) { move(step...); }) &&
               factorise_dual();
    }
    // γ and t: no W of norm 1 has a margin above t, and W has γ.
    Real margin() const { return margin_; }
    Real limit() const { return bound_; }
    // The problem's solution as far as it is known; γ must be positive.
    Candidate candidate() const {
        return {constraints_, corner(X_) / margin_, 0.5 * X_.trace() / margin_, dual_ / bound_};
    }
    // The nearest face. Of λ_r and s_r, and of the eigenvalues of X and S, the one that is larger on its own scale is
    // not 0 in the end. With unit rows no value is larger than the norm of W, which is 1.
    Face face() const {
        std::vector<Index> active;
        const Real most = dual_.cwiseAbs().maxCoeff();
        for (Index r = 0; r < constraints_.count(); ++r)
            if (inequality_[r] == 0.0 || dual_[r] > slack_[r] * most) active.push_back(r);
        const Vector of_X = eigenvalues(X_), of_S = eigenvalues(S_);
        const Index largest_rank = std::min(constraints_.left(), constraints_.right()), last = of_X.size() - 1;
        Index rank = 1;
        while (rank < largest_rank && of_X[last - rank] * bound_ > of_S[rank] * of_X[last]) ++rank;
        return {constraints_, std::move(active), rank, dual_ / bound_, X_ / margin_};
    }

   private:
    struct Direction {
        Vector dual, slack;
        Matrix X, S;
        Real margin, bound, primal_step, dual_step;
    };

    Matrix corner(const Matrix& full) const { return full.topRightCorner(constraints_.left(), constraints_.right()); }
    bool factorise_dual() {
        S_ = -constraints_.symmetric_adjoint(dual_);
        S_.diagonal().array() += bound_;
        of_S_ = Cholesky(S_);
        if (!of_S_.succeeded()) return false;
        S_inverse_ = of_S_.solve_columns(Matrix::Identity(S_.rows(), S_.cols()));
        return true;
    }
    void move(const Direction& along, Real primal, Real dual) {
        X_ += primal * along.X;
        slack_ += primal * along.slack;
        margin_ += primal * along.margin;
        dual_ += dual * along.dual;
        bound_ += dual * along.bound;
    }

    Real bound_;
    Matrix X_, S_, S_inverse_;
    Cholesky of_S_;
};

}  // namespace

Candidate by_interior_point(const Constraints& constraints, Progress& progress, bool calling_thread) {
    InteriorPoint point(constraints);
    return by_steps(point, 1e-3, last_digits, progress, calling_thread,
                    [&](Candidate& best) { solve_faces(point.face(), last_digits, best); });
}

}  // namespace attsvm::inline ATTSVM_PRECISION::nuclear
