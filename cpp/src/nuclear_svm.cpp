// Which method solves an SVM in the nuclear norm, what proves the result, and batches.
#include "attsvm/nuclear_svm.hpp"

#include "attsvm/exact_constraints.hpp"
#include "attsvm/nuclear_methods.hpp"
#include "attsvm/svm_solver.hpp"

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
        return {infinity, infinity, 0.0, norm, infinity};

    const double largest_dual = dual.cwiseAbs().maxCoeff();
    double largest_row = 0.0, shortfall = 0.0, kkt = std::max(spectral - 1.0, (norm - values.dot(dual)) / norm);
    for (Index r = 0; r < unit.count(); ++r) {
        const double size = constraints.row_norm(r) * constraints.scale();
        largest_row = std::max(largest_row, size);
        const double missed = size * unit.problem().violation(r, values[r]);
        if (!unit.is_equality(r) && unit.rhs()[r] > 0.0) shortfall = std::max(shortfall, missed);
        kkt = std::max({kkt, missed, std::abs(dual[r] * (values[r] - unit.rhs()[r])) / gain,
                        unit.is_equality(r) ? 0.0 : -dual[r] / largest_dual});
    }
    return {nuclear::duality_gap(unit, values, norm, dual / spectral), kkt,
            64.0 * std::numeric_limits<double>::epsilon() * (largest_row * norm), norm, shortfall};
}

class NuclearSolver : SvmSolver<double> {
   public:
    NuclearSolver(const SvmProblem<double>& svm, NuclearMethod method, SvmTolerance tolerance, const Team& team,
                  Progress& progress, bool calling_thread, const SvmResultView& result)
        : SvmSolver(svm, tolerance, team, progress, calling_thread, result), method_(method) {}

    void run() {
        // What does not depend on the norm: SVMs that W = 0 solves, that nothing does, that are not numbers.
        if (constraints_.contradiction() || constraints_.trivial() || !constraints_.within_float64()) {
            decide_feasibility();
            return;
        }
        const bool fewer_coordinates = problem_.map.dimension > problem_.size();
        const nuclear::Constraints unit(fewer_coordinates ? in_fewer_coordinates() : problem_, team_);
        leave_unresolved();
        const bool interior_point_first = method_ == NuclearMethod::interior_point ||
                                          (method_ == NuclearMethod::automatic && unit.count() <= few_constraints);
        if (is_optimal(search(unit, interior_point_first)) || progress_.stopped()) return;
        if (is_optimal(by_exchange(unit, interior_point_first)) || progress_.stopped()) return;
        if (!is_certified()) {
            if (decide_feasibility() == SvmStatus::infeasible) return;
            leave_unresolved();
        }
        if (both_methods(unit)) is_optimal(search(unit, !interior_point_first));
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

    // Whether the candidate is certified to the last digits; one that is certified, but less well, is kept in case
    // nothing better comes.
    bool is_optimal(const nuclear::Candidate& best) {
        if (!std::isfinite(best.distance)) return false;
        const Buffer<double> all = basis_ ? lifted(best.W.data()) : Buffer<double>();
        const Matrix W = basis_ ? Matrix(Eigen::Map<const Matrix>(all.data(), svm_.dimension, best.W.cols())) : best.W;
        Vector values;
        OptimalityCertificate certificate = certify_nuclear(team_, constraints_, W, best.dual, values);
        if (!improves(certificate)) return false;
        write_dual(best.dual.data(), 1.0);
        write_margins(values.data());
        write_factors_of(W.data());
        const double norm = constraints_.scale() * certificate.norm, more = lengthen(certificate.rounding, norm);
        certificate.gap += more;
        certificate.kkt += more;
        if (!certificate.holds(tolerance_.optimality)) {
            leave_unresolved();
            worst_ = infinity;
            return false;
        }
        finish(SvmStatus::optimal, norm * (1.0 + more), certificate.gap, certificate.kkt, best.steps);
        return is_finished();
    }

    // Makes a W that rounding leaves short of its margins on the data as given longer, unless equalities fix its size,
    // and returns by what share: the product left' right is rounded once more where it is formed.
    double lengthen(double rounding, double norm) {
        constexpr double most_rounding = 2e-10;
        if (!(rounding > most_rounding)) return 0.0;
        ExactConstraints<double> exact(team_, progress_, calling_thread_, svm_, constraints_);
        Buffer<double> values(problem_.size());
        exact.margins(result_.left, result_.right, values.data());
        const bool by_basis = problem_.map.query_dimension < svm_.query_dimension;  // else `right` is the identity
        const double product = by_basis ? 4.0 * std::numeric_limits<double>::epsilon() * norm : 0.0;
        double factor = 1.0;
        for (Index r = 0; r < problem_.size(); ++r) {
            const int exponent = exact.exponent(r) + exact.scale_exponent();
            const double rhs = std::ldexp(svm_.rhs[constraints_.place(r)], -exponent);
            if (problem_.equality[r] && rhs != 0.0) return 0.0;
            if (problem_.equality[r] || !(rhs > 0.0)) continue;
            const double safe = values[r] - std::ldexp(product * constraints_.row_norm(r), -exponent);
            if (!(safe > 0.5 * rhs)) return infinity;
            factor = std::max(factor, rhs / safe);
        }
        for (Index k = 0; k < svm_.samples * svm_.dimension; ++k) result_.left[k] *= factor;
        for (Index r = 0; r < problem_.size(); ++r)
            result_.margins[constraints_.place(r)] =
                std::ldexp(factor * values[r], exact.exponent(r) + exact.scale_exponent());
        return factor - 1.0;
    }

    NuclearMethod method_;
};

}  // namespace

void solve_nuclear(const SvmBatch<double>& batch, NuclearMethod method, SvmTolerance tolerance, int threads,
                   Progress& progress, const SvmResultView& result) {
    constexpr double worth_sharing = 1e6;
    const SvmProblem<double>& one = batch.first;
    const auto numbers = static_cast<double>(one.samples * one.tokens) * static_cast<double>(one.dimension);
    ThreadPlan plan(threads, batch.count, numbers, 1000.0);
    if (numbers < worth_sharing) plan.within = 1;
    for_each_svm(
        batch, plan, progress, result,
        [&](const SvmProblem<double>& svm, const Team& team, bool calling_thread, Index, const SvmResultView& of_one) {
            NuclearSolver(svm, method, tolerance, team, progress, calling_thread, of_one).run();
        });
}

}  // namespace attsvm
