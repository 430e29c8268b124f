// SVMs in the Frobenius norm by their duals: which method solves them, and what proves the result.
#pragma once

#include "attsvm/svm_problem.hpp"

namespace attsvm {

// Ascent on the dual or the dual active set method, whichever is less work and then the other, or the second alone.
enum class FrobeniusMethod { automatic, active_set };

// A product with A is shared out where it multiplies this often: threads meet several times in one, and on a busy
// computer a barrier waits for descheduled threads. The smallest SVM takes as long as reading so many numbers besides.
template <class Token>
ThreadPlan thread_plan(const SvmBatch<Token>& batch, int threads) {
    constexpr double least_shared = 2e7, besides = least_share, products = 4.0;
    const SvmProblem<Token>& one = batch.first;
    const auto product = static_cast<double>(one.samples * one.dimension) *
                         static_cast<double>(one.tokens + std::min(one.samples, one.query_dimension));
    return {threads, batch.count, product, products + besides / product, least_shared};
}

// Solves one SVM. `start` (samples, tokens) is a guess of the multipliers, of any scale, or null.
template <class Token>
void solve_frobenius(const SvmProblem<Token>& svm, const double* start, FrobeniusMethod method, SvmTolerance tolerance,
                     const Team& team, Progress& progress, bool calling_thread, const SvmResultView& result);

// Solves every SVM of a batch. `start` (count, samples, tokens) guesses the multipliers; null: no guess.
template <class Token>
void solve_frobenius(const SvmBatch<Token>& batch, const double* start, FrobeniusMethod method, SvmTolerance tolerance,
                     int threads, Progress& progress, const SvmResultView& result);

// Proves what multipliers (count, samples, tokens) prove: that W, with `given` the one in `result`, else the sum which
// they make or the one on their active set, is the solution, or that there is none. Unresolved: neither.
template <class Token>
void certify_frobenius(const SvmBatch<Token>& batch, const double* dual, bool given, SvmTolerance tolerance,
                       int threads, Progress& progress, const SvmResultView& result);

}  // namespace attsvm
