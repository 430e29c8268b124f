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
        if (is_optimal(unit, search(unit, interior_point_first)) || progress_.stopped()) return;
        if (is_optimal(unit, by_exchange(unit, interior_point_first)) || progress_.stopped()) return;
        if (!is_certified()) {
            if (decide_feasibility() == SvmStatus::infeasible) return;
            leave_unresolved();
        }
        if (both_methods(unit) && is_optimal(unit, search(unit, !interior_point_first))) return;
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

    // Rows that nearly agree leave the equations without digits; but as a rule at most one of them is active in the
    // end. Solves with one row of each cluster and exchanges it for the one that W misses most.
    nuclear::Candidate by_exchange(const nuclear::Constraints& unit, bool interior_point) {
        constexpr int most_exchanges = 8;
        constexpr double good = 1e-12;
        nuclear::Candidate best;
        std::vector<std::vector<Index>> clusters = nuclear::clusters(unit);
        if (std::ssize(clusters) == unit.count()) return best;
        bool exchanged = true;
        for (int k = 0; k < most_exchanges && exchanged && best.distance > good && !progress_.stopped(); ++k) {
            std::vector<Index> chosen;
            chosen.reserve(clusters.size());
            for (const std::vector<Index>& cluster : clusters) chosen.push_back(cluster.front());
            std::sort(chosen.begin(), chosen.end());
            const nuclear::ChosenConstraints part(unit, std::move(chosen));
            nuclear::Candidate found = search(part.constraints(), interior_point);
            if (!std::isfinite(found.distance)) break;
            Vector dual = part.of_all(unit, found.dual);
            const Vector excess = unit.values(found.W) - unit.rhs();
            exchanged = false;
            for (std::vector<Index>& cluster : clusters) {
                const auto least = std::min_element(cluster.begin(), cluster.end(),
                                                    [&](Index r, Index s) { return excess[r] < excess[s]; });
                if (excess[*least] >= 0.0 || least == cluster.begin()) continue;
                std::iter_swap(cluster.begin(), least);
                exchanged = true;
            }
            const double norm = norm_(found.W);
            nuclear::Candidate whole(unit, std::move(found.W), norm, std::move(dual));
            whole.steps = found.steps;
            best.replace_by(std::move(whole));
        }
        return best;
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
