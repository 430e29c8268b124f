// SVMs in norms other than the Frobenius norm by the same methods in four times the precision of float64, for what is
// too ill-conditioned for it.
#pragma once

#include "attsvm/svm_problem.hpp"

namespace attsvm {

// A candidate in numbers of float64.
struct RoundedCandidate {
    InParts W, dual;
    double distance;
    Index steps;
    std::int8_t unique;
};

// `lacking` is as for nuclear::Constraints, `norm` a SvmNorm::Kind, and p that of l_p. W has this many rows
// and columns in the coordinates of the caller.
RoundedCandidate solve_in_octuple_precision(const UnitProblem& problem, const double* lacking, int norm, double p,
                                            Index rows, Index columns, const Team& team, Progress& progress,
                                            bool calling_thread);

}  // namespace attsvm
