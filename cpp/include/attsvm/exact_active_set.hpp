// The dual active set method on the constraints as given, in four times the precision of float64. It solves what
// rounding of the rows, of their factorisation or of the multipliers would decide: nearly equal or nearly opposite
// constraints.
#pragma once

#include <optional>

#include "attsvm/exact_constraints.hpp"

namespace attsvm {

// All in the units of ExactConstraints.
struct ExactActiveSetResult {
    Index steps;  // that to the start included
    InParts w, multipliers;
};

// The multipliers of the solution, or of a proof that there is none; none of it is checked here. Nothing where that is
// too much work, or the method does not end. It starts from the constraints with a positive multiplier in `start`.
template <class Token>
std::optional<ExactActiveSetResult> exact_active_set(const SvmProblem<Token>& svm, const UnitProblem& problem,
                                                     const ExactConstraints<Token>& exact, const double* start,
                                                     Progress& progress, bool calling_thread);

}  // namespace attsvm
