// Compiled without contraction of products and sums (CMakeLists.txt), on which numbers of four times the precision
// rely.
#include "attsvm/exact_active_set.hpp"

#include "attsvm/active_set_method.hpp"
#include "attsvm/four_doubles.hpp"

namespace attsvm {

namespace {

using active_set::at, active_set::DualActiveSet, active_set::Triangle, active_set::Turn;

// The active rows in an orthogonal factorisation.
class ExactRows {
   public:
    using Number = FourDoubles;
    static constexpr double dependent = 1e-57, noise = 1e-57;
    static constexpr double hopeless = 1e-45;  // far below what a proof of infeasibility takes
    static constexpr Index at_once = 1;        // of the violated constraints that are found together
    static Number rounding(const Number& norm) { return 64.0 * std::numeric_limits<Number>::epsilon() * (1.0 + norm); }

    ExactRows(const UnitProblem& problem, Buffer<FourDoubles> rows, Index width)
        : problem_(problem), width_(width), rows_(std::move(rows)), w_(width), outside_(width) {}

    const Triangle<FourDoubles>& triangle() const { return triangle_; }
    // The coefficients of the last row that was split, in the basis
    const std::vector<FourDoubles>& along() const { return along_; }
    Buffer<FourDoubles>& w() { return w_; }
    FourDoubles norm() const { return sqrt(dot(w_.data(), w_.data())); }
    // A(w), and one of its values
    void evaluate(const std::vector<Index>&, const FourDoubles*, FourDoubles* values) {
        for (Index r = 0; r < problem_.size(); ++r) values[r] = dot(row(r), w_.data());
    }
    FourDoubles value(Index r, const std::vector<Index>&, const FourDoubles*, const FourDoubles&) {
        return dot(row(r), w_.data());
    }

    // Splits row r in what is along the active rows and what is outside their span; the length of that.
    FourDoubles split(Index r) {
        constexpr int passes = 2;
        std::copy(row(r), row(r) + width_, outside_.data());
        along_.assign(static_cast<std::size_t>(triangle_.count()), 0.0);
        for (int pass = 0; pass < passes; ++pass)
            for (Index k = 0; k < triangle_.count(); ++k) {
                const FourDoubles part = dot(basis(k), outside_.data());
                add(outside_, -part, basis(k));
                at(along_, k) += part;
            }
        return sqrt(dot(outside_.data(), outside_.data()));
    }
    FourDoubles split_again(Index r) { return split(r); }
    void step_outside(const FourDoubles& step) { add(w_, step, outside_.data()); }
    void append(Index, const FourDoubles& distance) {
        triangle_.append(along_, distance);
        for (Index c = 0; c < width_; ++c) basis_.push_back(outside_[c] / distance);
    }
    bool append_at_once(const std::vector<Index>&) { return false; }
    void remove(Index position) {
        triangle_.remove(position, [&](Index k, const Turn<FourDoubles>& turn) {
            for (Index c = 0; c < width_; ++c) rotate(basis(k)[c], basis(k + 1)[c], turn);
        });
        basis_.resize(static_cast<std::size_t>(triangle_.count() * width_));
    }
    void clear() {
        triangle_ = {};
        basis_.clear();
    }

    // w with equality on the active rows, and its multipliers; in a second pass, of what the first has left of both
    void solve(const std::vector<Index>& active, std::vector<FourDoubles>& multipliers, FourDoubles*, FourDoubles*) {
        constexpr int passes = 2;
        std::fill(w_.data(), w_.data() + width_, 0.0);
        multipliers.assign(active.size(), 0.0);
        std::vector<FourDoubles> x(active.size());
        for (int pass = 0; pass < passes; ++pass) {
            for (Index k = 0; k < triangle_.count(); ++k)
                at(x, k) = problem_.rhs[at(active, k)] - dot(row(at(active, k)), w_.data());
            triangle_.solve_transposed(x);
            for (Index k = 0; k < triangle_.count(); ++k) add(w_, at(x, k), basis(k));
        }
        for (int pass = 0; pass < passes; ++pass) {
            std::copy(w_.data(), w_.data() + width_, outside_.data());
            for (Index k = 0; k < triangle_.count(); ++k) add(outside_, -at(multipliers, k), row(at(active, k)));
            for (Index k = 0; k < triangle_.count(); ++k) at(x, k) = dot(basis(k), outside_.data());
            triangle_.solve(x);
            for (Index k = 0; k < triangle_.count(); ++k) at(multipliers, k) += at(x, k);
        }
    }

   private:
    FourDoubles* basis(Index k) { return basis_.data() + k * width_; }
    const FourDoubles* row(Index r) const { return rows_.data() + r * width_; }
    FourDoubles dot(const FourDoubles* x, const FourDoubles* y) const {
        return sum<FourDoubles>(width_, [&](Index c) { return x[c] * y[c]; });
    }
    void add(Buffer<FourDoubles>& to, const FourDoubles& multiple, const FourDoubles* x) const {
        for (Index c = 0; c < width_; ++c) to[c] += multiple * x[c];
    }

    const UnitProblem& problem_;
    Index width_;
    Buffer<FourDoubles> rows_, w_, outside_;
    Triangle<FourDoubles> triangle_;
    std::vector<FourDoubles> along_, basis_;
};

}  // namespace

template <class Token>
std::optional<ExactActiveSetResult> exact_active_set(const SvmProblem<Token>& svm, const UnitProblem& problem,
                                                     const ExactConstraints<Token>& exact, const double* start,
                                                     Progress& progress, bool calling_thread) {
    constexpr double most_products = 2e7;
    const Index m = problem.size(), width = svm.dimension * svm.query_dimension;
    const auto rows_in_numbers = static_cast<double>(m), numbers = rows_in_numbers * static_cast<double>(width);
    if (numbers * std::min(rows_in_numbers, static_cast<double>(width)) > most_products) return {};
    Buffer<FourDoubles> rows(m * width), dual(m);
    Buffer<double> rhs(m);
    for (Index r = 0; r < m; ++r) {
        rhs[r] = exact.rhs(r);
        exact.row(r, rows.data() + r * width);
    }
    const UnitProblem of_given{problem.map, rhs.data(), problem.equality};
    DualActiveSet<ExactRows> method(of_given, progress, calling_thread, {of_given, std::move(rows), width});
    if (!method.run(start, dual.data(), 10 * (m + width) + 100)) return {};
    return ExactActiveSetResult{1 + method.steps(), in_parts(method.w()), in_parts(dual)};
}

template std::optional<ExactActiveSetResult> exact_active_set(const SvmProblem<double>&, const UnitProblem&,
                                                              const ExactConstraints<double>&, const double*, Progress&,
                                                              bool);
template std::optional<ExactActiveSetResult> exact_active_set(const SvmProblem<float>&, const UnitProblem&,
                                                              const ExactConstraints<float>&, const double*, Progress&,
                                                              bool);

}  // namespace attsvm
