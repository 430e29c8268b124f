// SVMs by their duals: which method solves them, what proves the result, and batches of them.
#pragma once

#include "attsvm/certificate.hpp"
#include "attsvm/dual_active_set.hpp"
#include "attsvm/dual_ascent.hpp"

namespace attsvm {

enum class SvmStatus : std::int8_t { optimal = 0, infeasible = 1, unresolved = 2 };

// Where the result of one SVM goes; arrays over tokens have an entry for every one, with a constraint or without.
struct SvmResultView {
    double* dual;          // (samples, tokens): multipliers; if infeasible those of the proof, with b'λ = 1
    double* margins;       // (samples, tokens): A_r(W), infinite where there is no constraint
    double *left, *right;  // (samples, dimension) and (samples, query_dimension): W = left' right
    double *norm, *gap, *kkt;
    std::int8_t* status;
    std::int64_t* iterations;  // of the method that gave the result; 0 where there was nothing to solve
};

// How small gap and residuals must be for a result to be believed.
struct SvmTolerance {
    double optimality, infeasibility;
};

// Solves one SVM.
template <class Token>
class FrobeniusSolver {
   public:
    FrobeniusSolver(const SvmProblem<Token>& svm, SvmTolerance tolerance, Team team, Progress& progress,
                    bool calling_thread, const SvmResultView& result)
        : svm_(svm),
          tolerance_(tolerance),
          team_(team),
          progress_(progress),
          calling_thread_(calling_thread),
          result_(result),
          constraints_(team, svm),
          problem_(constraints_.problem()),
          dual_(problem_.size()) {}

    // `start` (samples, tokens) is a guess of the multipliers, of any scale, or null.
    void run(const double* start) {
        if (const auto at = constraints_.contradiction()) {
            clear(nan);
            result_.dual[*at] = 1.0 / svm_.rhs[*at];
            return finish(SvmStatus::infeasible, infinity, 0.0, 0.0, 0);
        }
        if (constraints_.trivial()) {
            clear(0.0);
            write_queries();
            return finish(SvmStatus::optimal, 0.0, 0.0, 0.0, 0);
        }
        clear(nan);
        finish(SvmStatus::unresolved, nan, nan, nan, 0);
        if (!constraints_.within_float64()) return;

        UnitProblem problem = problem_;
        if (fewer_coordinates_pay()) {
            basis_.emplace(team_, problem.map.D, problem.size(), problem.map.dimension);
            problem.map.dimension = problem.size();
            problem.map.D = basis_->coordinates().data();
        }
        const Work work(problem.map);
        const bool active_set_first = work.active_set <= work.ascent;
        if (active_set_first && by_active_set(problem)) return;
        if (by_ascent(problem, start, work)) return;
        if (!active_set_first && work.active_set_is_possible()) by_active_set(problem);
    }

   private:
    static constexpr double infinity = std::numeric_limits<double>::infinity();
    static constexpr double nan = std::numeric_limits<double>::quiet_NaN();

    // Multiplications that the methods need, more or less.
    struct Work {
        double product, ascent, active_set, basis;
        explicit Work(const MarginMap& map) {
            const auto m = static_cast<double>(map.constraints());
            const auto d = static_cast<double>(map.dimension);
            const auto D = static_cast<double>(map.coordinates());
            const double steps = std::min(0.5 * m, D);
            product = (m + static_cast<double>(map.samples * map.query_dimension)) * d;
            ascent = 120.0 * product;
            basis = steps * D;
            active_set = steps * (product + 1.5 * basis);
        }
        bool active_set_is_possible() const { return basis <= 1.5e8 && active_set <= 1e12; }
    };

    bool fewer_coordinates_pay() const {
        const MarginMap& map = problem_.map;
        const Index m = map.constraints();
        return map.dimension > m && m * m <= 100 * (m + map.samples * map.query_dimension);
    }

    // Each method says whether its result is certified to the last digits; one that is certified, but less well, is
    // kept in case nothing better comes.
    bool by_ascent(const UnitProblem& problem, const double* start, const Work& work) {
        std::fill(dual_.data(), dual_.data() + dual_.size(), 0.0);
        if (start != nullptr)
            for (Index r = 0; r < problem.size(); ++r) {
                const double guess = start[constraints_.place(r)] * (constraints_.row_norm(r) / constraints_.scale());
                dual_[r] = problem.equality[r] ? guess : std::max(guess, 0.0);
            }
        const double budget = work.active_set_is_possible() ? std::max(200.0, work.active_set / work.product) : 3000.0;
        DualAscent method(problem, team_, progress_, calling_thread_);
        method.run(dual_.data(), budget);
        return !progress_.stopped() && (is_infeasible(method.iterations()) || is_optimal(method.iterations(), nullptr));
    }
    bool by_active_set(const UnitProblem& problem) {
        DualActiveSet method(problem, team_, progress_, calling_thread_);
        return method.run(dual_.data()) && (is_infeasible(method.steps()) || is_optimal(method.steps(), &method));
    }

    bool is_infeasible(Index iterations) {
        const double residual = farkas_residual(team_, problem_, dual_.data());
        if (!(residual <= tolerance_.infeasibility)) return false;
        const double gain = sum<double>(problem_.size(), [&](Index r) { return problem_.rhs[r] * dual_[r]; });
        clear(nan);
        for (Index r = 0; r < problem_.size(); ++r)
            result_.dual[constraints_.place(r)] = dual_[r] / constraints_.row_norm(r) / (gain * constraints_.scale());
        finish(SvmStatus::infeasible, infinity, residual, residual, iterations);
        return true;
    }

    // Of λ, W is A*(λ). The active set method knows W better where λ is far larger than what is left of its sum.
    bool is_optimal(Index iterations, const DualActiveSet* method) {
        MarginProducts products(team_, problem_.map);
        products.adjoint(dual_.data());
        if (is_optimal(iterations, products.V(), &products.P())) return true;
        if (method == nullptr) return false;
        return basis_ ? is_optimal(iterations, lifted(method->w(), *basis_), nullptr)
                      : is_optimal(iterations, method->w(), nullptr);
    }
    bool is_optimal(Index iterations, const Buffer<double>& V, const Buffer<double>* P) {
        constexpr double finished = 1e-11;
        Buffer<double> values(problem_.size());
        const OptimalityCertificate certificate =
            certify_optimality(team_, constraints_, V.data(), dual_.data(), values.data());
        const double worst = std::max(certificate.gap, certificate.kkt);
        if (!certificate.holds(tolerance_.optimality) || worst >= worst_) return false;
        worst_ = worst;
        write_margins(values);
        P != nullptr ? write_factors(*P) : write_factors_of(V);
        finish(SvmStatus::optimal, constraints_.scale() * certificate.norm, certificate.gap, certificate.kkt,
               iterations);
        return worst <= finished;
    }
    // V in the caller's token coordinates
    Buffer<double> lifted(const Buffer<double>& V, const RowBasis& basis) const {
        const MarginMap& map = problem_.map;
        const Index fewer = problem_.size();
        const Buffer<double> vectors = basis.vectors(team_);
        Buffer<double> all(map.coordinates());
        multiply(team_, map.query_dimension, fewer, map.dimension, Strided<double>{V.data(), fewer, 1}, Extents{},
                 vectors.data(), all.data());
        return all;
    }

    void write_margins(const Buffer<double>& values) {
        clear(0.0);
        for (Index r = 0; r < problem_.size(); ++r) {
            const double row_norm = constraints_.row_norm(r);
            result_.dual[constraints_.place(r)] = constraints_.scale() * (dual_[r] / row_norm);
            result_.margins[constraints_.place(r)] = row_norm * (constraints_.scale() * values[r]);
        }
    }
    // W = P' Z
    void write_factors(const Buffer<double>& P) {
        const Index d = svm_.dimension;
        for (Index i = 0; i < svm_.samples; ++i)
            if (problem_.map.rows(i) > 0)
                for (Index j = 0; j < d; ++j)
                    result_.left[i * d + j] = constraints_.scale() * (P[i * d + j] / constraints_.query_norm(i));
        write_queries();
    }
    void write_queries() { std::copy(svm_.Z, svm_.Z + svm_.samples * svm_.query_dimension, result_.right); }
    // W = V' B with the basis B of the queries
    void write_factors_of(const Buffer<double>& V) {
        for (Index k = 0; k < problem_.map.coordinates(); ++k) result_.left[k] = constraints_.scale() * V[k];
        const Buffer<double> B = constraints_.query_basis(team_, svm_.query_dimension);
        std::fill(result_.right, result_.right + svm_.samples * svm_.query_dimension, 0.0);
        std::copy(B.data(), B.data() + B.size(), result_.right);
    }

    void clear(double value) {
        const Index T = svm_.tokens;
        std::fill(result_.dual, result_.dual + svm_.samples * T, 0.0);
        std::fill(result_.left, result_.left + svm_.samples * svm_.dimension, value);
        std::fill(result_.right, result_.right + svm_.samples * svm_.query_dimension, value);
        for (Index i = 0; i < svm_.samples; ++i)
            for (Index t = 0; t < T; ++t)
                result_.margins[i * T + t] = std::isnan(value) || svm_.has_constraint(i, t) ? value : infinity;
    }
    void finish(SvmStatus status, double norm, double gap, double kkt, Index iterations) {
        *result_.norm = norm;
        *result_.gap = gap;
        *result_.kkt = kkt;
        *result_.status = static_cast<std::int8_t>(status);
        *result_.iterations = iterations;
    }

    const SvmProblem<Token>& svm_;
    SvmTolerance tolerance_;
    Team team_;
    Progress& progress_;
    bool calling_thread_;
    SvmResultView result_;
    UnitConstraints constraints_;
    UnitProblem problem_;
    std::optional<RowBasis> basis_;  // of the differences, where they are solved for in their coordinates
    Buffer<double> dual_;
    double worst_ = std::numeric_limits<double>::infinity();
};

// Machines of one shape, one after the other in memory.
template <class Token>
struct SvmBatch {
    Index count;
    SvmProblem<Token> first;

    SvmProblem<Token> operator[](Index b) const {
        SvmProblem<Token> one = first;
        const Index n = one.samples, T = one.tokens;
        one.X += b * n * T * one.dimension;
        one.Z += b * n * one.query_dimension;
        one.selected += b * n;
        one.length += b * n;
        one.rhs += b * n * T;
        one.equality += b * n * T;
        return one;
    }
    SvmResultView at(Index b, SvmResultView result) const {
        const Index n = first.samples, T = first.tokens;
        result.dual += b * n * T;
        result.margins += b * n * T;
        result.left += b * n * first.dimension;
        result.right += b * n * first.query_dimension;
        result.norm += b;
        result.gap += b;
        result.kkt += b;
        result.status += b;
        result.iterations += b;
        return result;
    }
};

// Solves every SVM of a batch. `start` (count, samples, tokens) guesses the multipliers; null: no guess.
template <class Token>
void solve_frobenius(const SvmBatch<Token>& batch, const double* start, SvmTolerance tolerance, int threads,
                     Progress& progress, const SvmResultView& result) {
    // Many SVMs go to one thread each. Few are shared out if a product with A multiplies this often: threads meet
    // several times in one, and on a busy computer a meeting waits for a thread that is not running.
    constexpr double enough_for_threads = 2e7;
    const SvmProblem<Token>& one = batch.first;
    const auto product = static_cast<double>(one.samples * one.dimension) *
                         static_cast<double>(one.tokens + std::min(one.samples, one.query_dimension));
    const bool many = batch.count >= threads;
    const int within = many || product < enough_for_threads ? 1 : threads;
    share_jobs(many ? threads : 1, batch.count, progress, [&](Index b, bool calling_thread) {
        const SvmProblem<Token> svm = batch[b];
        FrobeniusSolver<Token> solver(svm, tolerance, Team(within), progress, calling_thread, batch.at(b, result));
        solver.run(start == nullptr ? nullptr : start + b * svm.samples * svm.tokens);
        progress.advance(1.0, calling_thread);
    });
}

}  // namespace attsvm
