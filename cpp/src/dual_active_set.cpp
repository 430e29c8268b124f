#include "attsvm/dual_active_set.hpp"

#include <algorithm>
#include <optional>
#include <vector>

namespace attsvm {

namespace {

class DualActiveSet {
   public:
    DualActiveSet(const UnitProblem& problem, const Team& team, Progress& progress, bool calling_thread)
        : problem_(problem),
          map_(problem.map),
          team_(team),
          progress_(progress),
          calling_thread_(calling_thread),
          width_((map_.coordinates() + native_lanes<double> - 1) / native_lanes<double> * native_lanes<double>),
          is_active_(problem.size()),
          value_(problem.size()),
          w_(width_),
          Y_(map_.samples * map_.dimension),
          y_(map_.dimension),
          row_(width_),
          outside_(width_),
          again_(width_),
          sample_(problem.size()) {
        for (Index i = 0; i < map_.samples; ++i)
            std::fill(sample_.data() + map_.start[i], sample_.data() + map_.start[i + 1], i);
    }

    // The multipliers of the solution, or of a proof that there is none; none of it is checked here. False when
    // rounding keeps the method from ending.
    bool run(const double* start, double* dual) {
        if (!enter_equalities(dual)) return !interrupted();
        if (start != nullptr && !start_from(start)) return false;
        bool settled = false;
        const Index most_steps = 10 * (problem_.size() + map_.coordinates()) + 100;
        for (steps_ = 0; steps_ < most_steps; ++steps_) {
            if (interrupted()) return false;
            const Index r = most_violated();
            if (r >= 0) {
                settled = false;
                if (!enter(r)) return true;
            } else if (settled) {
                return true;
            } else {
                settle();
                settled = true;
            }
        }
        return false;
    }
    // The solution on the equalities and the constraints with a multiplier in `start`; false if interrupted.
    bool finish(const double* start, double* dual) { return enter_equalities(dual) && start_from(start); }
    Index steps() const { return steps_; }

    // V of the last w, which is more exact than the sum that its multipliers make.
    Buffer<double>& w() { return w_; }

   private:
    static constexpr double dependent = 1e-13;
    static constexpr double hopeless = 1e-13;

    struct Turn {
        double cosine, sine;
    };
    static void rotate(double& upper, double& lower, Turn turn) {
        const double a = upper, b = lower;
        upper = turn.cosine * a + turn.sine * b;
        lower = turn.cosine * b - turn.sine * a;
    }
    template <class T>
    static auto& at(T& values, Index k) {
        return values[static_cast<std::size_t>(k)];
    }

    Index count() const { return std::ssize(active_); }
    double* basis(Index k) { return basis_.data() + k * width_; }
    double* column(Index k) { return triangle_.data() + k * (k + 1) / 2; }
    bool interrupted() {
        if (calling_thread_) progress_.ask();
        return progress_.stopped();
    }
    double w_norm() const { return norm(w_.data(), w_.size()); }

    // A(w)
    void evaluate() {
        map_.directions(team_, w_.data(), Y_.data());
        map_.margins(team_, Y_.data(), value_.data());
    }
    // The inactive inequality that w violates most, beyond rounding; -1 if there is none.
    Index most_violated() {
        evaluate();
        double largest = UnitProblem::rounding(w_norm());
        Index found = -1;
        for (Index r = 0; r < problem_.size(); ++r) {
            const double missing = problem_.rhs[r] - value_[r];
            if (missing > largest && !is_active_[r] && !problem_.equality[r]) largest = missing, found = r;
        }
        return found;
    }

    // A_r(w) of one constraint
    double value(Index r) {
        map_.direction(w_.data(), sample_[r], y_.data());
        return map_.margin(r, y_.data());
    }

    // Makes constraint r active; false, with multipliers that prove it, if it contradicts the others.
    bool enter(Index r) {
        double gained = 0.0;
        for (;;) {
            const double distance = split(r);
            combination_ = along_;
            solve_triangle(combination_);
            double size = 0.0, largest = 0.0;
            for (const double c : combination_) size += std::abs(c), largest = std::max(largest, std::abs(c));
            const double missing = problem_.rhs[r] - value(r);
            std::optional<double> full_step;
            if (distance > dependent * (1.0 + size))
                full_step = missing / (distance * distance);
            else if (problem_.equality[r] && std::abs(missing) <= UnitProblem::rounding(w_norm()))
                return true;

            // the active inequality whose multiplier is the first to reach zero
            const double noise = dependent * (1.0 + largest);
            Index blocking = -1;
            double blocked_step = 0.0;
            for (Index k = 0; k < count(); ++k) {
                const double falling = at(combination_, k);
                const Index s = at(active_, k);
                if (falling <= noise || problem_.equality[s]) continue;
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
            if (full_step)
                for (Index c = 0; c < w_.size(); ++c) w_[c] += step * outside_[c];
            if (!blocked) {
                dual_[r] = gained;
                append(r, distance);
                return !is_hopeless();
            }
            remove(blocking);
        }
    }

    // False if they contradict each other, with multipliers that prove it, or if interrupted.
    bool enter_equalities(double* dual) {
        dual_ = dual;
        std::fill(dual, dual + problem_.size(), 0.0);
        for (Index r = 0; r < problem_.size(); ++r) {
            if (!problem_.equality[r]) continue;
            if (interrupted() || !enter(r)) return false;
        }
        return true;
    }

    // Makes those of the constraints active that have a multiplier and are independent; false if interrupted.
    bool start_from(const double* multipliers) {
        for (Index r = 0; r < problem_.size(); ++r) {
            if (problem_.equality[r] || !(multipliers[r] > 0)) continue;
            if (interrupted()) return false;
            const double distance = split(r);
            combination_ = along_;
            solve_triangle(combination_);
            double size = 0.0;
            for (const double c : combination_) size += std::abs(c);
            if (distance > dependent * (1.0 + size)) append(r, distance);
        }
        settle();
        return true;
    }

    // Row r in the basis of the active rows (along_), and what is outside their span; the length of that.
    double split(Index r) {
        const Index d = map_.dimension;
        const double* const l = map_.query(sample_[r]);
        const double* const difference = map_.row(r);
        for (Index c = 0; c < map_.query_dimension; ++c)
            for (Index j = 0; j < d; ++j) row_[c * d + j] = l[c] * difference[j];
        along_.assign(active_.size(), 0.0);
        subtract_projection(row_, outside_);
        double distance = norm(outside_.data(), width_);
        if (count() > 0 && distance < 0.7) {  // as close to the span as this, once is not enough
            std::swap(outside_, again_);
            subtract_projection(again_, outside_);
            distance = norm(outside_.data(), width_);
        }
        return distance;
    }
    void subtract_projection(const Buffer<double>& from, Buffer<double>& rest) {
        part_.resize(active_.size());
        rows_dot(basis_.data(), count(), from.size(), from.data(), part_.data());
        rows_combine(basis_.data(), count(), from.size(), part_.data(), rest.data());
        for (Index c = 0; c < from.size(); ++c) rest[c] = from[c] - rest[c];
        for (std::size_t k = 0; k < part_.size(); ++k) along_[k] += part_[k];
    }

    // x := R⁻¹ x
    void solve_triangle(std::vector<double>& x) {
        for (Index k = count() - 1; k >= 0; --k) {
            const double* const R = column(k);
            double* const top = x.data();
            const double solved = top[k] / R[k];
            top[k] = solved;
            for (Index j = 0; j < k; ++j) top[j] -= solved * R[j];
        }
    }
    // x := R'⁻¹ x
    void solve_transposed(std::vector<double>& x) {
        for (Index k = 0; k < count(); ++k) {
            const double* const R = column(k);
            double* const top = x.data();
            top[k] = (top[k] - sum<double>(k, [&](Index j) { return R[j] * top[j]; })) / R[k];
        }
    }

    void append(Index r, double distance) {
        triangle_.insert(triangle_.end(), along_.begin(), along_.end());
        triangle_.push_back(distance);
        basis_.resize(basis_.size() + static_cast<std::size_t>(width_));
        double* const last = basis(count());
        for (Index c = 0; c < width_; ++c) last[c] = outside_[c] / distance;
        active_.push_back(r);
        is_active_[r] = true;
    }

    void remove(Index position) {
        const Index r = at(active_, position);
        turned_ = true;
        dual_[r] = 0.0;
        is_active_[r] = false;
        active_.erase(active_.begin() + position);
        // Without its column the triangle has one entry too many in every later column. Rotations of neighbouring rows,
        // one for each of these columns, take them away.
        for (Index k = position; k < count(); ++k) {
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
            double* const upper = basis(k);
            double* const lower = basis(k + 1);
            for (Index c = 0; c < width_; ++c) rotate(upper[c], lower[c], turn);
        }
        triangle_.resize(active_.size() * (active_.size() + 1) / 2);
        basis_.resize(active_.size() * static_cast<std::size_t>(width_));
    }

    // w and the multipliers from the active rows alone, without the history of how they came together.
    void settle() {
        for (bool again = true; again;) {
            again = false;
            if (turned_) rebuild();
            std::fill(w_.data(), w_.data() + w_.size(), 0.0);
            std::fill(value_.data(), value_.data() + value_.size(), 0.0);
            for (int pass = 0; pass < 2; ++pass) {
                if (pass > 0) evaluate();
                combination_.resize(active_.size());
                for (Index k = 0; k < count(); ++k)
                    at(combination_, k) = problem_.rhs[at(active_, k)] - value_[at(active_, k)];
                solve_transposed(combination_);
                rows_combine(basis_.data(), count(), w_.size(), combination_.data(), row_.data());
                for (Index c = 0; c < w_.size(); ++c) w_[c] += row_[c];
            }
            combination_.resize(active_.size());
            rows_dot(basis_.data(), count(), w_.size(), w_.data(), combination_.data());
            solve_triangle(combination_);
            refine(combination_);
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
    // Takes from multipliers of the active rows what their sum lacks of w.
    void refine(std::vector<double>& multipliers) {
        std::fill(dual_, dual_ + problem_.size(), 0.0);
        for (Index k = 0; k < count(); ++k) dual_[at(active_, k)] = at(multipliers, k);
        map_.token_sums(team_, dual_, Y_.data());
        map_.from_sums(team_, Y_.data(), row_.data());
        for (Index c = 0; c < w_.size(); ++c) row_[c] = w_[c] - row_[c];
        std::vector<double> lacking(active_.size());
        rows_dot(basis_.data(), count(), row_.size(), row_.data(), lacking.data());
        solve_triangle(lacking);
        for (Index k = 0; k < count(); ++k) at(multipliers, k) += at(lacking, k);
    }
    // The factorisation anew, without the rotations that it has been through.
    void rebuild() {
        const std::vector<Index> rows(std::move(active_));
        active_.clear();
        basis_.clear();
        triangle_.clear();
        for (const Index r : rows) {
            if (interrupted()) return;
            append(r, split(r));
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
        return w_norm() < hopeless * weight;
    }

    const UnitProblem& problem_;
    const MarginMap& map_;
    Team team_;
    Progress& progress_;
    bool calling_thread_;
    double* dual_ = nullptr;
    Index width_;  // of w and the rows of the basis: their coordinates, and zeros up to whole registers
    Buffer<bool> is_active_;
    Buffer<double> value_, w_, Y_, y_, row_, outside_, again_;
    Buffer<Index> sample_;
    std::vector<Index> active_;
    std::vector<double> basis_, triangle_, along_, part_, combination_, spare_;
    std::vector<Turn> turns_;
    bool turned_ = false;
    Index steps_ = 0;
};

}  // namespace

ActiveSetResult dual_active_set(const UnitProblem& problem, const Team& team, Progress& progress, bool calling_thread,
                                const double* start, double* dual) {
    DualActiveSet method(problem, team, progress, calling_thread);
    const bool ended = method.run(start, dual);
    return {ended, method.steps(), std::move(method.w())};
}

ActiveSetResult finish_on_active_set(const UnitProblem& problem, const Team& team, Progress& progress,
                                     bool calling_thread, const double* start, double* dual) {
    DualActiveSet method(problem, team, progress, calling_thread);
    const bool ended = method.finish(start, dual);
    return {ended, method.steps(), std::move(method.w())};
}

}  // namespace attsvm
