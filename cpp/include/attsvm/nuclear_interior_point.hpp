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
#pragma once

#include "attsvm/nuclear_face.hpp"

namespace attsvm::nuclear {

class InteriorPoint {
   public:
    // `constraints` must outlive it.
    explicit InteriorPoint(const Constraints& constraints);

    // One step. False when the iterates come no nearer.
    bool step();
    // γ and t: no W of norm 1 has a margin above t, and W has γ.
    double margin() const { return margin_; }
    double bound() const { return bound_; }
    // The problem's solution as far as it is known; γ must be positive.
    Candidate candidate() const {
        return {constraints_, corner(X_) / margin_, 0.5 * X_.trace() / margin_, dual_ / bound_};
    }
    // The nearest face.
    Face face() const;

   private:
    struct Direction {
        Vector dual, slack;
        Matrix X, S;
        double margin, bound, primal_step, dual_step;
    };

    Matrix corner(const Matrix& full) const { return full.topRightCorner(constraints_.left(), constraints_.right()); }
    // x_r / λ_r on inequalities, 0 on equalities
    Vector divided_by_dual(const Vector& x) const;
    // Largest t for which x + t dx >= 0 on inequalities
    double largest_step(const Vector& at, const Vector& along) const;
    bool factorise_dual();
    void move(const Direction& along, double primal, double dual);

    const Constraints& constraints_;
    Vector inequality_;  // 1 on inequalities, 0 on equalities
    Vector dual_, slack_;
    double margin_, bound_;
    Matrix X_, S_, S_inverse_;
    Cholesky of_S_;
};

}  // namespace attsvm::nuclear
