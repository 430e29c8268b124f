// The dual active set method (Goldfarb and Idnani, Mathematical Programming 27, 1983): exact, and finite for every
// SVM, also one without a solution.
//
// Violated constraints are made active one at a time, the most violated first; active ones whose multiplier falls to
// zero on the way are let go. The active rows stay linearly independent and are held in an orthogonal factorisation in
// the coordinates of W, so that ties and repeated constraints do no harm.
#pragma once

#include <optional>

#include "attsvm/svm_problem.hpp"

namespace attsvm {

struct ActiveSetResult {
    bool ended;  // false: rounding keeps the method from ending
    Index steps;
    Buffer<double> w;  // V of the last w, which is more exact than the sum that its multipliers make
};

// The multipliers of the solution, or of a proof that there is none; none of it is checked here. The constraints with a
// multiplier in `start` (null: none) are active at first.
ActiveSetResult dual_active_set(const UnitProblem& problem, const Team& team, Progress& progress, bool calling_thread,
                                const double* start, double* dual);

// The same on the Gram matrix of the active rows alone, which is far less work for each step. Rows that are nearly
// dependent may keep it from ending.
ActiveSetResult dual_active_set_by_gram(const UnitProblem& problem, const Team& team, Progress& progress,
                                        bool calling_thread, const double* start, double* dual);

// The solution on those of the constraints that have a multiplier in `start`, but for those that it makes negative.
ActiveSetResult finish_on_active_set(const UnitProblem& problem, const Team& team, Progress& progress,
                                     bool calling_thread, const double* start, double* dual);

// V of the smallest C with A_r(C) >= missing_r, or = missing_r for equalities; nothing where none is found.
std::optional<Buffer<double>> smallest_correction(const UnitProblem& problem, const Team& team, Progress& progress,
                                                  bool calling_thread, const Buffer<double>& missing);

}  // namespace attsvm
