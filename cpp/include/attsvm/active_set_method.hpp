// The dual active set method on numbers of any precision. See dual_active_set.hpp.
#pragma once

#include <algorithm>
#include <optional>
#include <vector>

#include "attsvm/svm_problem.hpp"

namespace attsvm::active_set {

using std::abs, std::sqrt;

template <class T>
auto& at(T& values, Index k) {
    return values[static_cast<std::size_t>(k)];
}

template <class Number>
struct Turn {
    Number cosine, sine;
};
template <class Number>
void rotate(Number& upper, Number& lower, const Turn<Number>& turn) {
    const Number a = upper, b = lower;
    upper = turn.cosine * a + turn.sine * b;
    lower = turn.cosine * b - turn.sine * a;
}

// R with R'R the Gram matrix of the active rows, in packed columns.
template <class Number>
class Triangle {
   public:
    Index count() const { return count_; }

    // x := R⁻¹ x
    void solve(std::vector<Number>& x) const {
        for (Index k = count_ - 1; k >= 0; --k) {
            const Number* const R = column(k);
            Number* const top = x.data();
            const Number solved = top[k] / R[k];
            top[k] = solved;
            for (Index j = 0; j < k; ++j) top[j] -= solved * R[j];
        }
    }
    // x := R'⁻¹ x
    void solve_transposed(std::vector<Number>& x) const {
        for (Index k = 0; k < count_; ++k) {
            const Number* const R = column(k);
            Number* const top = x.data();
            top[k] = (top[k] - sum<Number>(k, [&](Index j) { return R[j] * top[j]; })) / R[k];
        }
    }
    void append(const Number* along, const Number& distance) {
        entries_.insert(entries_.end(), along, along + count_);
        entries_.push_back(distance);
        ++count_;
    }
    void append(const std::vector<Number>& along, const Number& distance) { append(along.data(), distance); }
    // Without its column the triangle has one entry too many in every later column. Rotations of neighbouring rows, one
    // for each of these columns, take them away: turned(k, turn) for those of rows k and k + 1.
    template <class Turned>
    void remove(Index position, Turned turned) {
        --count_;
        for (Index k = position; k < count_; ++k) {
            const Number* const next = column(k + 1);
            spare_.assign(next, next + k + 2);
            for (Index j = position; j < k; ++j) rotate(at(spare_, j), at(spare_, j + 1), at(turns_, j - position));
            const Number a = at(spare_, k), b = at(spare_, k + 1);
            const Number length = sqrt(a * a + b * b);
            const Turn<Number> turn = length > 0 ? Turn<Number>{a / length, b / length} : Turn<Number>{1.0, 0.0};
            turns_.resize(static_cast<std::size_t>(k - position));
            turns_.push_back(turn);
            std::copy(spare_.begin(), spare_.begin() + k, column(k));
            column(k)[k] = length;
            turned(k, turn);
        }
        entries_.resize(static_cast<std::size_t>(count_ * (count_ + 1) / 2));
    }

   private:
    Number* column(Index k) { return entries_.data() + k * (k + 1) / 2; }
    const Number* column(Index k) const { return entries_.data() + k * (k + 1) / 2; }

    Index count_ = 0;
    std::vector<Number> entries_, spare_;
    std::vector<Turn<Number>> turns_;
};

// Violated constraints enter one at a time, active ones leave. `Rows` hold the active ones and know what counts as
// zero.
template <class Rows>
class DualActiveSet {
   public:
    using Number = typename Rows::Number;

    DualActiveSet(const UnitProblem& problem, Progress& progress, bool calling_thread, Rows rows)
        : problem_(problem),
          progress_(progress),
          calling_thread_(calling_thread),
          rows_(std::move(rows)),
          is_active_(problem.size()),
          value_(problem.size()) {}

    // The multipliers of the solution, or of a proof that there is none; none of it is checked here. False when
    // rounding keeps the method from ending.
    bool run(const double* start, Number* dual, Index most_steps) {
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
                const Number missing = problem_.rhs[r] - value_[r];
                if (!enter(r, r == violated_.front() ? -infinity : 0.5 * missing)) return true;
            }
        }
        return false;
    }
    // The solution on the equalities and the constraints with a multiplier in `start`; false if interrupted.
    bool finish(const double* start, Number* dual) { return enter_equalities(dual) && start_from(start); }
    Index steps() const { return steps_; }

    // V of the last w
    Buffer<Number>& w() { return rows_.w(); }

   private:
    static constexpr double infinity = std::numeric_limits<double>::infinity();

    Index count() const { return std::ssize(active_); }
    bool interrupted() {
        if (calling_thread_) progress_.ask();
        return progress_.stopped();
    }

    // The inactive inequalities that w violates most, beyond rounding, the worst first.
    void find_violated() {
        rows_.evaluate(active_, dual_, value_.data());
        const Number least = Rows::rounding(rows_.norm());
        violated_.clear();
        const auto missing = [&](Index r) { return problem_.rhs[r] - value_[r]; };
        for (Index r = 0; r < problem_.size(); ++r)
            if (missing(r) > least && !is_active_[r] && !problem_.equality[r]) violated_.push_back(r);
        const auto kept = violated_.begin() + std::min(Rows::at_once, std::ssize(violated_));
        std::partial_sort(violated_.begin(), kept, violated_.end(), [&](Index r, Index s) {
            return missing(r) > missing(s) || (missing(r) == missing(s) && r < s);
        });
        violated_.erase(kept, violated_.end());
        note();
    }
    // w solves the problem of the active constraints. It is feasible divided by the smallest margin over what is asked.
    void note() {
        if (!calling_thread_) return;
        Number gap = 0.0;
        for (const Index r : violated_)
            if (problem_.rhs[r] > 0) gap = std::max<Number>(gap, 1.0 - value_[r] / problem_.rhs[r]);
        progress_.note(static_cast<double>(gap), count());
    }
    bool is_rounding(const Number& missing) {
        rows_.evaluate(active_, dual_, value_.data());
        return abs(missing) <= Rows::rounding(rows_.norm());
    }

    // Makes constraint r active where it misses `least`; false, with multipliers that prove it, if it contradicts the
    // others.
    bool enter(Index r, Number least) {
        Number gained = 0.0;
        Number distance = rows_.split(r);
        if (problem_.rhs[r] - rows_.value(r, active_, dual_, gained) < least) return true;
        for (;;) {
            Number size = 0.0, largest = 0.0;
            combine();
            for (const Number& c : combination_) size += abs(c), largest = std::max<Number>(largest, abs(c));
            const Number missing = problem_.rhs[r] - rows_.value(r, active_, dual_, gained);
            std::optional<Number> full_step;
            if (distance > Rows::dependent * (1.0 + size))
                full_step = missing / (distance * distance);
            else if (problem_.equality[r] && is_rounding(missing))
                return true;

            // the active inequality whose multiplier is the first to reach zero
            Index blocking = -1;
            Number blocked_step = 0.0;
            for (Index k = 0; k < count(); ++k) {
                const Number falling = at(combination_, k);
                const Index s = at(active_, k);
                if (falling <= Rows::noise * (1.0 + largest) || problem_.equality[s]) continue;
                const Number step = dual_[s] / falling;
                if (blocking < 0 || step < blocked_step) blocking = k, blocked_step = step;
            }
            const bool blocked = blocking >= 0 && (!full_step || blocked_step < *full_step);
            if (!blocked && !full_step) {
                prove_contradiction(r, missing > 0 ? 1.0 : -1.0);
                return false;
            }
            const Number step = blocked ? blocked_step : *full_step;
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
    bool enter_equalities(Number* dual) {
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
        std::vector<Index> rows;
        for (Index r = 0; r < problem_.size(); ++r)
            if (!problem_.equality[r] && multipliers[r] > 0) rows.push_back(r);
        if (count() > 0 || !append_at_once(rows))
            for (const Index r : rows) {
                if (interrupted()) return false;
                append_independent(r);
            }
        settle();
        return true;
    }
    // The same for all of them, into an empty factorisation; false if they are dependent or too few to be worth it.
    bool append_at_once(const std::vector<Index>& rows) {
        if (!rows_.append_at_once(rows)) return false;
        active_ = rows;
        for (const Index r : rows) is_active_[r] = true;
        return true;
    }
    void append_independent(Index r) {
        const Number distance = rows_.split(r);
        combine();
        Number size = 0.0;
        for (const Number& c : combination_) size += abs(c);
        if (distance > Rows::dependent * (1.0 + size)) append(r, distance);
    }

    void append(Index r, const Number& distance) {
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
        turned_ = false;
        if (append_at_once(rows)) return;
        for (const Index r : rows) {
            if (interrupted()) return;
            append(r, rows_.split(r));
        }
    }

    // Multipliers of a combination of active constraints that r contradicts.
    void prove_contradiction(Index r, Number sign) {
        std::fill(dual_, dual_ + problem_.size(), 0.0);
        dual_[r] = sign;
        for (Index k = 0; k < count(); ++k) dual_[at(active_, k)] = -sign * at(combination_, k);
        for (Index s = 0; s < problem_.size(); ++s)
            if (!problem_.equality[s]) dual_[s] = std::max<Number>(dual_[s], 0.0);
    }

    // Whether the multipliers already prove that w would have to be beyond reach.
    bool is_hopeless() const {
        Number gain = 0.0;
        for (const Index r : active_) gain += problem_.rhs[r] * dual_[r];
        return rows_.norm() < Rows::hopeless * gain;
    }

    const UnitProblem& problem_;
    Progress& progress_;
    bool calling_thread_;
    Rows rows_;
    Number* dual_ = nullptr;
    Buffer<bool> is_active_;
    Buffer<Number> value_;
    std::vector<Index> active_, violated_;
    std::vector<Number> combination_;
    bool turned_ = false;
    Index steps_ = 0;
};

}  // namespace attsvm::active_set
