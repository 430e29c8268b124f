// What proves the solution of an SVM in a norm other than the Frobenius norm, and writes it.
#pragma once

#include "attsvm/nuclear_constraints.hpp"
#include "attsvm/octuple_precision.hpp"
#include "attsvm/svm_norm.hpp"
#include "attsvm/svm_solver.hpp"

namespace attsvm {

class NormSolver : protected SvmSolver<double> {
   public:
    NormSolver(const SvmNorm& norm, const SvmProblem<double>& svm, SvmTolerance tolerance, const Team& team,
               Progress& progress, bool calling_thread, const SvmResultView& result)
        : SvmSolver(svm, tolerance, team, progress, calling_thread, result,
                    norm.is_of_entries() ? QueryCoordinates::given : QueryCoordinates::fewest),
          norm_(norm) {}

   protected:
    // What does not depend on the norm: SVMs that W = 0 solves, that nothing does, that are not numbers.
    bool decided_at_once();
    // The constraints are those of the Frobenius SVM, which finds the proof that nothing meets them.
    SvmStatus decide_feasibility();
    // Whether the candidate is certified to the last digits; one that is certified, but less well, is kept in case
    // nothing better comes.
    bool is_optimal(const nuclear::Candidate& best);
    // The multipliers of the Frobenius SVM in the result, in units of the unit problem
    Vector frobenius_dual() const {
        Vector dual(problem_.size());
        for (Index r = 0; r < dual.size(); ++r)
            dual[r] = result_.dual[constraints_.place(r)] * (constraints_.row_norm(r) / constraints_.scale());
        return dual;
    }
    // The methods in four times the precision of float64, where that is not too much work, of what is not proved
    // infeasible. `problem` is in the coordinates of the candidates.
    void solve_in_octuple_precision(const UnitProblem& problem);

    // Rows that nearly agree leave the equations of every method without digits; but as a rule at most one of them is
    // active in the end. Solves with one row of each cluster, by search(ChosenConstraints), and exchanges it for the
    // one that W misses most.
    template <class Search>
    nuclear::Candidate by_exchange(const nuclear::Constraints& unit, Search search) {
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
            nuclear::Candidate found = search(part);
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

    SvmNorm norm_;

   private:
    // N(W), |W|, N*(A*λ), <A*λ, W>, and A(W), b and λ in units of each row
    struct NormPair {
        double norm, length, dual_norm, inner;
        Vector values, rhs, dual;
        const Vector& unit;  // of a row's values, in those of the caller
    };
    OptimalityCertificate certify(const NormPair& pair) const;
    bool is_exactly_optimal(ExactConstraints<double>& exact, const RoundedCandidate& found);
    bool is_optimal_as_written(ExactConstraints<double>& exact, bool product_is_exact, const RoundedCandidate& found);
    OptimalityCertificate certify(const nuclear::Constraints& unit, const Matrix& W, const Vector& dual,
                                  const Vector& values) const;
};

// Only large problems are shared among threads. The repeats are those of small ones, (6, 8, 10); large ones have more.
inline ThreadPlan thread_plan(const SvmBatch<double>& batch, const SvmNorm& norm, int threads) {
    constexpr double least_shared = 1e6;
    const double repeats = norm.is_of_entries() ? 20.0 : 120.0;
    const SvmProblem<double>& one = batch.first;
    const auto numbers = static_cast<double>(one.samples * one.tokens) * static_cast<double>(one.dimension);
    return {threads, batch.count, numbers, repeats, least_shared};
}

// solve(svm, team, calling_thread, result) for every problem of a batch.
template <class Solve>
void for_each_norm_svm(const SvmBatch<double>& batch, const SvmNorm& norm, int threads, Progress& progress,
                       const SvmResultView& result, Solve solve) {
    for_each_svm(batch, thread_plan(batch, norm, threads), progress, result,
                 [&](const SvmProblem<double>& svm, const Team& team, bool calling_thread, Index,
                     const SvmResultView& of_one) { solve(svm, team, calling_thread, of_one); });
}

}  // namespace attsvm
