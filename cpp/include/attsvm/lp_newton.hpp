// Newton's method for SVMs in the l_p norm, on the active set.
//
//     min (1/p) Σ |W_jc|^p  s.t.  A(W) >= b:      φ(W) = A*(λ),  φ(w) = sign(w) |w|^(p-1),  A_r(W) = b_r (r active)
//
// φ has no slope at 0 for p > 2 and its inverse ψ(u) = sign(u) |u|^(q-1) none for p < 2 (q = p / (p-1)). The unknowns
// are therefore (W, λ), and an entry of φ(W) = A*(λ) is replaced by the chord between its two points of the curve,
// where W and where A*(λ) is: a tangent at either leads too far or not far enough. The last steps for p < 2, where
// rounding of small entries of W is all that A*(λ) would have, are for λ alone, with W = ψ(A*(λ)). Constraints of
// negative multipliers leave the active set, and those that W misses come.
#pragma once

#include <numeric>

#include "attsvm/lp_map.hpp"
#include "attsvm/newton_equations.hpp"
#include "attsvm/svm_norm.hpp"

namespace attsvm::inline ATTSVM_PRECISION {

class LpNewton {
   public:
    using Candidate = nuclear::Candidate;
    using Constraints = nuclear::Constraints;

    // From W with multipliers of any size, and what seems to be active.
    LpNewton(const Constraints& constraints, const SvmNorm& norm, Matrix W, Vector dual, std::vector<Index> active)
        : constraints_(&constraints),
          norm_(norm),
          unit_(W.lpNorm<Eigen::Infinity>()),
          dual_(std::move(dual)),
          W_(std::move(W)),
          active_(std::move(active)) {
        W_ /= unit_;
        leave_out_the_others();
        dual_ /= constraints.adjoint(dual_).lpNorm<Eigen::Infinity>();
    }

    // Goes to the solution for this p; `best`, given for the p that is asked for, becomes the nearest candidate. False
    // if it does not get there.
    bool go_to(Real p, Real good, Candidate* best) {
        constexpr int most_at_once = 15;
        constexpr double least_change = in_roundings(1e-15), settled = 0.3, nearly = 1e-3;
        constexpr int most_steps = 25;
        map_.p = p;
        change_ = 1.0;
        if (p < 2.0) dual_ /= constraints_->adjoint(dual_).lpNorm<Eigen::Infinity>();
        int exchanges = 0;
        for (int k = 0; k < most_steps && !active_.empty(); ++k) {
            change_ = step();
            if (!numext::isfinite(change_)) return false;
            if (change_ > settled || exchange(++exchanges > most_at_once)) continue;
            if (best == nullptr) return true;
            if (change_ > nearly) continue;
            const bool was_good = best->distance <= good;  // the step after it doubles the digits of W
            best->replace_by(candidate());
            if (was_good || change_ <= least_change) break;
        }
        return best != nullptr && best->distance <= good;
    }

   private:
    static constexpr double least_pivot = in_precision(1e-12);

    // A step; how much it changes W or λ. Not finite where the equations have no solution.
    Real step() {
        constexpr double rounding = in_roundings(1e-14), of_last_steps = 1e-2;
        const bool of_both = map_.p > 2.0 || change_ > of_last_steps;  // W and λ
        const nuclear::ChosenConstraints chosen(*constraints_, active_);
        const Constraints part = chosen.constraints();
        Vector dual(chosen.count());
        for (Index k = 0; k < chosen.count(); ++k) dual[k] = dual_[chosen[k]];
        const Array U = part.adjoint(dual).array(), of_U = LpMap::logs(U);
        LpMap::Linear linear;
        if (of_both) {
            linear = map_.linear(W_.array(), U, of_U);
        } else {
            W_ = map_.inverse(U, of_U).matrix();
            const Array weights = (map_.q() - 1.0) * LpMap::power(of_U, map_.q() - 2.0);
            linear = {weights.max(weights.maxCoeff() / map_.widest()), Array::Zero(U.rows(), U.cols())};
        }
        const auto& [weights, target] = linear;
        Matrix M = weighted_gram(part, weights.matrix());
        M.diagonal() *= Real(1.0) + rounding;
        Cholesky equations(M);
        if (!equations.succeeded() || !(equations.smallest_pivot() > least_pivot)) {
            if (drop_dependent(part, weighted_gram(part, Matrix::Ones(part.left(), part.right())))) return 1.0;
            equations = factorised(M);
            if (!equations.succeeded()) return drop_dependent(part, M) ? 1.0 : std::numeric_limits<double>::quiet_NaN();
        }
        const Vector missing = part.rhs() / unit_ - part.values(W_ + target.matrix());
        const Vector turn = equations.solve(missing);
        const Array along = part.adjoint(turn).array();
        Real share = 1.0, change;
        if (of_both) {
            const Matrix move = (target + weights * along).matrix();
            W_ += move;
            change = move.lpNorm<Eigen::Infinity>() / W_.lpNorm<Eigen::Infinity>();
        } else {
            share = descending_share(part, U, along, turn, W_);
            // Multipliers of rows that nearly agree are far larger than the U that is left of their sum.
            change =
                share * std::max<Real>(turn.lpNorm<Eigen::Infinity>() / dual.lpNorm<Eigen::Infinity>(),
                                       along.matrix().lpNorm<Eigen::Infinity>() / U.matrix().lpNorm<Eigen::Infinity>());
        }
        dual += share * turn;
        if (share < 1.0) change = std::max<Real>(change, 1.0);
        for (Index k = 0; k < chosen.count(); ++k) dual_[chosen[k]] = dual[k];
        return change;
    }

    // The share of a step that lowers (1/q) Σ |U|^q - b'λ, which rises steeply for p near 1: it is halved until it
    // does. `W` is ψ(U), and becomes ψ of the U that is reached.
    Real descending_share(const Constraints& part, const Array& U, const Array& along, const Vector& turn,
                          Matrix& W) const {
        constexpr double rounding = in_roundings(1e-14), shortest = 1e-6;
        const Real gain = part.rhs().dot(turn) / unit_, before = U.matrix().cwiseProduct(W).sum() / map_.q();
        for (Real share = 1.0;; share *= 0.5) {
            const Array moved = U + share * along;
            W = map_.inverse(moved, LpMap::logs(moved)).matrix();
            const Real after = moved.matrix().cwiseProduct(W).sum() / map_.q();
            if (after - before <= share * gain + rounding * before || share < shortest) return share;
        }
    }

    // Whether the active set changes. All that ask for it at once may go in a circle, and the first alone does not.
    bool exchange(bool first_alone) {
        constexpr double missed = in_precision(1e-10);
        const Vector values = constraints_->values(W_);
        std::vector<Index> active;
        bool changed = false;
        for (Index r = 0, k = 0; r < constraints_->count(); ++r) {
            const bool was = k < std::ssize(active_) && active_[static_cast<std::size_t>(k)] == r;
            k += was ? 1 : 0;
            const bool is = was ? constraints_->is_equality(r) || dual_[r] > 0.0
                                : values[r] < constraints_->rhs()[r] / unit_ - missed;
            if (first_alone && changed ? was : is) active.push_back(r);
            changed |= is != was;
        }
        if (!changed) return false;
        active_ = std::move(active);
        leave_out_the_others();
        return true;
    }
    void leave_out_the_others() {
        Vector kept = Vector::Zero(dual_.size());
        for (const Index r : active_) kept[r] = dual_[r];
        dual_ = std::move(kept);
    }
    // Takes constraints from the active set whose rows are combinations of others, by their Gram matrix. False if there
    // are none. Of those that came last, the one that W misses most is exchanged for the first whose multiplier falls
    // to zero as A*(λ) stays what it is, so that b'λ rises.
    bool drop_dependent(const Constraints& part, const Matrix& lower) {
        constexpr double noise = in_precision(1e-9);
        const Matrix gram = lower.selfadjointView<Eigen::Lower>();
        const Vector excess = part.values(W_) - part.rhs() / unit_;
        const auto dual = [&](Index k) -> Real& { return dual_[active_[static_cast<std::size_t>(k)]]; };
        const auto came_last = [&](Index k) { return !part.is_equality(k) && dual(k) == 0.0; };
        std::vector<Index> order(active_.size());
        std::iota(order.begin(), order.end(), Index{0});
        const auto last = std::stable_partition(order.begin(), order.end(), [&](Index k) { return !came_last(k); });
        std::stable_sort(last, order.end(), [&](Index k, Index l) { return excess[k] < excess[l]; });
        std::vector<Index> kept = independent_rows(gram(order, order), least_pivot);
        if (std::ssize(kept) == part.count()) return false;
        Index entering = -1, leaving = -1;
        for (Index at = 0; at < part.count() && entering < 0; ++at) {
            const Index k = order[static_cast<std::size_t>(at)];
            if (came_last(k) && !std::binary_search(kept.begin(), kept.end(), at)) entering = k;
        }
        for (Index& k : kept) k = order[static_cast<std::size_t>(k)];
        if (entering >= 0) {
            const Vector combination = factorised(gram(kept, kept)).solve(gram(kept, entering));
            const Real least = noise * combination.lpNorm<Eigen::Infinity>();
            Real step = std::numeric_limits<double>::infinity();
            for (Index c = 0; c < combination.size(); ++c) {
                const Index k = kept[static_cast<std::size_t>(c)];
                if (part.is_equality(k) || !(combination[c] > least) || !(dual(k) < step * combination[c])) continue;
                step = dual(k) / combination[c];
                leaving = c;
            }
            if (leaving >= 0) {
                for (Index c = 0; c < combination.size(); ++c)
                    dual(kept[static_cast<std::size_t>(c)]) -= step * combination[c];
                dual(entering) = step;
                kept[static_cast<std::size_t>(leaving)] = entering;
            }
        }
        std::vector<Index> active;
        active.reserve(kept.size());
        for (const Index k : kept) active.push_back(active_[static_cast<std::size_t>(k)]);
        std::sort(active.begin(), active.end());
        active_ = std::move(active);
        leave_out_the_others();
        return true;
    }
    Candidate candidate() const {
        Vector dual = dual_;
        for (Index r = 0; r < dual.size(); ++r)
            if (!constraints_->is_equality(r)) dual[r] = std::max<Real>(dual[r], 0.0);
        const Real size = norm_.dual()(constraints_->adjoint(dual));
        if (!(size > 0.0)) return {};
        return {*constraints_, unit_ * W_, unit_ * norm_(W_), dual / size};
    }

    const Constraints* constraints_;
    SvmNorm norm_;
    LpMap map_{2.0};
    Real change_ = 1.0;  // of the last step
    Real unit_;
    Vector dual_;
    Matrix W_;  // in units of `unit_`
    std::vector<Index> active_;
};

}  // namespace attsvm::inline ATTSVM_PRECISION
