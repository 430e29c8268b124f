// What proves the solution of an SVM in a norm other than the Frobenius norm, and writes it.
#pragma once

#include "attsvm/nuclear_constraints.hpp"
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

    SvmNorm norm_;

   private:
    OptimalityCertificate certify(const nuclear::Constraints& unit, const Matrix& W, const Vector& dual,
                                  const Vector& values) const;
};

// solve(svm, team, calling_thread, result) for every problem of a batch: only large ones are shared among threads.
template <class Solve>
void for_each_norm_svm(const SvmBatch<double>& batch, int threads, Progress& progress, const SvmResultView& result,
                       Solve solve) {
    constexpr double worth_sharing = 1e6;
    const SvmProblem<double>& one = batch.first;
    const auto numbers = static_cast<double>(one.samples * one.tokens) * static_cast<double>(one.dimension);
    ThreadPlan plan(threads, batch.count, numbers, 1000.0);
    if (numbers < worth_sharing) plan.within = 1;
    for_each_svm(batch, plan, progress, result,
                 [&](const SvmProblem<double>& svm, const Team& team, bool calling_thread, Index,
                     const SvmResultView& of_one) { solve(svm, team, calling_thread, of_one); });
}

}  // namespace attsvm
