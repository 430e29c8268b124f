// Support vector machines by their duals: which method solves them, what proves the answer, and batches of them.
#pragma once

#include "attsvm/certificate.hpp"
#include "attsvm/dual_active_set.hpp"
#include "attsvm/dual_ascent.hpp"

namespace attsvm {

enum class MachineStatus : std::int8_t { optimal = 0, infeasible = 1, unresolved = 2 };

// Where the answer of one machine goes; arrays over tokens have an entry for every one, with a constraint or without.
struct MachineAnswer {
    double* dual;          // (samples, tokens): multipliers; if infeasible those of the proof, with b'λ = 1
    double* margins;       // (samples, tokens): A_r(W), infinite where there is no constraint
    double *left, *right;  // (samples, dimension) and (samples, query_dimension): W = left' right
    double *norm, *gap, *kkt;
    std::int8_t* status;
    std::int64_t* rounds;  // of the method that gave the answer; 0 where there was nothing to solve
};

// How small gap and residuals must be for an answer to be believed.
struct MachineTolerance {
    double optimality, infeasibility;
};

// Solves one machine.
template <class Token>
class MachineSolver {
   public:
    MachineSolver(const Machine<Token>& machine, MachineTolerance tolerance, Team team, Progress& progress,
                  bool calling_thread, const MachineAnswer& answer)
        : machine_(machine),
          tolerance_(tolerance),
          team_(team),
          progress_(progress),
          calling_thread_(calling_thread),
          answer_(answer),
          constraints_(team, machine),
          problem_(constraints_.problem()),
          dual_(problem_.size()) {}

    // `start` (samples, tokens) is a guess of the multipliers, of any scale, or null.
    void run(const double* start) {
        if (const auto at = constraints_.contradiction()) {
            clear(nan);
            answer_.dual[*at] = 1.0 / machine_.rhs[*at];
            return finish(MachineStatus::infeasible, infinity, 0.0, 0.0, 0);
        }
        if (constraints_.trivial()) {
            clear(0.0);
            write_queries();
            return finish(MachineStatus::optimal, 0.0, 0.0, 0.0, 0);
        }
        clear(nan);
        finish(MachineStatus::unresolved, nan, nan, nan, 0);
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

    // Each method says whether its answer is certified to the last digits; one that is certified, but less well, is
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
        return !progress_.stopped() && (is_infeasible(method.rounds()) || is_optimal(method.rounds(), nullptr));
    }
    bool by_active_set(const UnitProblem& problem) {
        DualActiveSet method(problem, team_, progress_, calling_thread_);
        return method.run(dual_.data()) && (is_infeasible(method.steps()) || is_optimal(method.steps(), &method));
    }

    bool is_infeasible(Index rounds) {
        const double residual = farkas_residual(team_, problem_, dual_.data());
        if (!(residual <= tolerance_.infeasibility)) return false;
        const double gain = sum<double>(problem_.size(), [&](Index r) { return problem_.rhs[r] * dual_[r]; });
        clear(nan);
        for (Index r = 0; r < problem_.size(); ++r)
            answer_.dual[constraints_.place(r)] = dual_[r] / constraints_.row_norm(r) / (gain * constraints_.scale());
        finish(MachineStatus::infeasible, infinity, residual, residual, rounds);
        return true;
    }

    // Of λ, W is A*(λ). The active set method knows W better where λ is far larger than what is left of its sum.
    bool is_optimal(Index rounds, const DualActiveSet* method) {
        MarginProducts products(team_, problem_.map);
        products.adjoint(dual_.data());
        if (is_optimal(rounds, products.V(), &products.P())) return true;
        if (method == nullptr) return false;
        return basis_ ? is_optimal(rounds, lifted(method->w(), *basis_), nullptr)
                      : is_optimal(rounds, method->w(), nullptr);
    }
    bool is_optimal(Index rounds, const Buffer<double>& V, const Buffer<double>* P) {
        constexpr double finished = 1e-11;
        Buffer<double> values(problem_.size());
        const OptimalityCertificate certificate =
            certify_optimality(team_, constraints_, V.data(), dual_.data(), values.data());
        const double worst = std::max(certificate.gap, certificate.kkt);
        if (!certificate.holds(tolerance_.optimality) || worst >= worst_) return false;
        worst_ = worst;
        write_margins(values);
        P != nullptr ? write_factors(*P) : write_factors_of(V);
        finish(MachineStatus::optimal, constraints_.scale() * certificate.norm, certificate.gap, certificate.kkt,
               rounds);
        return worst <= finished;
    }
    // V in the machine's own token coordinates
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
            answer_.dual[constraints_.place(r)] = constraints_.scale() * (dual_[r] / row_norm);
            answer_.margins[constraints_.place(r)] = row_norm * (constraints_.scale() * values[r]);
        }
    }
    // W = P' Z
    void write_factors(const Buffer<double>& P) {
        const Index d = machine_.dimension;
        for (Index i = 0; i < machine_.samples; ++i)
            if (problem_.map.rows(i) > 0)
                for (Index j = 0; j < d; ++j)
                    answer_.left[i * d + j] = constraints_.scale() * (P[i * d + j] / constraints_.query_norm(i));
        write_queries();
    }
    void write_queries() {
        std::copy(machine_.Z, machine_.Z + machine_.samples * machine_.query_dimension, answer_.right);
    }
    // W = V' B with the basis B of the queries
    void write_factors_of(const Buffer<double>& V) {
        for (Index k = 0; k < problem_.map.coordinates(); ++k) answer_.left[k] = constraints_.scale() * V[k];
        const Buffer<double> B = constraints_.query_basis(team_, machine_.query_dimension);
        std::fill(answer_.right, answer_.right + machine_.samples * machine_.query_dimension, 0.0);
        std::copy(B.data(), B.data() + B.size(), answer_.right);
    }

    void clear(double value) {
        const Index T = machine_.tokens;
        std::fill(answer_.dual, answer_.dual + machine_.samples * T, 0.0);
        std::fill(answer_.left, answer_.left + machine_.samples * machine_.dimension, value);
        std::fill(answer_.right, answer_.right + machine_.samples * machine_.query_dimension, value);
        for (Index i = 0; i < machine_.samples; ++i)
            for (Index t = 0; t < T; ++t)
                answer_.margins[i * T + t] = std::isnan(value) || machine_.has_constraint(i, t) ? value : infinity;
    }
    void finish(MachineStatus status, double norm, double gap, double kkt, Index rounds) {
        *answer_.norm = norm;
        *answer_.gap = gap;
        *answer_.kkt = kkt;
        *answer_.status = static_cast<std::int8_t>(status);
        *answer_.rounds = rounds;
    }

    const Machine<Token>& machine_;
    MachineTolerance tolerance_;
    Team team_;
    Progress& progress_;
    bool calling_thread_;
    MachineAnswer answer_;
    UnitConstraints constraints_;
    UnitProblem problem_;
    std::optional<RowBasis> basis_;  // of the differences, where they are solved for in their coordinates
    Buffer<double> dual_;
    double worst_ = std::numeric_limits<double>::infinity();
};

// Machines of one shape, one after the other in memory.
template <class Token>
struct MachineBatch {
    Index count;
    Machine<Token> first;

    Machine<Token> operator[](Index b) const {
        Machine<Token> one = first;
        const Index n = one.samples, T = one.tokens;
        one.X += b * n * T * one.dimension;
        one.Z += b * n * one.query_dimension;
        one.selected += b * n;
        one.length += b * n;
        one.rhs += b * n * T;
        one.equality += b * n * T;
        return one;
    }
    MachineAnswer at(Index b, MachineAnswer answer) const {
        const Index n = first.samples, T = first.tokens;
        answer.dual += b * n * T;
        answer.margins += b * n * T;
        answer.left += b * n * first.dimension;
        answer.right += b * n * first.query_dimension;
        answer.norm += b;
        answer.gap += b;
        answer.kkt += b;
        answer.status += b;
        answer.rounds += b;
        return answer;
    }
};

// Solves every machine of a batch. `start` (count, samples, tokens) guesses the multipliers; null: no guess.
template <class Token>
void solve_machines(const MachineBatch<Token>& batch, const double* start, MachineTolerance tolerance, int threads,
                    Progress& progress, const MachineAnswer& answer) {
    // Many machines go to one thread each. Few are shared out if a product with A multiplies this often: threads meet
    // several times in one, and on a busy machine a meeting waits for a thread that is not running.
    constexpr double enough_for_threads = 2e7;
    const Machine<Token>& one = batch.first;
    const auto product = static_cast<double>(one.samples * one.dimension) *
                         static_cast<double>(one.tokens + std::min(one.samples, one.query_dimension));
    const bool many = batch.count >= threads;
    const int within = many || product < enough_for_threads ? 1 : threads;
    share_jobs(many ? threads : 1, batch.count, progress, [&](Index b, bool calling_thread) {
        const Machine<Token> machine = batch[b];
        MachineSolver<Token> solver(machine, tolerance, Team(within), progress, calling_thread, batch.at(b, answer));
        solver.run(start == nullptr ? nullptr : start + b * machine.samples * machine.tokens);
        progress.advance(1.0, calling_thread);
    });
}

}  // namespace attsvm
