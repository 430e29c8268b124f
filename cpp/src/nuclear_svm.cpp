// Which method solves an SVM in the nuclear norm, what proves the result, and batches.
#include "attsvm/nuclear_svm.hpp"

#include "attsvm/certificate.hpp"
#include "attsvm/nuclear_methods.hpp"

namespace attsvm {
namespace {

// The certificate of a W (dimension × query_dimension) with multipliers λ, all in units of the unit problem; A(W) is
// left in `values`.
//
// Gap: (f - g) / f with g = b'λ / |A*λ|_op and f = |W|_*, raised by |λ_r| / |A*λ|_op times the miss where a constraint
// is missed.
//
// KKT residual: the largest of the violations, of max(-λ_r, 0) / max |λ|, |λ_r (A_r(W) - b_r)| / b'λ, |A*λ|_op - 1, and
// (|W|_* - <A*λ, W>) / |W|_*.
OptimalityCertificate certify_nuclear(const Team& team, const UnitConstraints& constraints, const Matrix& W,
                                      const Vector& dual, Vector& values) {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    const nuclear::Constraints unit(constraints.problem(), team);
    values = unit.values(W);
    const double norm = nuclear_norm(W);
    const double spectral = spectral_norm(unit.adjoint(dual));
    const double gain = unit.rhs().dot(dual);
    if (!std::isfinite(norm + spectral + gain) || !(norm > 0 && spectral > 0 && gain > 0))
        return {infinity, infinity, 0.0, norm};

    const double largest_dual = dual.cwiseAbs().maxCoeff();
    double largest_row = 0.0, kkt = std::max(spectral - 1.0, (norm - values.dot(dual)) / norm);
    for (Index r = 0; r < unit.count(); ++r) {
        const double size = constraints.row_norm(r) * constraints.scale();
        largest_row = std::max(largest_row, size);
        kkt = std::max({kkt, size * unit.problem().violation(r, values[r]),
                        std::abs(dual[r] * (values[r] - unit.rhs()[r])) / gain,
                        unit.is_equality(r) ? 0.0 : -dual[r] / largest_dual});
    }
    return {nuclear::duality_gap(unit, values, norm, dual / spectral), kkt,
            64.0 * std::numeric_limits<double>::epsilon() * (largest_row * norm), norm};
}

// Solves one SVM.
class NuclearSolver {
   public:
    NuclearSolver(const SvmProblem<double>& svm, NuclearMethod method, SvmTolerance tolerance, Team team,
                  Progress& progress, bool calling_thread, const SvmResultView& result)
        : svm_(svm),
          method_(method),
          tolerance_(tolerance),
          team_(team),
          progress_(progress),
          calling_thread_(calling_thread),
          result_(result),
          constraints_(team, svm) {}

    void run() {
        // What does not depend on the norm: SVMs that W = 0 solves, that nothing does, that are not numbers.
        if (constraints_.contradiction() || constraints_.trivial() || !constraints_.within_float64()) {
            decide_feasibility();
            return;
        }
        UnitProblem problem = constraints_.problem();
        if (problem.map.dimension > problem.size()) {
            basis_.emplace(team_, problem.map.D, problem.size(), problem.map.dimension);
            problem.map.dimension = problem.size();
            problem.map.D = basis_->coordinates().data();
        }
        const nuclear::Constraints unit(problem, team_);
        write_unresolved();
        const bool interior_point_first = method_ == NuclearMethod::interior_point ||
                                          (method_ == NuclearMethod::automatic && unit.count() <= few_constraints);
        if (is_optimal(search(unit, interior_point_first)) || progress_.stopped()) return;
        if (is_optimal(by_exchange(unit, interior_point_first)) || progress_.stopped()) return;
        if (!is_certified()) {
            if (decide_feasibility() == SvmStatus::infeasible) return;
            write_unresolved();
        }
        if (both_methods(unit)) is_optimal(search(unit, !interior_point_first));
    }

   private:
    static constexpr Index few_constraints = 64, most_for_interior_point = 2500;
    static constexpr double nan = std::numeric_limits<double>::quiet_NaN();

    bool both_methods(const nuclear::Constraints& unit) const {
        return method_ == NuclearMethod::automatic && unit.count() <= most_for_interior_point;
    }

    nuclear::Candidate search(const nuclear::Constraints& unit, bool interior_point) {
        if (interior_point) return nuclear::by_interior_point(unit, progress_, calling_thread_);
        const int most_steps = both_methods(unit) ? 2000 : 20000;
        return nuclear::by_thresholding(unit, most_steps, progress_, calling_thread_);
    }

    // Rows that nearly agree leave the equations of every method without digits; but as a rule at most one of them is
    // active in the end. Solves with one row of each cluster, and exchanges it for the one that W misses most.
    nuclear::Candidate by_exchange(const nuclear::Constraints& unit, bool interior_point) {
        constexpr int most_exchanges = 8;
        constexpr double good = 1e-12;
        nuclear::Candidate best;
        std::vector<std::vector<Index>> clusters = nuclear::clusters(unit);
        if (std::ssize(clusters) == unit.count()) return best;
        bool exchanged = true;
        for (int k = 0; k < most_exchanges && exchanged && best.distance > good && !progress_.stopped(); ++k) {
            std::vector<Index> chosen;
            for (const std::vector<Index>& cluster : clusters) chosen.push_back(cluster.front());
            std::sort(chosen.begin(), chosen.end());
            const nuclear::ChosenConstraints part(unit, std::move(chosen));
            nuclear::Candidate found = search(part.constraints(), interior_point);
            if (!std::isfinite(found.distance)) break;
            Vector dual = Vector::Zero(unit.count());
            for (Index c = 0; c < part.count(); ++c) dual[part[c]] = found.dual[c];
            const Vector excess = unit.values(found.W) - unit.rhs();
            exchanged = false;
            for (std::vector<Index>& cluster : clusters) {
                const auto least = std::min_element(cluster.begin(), cluster.end(),
                                                    [&](Index r, Index s) { return excess[r] < excess[s]; });
                if (excess[*least] >= 0.0 || least == cluster.begin()) continue;
                std::iter_swap(cluster.begin(), least);
                exchanged = true;
            }
            const double norm = nuclear_norm(found.W);
            nuclear::Candidate whole(unit, std::move(found.W), norm, std::move(dual));
            whole.steps = found.steps;
            best.replace_by(std::move(whole));
        }
        return best;
    }

    // The constraints are those of the Frobenius SVM, which finds the proof that nothing meets them.
    SvmStatus decide_feasibility() {
        solve_frobenius(svm_, nullptr, FrobeniusMethod::automatic, tolerance_, team_, progress_, calling_thread_,
                        result_);
        return static_cast<SvmStatus>(*result_.status);
    }

    bool is_certified() const { return std::isfinite(worst_); }
    // Whether the candidate is certified to the last digits; one that is certified, but less well, is kept in case
    // nothing better comes.
    bool is_optimal(const nuclear::Candidate& best) {
        constexpr double finished = 1e-11;
        if (!std::isfinite(best.distance)) return false;
        const Matrix W = lifted(best.W);
        Vector values;
        const OptimalityCertificate certificate = certify_nuclear(team_, constraints_, W, best.dual, values);
        const double worst = std::max(certificate.gap, certificate.kkt);
        if (!certificate.holds(tolerance_.optimality) || worst >= worst_) return false;
        worst_ = worst;
        write(W, values, best.dual);
        finish(SvmStatus::optimal, constraints_.scale() * certificate.norm, certificate.gap, certificate.kkt,
               best.steps);
        return worst <= finished;
    }
    // W in the caller's token coordinates
    Matrix lifted(const Matrix& W) const {
        if (!basis_) return W;
        const Buffer<double> vectors = basis_->vectors(team_);
        Matrix all(svm_.dimension, W.cols());
        multiply(team_, W.cols(), W.rows(), svm_.dimension, Strided<double>{W.data(), W.rows(), 1}, Extents{},
                 vectors.data(), all.data());
        return all;
    }

    void write(const Matrix& W, const Vector& values, const Vector& dual) {
        clear(0.0);
        for (Index r = 0; r < constraints_.size(); ++r) {
            const double row_norm = constraints_.row_norm(r);
            result_.dual[constraints_.place(r)] = dual[r] / row_norm;
            result_.margins[constraints_.place(r)] = row_norm * (constraints_.scale() * values[r]);
        }
        const Buffer<double> queries = constraints_.query_basis(team_, svm_.query_dimension);
        for (Index k = 0; k < W.size(); ++k) result_.left[k] = constraints_.scale() * W.data()[k];
        std::copy(queries.data(), queries.data() + queries.size(), result_.right);
    }
    void write_unresolved() {
        clear(nan);
        finish(SvmStatus::unresolved, nan, nan, nan, 0);
    }
    void clear(double value) {
        const Index n = svm_.samples, T = svm_.tokens;
        std::fill(result_.dual, result_.dual + n * T, 0.0);
        std::fill(result_.left, result_.left + n * svm_.dimension, value);
        std::fill(result_.right, result_.right + n * svm_.query_dimension, value);
        for (Index i = 0; i < n; ++i)
            for (Index t = 0; t < T; ++t)
                result_.margins[i * T + t] =
                    svm_.has_constraint(i, t) ? value : std::numeric_limits<double>::infinity();
    }
    void finish(SvmStatus status, double norm, double gap, double kkt, Index steps) {
        *result_.norm = norm;
        *result_.gap = gap;
        *result_.kkt = kkt;
        *result_.status = static_cast<std::int8_t>(status);
        *result_.iterations = steps;
    }

    const SvmProblem<double>& svm_;
    NuclearMethod method_;
    SvmTolerance tolerance_;
    Team team_;
    Progress& progress_;
    bool calling_thread_;
    SvmResultView result_;
    UnitConstraints constraints_;
    std::optional<RowBasis> basis_;  // of the differences, where they are longer than they are many
    Index steps_ = 0;                // of the latest search
    double worst_ = std::numeric_limits<double>::infinity();
};

}  // namespace

void solve_nuclear(const SvmBatch<double>& batch, NuclearMethod method, SvmTolerance tolerance, int threads,
                   Progress& progress, const SvmResultView& result) {
    // Many SVMs go to one thread each; few large ones have their products shared out.
    constexpr double worth_sharing = 1e6;
    const SvmProblem<double>& one = batch.first;
    const auto numbers = static_cast<double>(one.samples * one.tokens) * static_cast<double>(one.dimension);
    const bool many = batch.count >= threads;
    const int within = many || numbers < worth_sharing ? 1 : threads;
    share_jobs(many ? threads : 1, batch.count, progress, [&](Index b, bool calling_thread) {
        const SvmProblem<double> svm = batch[b];
        NuclearSolver(svm, method, tolerance, Team(within), progress, calling_thread, batch.at(b, result)).run();
        progress.advance(1.0, calling_thread);
    });
}

}  // namespace attsvm
