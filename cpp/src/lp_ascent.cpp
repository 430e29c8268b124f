// SVMs in the l_p norm whose constraints nearly agree, in four times the precision of float64, by ascent on the dual.
//
//     max b'λ - (1/q) Σ |U|^q,  U = A*(λ)        W = ψ(U),  ψ(u) = sign(u) |u|^(q-1),  q = p / (p-1)
//
// Each step is one of Newton's method for the active constraints, in (W, λ) as in lp_homotopy.cpp, as far as the dual
// rises along it and the multipliers of inequalities remain nonnegative; one that falls to 0 leaves. When such steps
// have met the active constraints, the one that W misses most comes. The dual rises throughout, so that no active set
// comes twice, however nearly rows agree; exchanging all at once, which takes fewer steps, may go in a circle there.
//
// The Gram matrix of the active rows has the square of their condition: where it would lose half of the digits, its
// factor is computed from the rows.
#include <utility>

#include "attsvm/entrywise_methods.hpp"
#include "attsvm/lp_map.hpp"
#include "attsvm/weighted_gram.hpp"

namespace attsvm::inline ATTSVM_PRECISION {
namespace {

using nuclear::Candidate;
using nuclear::Constraints;
using Array = LpMap::Array;
using Rows = std::vector<Index>;

class Ascent {
   public:
    // From multipliers that need not be good.
    Ascent(const Constraints& constraints, const SvmNorm& norm, const Vector& dual)
        : constraints_(&constraints), norm_(norm), dual_(dual) {
        constexpr double insignificant = in_precision(1e-12);
        const Real least = insignificant * dual_.cwiseAbs().maxCoeff();
        Rows order;
        for (Index r = 0; r < constraints.count(); ++r) {
            if (constraints.is_equality(r) || dual_[r] > least)
                order.push_back(r);
            else
                dual_[r] = 0.0;
        }
        std::stable_sort(order.begin(), order.end(), [&](Index r, Index s) {
            const bool first = constraints.is_equality(r), second = constraints.is_equality(s);
            return first != second ? first : dual_[r] > dual_[s];
        });
        activate(std::move(order), 0);
    }

    // Goes to the solution for this p; `best`, given for the p that is asked for, becomes the nearest candidate.
    void go_to(Real p, Real good, Candidate* best, Progress& progress, bool calling_thread) {
        constexpr double settled = 1e-6, nearly = 1e-3, shortest = 0.1, longest = 2.0,
                         last_digits = in_precision(1e-15);
        const Index most_steps = 100 + 10 * constraints_->count();
        map_.p = p;
        start_from_dual();
        bool followed = true;
        for (Index k = 0; k < most_steps && !active_.empty() && progress.advance(0.0, calling_thread); ++k) {
            const Step step = newton_step();
            if (!step.turn.allFinite()) return;
            const Real share = step.change > settled ? rising_share(step) : std::min<Real>(1.0, step.longest);
            if (share < 0.0) {  // W is too far from ψ(U) to show where the dual rises, or nothing is left but rounding
                if (!std::exchange(followed, true))
                    follow_dual();
                else if (!exchange())
                    return;
                continue;
            }
            followed = share > 0.0 ? !(share > shortest && share < longest) : followed;
            const bool leaves = move(step, share);
            if (followed) follow_dual();
            if (leaves || share < 1.0 || step.change > nearly) continue;
            if (best != nullptr) {
                const bool was_good = best->distance <= good;  // the step after it doubles the digits of W
                best->replace_by(candidate());
                if (was_good) return;
                if (best->distance <= good) continue;
            }
            if (step.change <= settled && !exchange() && (best == nullptr || step.change <= last_digits)) return;
        }
    }

   private:
    struct Step {
        Array U, along;  // A*(λ), and how it changes
        Matrix move;     // of W
        Vector turn;     // of the active λ
        Real longest;    // as far as multipliers remain nonnegative
        Real change;     // of W, relative
        Real gain;       // b' turn
    };

    // W = ψ(U) for the multiple of λ that is best, in such units that the largest entry is 1.
    void start_from_dual() {
        dual_ /= constraints_->adjoint(dual_).lpNorm<Eigen::Infinity>();
        follow_dual();
        const Real size = constraints_->adjoint(dual_).cwiseProduct(W_).sum(), gain = constraints_->rhs().dot(dual_);
        unit_ = gain > 0.0 ? Real(gain / size) : Real(1.0);
    }
    // W = ψ(U)
    void follow_dual() {
        const Array U = constraints_->adjoint(dual_).array();
        W_ = map_.inverse(U, LpMap::logs(U)).matrix();
    }

    Step newton_step() const {
        const nuclear::ChosenConstraints chosen(*constraints_, active_);
        const Constraints part = chosen.constraints();
        Step step;
        step.U = constraints_->adjoint(dual_).array();
        const LpMap::Linear linear = map_.linear(W_.array(), step.U, LpMap::logs(step.U));
        const Matrix target = linear.target.matrix();
        step.turn = factor(part, linear.weights).solve(part.rhs() / unit_ - part.values(W_ + target));
        step.along = part.adjoint(step.turn).array();
        step.move = target + (linear.weights * step.along).matrix();
        step.change = step.move.lpNorm<Eigen::Infinity>() / W_.lpNorm<Eigen::Infinity>();
        step.gain = part.rhs().dot(step.turn) / unit_;
        step.longest = std::numeric_limits<double>::infinity();
        for (Index k = 0; k < chosen.count(); ++k)
            if (!part.is_equality(k) && step.turn[k] < 0.0)
                step.longest = std::min<Real>(step.longest, -dual_[chosen[k]] / step.turn[k]);
        return step;
    }
    // Of the Gram matrix of the active rows with these weights
    Cholesky factor(const Constraints& part, const Array& weights) const {
        Cholesky gram(weighted_gram(part, weights.matrix()));
        if (has_half_of_the_digits(gram)) return gram;
        Matrix columns = rows(active_);
        columns.topRows(weights.size()).array().colwise() *= weights.reshaped().sqrt();
        return Cholesky::of_columns(std::move(columns));
    }
    static bool has_half_of_the_digits(const Cholesky& gram) {
        constexpr double half = in_precision(1e-8);
        return gram.succeeded() && gram.smallest_pivot() > half;
    }
    // In columns, with zeros below where there are more rows than entries.
    Matrix rows(const Rows& of) const {
        const Index entries = constraints_->map().coordinates();
        Matrix columns = Matrix::Zero(std::max(entries, std::ssize(of)), std::ssize(of));
        columns.topRows(entries) = constraints_->dense_rows(of);
        return columns;
    }

    // Where along a step the slope of the negative dual is a tenth of what it is at 0, or the end of the step. Negative
    // where the dual falls.
    Real rising_share(const Step& step) const {
        constexpr double tenth = 0.1;
        constexpr int most = 60;
        const auto slope = [&](Real share) {
            const Array U = step.U + share * step.along;
            return Real((map_.inverse(U, LpMap::logs(U)) * step.along).sum() - step.gain);
        };
        if (!(step.longest > 0.0)) return 0.0;
        const Real first = slope(0.0);
        if (!(first < 0.0)) return -1.0;
        Real low = 0.0, high = std::numeric_limits<double>::infinity(), share = std::min<Real>(1.0, step.longest);
        for (int k = 0; k < most; ++k) {
            const Real here = slope(share);
            if (numext::abs(here) <= -tenth * first) return share;
            if (here < 0.0 && !(share < step.longest)) return step.longest;
            (here < 0.0 ? low : high) = share;
            share = numext::isfinite(high) ? Real(0.5 * (low + high)) : std::min<Real>(2.0 * share, step.longest);
        }
        return low;
    }

    // Whether constraints leave the active set on the way.
    bool move(const Step& step, Real share) {
        W_ += share * step.move;
        Rows active;
        for (Index k = 0; k < step.turn.size(); ++k) {
            const Index r = active_[static_cast<std::size_t>(k)];
            const bool leaves =
                !constraints_->is_equality(r) && step.turn[k] < 0.0 && -dual_[r] / step.turn[k] <= share;
            dual_[r] = leaves ? Real(0.0) : Real(dual_[r] + share * step.turn[k]);
            if (!leaves) active.push_back(r);
        }
        std::swap(active_, active);
        return active.size() > active_.size();
    }

    // Takes the constraint that W misses most into the active set. False if there is none that changes it.
    bool exchange() {
        constexpr double missed = in_precision(1e-10);
        const Vector excess = constraints_->values(W_) - constraints_->rhs() / unit_;
        Rows order;
        for (Index r = 0; r < excess.size(); ++r)
            if (!constraints_->is_equality(r) && excess[r] < -missed &&
                !std::binary_search(active_.begin(), active_.end(), r))
                order.push_back(r);
        std::stable_sort(order.begin(), order.end(), [&](Index r, Index s) { return excess[r] < excess[s]; });
        for (const Index r : order) {
            const Rows before = active_;
            Rows all = before;
            all.push_back(r);
            activate(std::move(all), std::ssize(before));
            if (active_ != before) return true;
        }
        return false;
    }

    // Makes these the active set, without those whose rows, from `first` on, are combinations of the ones before.
    void activate(Rows order, Index first) {
        active_ = order;
        std::sort(active_.begin(), active_.end());
        const nuclear::ChosenConstraints chosen(*constraints_, active_);
        const Matrix ones = Matrix::Ones(constraints_->left(), constraints_->right());
        if (has_half_of_the_digits(Cholesky(weighted_gram(chosen.constraints(), ones)))) return;
        while (leave_one_out(order, first)) {
        }
        active_ = std::move(order);
        std::sort(active_.begin(), active_.end());
    }
    // The first row that is a combination of those before comes in exchange for one of them, or does not, as b'λ rises
    // while A*(λ) remains what it is. False if there is none.
    bool leave_one_out(Rows& order, Index first) {
        constexpr double rounding = 1e4 * 0x1p-199;
        const Matrix L = Cholesky::of_columns(rows(order)).factor();
        const auto at = [&](Index k) { return order[static_cast<std::size_t>(k)]; };
        for (Index last = first; last < L.rows(); ++last) {
            Vector combination = L.row(last).head(last);
            for (Index k = last - 1; k >= 0; --k) {
                combination[k] /= L(k, k);
                combination.head(k) -= combination[k] * L.row(k).head(k).transpose();
            }
            const Real noise = rounding * (1.0 + combination.lpNorm<1>());
            if (numext::abs(L(last, last)) > noise * L.row(last).norm()) continue;
            const Index entering = at(last);
            Real rate = constraints_->rhs()[entering], terms = numext::abs(rate);
            for (Index k = 0; k < last; ++k) {
                const Real term = combination[k] * constraints_->rhs()[at(k)];
                rate -= term;
                terms += numext::abs(term);
            }
            const bool rises = rate > noise * terms;
            const Real sign = rises || dual_[entering] < 0.0 ? 1.0 : -1.0;
            const Real least = noise * combination.lpNorm<Eigen::Infinity>();
            Real step = rises ? Real(std::numeric_limits<double>::infinity()) : numext::abs(dual_[entering]);
            Index leaving = last;
            for (Index k = 0; k < last; ++k) {
                const Real falls = sign * combination[k];
                if (constraints_->is_equality(at(k)) || !(falls > least) || !(dual_[at(k)] < step * falls)) continue;
                step = dual_[at(k)] / falls;
                leaving = k;
            }
            if (numext::isfinite(step)) {
                dual_[entering] += sign * step;
                for (Index k = 0; k < last; ++k) {
                    Real& dual = dual_[at(k)];
                    dual -= sign * step * combination[k];
                    if (!constraints_->is_equality(at(k))) dual = std::max<Real>(dual, 0.0);
                }
            }
            dual_[at(leaving)] = 0.0;
            order.erase(order.begin() + leaving);
            return true;
        }
        return false;
    }

    Candidate candidate() const {
        const Real size = norm_.dual()(constraints_->adjoint(dual_));
        if (!(size > 0.0)) return {};
        return {*constraints_, unit_ * W_, unit_ * norm_(W_), dual_ / size};
    }

    const Constraints* constraints_;
    SvmNorm norm_;
    LpMap map_{2.0};
    Real unit_;
    Vector dual_;  // 0 but for the active constraints
    Matrix W_;     // in units of `unit_`
    Rows active_;  // in order; their rows are independent
};

}  // namespace

Candidate by_lp_ascent(const Constraints& constraints, const SvmNorm& norm, const Vector& dual, Progress& progress,
                       bool calling_thread) {
    constexpr double good = 1e-12;
    Candidate best;
    // First from multipliers of the Frobenius norm in float64, whose sum may have no digits where rows nearly agree.
    Ascent ascent(constraints, norm, dual);
    ascent.go_to(2.0, good, nullptr, progress, calling_thread);
    const double end = std::log(static_cast<double>(norm.p) - 1.0), steps = std::ceil(std::abs(end));
    for (double k = 1.0; k < steps; ++k)
        ascent.go_to(1.0 + std::exp(end * k / steps), good, nullptr, progress, calling_thread);
    ascent.go_to(norm.p, good, &best, progress, calling_thread);
    best.unique = 1;
    best.steps = static_cast<Index>(steps);
    return best;
}

}  // namespace attsvm::inline ATTSVM_PRECISION
