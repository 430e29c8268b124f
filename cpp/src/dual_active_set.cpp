#include "attsvm/dual_active_set.hpp"

#include "attsvm/active_set_method.hpp"
#include "attsvm/dense.hpp"

namespace attsvm {

namespace {

using active_set::at, active_set::DualActiveSet, active_set::rotate, active_set::Triangle, active_set::Turn;

// What both forms of the active rows hold.
class ActiveRows {
   public:
    using Number = double;
    static constexpr double hopeless = 1e-13, noise = 1e-13;
    static double rounding(double norm) { return UnitProblem::rounding(norm); }

    ActiveRows(const UnitProblem& problem, const Team& team)
        : map_(problem.map), team_(team), sample_(problem.map.sample_of_rows()) {}
    const Triangle<double>& triangle() const { return triangle_; }
    // The coefficients of the last row that was split, in the orthonormal basis that R stands for
    const std::vector<double>& along() const { return along_; }

   protected:
    const MarginMap& map_;
    Team team_;
    std::vector<Index> sample_;
    Triangle<double> triangle_;
    std::vector<double> along_;
};

// The active rows in an orthogonal factorisation, in the coordinates of W.
class OrthogonalRows : public ActiveRows {
   public:
    static constexpr double dependent = 1e-13;
    static constexpr Index at_once = 1;  // of the violated constraints that are found together

    OrthogonalRows(const UnitProblem& problem, const Team& team)
        : ActiveRows(problem, team),
          problem_(problem),
          width_((map_.coordinates() + native_lanes<double> - 1) / native_lanes<double> * native_lanes<double>),
          w_(width_),
          Y_(map_.samples * map_.dimension),
          y_(map_.dimension),
          row_(width_),
          outside_(width_),
          again_(width_) {}

    Buffer<double>& w() { return w_; }
    double norm() const { return attsvm::norm(w_.data(), w_.size()); }
    // A(w), and one of its values
    void evaluate(const std::vector<Index>&, const double*, double* values) {
        map_.directions(team_, w_.data(), Y_.data());
        map_.margins(team_, Y_.data(), values);
    }
    double value(Index r, const std::vector<Index>&, const double*, double) {
        map_.direction(w_.data(), at(sample_, r), y_.data());
        return map_.margin(r, y_.data());
    }

    // Splits row r in what is along the active rows and what is outside their span; the length of that.
    double split(Index r) {
        const Index d = map_.dimension;
        const double* const l = map_.query(at(sample_, r));
        const double* const difference = map_.row(r);
        for (Index c = 0; c < map_.query_dimension; ++c)
            for (Index j = 0; j < d; ++j) row_[c * d + j] = l[c] * difference[j];
        along_.assign(static_cast<std::size_t>(triangle_.count()), 0.0);
        subtract_projection(row_, outside_);
        double distance = attsvm::norm(outside_.data(), width_);
        if (triangle_.count() > 0 && distance < 0.7) {  // as close to the span as this, once is not enough
            std::swap(outside_, again_);
            subtract_projection(again_, outside_);
            distance = attsvm::norm(outside_.data(), width_);
        }
        return distance;
    }
    double split_again(Index r) { return split(r); }
    void step_outside(double step) {
        for (Index c = 0; c < w_.size(); ++c) w_[c] += step * outside_[c];
    }
    void append(Index, double distance) {
        const Index count = triangle_.count();
        triangle_.append(along_, distance);
        basis_.resize(basis_.size() + static_cast<std::size_t>(width_));
        for (Index c = 0; c < width_; ++c) basis(count)[c] = outside_[c] / distance;
    }
    bool append_at_once(const std::vector<Index>&) { return false; }
    void remove(Index position) {
        triangle_.remove(position, [&](Index k, const Turn<double>& turn) {
            double* const upper = basis(k);
            double* const lower = basis(k + 1);
            for (Index c = 0; c < width_; ++c) rotate(upper[c], lower[c], turn);
        });
        basis_.resize(static_cast<std::size_t>(triangle_.count() * width_));
    }
    void clear() {
        triangle_ = {};
        basis_.clear();
    }

    // w with equality on the active rows, and its multipliers
    void solve(const std::vector<Index>& active, std::vector<double>& multipliers, double* dual, double* values) {
        std::fill(w_.data(), w_.data() + w_.size(), 0.0);
        std::fill(values, values + problem_.size(), 0.0);
        for (int pass = 0; pass < 2; ++pass) {
            if (pass > 0) evaluate(active, dual, values);
            multipliers.resize(active.size());
            for (Index k = 0; k < triangle_.count(); ++k)
                at(multipliers, k) = problem_.rhs[at(active, k)] - values[at(active, k)];
            triangle_.solve_transposed(multipliers);
            rows_combine(basis_.data(), triangle_.count(), w_.size(), multipliers.data(), row_.data());
            for (Index c = 0; c < w_.size(); ++c) w_[c] += row_[c];
        }
        rows_dot(basis_.data(), triangle_.count(), w_.size(), w_.data(), multipliers.data());
        triangle_.solve(multipliers);
        // what their sum lacks of w
        std::fill(dual, dual + problem_.size(), 0.0);
        for (Index k = 0; k < triangle_.count(); ++k) dual[at(active, k)] = at(multipliers, k);
        map_.token_sums(team_, dual, Y_.data());
        map_.from_sums(team_, Y_.data(), row_.data());
        for (Index c = 0; c < w_.size(); ++c) row_[c] = w_[c] - row_[c];
        std::vector<double> lacking(active.size());
        rows_dot(basis_.data(), triangle_.count(), row_.size(), row_.data(), lacking.data());
        triangle_.solve(lacking);
        for (Index k = 0; k < triangle_.count(); ++k) at(multipliers, k) += at(lacking, k);
    }

   private:
    double* basis(Index k) { return basis_.data() + k * width_; }
    void subtract_projection(const Buffer<double>& from, Buffer<double>& rest) {
        part_.resize(along_.size());
        rows_dot(basis_.data(), triangle_.count(), from.size(), from.data(), part_.data());
        rows_combine(basis_.data(), triangle_.count(), from.size(), part_.data(), rest.data());
        for (Index c = 0; c < from.size(); ++c) rest[c] = from[c] - rest[c];
        for (std::size_t k = 0; k < part_.size(); ++k) along_[k] += part_[k];
    }

    const UnitProblem& problem_;
    Index width_;  // of w and the rows of the basis: their coordinates, and zeros up to whole registers
    Buffer<double> w_, Y_, y_, row_, outside_, again_;
    std::vector<double> basis_, part_;
};

// The active rows by their Gram matrix alone: w is the sum that the multipliers make, which is far less work. A row
// whose distance from the span of the active ones is near the square root of rounding counts as dependent.
class GramRows : public ActiveRows {
   public:
    static constexpr double dependent = 1e-6, least_pivot = 1e-11;
    static constexpr Index at_once = 8;

    GramRows(const UnitProblem& problem, const Team& team)
        : ActiveRows(problem, team),
          problem_(problem),
          P_(map_.samples * map_.dimension),
          V_(map_.coordinates()),
          settled_(map_.coordinates()),
          Y_(map_.samples * map_.dimension),
          queries_(map_.samples) {}

    // V of w as it was settled last
    Buffer<double>& w() { return settled_; }
    double norm() const { return attsvm::norm(V_.data(), V_.size()); }
    void evaluate(const std::vector<Index>& active, const double* dual, double* values) {
        add_up(active, dual);
        margins(values);
    }
    // A_r(w) of the row that was split last, with the multiplier that it has gained
    double value(Index, const std::vector<Index>& active, const double* dual, double gained) {
        return gained * square_ +
               sum<double>(triangle_.count(), [&](Index k) { return dual[at(active, k)] * at(products_of_row_, k); });
    }

    double split(Index r) {
        const Index i = at(sample_, r), count = triangle_.count(), d = map_.dimension;
        rows_dot(map_.L, map_.samples, map_.query_dimension, map_.query(i), queries_.data());
        products_of_row_.resize(static_cast<std::size_t>(count));
        rows_dot(D_.data(), count, d, map_.row(r), products_of_row_.data());
        for (Index k = 0; k < count; ++k) at(products_of_row_, k) *= queries_[at(samples_, k)];
        square_ = map_.margin(r, map_.row(r)) * queries_[i];
        along_ = products_of_row_;
        triangle_.solve_transposed(along_);
        square_outside_ = square_ - sum<double>(count, [&](Index k) { return at(along_, k) * at(along_, k); });
        return std::sqrt(std::max(square_outside_, 0.0));
    }
    double split_again(Index) { return std::sqrt(std::max(square_outside_, 0.0)); }
    void step_outside(double) {}
    void append(Index r, double distance) {
        triangle_.append(along_, distance);
        D_.insert(D_.end(), map_.row(r), map_.row(r) + map_.dimension);
        samples_.push_back(at(sample_, r));
    }
    bool append_at_once(const std::vector<Index>& rows) {
        constexpr Index enough = 64;
        const Index count = std::ssize(rows), d = map_.dimension, e = map_.query_dimension;
        if (count < enough) return false;
        Matrix D(d, count), queries(e, count);
        for (Index k = 0; k < count; ++k) {
            std::copy_n(map_.row(at(rows, k)), d, D.col(k).data());
            std::copy_n(map_.query(at(sample_, at(rows, k))), e, queries.col(k).data());
        }
        const Cholesky factor(transpose_times(D, D).cwiseProduct(transpose_times(queries, queries)));
        if (!factor.succeeded() || !(factor.smallest_pivot() > least_pivot)) return false;
        std::vector<double> along(rows.size());
        for (Index k = 0; k < count; ++k) {
            for (Index j = 0; j < k; ++j) at(along, j) = factor.factor()(k, j);
            triangle_.append(along.data(), factor.factor()(k, k));
            samples_.push_back(at(sample_, at(rows, k)));
        }
        D_.assign(D.data(), D.data() + D.size());
        along_.clear();
        return true;
    }
    void remove(Index position) {
        const Index d = map_.dimension;
        const bool is_split = along_.size() == samples_.size();
        triangle_.remove(position, [&](Index k, const Turn<double>& turn) {
            if (is_split) rotate(at(along_, k), at(along_, k + 1), turn);
        });
        if (is_split) {
            square_outside_ += along_.back() * along_.back();
            along_.pop_back();
            products_of_row_.erase(products_of_row_.begin() + position);
        }
        D_.erase(D_.begin() + position * d, D_.begin() + (position + 1) * d);
        samples_.erase(samples_.begin() + position);
    }
    void clear() {
        triangle_ = {};
        D_.clear();
        samples_.clear();
    }

    // The multipliers with which the active rows hold with equality. w is added up from their corrections, which are
    // far smaller than they are, so that it is rounded less than their sum.
    void solve(const std::vector<Index>& active, std::vector<double>& multipliers, double* dual, double* values) {
        constexpr int passes = 3;
        std::vector<double> missing(active.size());
        multipliers.assign(active.size(), 0.0);
        std::fill(values, values + problem_.size(), 0.0);
        std::fill(settled_.data(), settled_.data() + settled_.size(), 0.0);
        for (int pass = 0; pass < passes; ++pass) {
            for (Index k = 0; k < triangle_.count(); ++k)
                at(missing, k) = problem_.rhs[at(active, k)] - values[at(active, k)];
            triangle_.solve_transposed(missing);
            triangle_.solve(missing);
            for (Index k = 0; k < triangle_.count(); ++k) {
                at(multipliers, k) += at(missing, k);
                dual[at(active, k)] = at(missing, k);
            }
            add_up(active, dual);
            for (Index c = 0; c < V_.size(); ++c) V_[c] = settled_[c] += V_[c];
            if (pass + 1 < passes) margins(values);
        }
    }

   private:
    // w of the multipliers
    void add_up(const std::vector<Index>& active, const double* dual) {
        const Index d = map_.dimension;
        std::fill(P_.data(), P_.data() + P_.size(), 0.0);
        for (Index k = 0; k < triangle_.count(); ++k) {
            const double multiplier = dual[at(active, k)];
            const double* const row = D_.data() + k * d;
            double* const sum = P_.data() + at(samples_, k) * d;
            for (Index j = 0; j < d; ++j) sum[j] += multiplier * row[j];
        }
        map_.from_sums(team_, P_.data(), V_.data());
    }
    void margins(double* values) {
        map_.directions(team_, V_.data(), Y_.data());
        map_.margins(team_, Y_.data(), values);
    }

    const UnitProblem& problem_;
    Buffer<double> P_, V_, settled_, Y_, queries_;
    std::vector<double> D_, products_of_row_;
    std::vector<Index> samples_;
    double square_ = 0.0, square_outside_ = 0.0;
};

}  // namespace

ActiveSetResult dual_active_set(const UnitProblem& problem, const Team& team, Progress& progress, bool calling_thread,
                                const double* start, double* dual) {
    DualActiveSet<OrthogonalRows> method(problem, progress, calling_thread, {problem, team});
    const bool ended = method.run(start, dual, 10 * (problem.size() + problem.map.coordinates()) + 100);
    return {ended, method.steps(), std::move(method.w())};
}

ActiveSetResult dual_active_set_by_gram(const UnitProblem& problem, const Team& team, Progress& progress,
                                        bool calling_thread, const double* start, double* dual) {
    DualActiveSet<GramRows> method(problem, progress, calling_thread, {problem, team});
    const bool ended = method.run(start, dual, 3 * std::min(problem.size(), problem.map.coordinates()) + 100);
    return {ended, method.steps(), std::move(method.w())};
}

ActiveSetResult finish_on_active_set(const UnitProblem& problem, const Team& team, Progress& progress,
                                     bool calling_thread, const double* start, double* dual) {
    DualActiveSet<OrthogonalRows> method(problem, progress, calling_thread, {problem, team});
    const bool ended = method.finish(start, dual);
    return {ended, method.steps(), std::move(method.w())};
}

std::optional<Buffer<double>> smallest_correction(const UnitProblem& problem, const Team& team, Progress& progress,
                                                  bool calling_thread, const Buffer<double>& missing) {
    constexpr double accuracy = 1e-6, most_numbers = 1.5e8;
    const Index m = problem.size(), coordinates = problem.map.coordinates();
    if (static_cast<double>(std::min(m, coordinates)) * static_cast<double>(coordinates) > most_numbers) return {};
    Buffer<double> rhs(m), dual(m), values(m);
    double largest = 0.0;
    for (Index r = 0; r < m; ++r) largest = std::max(largest, problem.equality[r] ? std::abs(missing[r]) : missing[r]);
    for (Index r = 0; r < m; ++r) rhs[r] = largest > 0 ? missing[r] / largest : 0.0;
    const UnitProblem unit{problem.map, rhs.data(), problem.equality};
    ActiveSetResult found = dual_active_set(unit, team, progress, calling_thread, nullptr, dual.data());
    MarginProducts products(team, problem.map);
    std::copy(found.w.data(), found.w.data() + products.V().size(), products.V().data());
    products.margins(values.data());
    for (Index r = 0; r < m; ++r)
        if (!(unit.violation(r, values[r]) <= accuracy)) return {};
    for (Index k = 0; k < products.V().size(); ++k) products.V()[k] *= largest;
    return std::move(products.V());
}

}  // namespace attsvm
