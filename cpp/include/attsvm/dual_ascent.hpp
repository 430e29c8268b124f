// Maximises the dual b'λ - ½|A*λ|² over λ >= 0 (free on equalities) without a Gram matrix.
//
// Sweeps of block coordinate ascent over the samples guess which constraints are active. Conjugate gradients then move
// the multipliers of those towards equality in all of them at once, as far as the dual rises with what falls below zero
// set to zero. Near the solution the guess is right, and the step ends on it.
#pragma once

#include "attsvm/svm_problem.hpp"

namespace attsvm {

// Raises the dual from λ until λ is the solution up to rounding, or proves that there is none, or about
// `most_products` products with A and A* are spent; which of these it was is for a certificate to say. The iterations.
Index dual_ascent(const UnitProblem& problem, const Team& team, Progress& progress, bool calling_thread, double* dual,
                  double most_products);

struct ConjugateGradients {
    int steps;
    bool cut_short;  // after `most_steps`
};
// Adds to x the solution of K x = b on the constraints of `map`, until |b - K x| <= aim; b becomes b - K x.
ConjugateGradients conjugate_gradients(const Team& team, Progress& progress, bool calling_thread, const MarginMap& map,
                                       Buffer<double>& b, Buffer<double>& x, double aim, int most_steps);

}  // namespace attsvm
