// The largest margin of a W of spectral norm 1, by a primal-dual interior-point method that knows its structure.
//
//     max γ  s.t.  A(W) - s = γ b,  s >= 0,  S = [I W; W' I] ⪰ 0
//     min ½ tr Y  s.t.  b'λ = 1,  λ >= 0,  Y = [Y1 -½G; -½G' Y2] ⪰ 0,  G = A*(λ)
//
// up to a factor of 2 in Y. The smallest W with A(W) >= b is W / γ and its multipliers are λ / |G|_*; where there is
// none, γ and |G|_* go to 0. Both programs have interior points whatever the constraints, and the method starts from
// them. Its directions are those of Helmberg, Rendl, Vanderbei, Wolkowicz, "An interior-point method for semidefinite
// programming", SIAM Journal on Optimization 6, 1996, with Mehrotra's predictor and corrector.
#include "attsvm/margin_program.hpp"
#include "attsvm/spectral_face.hpp"
#include "attsvm/spectral_method.hpp"

namespace attsvm::inline ATTSVM_PRECISION::spectral {
namespace {

using nuclear::Candidate;
using nuclear::Constraints;

class InteriorPoint : nuclear::MarginProgram {
   public:
    explicit InteriorPoint(const Constraints& constraints)
        : MarginProgram(constraints),
          W_(Matrix::Zero(constraints.left(), constraints.right())),
          rows_(constraints.dense_rows()) {
        const Index order = constraints.order();
        const Matrix G = constraints.adjoint(dual_);
        Real size = G.norm();
        if (!(size > 0.0)) size = 1.0;
        Y_ = Matrix::Identity(order, order) * size;
        set_corner(-0.5 * G);
        start_slack(size);
    }

    // One step. False when the iterates come no nearer.
    bool step(const GoesOn& goes_on) {
        constexpr double shortest_step = 1e-4;
        const Index k = constraints_.left(), l = constraints_.right();
        const Matrix S = bounded(W_, 1.0);
        const Cholesky of_S(S), of_Y(Y_);
        if (!of_S.succeeded() || !of_Y.succeeded()) return false;
        const Matrix inverse = of_S.solve_columns(Matrix::Identity(k + l, k + l));
        const Real degree = static_cast<double>(k + l) + inequality_.sum();
        const Real mu = (S.cwiseProduct(Y_).sum() + slack_.dot(dual_)) / degree;
        const Cholesky stiffness = factorised(symmetrised_product(k, Y_, inverse), goes_on);
        if (!stiffness.succeeded()) return false;
        const Matrix half = stiffness.solve_lower(rows_, goes_on);
        Matrix M = transpose_times(half, half);
        M.diagonal() += divided_by_dual(slack_);
        const Cholesky equations = factorised(M, goes_on);
        if (!equations.succeeded()) return false;
        const Vector by_margin = equations.solve(constraints_.rhs());
        const Real of_margin = constraints_.rhs().dot(by_margin);
        const Vector margins = constraints_.values(W_);

        // Towards the point of the central path with this μ, with the curvature that a first direction shows.
        const auto towards = [&](Real target, const Direction* first) {
            Vector aim = divided_by_dual(Vector::Constant(constraints_.count(), target));
            Matrix centre = target * inverse;
            if (first != nullptr) {
                centre -= symmetric_part(times(first->Y, times(bounded(first->W, 0.0), inverse)));
                aim -= divided_by_dual(first->slack.cwiseProduct(first->dual));
            }
            const Matrix corner = 2.0 * centre.topRightCorner(k, l);
            const Vector pull = stiffness.solve(corner.reshaped());
            const Vector fixed = equations.solve(aim + slack_ - margins - constraints_.values(pull.reshaped(k, l)));
            const Real margin = (1.0 - constraints_.rhs().dot(fixed)) / of_margin;
            const Vector dual = fixed + margin * by_margin;
            Direction to;
            to.margin = margin - margin_;
            to.dual = dual - dual_;
            to.W = (pull + stiffness.solve(constraints_.adjoint(dual).reshaped())).reshaped(k, l);
            const Matrix along = bounded(to.W, 0.0);
            to.Y = centre - Y_ - symmetric_part(times(Y_, times(along, inverse)));
            to.slack = aim - slack_ - divided_by_dual(slack_.cwiseProduct(to.dual));
            to.primal_step = std::min<Real>(definite_step(of_S, along), largest_step(slack_, to.slack));
            to.dual_step = std::min<Real>(definite_step(of_Y, to.Y), largest_step(dual_, to.dual));
            return to;
        };
        const auto complementarity = [&](const Direction& along, Real p, Real q) {
            return (bounded(W_ + p * along.W, 1.0).cwiseProduct(Y_ + q * along.Y).sum() +
                    (slack_ + p * along.slack).dot(dual_ + q * along.dual)) /
                   degree;
        };
        return predict_and_correct(mu, 2, shortest_step, towards, complementarity,
                                   [this](const auto&... step) { move(step...); });
    }
    // γ and |G|_*: no W of norm 1 has a margin above the second, and W has γ, once γ is positive.
    Real margin() const { return margin_; }
    Real limit() const { return nuclear_norm(constraints_.adjoint(dual_)); }
    Candidate candidate() const {
        const Matrix W = W_ / margin_;
        return {constraints_, W, spectral_norm(W), dual_ / limit()};
    }
    // The nearest face. Of the eigenvalues of Y and S, one tends to 0, as of λ_r and s_r.
    Face face(Index rows, Index columns) const {
        const Vector of_Y = eigenvalues(Y_), of_S = eigenvalues(bounded(W_, 1.0));
        const Vector of_Y_before = eigenvalues(before_.Y), of_S_before = eigenvalues(bounded(before_.W, 1.0));
        const Index largest_rank = std::min(constraints_.left(), constraints_.right()), last = of_Y.size() - 1;
        Index multiplicity = 1;
        while (multiplicity < largest_rank && of_Y[last - multiplicity] * of_S_before[multiplicity] >
                                                  of_S[multiplicity] * of_Y_before[last - multiplicity])
            ++multiplicity;
        return {constraints_, rows,         columns,        active_since(before_.dual, before_.slack),
                multiplicity, W_ / margin_, dual_ / limit()};
    }

   private:
    struct Point {
        Vector dual, slack;
        Matrix W, Y;
    };
    struct Direction : Point {
        Real margin, primal_step, dual_step;
    };

    // [diagonal I, W; W', diagonal I]
    Matrix bounded(const Matrix& W, Real diagonal) const {
        Matrix S = diagonal * Matrix::Identity(constraints_.order(), constraints_.order());
        S.topRightCorner(W.rows(), W.cols()) = W;
        S.bottomLeftCorner(W.cols(), W.rows()) = W.transpose();
        return S;
    }
    void set_corner(const Matrix& corner) {
        Y_.topRightCorner(corner.rows(), corner.cols()) = corner;
        Y_.bottomLeftCorner(corner.cols(), corner.rows()) = corner.transpose();
    }
    void move(const Direction& along, Real primal, Real dual) {
        before_ = {dual_, slack_, W_, Y_};
        W_ += primal * along.W;
        slack_ += primal * along.slack;
        margin_ += primal * along.margin;
        dual_ += dual * along.dual;
        Y_ += dual * along.Y;
    }

    Matrix W_, Y_;
    Point before_;  // the last step
    Matrix rows_;   // of A, in columns
};

}  // namespace

Candidate by_interior_point(const Constraints& constraints, Index rows, Index columns, Progress& progress,
                            bool calling_thread, double good) {
    InteriorPoint point(constraints);
    return nuclear::by_steps(point, 1e-3, good, progress, calling_thread,
                             [&](Candidate& best) { nuclear::solve_faces(point.face(rows, columns), good, best); });
}

}  // namespace attsvm::inline ATTSVM_PRECISION::spectral
