#include "attsvm/dual_active_set.hpp"

#include <algorithm>
#include <optional>
#include <vector>

namespace attsvm {

namespace {

template <class T>
auto& at(T& values, Index k) {
    return values[static_cast<std::size_t>(k)];
}

struct Turn {
    double cosine, sine;
};
void rotate(double& upper, double& lower, Turn turn) {
    const double a = upper, b = lower;
    upper = turn.cosine * a + turn.sine * b;
    lower = turn.cosine * b - turn.sine * a;
}

// R with R'R the Gram matrix of the active rows, in packed columns.
class Triangle {
   public:
    Index count() const { return count_; }

    // x := R⁻¹ x
    void solve(std::vector<double>& x) const {
        for (Index k = count_ - 1; k >= 0; --k) {
            const double* const R = column(k);
            double* const top = x.data();
            const double solved = top[k] / R[k];
            top[k] = solved;
            for (Index j = 0; j < k; ++j) top[j] -= solved * R[j];
        }
    }
    // x := R'⁻¹ x
    void solve_transposed(std::vector<double>& x) const {
        for (Index k = 0; k < count_; ++k) {
            const double* const R = column(k);
            double* const top = x.data();
            top[k] = (top[k] - sum<double>(k, [&](Index j) { return R[j] * top[j]; })) / R[k];
        }
    }
    void append(const std::vector<double>& along, double distance) {
        entries_.insert(entries_.end(), along.begin(), along.end());
        entries_.push_back(distance);
        ++count_;
    }
    // Without its column the triangle has one entry too many in every later column. Rotations of neighbouring rows, one
    // for each of these columns, take them away: turned(k, turn) for those of rows k and k + 1.
    template <class Turned>
    void remove(Index position, Turned turned) {
        --count_;
        for (Index k = position; k < count_; ++k) {
            const double* const next = column(k + 1);
            spare_.assign(next, next + k + 2);
            for (Index j = position; j < k; ++j) rotate(at(spare_, j), at(spare_, j + 1), at(turns_, j - position));
            const double a = at(spare_, k), b = at(spare_, k + 1);
            const double length = std::hypot(a, b);
            const Turn turn = length > 0 ? Turn{a / length, b / length} : Turn{1.0, 0.0};
            turns_.resize(static_cast<std::size_t>(k - position));
            turns_.push_back(turn);
            std::copy(spare_.begin(), spare_.begin() + k, column(k));
            column(k)[k] = length;
            turned(k, turn);
        }
        entries_.resize(static_cast<std::size_t>(count_ * (count_ + 1) / 2));
    }

   private:
    double* column(Index k) { return entries_.data() + k * (k + 1) / 2; }
    const double* column(Index k) const { return entries_.data() + k * (k + 1) / 2; }

    Index count_ = 0;
    std::vector<double> entries_, spare_;
    std::vector<Turn> turns_;
};

// What both forms of the active rows hold.
class ActiveRows {
   public:
    ActiveRows(const UnitProblem& problem, const Team& team) : map_(problem.map), team_(team), sample_(problem.size()) {
        for (Index i = 0; i < map_.samples; ++i)
            std::fill(sample_.data() + map_.start[i], sample_.data() + map_.start[i + 1], i);
    }
    const Triangle& triangle() const { return triangle_; }
    // The coefficients of the last row that was split, in the orthonormal basis that R stands for
    const std::vector<double>& along() const { return along_; }

   protected:
    const MarginMap& map_;
    Team team_;
    Buffer<Index> sample_;
    Triangle triangle_;
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
        map_.direction(w_.data(), sample_[r], y_.data());
        return map_.margin(r, y_.data());
    }

    // Splits row r in what is along the active rows and what is outside their span; the length of that.
    double split(Index r) {
        const Index d = map_.dimension;
        const double* const l = map_.query(sample_[r]);
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
    void remove(Index position) {
        triangle_.remove(position, [&](Index k, Turn turn) {
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
    static constexpr double dependent = 1e-6;
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
        const Index i = sample_[r], count = triangle_.count(), d = map_.dimension;
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
        samples_.push_back(sample_[r]);
    }
    void remove(Index position) {
        const Index d = map_.dimension;
        const bool is_split = along_.size() == samples_.size();
        triangle_.remove(position, [&](Index k, Turn turn) {
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

template <class Rows>
class DualActiveSet {
   public:
    DualActiveSet(const UnitProblem& problem, const Team& team, Progress& progress, bool calling_thread)
        : problem_(problem),
          progress_(progress),
          calling_thread_(calling_thread),
          rows_(problem, team),
          is_active_(problem.size()),
          value_(problem.size()) {}

    // The multipliers of the solution, or of a proof that there is none; none of it is checked here. False when
    // rounding keeps the method from ending.
    bool run(const double* start, double* dual, Index most_steps) {
        if (!enter_equalities(dual)) return !interrupted();
        if (start != nullptr && !start_from(start)) return false;
        bool settled = false;
        while (steps_ < most_steps) {
            if (interrupted()) return false;
            find_violated();
            if (is_hopeless()) return true;
            if (violated_.empty()) {
                if (settled) return true;
                settle();
            }
            settled = violated_.empty();
            // The first as it is, the others where those before have left most of what they miss.
            for (const Index r : violated_) {
                ++steps_;
                const double missing = problem_.rhs[r] - value_[r];
                if (!enter(r, r == violated_.front() ? -infinity : 0.5 * missing)) return true;
            }
        }
        return false;
    }
    // The solution on the equalities and the constraints with a multiplier in `start`; false if interrupted.
    bool finish(const double* start, double* dual) { return enter_equalities(dual) && start_from(start); }
    Index steps() const { return steps_; }

    // V of the last w
    Buffer<double>& w() { return rows_.w(); }

   private:
    static constexpr double hopeless = 1e-13, noise = 1e-13, infinity = std::numeric_limits<double>::infinity();

    Index count() const { return std::ssize(active_); }
    bool interrupted() {
        if (calling_thread_) progress_.ask();
        return progress_.stopped();
    }

    // The inactive inequalities that w violates most, beyond rounding, the worst first.
    void find_violated() {
        rows_.evaluate(active_, dual_, value_.data());
        const double least = UnitProblem::rounding(rows_.norm());
        violated_.clear();
        const auto missing = [&](Index r) { return problem_.rhs[r] - value_[r]; };
        for (Index r = 0; r < problem_.size(); ++r)
            if (missing(r) > least && !is_active_[r] && !problem_.equality[r]) violated_.push_back(r);
        const auto kept = violated_.begin() + std::min(Rows::at_once, std::ssize(violated_));
        std::partial_sort(violated_.begin(), kept, violated_.end(), [&](Index r, Index s) {
            return missing(r) > missing(s) || (missing(r) == missing(s) && r < s);
        });
        violated_.erase(kept, violated_.end());
    }
    bool is_rounding(double missing) {
        rows_.evaluate(active_, dual_, value_.data());
        return std::abs(missing) <= UnitProblem::rounding(rows_.norm());
    }

    // Makes constraint r active where it misses `least`; false, with multipliers that prove it, if it contradicts the
    // others.
    bool enter(Index r, double least) {
        double gained = 0.0;
        double distance = rows_.split(r);
        if (problem_.rhs[r] - rows_.value(r, active_, dual_, gained) < least) return true;
        for (;;) {
            double size = 0.0, largest = 0.0;
            combine();
            for (const double c : combination_) size += std::abs(c), largest = std::max(largest, std::abs(c));
            const double missing = problem_.rhs[r] - rows_.value(r, active_, dual_, gained);
            std::optional<double> full_step;
            if (distance > Rows::dependent * (1.0 + size))
                full_step = missing / (distance * distance);
            else if (problem_.equality[r] && is_rounding(missing))
                return true;

            // the active inequality whose multiplier is the first to reach zero
            Index blocking = -1;
            double blocked_step = 0.0;
            for (Index k = 0; k < count(); ++k) {
                const double falling = at(combination_, k);
                const Index s = at(active_, k);
                if (falling <= noise * (1.0 + largest) || problem_.equality[s]) continue;
                const double step = dual_[s] / falling;
                if (blocking < 0 || step < blocked_step) blocking = k, blocked_step = step;
            }
            const bool blocked = blocking >= 0 && (!full_step || blocked_step < *full_step);
            if (!blocked && !full_step) {
                prove_contradiction(r, missing > 0 ? 1.0 : -1.0);
                return false;
            }
            const double step = blocked ? blocked_step : *full_step;
            for (Index k = 0; k < count(); ++k) dual_[at(active_, k)] -= step * at(combination_, k);
            gained += step;
            if (full_step) rows_.step_outside(step);
            if (!blocked) {
                dual_[r] = gained;
                append(r, distance);
                return true;
            }
            remove(blocking);
            distance = rows_.split_again(r);
        }
    }
    // The row that was split last as a combination of the active ones, nearly
    void combine() {
        combination_ = rows_.along();
        rows_.triangle().solve(combination_);
    }

    // False if they contradict each other, with multipliers that prove it, or if interrupted.
    bool enter_equalities(double* dual) {
        dual_ = dual;
        std::fill(dual, dual + problem_.size(), 0.0);
        for (Index r = 0; r < problem_.size(); ++r) {
            if (!problem_.equality[r]) continue;
            if (interrupted() || !enter(r, -infinity)) return false;
        }
        return true;
    }

    // Makes those of the constraints active that have a multiplier and are independent; false if interrupted.
    bool start_from(const double* multipliers) {
        for (Index r = 0; r < problem_.size(); ++r) {
            if (problem_.equality[r] || !(multipliers[r] > 0)) continue;
            if (interrupted()) return false;
            append_independent(r);
        }
        settle();
        return true;
    }
    void append_independent(Index r) {
        const double distance = rows_.split(r);
        combine();
        double size = 0.0;
        for (const double c : combination_) size += std::abs(c);
        if (distance > Rows::dependent * (1.0 + size)) append(r, distance);
    }

    void append(Index r, double distance) {
        rows_.append(r, distance);
        active_.push_back(r);
        is_active_[r] = true;
    }
    void remove(Index position) {
        const Index r = at(active_, position);
        turned_ = true;
        dual_[r] = 0.0;
        is_active_[r] = false;
        active_.erase(active_.begin() + position);
        rows_.remove(position);
    }

    // w and the multipliers from the active rows alone, without the history of how they came together.
    void settle() {
        for (bool again = true; again;) {
            again = false;
            if (turned_) rebuild();
            rows_.solve(active_, combination_, dual_, value_.data());
            std::vector<Index> kept;
            for (Index k = 0; k < count(); ++k) {
                const Index r = at(active_, k);
                const bool keep = at(combination_, k) >= 0 || problem_.equality[r];
                dual_[r] = keep ? at(combination_, k) : 0.0;
                is_active_[r] = keep;
                if (keep) kept.push_back(r);
            }
            if (kept.size() < active_.size()) {
                active_.swap(kept);
                turned_ = again = true;
            }
        }
    }
    // The factorisation anew, without the rotations that it has been through.
    void rebuild() {
        const std::vector<Index> rows(std::move(active_));
        active_.clear();
        rows_.clear();
        for (const Index r : rows) {
            if (interrupted()) return;
            append(r, rows_.split(r));
        }
        turned_ = false;
    }

    // Multipliers of a combination of active constraints that r contradicts.
    void prove_contradiction(Index r, double sign) {
        std::fill(dual_, dual_ + problem_.size(), 0.0);
        dual_[r] = sign;
        for (Index k = 0; k < count(); ++k) dual_[at(active_, k)] = -sign * at(combination_, k);
        for (Index s = 0; s < problem_.size(); ++s)
            if (!problem_.equality[s]) dual_[s] = std::max(dual_[s], 0.0);
    }

    // Whether the multipliers already prove that w would have to be beyond reach.
    bool is_hopeless() const {
        double weight = 0.0;
        for (const Index r : active_)
            if (problem_.rhs[r] != 0) weight += std::abs(dual_[r]);
        return rows_.norm() < hopeless * weight;
    }

    const UnitProblem& problem_;
    Progress& progress_;
    bool calling_thread_;
    Rows rows_;
    double* dual_ = nullptr;
    Buffer<bool> is_active_;
    Buffer<double> value_;
    std::vector<Index> active_, violated_;
    std::vector<double> combination_;
    bool turned_ = false;
    Index steps_ = 0;
};

}  // namespace

ActiveSetResult dual_active_set(const UnitProblem& problem, const Team& team, Progress& progress, bool calling_thread,
                                const double* start, double* dual) {
    DualActiveSet<OrthogonalRows> method(problem, team, progress, calling_thread);
    const bool ended = method.run(start, dual, 10 * (problem.size() + problem.map.coordinates()) + 100);
    return {ended, method.steps(), std::move(method.w())};
}

ActiveSetResult dual_active_set_by_gram(const UnitProblem& problem, const Team& team, Progress& progress,
                                        bool calling_thread, double* dual) {
    DualActiveSet<GramRows> method(problem, team, progress, calling_thread);
    const bool ended = method.run(nullptr, dual, 3 * std::min(problem.size(), problem.map.coordinates()) + 100);
    return {ended, method.steps(), std::move(method.w())};
}

ActiveSetResult finish_on_active_set(const UnitProblem& problem, const Team& team, Progress& progress,
                                     bool calling_thread, const double* start, double* dual) {
    DualActiveSet<OrthogonalRows> method(problem, team, progress, calling_thread);
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
