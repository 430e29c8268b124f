// Which method solves an SVM in a norm, and batches.
#include "attsvm/norm_svm.hpp"

#include "attsvm/entrywise_methods.hpp"
#include "attsvm/norm_solver.hpp"
#include "attsvm/spectral_method.hpp"

namespace attsvm {
namespace {

class AnyNormSolver : NormSolver {
   public:
    using NormSolver::NormSolver;

    void run() {
        if (decided_at_once()) return;
        const bool fewer_coordinates = !norm_.is_of_entries() && problem_.map.dimension > problem_.size();
        const nuclear::Constraints unit(fewer_coordinates ? in_fewer_coordinates() : problem_, team_);
        if (result_.extended) return solve_in_octuple_precision(unit.problem());
        if (norm_.kind == SvmNorm::Kind::power) {
            if (decide_feasibility() != SvmStatus::optimal) return;
            const Vector dual = frobenius_dual();
            leave_unresolved();
            // The steps along p are more, the farther it is from 2; those of the interior-point method are not.
            constexpr double most_along_p = 3.5;
            const bool near = std::abs(std::log(norm_.p - 1.0)) <= most_along_p;
            if (near && is_optimal(by_lp_homotopy(unit, norm_, dual, progress_, calling_thread_))) return;
            is_optimal(by_lp_interior_point(unit, norm_, progress_, calling_thread_));
        } else {
            leave_unresolved();
            is_optimal(norm_.is_of_entries() ? by_entrywise_interior_point(unit, norm_, progress_, calling_thread_)
                                             : spectral::by_interior_point(unit, svm_.dimension, svm_.query_dimension,
                                                                           progress_, calling_thread_));
        }
        if (!is_certified() && !progress_.stopped()) solve_in_octuple_precision(unit.problem());
    }
};

}  // namespace

void solve_in_norm(const SvmBatch<double>& batch, const SvmNorm& norm, SvmTolerance tolerance, int threads,
                   Progress& progress, const SvmResultView& result) {
    for_each_norm_svm(
        batch, norm, threads, progress, result,
        [&](const SvmProblem<double>& svm, const Team& team, bool calling_thread, const SvmResultView& of_one) {
            AnyNormSolver(norm, svm, tolerance, team, progress, calling_thread, of_one).run();
        });
}

}  // namespace attsvm
