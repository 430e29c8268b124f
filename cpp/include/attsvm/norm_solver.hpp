// What proves the solution of an SVM in a norm other than the Frobenius norm, and writes it.
#pragma once

#include "attsvm/nuclear_constraints.hpp"
#include "attsvm/octuple_precision.hpp"
#include "attsvm/svm_norm.hpp"
#include "attsvm/svm_solver.hpp"
#include "attsvm/uniqueness.hpp"

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
    // nothing better comes. `unit` has the coordinates of the candidate.
    bool is_optimal(const nuclear::Constraints& unit, const nuclear::Candidate& best) {
        return is_optimal(best, uniqueness(unit, norm_, svm_.dimension, svm_.query_dimension, best));
    }
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

    SvmNorm norm_;

   private:
    // N(W), |W|, N*(A*λ), <A*λ, W>, and A(W), b and λ in units of each row
    struct NormPair {
        double norm, length, dual_norm, inner;
        Vector values, rhs, dual;
        const Vector& unit;  // of a row's values, in those of the caller
    };
    OptimalityCertificate certify(const NormPair& pair) const;
    bool is_optimal(const nuclear::Candidate& best, std::int8_t unique);
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
