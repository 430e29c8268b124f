// What the solvers of every norm share: one SVM in unit constraints, its result in the caller's memory, and batches.
#pragma once

#include "attsvm/certificate.hpp"
#include "attsvm/dual_active_set.hpp"
#include "attsvm/exact_constraints.hpp"

namespace attsvm {

template <class Token>
class SvmSolver {
   protected:
    static constexpr double infinity = std::numeric_limits<double>::infinity();
    static constexpr double nan = std::numeric_limits<double>::quiet_NaN();
    static constexpr double finished = 1e-11;  // a certificate that nothing needs to improve

    SvmSolver(const SvmProblem<Token>& svm, SvmTolerance tolerance, const Team& team, Progress& progress,
              bool calling_thread, const SvmResultView& result, QueryCoordinates coordinates = QueryCoordinates::fewest)
        : svm_(svm),
          tolerance_(tolerance),
          team_(team),
          progress_(progress),
          calling_thread_(calling_thread),
          result_(result),
          constraints_(team, svm, coordinates),
          problem_(constraints_.problem()) {}

    static Buffer<double> copy(const double* from, Index size) {
        Buffer<double> values(size);
        std::copy(from, from + size, values.data());
        return values;
    }
    static Buffer<double> copy(const Buffer<double>& from) { return copy(from.data(), from.size()); }

    // The problem in coordinates of the differences' span, which are as many as the differences.
    UnitProblem in_fewer_coordinates() {
        UnitProblem problem = problem_;
        basis_.emplace(team_, problem.map.D, problem.size(), problem.map.dimension,
                       calling_thread_ ? &progress_ : nullptr);
        problem.map.dimension = problem.size();
        problem.map.D = basis_->coordinates().data();
        return problem;
    }
    // V, of such a problem where there is one, in the caller's token coordinates
    Buffer<double> lifted(const double* V) const {
        const MarginMap& map = problem_.map;
        if (!basis_) return copy(V, map.coordinates());
        const Index fewer = problem_.size();
        const Buffer<double> vectors = basis_->vectors(team_);
        Buffer<double> all(map.coordinates());
        multiply(team_, map.query_dimension, fewer, map.dimension, Strided<double>{V, fewer, 1}, Extents{},
                 vectors.data(), all.data());
        return all;
    }

    // Whether a certificate holds and is better than those before.
    bool improves(const OptimalityCertificate& certificate) {
        const double worst = std::max(certificate.gap, certificate.kkt);
        if (!certificate.holds(tolerance_.optimality) || worst >= worst_) return false;
        worst_ = worst;
        return true;
    }
    bool is_certified() const { return worst_ < infinity; }
    bool is_finished() const { return worst_ <= finished; }

    // The multipliers of the unit problem, those of W / unit
    void write_dual(const double* dual, double unit) {
        clear(0.0);
        for (Index r = 0; r < problem_.size(); ++r)
            result_.dual[constraints_.place(r)] = unit * (dual[r] / constraints_.row_norm(r));
    }
    void write_margins(const double* values) {
        for (Index r = 0; r < problem_.size(); ++r)
            result_.margins[constraints_.place(r)] = constraints_.row_norm(r) * (constraints_.scale() * values[r]);
    }
    void write_margins(const ExactConstraints<Token>& exact, const Buffer<double>& values) {
        for (Index i = 0; i < svm_.samples; ++i)
            for (Index t = 0; t < svm_.tokens; ++t)
                result_.margins[i * svm_.tokens + t] = svm_.has_constraint(i, t) ? 0.0 : infinity;
        for (Index r = 0; r < problem_.size(); ++r)
            result_.margins[constraints_.place(r)] = std::ldexp(values[r], exact.exponent(r) + exact.scale_exponent());
    }
    // W = V' B with the basis B of the queries
    void write_factors_of(const double* V) {
        for (Index k = 0; k < problem_.map.coordinates(); ++k) result_.left[k] = constraints_.scale() * V[k];
        const Buffer<double> B = constraints_.query_basis(team_, svm_.query_dimension);
        std::fill(result_.right, result_.right + result_.factors * svm_.query_dimension, 0.0);
        std::copy(B.data(), B.data() + B.size(), result_.right);
    }
    // V of a W (query_dimension, dimension) of the caller
    Buffer<double> in_query_basis(const Buffer<double>& W) const {
        const Index d = svm_.dimension, e = svm_.query_dimension;
        const Buffer<double> B = constraints_.query_basis(team_, e);
        Buffer<double> V(problem_.map.query_dimension * d);
        for (Index k = 0; k < problem_.map.query_dimension; ++k)
            rows_combine(W.data(), e, d, B.data() + k * e, V.data() + k * d);
        for (Index k = 0; k < V.size(); ++k) V[k] /= constraints_.scale();
        return V;
    }
    // What is in the result, apart from the numbers that `finish` writes
    struct Written {
        Buffer<double> dual, left, right, margins;
    };
    Written written() const {
        const Index places = svm_.samples * svm_.tokens;
        return {copy(result_.dual, places), copy(result_.left, result_.factors * svm_.dimension),
                copy(result_.right, result_.factors * svm_.query_dimension), copy(result_.margins, places)};
    }
    void restore(const Written& before) {
        const auto back = [](const Buffer<double>& from, double* to) {
            std::copy(from.data(), from.data() + from.size(), to);
        };
        back(before.dual, result_.dual);
        back(before.left, result_.left);
        back(before.right, result_.right);
        back(before.margins, result_.margins);
    }
    // What a float64 W of this size, in the units of `exact`, may leave of the optimality conditions
    double rounding(const ExactConstraints<Token>& exact, double size) const {
        double largest_row = 0.0;
        for (Index r = 0; r < problem_.size(); ++r) largest_row = std::max(largest_row, constraints_.row_norm(r));
        return 64.0 * std::numeric_limits<double>::epsilon() * std::ldexp(largest_row, exact.scale_exponent()) * size;
    }
    // |W| and the margins of the factors in the result, in the units of `exact`. Where they are short by what rounding
    // may leave, and no equality fixes the size of W, it is made longer by as much; false where they are shorter.
    bool measure_as_written(ExactConstraints<Token>& exact, bool product_is_exact, Buffer<double>& values,
                            double& size) {
        constexpr double most_rounding = 1e-6, shortest = 5e-10;
        const Buffer<double> none(problem_.size());
        const auto measure = [&] {
            exact.set_multipliers({none.data()}, 0);
            exact.subtract(result_.left, result_.right, result_.factors);
            size = exact.norm();
            exact.margins(result_.left, result_.right, result_.factors, result_.extended, values.data());
        };
        measure();
        // What rounding may take from a margin of a row of length 1, in twice or four times the precision; of a product
        // left' right that float64 rounds, margins are rounded once more.
        const auto terms = static_cast<double>(svm_.dimension + svm_.query_dimension + result_.factors);
        const double lost = (terms * (result_.extended ? 0x1p-200 : 0x1p-100) +
                             (product_is_exact ? 0.0 : std::numeric_limits<double>::epsilon())) *
                            size;
        double longer = 1.0;
        bool fixed = false;
        for (Index r = 0; r < problem_.size(); ++r) {
            const double rhs = exact.rhs(r);
            if (problem_.equality[r]) fixed |= rhs != 0;
            if (problem_.equality[r] || !(rhs > 0)) continue;
            const double safe = values[r] - lost * std::ldexp(constraints_.row_norm(r), -exact.exponent(r));
            const double allowed = std::ldexp(shortest, -exact.exponent(r) - exact.scale_exponent());
            longer = safe > 0.5 * rhs ? std::max(longer, (rhs - allowed) / safe) : infinity;
        }
        if (fixed) return true;
        if (!(longer - 1.0 <= tolerance_.optimality + std::min(rounding(exact, size), most_rounding))) return false;
        if (longer > 1.0) {
            for (Index k = 0; k < result_.factors * svm_.dimension; ++k) result_.left[k] *= longer;
            measure();
        }
        return true;
    }
    // The numbers times 2^exponent(k) of number k
    template <class Exponent>
    static InParts scaled(const InParts& from, Exponent exponent) {
        InParts to;
        for (std::size_t part = 0; part < to.size(); ++part) {
            to[part] = Buffer<double>(from[part].size());
            for (Index k = 0; k < from[part].size(); ++k) to[part][k] = std::ldexp(from[part][k], exponent(k));
        }
        return to;
    }
    static InParts scaled(const InParts& from, int exponent) {
        return scaled(from, [exponent](Index) { return exponent; });
    }
    static typename ExactConstraints<Token>::PartsOfMultipliers pointers_to(const InParts& parts) {
        return {parts[0].data(), parts[1].data(), parts[2].data(), parts[3].data()};
    }
    // W as it is, or by Gram-Schmidt in factors of its own. Nearly equal queries do not define a basis of their span to
    // the last digits, as W does.
    void write_factors_of_whole(const InParts& parts) {
        const Index d = svm_.dimension, e = svm_.query_dimension, factors = result_.factors;
        std::fill(result_.left, result_.left + factors * d, 0.0);
        std::fill(result_.right, result_.right + factors * e, 0.0);
        if (e <= factors) {
            for (Index k = 0; k < (result_.extended ? parts_of_extended : 1); ++k) {
                std::copy_n(parts[static_cast<std::size_t>(k)].data(), e * d, result_.left + k * e * d);
                for (Index c = 0; c < e; ++c) result_.right[(k * e + c) * e + c] = 1.0;
            }
            return;
        }
        Buffer<double> W = copy(parts[0]);
        for (Index k = 0; k < factors; ++k) {
            double largest = 0.0;
            Index at = 0;
            for (Index c = 0; c < e; ++c)
                if (const double size = norm(W.data() + c * d, d); size > largest) largest = size, at = c;
            if (!(largest > 0)) return;
            double* const left = result_.left + k * d;
            for (Index j = 0; j < d; ++j) left[j] = W[at * d + j] / largest;
            rows_dot(W.data(), e, d, left, result_.right + k * e);
            for (Index c = 0; c < e; ++c)
                for (Index j = 0; j < d; ++j) W[c * d + j] -= result_.right[k * e + c] * left[j];
        }
    }
    // Moves V by as little as it takes for W, as its factors in the result are rounded, to have all of its margins, and
    // writes these factors. Where a multiplier is small, rounding of a large row costs hardly any length, while a
    // longer W, for which the largest of problems must do, costs as much as the row misses. The values of the unit
    // problem are left in `values`. False where W still misses a margin.
    bool write_with_margins(Buffer<double>& V, double* values) {
        constexpr int most_rounds = 4;
        constexpr double eps = std::numeric_limits<double>::epsilon();
        ExactConstraints<Token> exact(team_, progress_, calling_thread_, svm_, constraints_);
        const Index m = problem_.size();
        const double roundings = svm_.query_dimension <= svm_.samples ? 0.0 : 1.0;  // of the product of the factors
        const double unit_of_scale = std::ldexp(1.0, exact.scale_exponent()) / constraints_.scale();
        Buffer<double> missing(m);
        for (int round = 0; !progress_.stopped(); ++round) {
            write_factors_of(V.data());
            exact.margins(result_.left, result_.right, result_.factors, result_.extended, values);
            const double rounding = eps * norm(V.data(), V.size());
            const double spare = 0.5 * std::min(round, 2) * rounding;  // W may have exact margins
            double longer = 0.0;
            bool inequalities = true, equalities = true;
            for (Index r = 0; r < m; ++r) {
                missing[r] = (exact.rhs(r) - values[r]) *
                             (std::ldexp(1.0, exact.exponent(r)) / constraints_.row_norm(r)) * unit_of_scale;
                values[r] = problem_.rhs[r] - missing[r];
                if (problem_.equality[r]) {
                    equalities &= std::abs(missing[r]) <= 2.0 * rounding;
                } else {
                    missing[r] += roundings * rounding;
                    inequalities &= missing[r] <= 0;
                    missing[r] += spare;
                    if (problem_.rhs[r] > 0) longer = std::max(longer, missing[r] / problem_.rhs[r]);
                }
            }
            if (inequalities && (equalities || round == most_rounds)) return true;
            if (round == most_rounds) return false;
            const auto correction = smallest_correction(problem_, team_, progress_, calling_thread_, missing);
            for (Index k = 0; k < problem_.map.coordinates(); ++k)
                V[k] += correction ? (*correction)[k] : longer * V[k];
        }
        return false;
    }
    void leave_unresolved() {
        clear(nan);
        finish(SvmStatus::unresolved, nan, nan, nan, 0);
    }
    void clear(double value) {
        const Index T = svm_.tokens;
        std::fill(result_.dual, result_.dual + svm_.samples * T, 0.0);
        std::fill(result_.left, result_.left + result_.factors * svm_.dimension, value);
        std::fill(result_.right, result_.right + result_.factors * svm_.query_dimension, value);
        for (Index i = 0; i < svm_.samples; ++i)
            for (Index t = 0; t < T; ++t)
                result_.margins[i * T + t] = std::isnan(value) || svm_.has_constraint(i, t) ? value : infinity;
    }
    void finish(SvmStatus status, double norm, double gap, double kkt, Index iterations) {
        *result_.norm = norm;
        *result_.gap = gap;
        *result_.kkt = kkt;
        *result_.status = static_cast<std::int8_t>(status);
        *result_.unique = -1;
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
    double worst_ = infinity;        // gap or residual of what is certified
};

// job(problem, team, calling_thread, place of its values over tokens, result) for each SVM of a batch.
template <class Token, class Job>
void for_each_svm(const SvmBatch<Token>& batch, ThreadPlan plan, Progress& progress, const SvmResultView& result,
                  Job job) {
    parallel_for_each(Team(plan.across), batch.count, progress, [&](Index b, bool calling_thread) {
        job(batch[b], Team(plan.within), calling_thread, b * batch.first.samples * batch.first.tokens,
            batch.at(b, result));
        progress.advance(1.0, calling_thread);
    });
}

}  // namespace attsvm
