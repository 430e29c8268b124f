// Which method solves an SVM in the nuclear norm, what proves the result, and batches.
#include "attsvm/nuclear_svm.hpp"

#include "attsvm/norm_solver.hpp"
#include "attsvm/nuclear_methods.hpp"

namespace attsvm {
namespace {

class NuclearSolver : NormSolver {
   public:
    NuclearSolver(const SvmProblem<double>& svm, NuclearMethod method, SvmTolerance tolerance, const Team& team,
                  Progress& progress, bool calling_thread, const SvmResultView& result)
        : NormSolver({SvmNorm::Kind::nuclear}, svm, tolerance, team, progress, calling_thread, result),
          method_(method) {}

    void run() {
        if (decided_at_once()) return;
        const bool fewer_coordinates = problem_.map.dimension > problem_.size();
        const nuclear::Constraints unit(fewer_coordinates ? in_fewer_coordinates() : problem_, team_);
        if (result_.extended) return solve_in_octuple_precision(unit.problem());
        leave_unresolved();
        const bool interior_point_first = method_ == NuclearMethod::interior_point ||
                                          (method_ == NuclearMethod::automatic && unit.count() <= few_constraints);
        if (is_optimal(search(unit, interior_point_first)) || progress_.stopped()) return;
        const auto of_part = [&](const nuclear::ChosenConstraints& part) {
            return search(part.constraints(), interior_point_first);
        };
        if (is_optimal(by_exchange(unit, of_part)) || progress_.stopped()) return;
        if (!is_certified()) {
            if (decide_feasibility() == SvmStatus::infeasible) return;
            leave_unresolved();
        }
        if (both_methods(unit) && is_optimal(search(unit, !interior_point_first))) return;
        constexpr double good = 1e-9;
        if (worst_ > good && !progress_.stopped()) solve_in_octuple_precision(unit.problem());
    }

   private:
    static constexpr Index few_constraints = 64, most_for_interior_point = 2500;

    bool both_methods(const nuclear::Constraints& unit) const {
        return method_ == NuclearMethod::automatic && unit.count() <= most_for_interior_point;
    }

    nuclear::Candidate search(const nuclear::Constraints& unit, bool interior_point) {
        if (interior_point) return nuclear::by_interior_point(unit, progress_, calling_thread_);
        const int most_steps = both_methods(unit) ? 2000 : 20000;
        return nuclear::by_thresholding(unit, most_steps, progress_, calling_thread_);
    }

    NuclearMethod method_;
};

}  // namespace

void solve_nuclear(const SvmBatch<double>& batch, NuclearMethod method, SvmTolerance tolerance, int threads,
                   Progress& progress, const SvmResultView& result) {
    for_each_norm_svm(
        batch, {SvmNorm::Kind::nuclear}, threads, progress, result,
        [&](const SvmProblem<double>& svm, const Team& team, bool calling_thread, const SvmResultView& of_one) {
            NuclearSolver(svm, method, tolerance, team, progress, calling_thread, of_one).run();
        });
}

}  // namespace attsvm
