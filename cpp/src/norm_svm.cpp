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
        const bool chooses = unit.count() > few_constraints;
        // The steps along p are more, the farther it is from 2; those of the interior-point method are not.
        constexpr double most_along_p = 3.5;
        const bool goes_along_p =
            norm_.kind == SvmNorm::Kind::power && std::abs(std::log(norm_.p - 1.0)) <= most_along_p;
        Vector frobenius;
        if (chooses || goes_along_p) {
            const SvmStatus status = decide_feasibility();
            if (status == SvmStatus::infeasible) return;
            if (status == SvmStatus::optimal) frobenius = frobenius_dual();
        }
        leave_unresolved();
        const auto ends = [&] { return is_certified() || progress_.stopped(); };
        if (goes_along_p && frobenius.size() > 0 &&
            is_optimal(unit, by_lp_homotopy(unit, norm_, frobenius, progress_, calling_thread_)))
            return;
        if (chooses && frobenius.size() > 0) is_optimal(unit, of_chosen_constraints(unit, frobenius));
        if (!ends()) is_optimal(unit, by_interior_point(unit));
        if (!ends()) solve_in_octuple_precision(unit.problem());
    }

   private:
    static constexpr Index few_constraints = 256;

    nuclear::Candidate by_interior_point(const nuclear::Constraints& unit, double good = nuclear::last_digits) {
        if (norm_.is_of_entries()) return by_entrywise_interior_point(unit, norm_, progress_, calling_thread_, good);
        return spectral::by_interior_point(unit, progress_, calling_thread_, good);
    }

    // Most constraints are far from active, and a step takes time with the square of their number. Begins with as many
    // as are active in the Frobenius SVM of these multipliers, those that it is nearest to, and goes on with those that
    // the solution misses or nearly misses, roughly until there are none.
    nuclear::Candidate of_chosen_constraints(const nuclear::Constraints& unit, const Vector& frobenius) {
        constexpr double missed = 1e-13, near = 0.1, rough = 1e-3, active = 1e-12, few = 0.1;
        const Index m = unit.count();
        const double most = frobenius.cwiseAbs().maxCoeff();
        Vector excess = unit.values(unit.adjoint(frobenius)) - unit.rhs();
        Index more = 0;
        for (Index r = 0; r < m; ++r) {
            if (unit.is_equality(r)) excess[r] = -infinity;
            more += unit.is_equality(r) || frobenius[r] > active * most ? 1 : 0;
        }
        const Index fewest = std::min(few_constraints, 2 * unit.map().coordinates());
        std::vector<bool> is_chosen(static_cast<std::size_t>(m));
        std::vector<Index> chosen;
        // Takes in some of those below the bound; how many.
        const auto choose = [&](double bound) {
            std::vector<Index> coming;
            for (Index r = 0; r < m; ++r)
                if (!is_chosen[static_cast<std::size_t>(r)] && excess[r] < bound) coming.push_back(r);
            std::stable_sort(coming.begin(), coming.end(), [&](Index r, Index s) { return excess[r] < excess[s]; });
            coming.resize(static_cast<std::size_t>(std::min(std::max(more, fewest), std::ssize(coming))));
            for (const Index r : coming) is_chosen[static_cast<std::size_t>(r)] = true;
            chosen.insert(chosen.end(), coming.begin(), coming.end());
            std::sort(chosen.begin(), chosen.end());
            more = std::ssize(chosen) / 2;
            return std::ssize(coming);
        };
        choose(infinity);
        for (double good = rough; !progress_.stopped();) {
            const nuclear::ChosenConstraints part(unit, chosen);
            nuclear::Candidate found = by_interior_point(part.constraints(), good);
            if (!std::isfinite(found.distance)) break;
            excess = unit.values(found.W) - unit.rhs();
            if (!part.others_exceed(-missed, excess)) {
                const Index coming = choose(near);
                if (coming == 0) break;
                if (static_cast<double>(coming) <= few * static_cast<double>(std::ssize(chosen)))
                    good = nuclear::last_digits;
            } else if (good == rough) {
                good = nuclear::last_digits;
            } else {
                const double norm = norm_(found.W);
                nuclear::Candidate whole(unit, std::move(found.W), norm, part.of_all(unit, found.dual));
                whole.steps = found.steps;
                return whole;
            }
        }
        return {};
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
