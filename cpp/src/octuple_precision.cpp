// The methods for SVMs in norms other than the Frobenius norm in four times the precision of float64. Compiled without
// contraction of products and sums (CMakeLists.txt).
#define ATTSVM_OCTUPLE_PRECISION
#include "attsvm/octuple_precision.hpp"

#include "dense.cpp"
#include "entrywise_active_set.cpp"
#include "entrywise_interior_point.cpp"
#include "newton_equations.cpp"
#include "nuclear_constraints.cpp"
#include "nuclear_face.cpp"
#include "nuclear_interior_point.cpp"
#include "spectral_face.cpp"
#include "spectral_interior_point.cpp"
#include "svm_norm.cpp"
#include "uniqueness.cpp"

namespace attsvm {
namespace {

nuclear::Candidate solve(const nuclear::Constraints& constraints, const SvmNorm& norm, Progress& progress,
                         bool calling_thread) {
    switch (norm.kind) {
        case SvmNorm::Kind::spectral:
            return spectral::by_interior_point(constraints, progress, calling_thread);
        case SvmNorm::Kind::nuclear:
            return nuclear::by_interior_point(constraints, progress, calling_thread);
        default:
            return by_entrywise_interior_point(constraints, norm, progress, calling_thread);
    }
}

}  // namespace

RoundedCandidate solve_in_octuple_precision(const UnitProblem& problem, const double* lacking, int norm, double p,
                                            Index rows, Index columns, const Team& team, Progress& progress,
                                            bool calling_thread) {
    const nuclear::Constraints constraints(problem, team, lacking);
    const SvmNorm made_small{static_cast<SvmNorm::Kind>(norm), p};
    const nuclear::Candidate found = solve(constraints, made_small, progress, calling_thread);
    return {in_parts(found.W), in_parts(found.dual), static_cast<double>(found.distance), found.steps,
            uniqueness(constraints, made_small, rows, columns, found)};
}

}  // namespace attsvm
