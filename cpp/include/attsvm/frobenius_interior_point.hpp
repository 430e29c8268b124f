// The direction of the solution in the Frobenius norm by a primal-dual interior point method in the coordinates of W:
//
//     max γ - ½|w|²  s.t.  A(w) - s = γ b,  s >= 0            min ½|A*λ|²  s.t.  b'λ = 1,  λ >= 0  in its dual
//
// However long W = w / γ is, w is not; and where nothing meets the constraints γ is 0 and A*λ too. A step solves
// equations in I + A* Θ A with Θ = diag(λ / s), whose order is the number of coordinates, not that of constraints.
#pragma once

#include "attsvm/svm_problem.hpp"

namespace attsvm {

// Inequalities only, and few enough coordinates for a matrix of that order.
bool interior_point_is_possible(const UnitProblem& problem);
// Multiplications that it needs, more or less.
double interior_point_work(const MarginMap& map);

// Guesses which constraints are active: those have multipliers, of W or of a proof that there is none. The iterations.
Index frobenius_interior_point(const UnitProblem& problem, const Team& team, Progress& progress, bool calling_thread,
                               double* dual);

}  // namespace attsvm
