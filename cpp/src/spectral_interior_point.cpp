// The largest margin of a W of spectral norm 1, by a primal-dual interior-point method that knows its structure.
//
//     max γ  s.t.  A(W) - s = γ b,  s >= 0,  S = [I W; W' I] ⪰ 0
//     min ½ tr Y  s.t.  b'λ = 1,  λ >= 0,  Y = [Y1 -½G; -½G' Y2] ⪰ 0,  G = A*(λ)
//
// up to a factor of 2 in Y. The smallest W with A(W) >= b is W / γ and its multipliers are λ / |G|_*; where there is
// none, γ and |G|_* go to 0. Both programs have interior points whatever the constraints, and the method starts from
// them. Its directions are those of Nesterov and Todd, "Primal-dual interior-point methods for self-scaled cones", SIAM
// Journal on Optimization 8, 1998, with Mehrotra's predictor and corrector.
#include "attsvm/margin_program.hpp"
#include "attsvm/newton_equations.hpp"
#include "attsvm/spectral_face.hpp"
#include "attsvm/spectral_method.hpp"

namespace attsvm::inline ATTSVM_PRECISION::spectral {
namespace {

using nuclear::Candidate;
using nuclear::Constraints;

class InteriorPoint : nuclear::MarginProgram {
   public:
    explicit InteriorPoint(const Constraints& constraints)
        : MarginProgram(constraints), W_(Matrix::Zero(constraints.left(), constraints.right())) {
        const Index order = constraints.order();
        const Matrix G = constraints.adjoint(dual_);
        Real size = G.norm();
        if (!(size > 0.0)) size = 1.0;
        Y_ = Matrix::Identity(order, order) * size;
        set_corner(Y_, -0.5 * G);
        start_slack(size);
    }

    // One step. False when the iterates come no nearer.
    bool step(const GoesOn& goes_on) {
        constexpr double shortest_step = 1e-4;
        const Index k = constraints_.left(), l = constraints_.right(), order = k + l;
        // T S T' = I and T'ΛT = Y, Λ diagonal: with P = Λ^¼ T, P S P' and P^-T Y P^-1 are both Λ^½.
        const Cholesky of_S(bounded(W_, 1.0));
        if (!of_S.succeeded()) return false;
        const Matrix& L = of_S.factor();
        const Matrix lower = L.triangularView<Eigen::Lower>();
        const SymmetricEigen joint = eigen(transpose_times(lower, times(Y_, lower)));
        if (!(joint.values[0] > 0.0)) return false;
        const Vector& of_Y = joint.values;
        const Vector D = of_Y.cwiseSqrt();
        const Matrix T = transpose_times(joint.vectors, of_S.solve_lower(Matrix::Identity(order, order)));
        const std::optional<TransposingMap> inverse =
            inverse_stiffness(times(lower, joint.vectors) * D.cwiseSqrt().cwiseInverse().asDiagonal());
        if (!inverse) return false;
        // Of the small parts of dY, which weigh most, products with T alone would leave no digits.
        const Matrix T_left = times(T.leftCols(k), inverse->left), T_right = times(T.rightCols(l), inverse->right);
        const Real degree = static_cast<double>(order) + inequality_.sum();
        const Real mu = (of_Y.sum() + slack_.dot(dual_)) / degree;
        Matrix M = inverse->gram(constraints_);
        M.diagonal() += divided_by_dual(slack_);
        const Cholesky equations = factorised(M, goes_on);
        if (!equations.succeeded()) return false;
        const Vector by_margin = equations.solve(constraints_.rhs());
        const Real of_margin = constraints_.rhs().dot(by_margin);
        const Vector margins = constraints_.values(W_);

        // Towards the point of the central path with this μ, with the curvature that a first direction shows.
        const auto towards = [&](Real target, const Direction* first) {
            Vector aim = divided_by_dual(Vector::Constant(constraints_.count(), target));
            Matrix along = target * Matrix::Identity(order, order);
            along.diagonal() -= of_Y;
            if (first != nullptr) {
                const Matrix product = times(first->scaled_S, D.asDiagonal() * first->scaled_Y);
                for (Index j = 0; j < order; ++j)
                    for (Index i = 0; i < order; ++i)
                        along(i, j) -= (product(i, j) + product(j, i)) * (D[i] * D[j] / (D[i] + D[j]));
                aim -= divided_by_dual(first->slack.cwiseProduct(first->dual));
            }
            const Matrix pull = inverse->of_inner(2.0 * transpose_times(T_left, times(along, T_right)));
            const Vector fixed =
                equations.solve(aim + margin_ * constraints_.rhs() - margins - constraints_.values(pull));
            Direction to;
            to.margin = (1.0 - constraints_.rhs().dot(dual_ + fixed)) / of_margin;
            to.dual = fixed + to.margin * by_margin;
            to.W = pull + (*inverse)(constraints_.adjoint(to.dual));
            to.scaled_S = times(T, times_transpose(bounded(to.W, 0.0), T));
            along -= D.asDiagonal() * to.scaled_S * D.asDiagonal();
            to.Y = transpose_times(T, times(along, T));
            const Vector of_D = D.cwiseInverse();
            to.scaled_Y = of_D.asDiagonal() * along * of_D.asDiagonal();
            to.slack = aim - slack_ - divided_by_dual(slack_.cwiseProduct(to.dual));
            to.primal_step = std::min<Real>(definite_step(to.scaled_S), largest_step(slack_, to.slack));
            to.dual_step = std::min<Real>(definite_step(to.scaled_Y), largest_step(dual_, to.dual));
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
    Face face() const {
        const Vector of_Y = eigenvalues(Y_), of_S = eigenvalues(bounded(W_, 1.0));
        const Vector of_Y_before = eigenvalues(before_.Y), of_S_before = eigenvalues(bounded(before_.W, 1.0));
        const Index largest_rank = std::min(constraints_.left(), constraints_.right()), last = of_Y.size() - 1;
        Index multiplicity = 1;
        while (multiplicity < largest_rank && of_Y[last - multiplicity] * of_S_before[multiplicity] >
                                                  of_S[multiplicity] * of_Y_before[last - multiplicity])
            ++multiplicity;
        return {constraints_, active_since(before_.dual, before_.slack), multiplicity, W_ / margin_, dual_ / limit()};
    }

   private:
    struct Point {
        Vector dual, slack;
        Matrix W, Y;
    };
    struct Direction : Point {
        Matrix scaled_S, scaled_Y;  // of dS and dY, where S and Y are the identity
        Real margin, primal_step, dual_step;
    };

    // The inverse of dW -> 2 (V1 dW V2 + V12 dW' V12), where V = [V1 V12; V12' V2] is the inverse of F F'. With
    // F F' = [J1 J1', J1 Σ J2'; J2 Σ' J1', J2 J2'], Σ the cosines between the rows of F, it maps single entries of
    // J1' dW J2 and their transposes.
    std::optional<TransposingMap> inverse_stiffness(const Matrix& F) const {
        const Index k = constraints_.left(), l = constraints_.right(), square = std::min(k, l);
        const Matrix of_rows = times_transpose(F, F);
        const Cholesky first(of_rows.topLeftCorner(k, k)), second(of_rows.bottomRightCorner(l, l));
        if (!first.succeeded() || !second.succeeded()) return {};
        const Matrix across = first.solve_lower(of_rows.topRightCorner(k, l));
        const SingularBases cosines = singular_bases(second.solve_lower(across.transpose()).transpose());
        TransposingMap map;
        map.left = times(first.factor().triangularView<Eigen::Lower>().toDenseMatrix(), cosines.left);
        map.right = times(second.factor().triangularView<Eigen::Lower>().toDenseMatrix(), cosines.right);
        Vector sine = Vector::Ones(std::max(k, l));  // squared
        for (Index i = 0; i < square; ++i) sine[i] = (1.0 - cosines.values[i]) * (1.0 + cosines.values[i]);
        if (!(sine.minCoeff() > 0.0)) return {};
        map.own.resize(k, l);
        map.crossed.resize(square, square);
        for (Index j = 0; j < l; ++j)
            for (Index i = 0; i < k; ++i) {
                const Real both = sine[i] * sine[j];
                map.own(i, j) = 0.5 * both / (sine[i] + sine[j] - both);
                if (i < square && j < square)
                    map.crossed(i, j) = -cosines.values[i] * cosines.values[j] * map.own(i, j);
            }
        return map;
    }

    // [diagonal I, W; W', diagonal I]
    Matrix bounded(const Matrix& W, Real diagonal) const {
        Matrix S = diagonal * Matrix::Identity(constraints_.order(), constraints_.order());
        set_corner(S, W);
        return S;
    }
    static void set_corner(Matrix& full, const Matrix& corner) {
        full.topRightCorner(corner.rows(), corner.cols()) = corner;
        full.bottomLeftCorner(corner.cols(), corner.rows()) = corner.transpose();
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
};

}  // namespace

Candidate by_interior_point(const Constraints& constraints, Progress& progress, bool calling_thread, double good) {
    InteriorPoint point(constraints);
    return nuclear::by_steps(point, 1e-3, good, progress, calling_thread,
                             [&](Candidate& best) { nuclear::solve_faces(point.face(), good, best); });
}

}  // namespace attsvm::inline ATTSVM_PRECISION::spectral
