#include "attsvm/dual_svm.hpp"

#include "attsvm/dual_active_set.hpp"
#include "attsvm/dual_ascent.hpp"
#include "attsvm/exact_active_set.hpp"
#include "attsvm/exact_constraints.hpp"
#include "attsvm/frobenius_interior_point.hpp"
#include "attsvm/svm_solver.hpp"

namespace attsvm {

namespace {

constexpr double eps = std::numeric_limits<double>::epsilon();

template <class Token>
class FrobeniusSolver : SvmSolver<Token> {
    using Base = SvmSolver<Token>;
    using Base::clear, Base::copy, Base::finish, Base::leave_unresolved, Base::improves, Base::is_certified,
        Base::is_finished, Base::worst_;
    using Base::constraints_, Base::problem_, Base::nan, Base::infinity;
    using Base::in_query_basis, Base::measure_as_written, Base::restore, Base::rounding, Base::written;
    using Base::lifted, Base::pointers_to, Base::scaled, Base::write_factors_of, Base::write_factors_of_whole,
        Base::write_margins, Base::write_with_margins;
    using Base::svm_, Base::tolerance_, Base::team_, Base::progress_, Base::calling_thread_, Base::result_;
    using typename Base::Written;

   public:
    FrobeniusSolver(const SvmProblem<Token>& svm, SvmTolerance tolerance, const Team& team, Progress& progress,
                    bool calling_thread, const SvmResultView& result)
        : Base(svm, tolerance, team, progress, calling_thread, result), dual_(problem_.size()) {}

    void run(const double* start, FrobeniusMethod method) {
        if (decided_at_once()) return;
        if (!result_.extended)
            solve(start, method);
        else if (start != nullptr)
            take_multipliers(start, true);
        const bool infeasible = *result_.status == static_cast<std::int8_t>(SvmStatus::infeasible);
        if (!infeasible && !is_finished() && !progress_.stopped()) by_exact_active_set();
    }

    void certify(const double* dual, bool given) {
        const Buffer<double> left = copy(result_.left, given ? svm_.samples * svm_.dimension : 0),
                             right = copy(result_.right, given ? svm_.samples * svm_.query_dimension : 0);
        if (decided_at_once()) return;
        take_multipliers(dual, !given);
        const Buffer<double> guess = copy(dual_);
        if (is_infeasible(1)) return;
        if (given) {
            write_dual();
            std::copy(left.data(), left.data() + left.size(), result_.left);
            std::copy(right.data(), right.data() + right.size(), result_.right);
            is_optimal_as_written(1, false);
            if (!is_certified()) leave_unresolved();
            return;
        }
        if (Work(problem_.map).active_set_is_possible()) {
            const ActiveSetResult found =
                finish_on_active_set(problem_, team_, progress_, calling_thread_, guess.data(), dual_.data());
            if (found.ended && is_optimal(1, &found.w)) return;
            std::copy(guess.data(), guess.data() + guess.size(), dual_.data());
        }
        is_optimal(1, nullptr);
    }

   private:
    // Multiplications that the methods need, more or less.
    struct Work {
        double product, ascent, dimension, most_active, active_set, basis;
        explicit Work(const MarginMap& map)
            : product(static_cast<double>(map.constraints() + map.samples * map.query_dimension) *
                      static_cast<double>(map.dimension)),
              ascent(120.0 * product),
              dimension(static_cast<double>(map.dimension)),
              most_active(
                  std::min(0.5 * static_cast<double>(map.constraints()), static_cast<double>(map.coordinates()))),
              active_set(most_active * (product + 1.5 * most_active * static_cast<double>(map.coordinates()))),
              basis(most_active * static_cast<double>(map.coordinates())) {}
        // Of the active set method on the Gram matrix, where so many constraints are active.
        double gram(double active) const { return 1.5 * active * (2.0 * product + active * (active + dimension)); }
        // Products with A and A* after which the ascent is likely to crawl, a small share of what the Gram matrix of
        // the active rows costs; and those after which there is no hope for it.
        double short_ascent() const { return std::clamp(0.1 * gram(0.25 * most_active) / product, 60.0, 3000.0); }
        double long_ascent() const { return active_set_is_possible() ? std::max(200.0, active_set / product) : 3000.0; }
        bool active_set_is_possible() const { return basis <= 1.5e8 && active_set <= 1e12; }
    };

    void solve(const double* start, FrobeniusMethod method) {
        const UnitProblem problem = in_one_sample(fewer_coordinates_pay() ? Base::in_fewer_coordinates() : problem_);
        const Work work(problem.map);
        if (method == FrobeniusMethod::active_set) {
            by_active_set(problem, nullptr);
            return;
        }
        const bool gram_first = work.gram(work.most_active) <= work.ascent;
        const bool active_set_first = work.active_set <= work.ascent;
        if (gram_first && by_gram(problem, nullptr)) return;
        if (active_set_first && by_active_set(problem, nullptr)) return;
        std::fill(dual_.data(), dual_.data() + dual_.size(), 0.0);
        if (start != nullptr) take_multipliers(start, true);
        if (!gram_first) {
            if (by_ascent(problem, work.short_ascent())) return;
            const Buffer<double> reached = copy(dual_);
            constexpr double gain_of_blocks = 3.0, large = 1e10;  // matrix products against those of vectors
            const double by_points = interior_point_work(problem.map);
            const auto active =
                std::count_if(reached.data(), reached.data() + reached.size(), [](double x) { return x > 0; });
            if (interior_point_is_possible(problem) && by_points >= large &&
                by_points <= gain_of_blocks * work.gram(static_cast<double>(active)) &&
                (by_interior_point(problem) || is_certified()))
                return;
            if (by_gram(problem, nullptr)) return;
            // What it has found, solution or contradiction, to more digits
            const bool contradicts = farkas_residual(team_, problem_, dual_.data()) <= tolerance_.infeasibility;
            const Buffer<double> found = copy(dual_);
            if (work.active_set_is_possible() && (contradicts || is_certified()) &&
                by_active_set(problem, contradicts ? nullptr : found.data()))
                return;
            std::copy(reached.data(), reached.data() + reached.size(), dual_.data());
        }
        if (by_ascent(problem, work.long_ascent())) return;
        if (!work.active_set_is_possible()) return;
        const Buffer<double> guess = copy(dual_);
        if (!active_set_first && by_active_set(problem, nullptr)) return;
        if (!is_certified()) by_active_set(problem, guess.data());
    }

    // A constraint that contradicts itself, W = 0, or numbers beyond float64.
    bool decided_at_once() {
        if (const auto at = constraints_.contradiction()) {
            clear(nan);
            result_.dual[*at] = 1.0 / svm_.rhs[*at];
            finish(SvmStatus::infeasible, infinity, 0.0, 0.0, 0);
            return true;
        }
        if (constraints_.trivial()) {
            clear(0.0);
            write_queries();
            finish(SvmStatus::optimal, 0.0, 0.0, 0.0, 0);
            return true;
        }
        leave_unresolved();
        if (constraints_.within_float64()) return false;
        finish(SvmStatus::beyond_float64, nan, nan, nan, 0);
        return true;
    }

    bool fewer_coordinates_pay() const {
        const MarginMap& map = problem_.map;
        const Index m = map.constraints();
        const auto saved =
            static_cast<double>(m + map.samples * map.query_dimension) * static_cast<double>(map.dimension - m);
        return map.dimension > m && static_cast<double>(m * m * map.dimension) <= 100.0 * saved;
    }
    // Of queries with one coordinate, ±1, the constraints of all samples have the same direction W z: as those of a
    // single sample, products with them have fewer sums to hold.
    UnitProblem in_one_sample(UnitProblem problem) {
        MarginMap& map = problem.map;
        if (map.query_dimension != 1) return problem;
        const Index m = problem.size(), d = map.dimension;
        rows_ = Buffer<double>(m * d);
        for (Index i = 0; i < map.samples; ++i)
            for (Index k = map.start[i] * d; k < map.start[i + 1] * d; ++k) rows_[k] = map.L[i] * map.D[k];
        start_[1] = m;
        map = {1, d, 1, start_, rows_.data(), &one_, {}, {}};
        return problem;
    }
    void take_multipliers(const double* given, bool clipped) {
        for (Index r = 0; r < problem_.size(); ++r) {
            const double guess = given[constraints_.place(r)] * (constraints_.row_norm(r) / constraints_.scale());
            dual_[r] = clipped && !problem_.equality[r] ? std::max(guess, 0.0) : guess;
        }
    }

    // Each method says whether its result is certified to the last digits; one that is certified, but less well, is
    // kept in case nothing better comes.
    bool by_ascent(const UnitProblem& problem, double most_products) {
        const Index iterations = dual_ascent(problem, team_, progress_, calling_thread_, dual_.data(), most_products);
        return !progress_.stopped() && (is_infeasible(iterations) || is_optimal(iterations, nullptr));
    }
    bool by_interior_point(const UnitProblem& problem) {
        const Index iterations = frobenius_interior_point(problem, team_, progress_, calling_thread_, dual_.data());
        if (progress_.stopped() || is_infeasible(iterations)) return !progress_.stopped();
        const Buffer<double> guess = copy(dual_);
        return by_gram(problem, guess.data(), iterations);
    }
    // Multipliers of a Gram matrix are too coarse for a good proof that there is no solution: another method has to
    // find one.
    bool by_gram(const UnitProblem& problem, const double* start, Index steps = 0) {
        const ActiveSetResult found =
            dual_active_set_by_gram(problem, team_, progress_, calling_thread_, start, dual_.data());
        return found.ended && is_optimal(steps + found.steps, &found.w);
    }
    bool by_active_set(const UnitProblem& problem, const double* start) {
        const ActiveSetResult found = dual_active_set(problem, team_, progress_, calling_thread_, start, dual_.data());
        return found.ended && (is_infeasible(found.steps) || is_optimal(found.steps, &found.w));
    }
    void by_exact_active_set() {
        ExactConstraints<Token> exact(team_, progress_, calling_thread_, svm_, constraints_);
        const std::optional<ExactActiveSetResult> found =
            exact_active_set(svm_, problem_, exact, dual_.data(), progress_, calling_thread_);
        if (!found || progress_.stopped()) return;
        const auto in_given_units = [&](int unit) {
            return scaled(found->multipliers, [&](Index r) { return unit - exact.exponent(r); });
        };
        const auto infeasible = [&] {
            InParts dual = in_given_units(-exact.scale_exponent());
            return is_infeasible(exact, dual[0], dual[1], found->steps);
        };
        // With more digits than a W of float64, one may be found that is larger than what is called infeasible.
        if (!result_.extended && infeasible()) return;
        const InParts W = scaled(found->w, exact.scale_exponent()), dual = in_given_units(exact.scale_exponent());
        is_exactly_optimal(found->steps, in_query_basis(W[0]), pointers_to(dual), &W);
        if (is_certified()) return;
        if (result_.extended)
            infeasible();
        else  // a start for the extended solution
            for (Index r = 0; r < problem_.size(); ++r) result_.dual[constraints_.place(r)] = dual[0][r];
    }

    // Whether no W up to a size of 1 / ε times that which a single constraint asks for meets the constraints: of such a
    // W, b'λ <= <A*λ, W> <= |A*λ| |W|, in weighted norms that do not depend on the units of features. The multipliers,
    // which float64 rounds, are improved in twice its precision until this proves it, or no longer does better.
    bool is_infeasible(Index iterations) {
        constexpr double insignificant = 1e-13;
        if (!(farkas_residual(team_, problem_, dual_.data()) <= tolerance_.infeasibility)) return false;
        const Index m = problem_.size();
        const double gain = sum<double>(m, [&](Index r) { return problem_.rhs[r] * dual_[r]; });
        double largest = 0.0;
        for (Index r = 0; r < m; ++r) largest = std::max(largest, std::abs(dual_[r]));
        Buffer<double> high(m), low(m);
        for (Index r = 0; r < m; ++r)
            if (std::abs(dual_[r]) > insignificant * largest)
                high[r] = dual_[r] / constraints_.row_norm(r) / (gain * constraints_.scale());
        ExactConstraints<Token> exact(team_, progress_, calling_thread_, svm_, constraints_);
        return is_infeasible(exact, high, low, iterations);
    }
    bool is_infeasible(ExactConstraints<Token>& exact, const Buffer<double>& high, const Buffer<double>& low,
                       Index iterations) {
        // More coordinates than queries: these are independent as a rule, and the sums of their rows must vanish.
        const bool maybe_independent = svm_.query_dimension > svm_.samples;
        return (maybe_independent && is_infeasible(exact, copy(high), copy(low), true, iterations)) ||
               is_infeasible(exact, copy(high), copy(low), false, iterations);
    }
    bool is_infeasible(ExactConstraints<Token>& exact, Buffer<double> high, Buffer<double> low, bool by_sums,
                       Index iterations) {
        constexpr double excluded = 1.0 / eps;
        constexpr int most_corrections = 12;
        const Index m = problem_.size();
        const double unit_of_scale = constraints_.scale() / std::ldexp(1.0, exact.scale_exponent());
        double before = infinity;
        for (int k = 0; k < most_corrections && !progress_.stopped(); ++k) {
            double absolute = 0.0, reached = 0.0;
            for (Index r = 0; r < m; ++r) {
                const double b = svm_.rhs[constraints_.place(r)] * high[r];
                absolute += std::abs(b), reached += b;
            }
            if (!(reached > 1e-8 * absolute)) return false;
            exact.set_multipliers({high.data(), low.data()}, -exact.scale_exponent());
            const auto bound = [&](double size) { return (size + exact.rounding()) * unit_of_scale / reached; };
            double residual = bound(exact.norm_bound());
            if (residual * excluded > 1 && !by_sums) residual = bound(exact.weighted_norm());
            if (residual * excluded <= 1) {
                clear(nan);
                for (Index r = 0; r < m; ++r) result_.dual[constraints_.place(r)] = high[r] / reached;
                finish(SvmStatus::infeasible, infinity, residual, residual, iterations);
                return true;
            }
            if (!std::isfinite(residual) || !(residual < 0.5 * before)) return false;
            before = residual;
            if (!correct(exact, high, low, !by_sums)) return false;
        }
        return false;
    }

    // Takes from the multipliers what A*(λ) is not zero for, on their support.
    bool correct(const ExactConstraints<Token>& exact, Buffer<double>& high, Buffer<double>& low, bool kept) {
        constexpr double accuracy = 1e-9;
        constexpr int most_steps = 500;
        const Index m = problem_.size();
        std::vector<Index> support;
        for (Index r = 0; r < m; ++r)
            if (high[r] != 0) support.push_back(r);
        Buffer<double> residual(m);
        exact.residual(kept, residual.data());
        MarginMap map = problem_.map;
        Buffer<double> one_hot;
        if (!kept) {  // different queries as if they were orthonormal
            one_hot = Buffer<double>(svm_.samples * exact.queries());
            for (Index i = 0; i < svm_.samples; ++i) one_hot[i * exact.queries() + exact.query_of_sample(i)] = 1.0;
            map.query_dimension = exact.queries();
            map.L = one_hot.data();
            map.of_samples = map.of_coordinates = {};
        }
        const PartOfConstraints part(map, support);
        const Index count = part.count();
        Buffer<double> b(count), x(count);
        double size = 0.0;
        for (Index k = 0; k < count; ++k) size = std::max(size, std::abs(residual[part[k]]));
        if (!(size > 0)) return false;
        for (Index k = 0; k < count; ++k) b[k] = residual[part[k]] / size;
        conjugate_gradients(team_, progress_, calling_thread_, part.map(), b, x, accuracy * norm(b.data(), count),
                            most_steps);
        for (Index k = 0; k < count; ++k) {
            const Index r = part[k];
            // A*(λ) is in units of 2^scale_exponent, and λ has these of 1 / row_norm
            const double step = -std::ldexp(size * x[k], -exact.scale_exponent()) / constraints_.row_norm(r);
            const double moved = high[r] + (low[r] + step);
            low[r] = (low[r] + step) - (moved - high[r]);
            high[r] = moved;
            if (!problem_.equality[r] && !(moved > 0)) high[r] = low[r] = 0.0;
        }
        return true;
    }

    // Of λ, W is A*(λ). The active set method knows W better where λ is far larger than what is left of its sum.
    bool is_optimal(Index iterations, const Buffer<double>* w) {
        constexpr double most_rounding = 2e-10, most_weight = 1e4;
        MarginProducts products(team_, problem_.map);
        products.adjoint(dual_.data());
        double largest_row = 0.0;
        for (Index r = 0; r < problem_.size(); ++r) largest_row = std::max(largest_row, constraints_.row_norm(r));
        const double weight = sum<double>(dual_.size(), [&](Index r) { return std::abs(dual_[r]); });
        const double size = products.norm();
        if (64.0 * eps * largest_row * (constraints_.scale() * size) > most_rounding || weight > most_weight * size) {
            // float64 may be wrong about this one
            if (w != nullptr) return is_exactly_optimal(iterations, lifted(w->data()));
            is_exactly_optimal(iterations, products.V());
            return false;
        }
        constexpr double last_digits = 1e-13;
        const bool good = is_optimal(iterations, products.V(), &products.P());
        if (w == nullptr || (good && worst_ <= last_digits)) return good;
        const bool better = is_optimal(iterations, lifted(w->data()), nullptr);
        return good || better;
    }
    bool is_optimal(Index iterations, const Buffer<double>& V, const Buffer<double>* P) {
        Buffer<double> values(problem_.size());
        const OptimalityCertificate certificate =
            certify_optimality(team_, constraints_, V.data(), dual_.data(), values.data());
        if (!improves(certificate)) return false;
        write_dual();
        write_margins(values.data());
        P != nullptr ? write_factors(*P) : write_factors_of(V.data());
        finish(SvmStatus::optimal, constraints_.scale() * certificate.norm, certificate.gap, certificate.kkt,
               iterations);
        return is_finished();
    }
    using PartsOfMultipliers = typename ExactConstraints<Token>::PartsOfMultipliers;  // of the constraints as given
    bool is_exactly_optimal(Index iterations, const Buffer<double>& V) {
        Buffer<double> multipliers(problem_.size());
        for (Index r = 0; r < problem_.size(); ++r)
            multipliers[r] = constraints_.scale() * (dual_[r] / constraints_.row_norm(r));
        return is_exactly_optimal(iterations, V, {multipliers.data()});
    }
    // What is certified already, but less well, comes back where this fails. `whole`, or null, is the W that V stands
    // for.
    bool is_exactly_optimal(Index iterations, const Buffer<double>& V, const PartsOfMultipliers& multipliers,
                            const InParts* whole = nullptr) {
        const Written before = written();
        clear(0.0);
        for (Index r = 0; r < problem_.size(); ++r) result_.dual[constraints_.place(r)] = multipliers[0][r];
        whole != nullptr ? write_factors_of_whole(*whole) : write_factors_of(V.data());
        const Index e = svm_.query_dimension, exact_factors = whole != nullptr ? result_.factors : svm_.samples;
        if (is_optimal_as_written(iterations, e <= exact_factors, multipliers)) return true;
        Buffer<double> moved = copy(V), values(problem_.size());
        if (write_with_margins(moved, values.data()) &&
            is_optimal_as_written(iterations, e <= svm_.samples, multipliers))
            return true;
        restore(before);
        return false;
    }

    // The certificate of the W and the multipliers in the result, of which `parts` has the others, on the constraints
    // as given. A W that rounding leaves short of its margins is made longer by as much. True if it holds
    // and is better than what came before.
    bool is_optimal_as_written(Index iterations, bool product_is_exact, PartsOfMultipliers parts = {}) {
        const Index m = problem_.size();
        ExactConstraints<Token> exact(team_, progress_, calling_thread_, svm_, constraints_);
        if (!exact.affordable()) return false;
        Buffer<double> values(m), rhs(m), multipliers(m), dual(m), unit(m);
        for (Index r = 0; r < m; ++r) {
            rhs[r] = exact.rhs(r);
            multipliers[r] = result_.dual[constraints_.place(r)];
            dual[r] = std::ldexp(multipliers[r], exact.exponent(r) - exact.scale_exponent());
            unit[r] = std::ldexp(1.0, exact.exponent(r) + exact.scale_exponent());
        }
        double size = 0.0;
        if (!measure_as_written(exact, product_is_exact, values, size)) return false;
        parts[0] = multipliers.data();
        exact.set_multipliers(parts, exact.scale_exponent());
        const double dual_norm = exact.norm();
        exact.subtract(result_.left, result_.right, result_.factors);
        const double difference = exact.norm();
        if (progress_.stopped()) return false;
        OptimalityCertificate certificate = certify_optimality(
            {m, values.data(), rhs.data(), dual.data(), problem_.equality, unit.data(), size, dual_norm, difference});
        certificate.rounding = rounding(exact, size);
        if (!improves(certificate)) return false;
        write_margins(exact, values);
        finish(SvmStatus::optimal, std::ldexp(size, exact.scale_exponent()), certificate.gap, certificate.kkt,
               iterations);
        return true;
    }

    void write_dual() { Base::write_dual(dual_.data(), constraints_.scale()); }
    // W = P' Z
    void write_factors(const Buffer<double>& P) {
        const Index d = svm_.dimension;
        for (Index i = 0; i < svm_.samples; ++i)
            if (problem_.map.rows(i) > 0)
                for (Index j = 0; j < d; ++j)
                    result_.left[i * d + j] = constraints_.scale() * (P[i * d + j] / constraints_.query_norm(i));
        write_queries();
    }
    void write_queries() {
        for (Index i = 0; i < svm_.samples; ++i)
            std::copy_n(svm_.query(i), svm_.query_dimension, result_.right + i * svm_.query_dimension);
    }

    Buffer<double> dual_;
    Buffer<double> rows_;  // of the problem in one sample, and what it points to besides
    Index start_[2] = {0, 0};
    double one_ = 1.0;
};

}  // namespace

template <class Token>
void solve_frobenius(const SvmProblem<Token>& svm, const double* start, FrobeniusMethod method, SvmTolerance tolerance,
                     const Team& team, Progress& progress, bool calling_thread, const SvmResultView& result) {
    FrobeniusSolver<Token>(svm, tolerance, team, progress, calling_thread, result).run(start, method);
}

template <class Token>
void solve_frobenius(const SvmBatch<Token>& batch, const double* start, FrobeniusMethod method, SvmTolerance tolerance,
                     int threads, Progress& progress, const SvmResultView& result) {
    for_each_svm(
        batch, thread_plan(batch, threads), progress, result,
        [&](const SvmProblem<Token>& svm, const Team& team, bool calling_thread, Index at, const SvmResultView& one) {
            FrobeniusSolver<Token>(svm, tolerance, team, progress, calling_thread, one)
                .run(start == nullptr ? nullptr : start + at, method);
        });
}

template <class Token>
void certify_frobenius(const SvmBatch<Token>& batch, const double* dual, bool given, SvmTolerance tolerance,
                       int threads, Progress& progress, const SvmResultView& result) {
    for_each_svm(
        batch, thread_plan(batch, threads), progress, result,
        [&](const SvmProblem<Token>& svm, const Team& team, bool calling_thread, Index at, const SvmResultView& one) {
            FrobeniusSolver<Token>(svm, tolerance, team, progress, calling_thread, one).certify(dual + at, given);
        });
}

#define ATTSVM_INSTANTIATE(Token)                                                                                      \
    template void solve_frobenius(const SvmProblem<Token>&, const double*, FrobeniusMethod, SvmTolerance, const Team&, \
                                  Progress&, bool, const SvmResultView&);                                              \
    template void solve_frobenius(const SvmBatch<Token>&, const double*, FrobeniusMethod, SvmTolerance, int,           \
                                  Progress&, const SvmResultView&);                                                    \
    template void certify_frobenius(const SvmBatch<Token>&, const double*, bool, SvmTolerance, int, Progress&,         \
                                    const SvmResultView&);
ATTSVM_INSTANTIATE(double)
ATTSVM_INSTANTIATE(float)
#undef ATTSVM_INSTANTIATE

}  // namespace attsvm
