#include "attsvm/entrywise_active_set.hpp"

namespace attsvm::inline ATTSVM_PRECISION {
namespace {

using nuclear::Candidate;
using nuclear::Constraints;

class ActiveSetEquations {
   public:
    ActiveSetEquations(const Constraints& constraints, const SvmNorm& norm, const Matrix& W, const Vector& dual)
        : constraints_(constraints), norm_(norm), W_(W), dual_(dual) {}

    // The solution of the equations on the active set, nearest to W and λ. `set` becomes the one that it points to:
    // without what has the wrong sign, and with what is missed.
    Candidate solve(EntrywiseActiveSet& set) const {
        const Index d = constraints_.left(), e = constraints_.right(), m = constraints_.count();
        const std::vector<Index>& active = set.constraints;
        const Array sign = set.sign;
        // The unknown entries of W: those within the bound and the bound itself, or those that are not 0.
        std::vector<Index> free;
        for (Index k = 0; k < d * e; ++k)
            if ((sign.data()[k] == 0.0) == bounds_primal()) free.push_back(k);
        const Index rows = std::ssize(active), entries = std::ssize(free),
                    columns = entries + (bounds_primal() ? 1 : 0);
        if (rows == 0 || columns == 0) return {};
        const auto at = [](const std::vector<Index>& indices, Index k) { return indices[static_cast<std::size_t>(k)]; };
        Matrix C(rows, columns);
        C.leftCols(entries) = constraints_.dense_rows(active)(free, Eigen::all).transpose();
        Vector x(columns), c(columns), rhs(rows), dual(rows);
        for (Index k = 0; k < entries; ++k) x[k] = W_.data()[at(free, k)], c[k] = sign.data()[at(free, k)];
        if (bounds_primal()) {
            x[entries] = norm_(W_);
            c[entries] = 1.0;
            const Vector of_signs = constraints_.values(sign.matrix());
            for (Index a = 0; a < rows; ++a) C(a, entries) = of_signs[at(active, a)];
        }
        for (Index a = 0; a < rows; ++a) {
            rhs[a] = constraints_.rhs()[at(active, a)];
            dual[a] = dual_[at(active, a)];
        }
        if (!correct(C, rhs, c, x, dual)) return {};

        Matrix W = bounds_primal() ? Matrix(x[entries] * sign.matrix()) : Matrix(Matrix::Zero(d, e));
        for (Index k = 0; k < entries; ++k) W.data()[at(free, k)] = x[k];
        Vector all = Vector::Zero(m), clipped = all;
        for (Index a = 0; a < rows; ++a) {
            const Index r = at(active, a);
            all[r] = dual[a];
            clipped[r] = constraints_.is_equality(r) ? dual[a] : std::max<Real>(dual[a], 0.0);
        }
        const Matrix U = constraints_.adjoint(clipped);
        const Real bound = bounds_primal() ? x[entries] : 1.0;
        EntrywiseActiveSet next = revised(set, W, all, constraints_.adjoint(all), bound);
        Candidate found(constraints_, W, norm_(W), clipped / std::max<Real>(norm_.dual()(U), 1.0));
        set = std::move(next);
        return found;
    }

   private:
    // `set` without constraints of negative multipliers and entries that are pushed or lie the wrong way, and with the
    // constraints that W misses and the entries beyond the bound.
    EntrywiseActiveSet revised(const EntrywiseActiveSet& set, const Matrix& W, const Vector& dual, const Matrix& U,
                               Real bound) const {
        constexpr double missed = in_precision(1e-11);
        EntrywiseActiveSet next;
        next.sign = set.sign;
        const Vector excess = constraints_.values(W) - constraints_.rhs();
        for (Index r = 0, a = 0; r < constraints_.count(); ++r) {
            const bool was = a < std::ssize(set.constraints) && set.constraints[static_cast<std::size_t>(a)] == r;
            a += was ? 1 : 0;
            if (constraints_.is_equality(r) || (was ? dual[r] > 0.0 : excess[r] < -missed))
                next.constraints.push_back(r);
        }
        // Of the two matrices, one lies within the bound and the other pushes where it is at the bound.
        const Matrix& within = bounds_primal() ? W : U;
        const Matrix& push = bounds_primal() ? U : W;
        for (Index k = 0; k < next.sign.size(); ++k) {
            Real& sign = next.sign.data()[k];
            if (sign != 0.0)
                sign = sign * push.data()[k] > 0.0 ? sign : 0.0;
            else if (numext::abs(within.data()[k]) > bound * (1.0 + missed))
                sign = within.data()[k] < 0.0 ? -1.0 : 1.0;
        }
        if (next == set) exchange_one(next, excess, dual, U, missed);
        return next;
    }
    // Of equations that nearly hold, and cannot all hold, the dual value rises along what they miss, which leaves the
    // other equations as they are. What stops it first is exchanged: a multiplier that falls to 0, whose constraint
    // leaves, or an entry of A*(λ) that comes to its bound, and of W has then any value (the dual simplex method).
    void exchange_one(EntrywiseActiveSet& set, const Vector& excess, const Vector& dual, const Matrix& U,
                      double missed) const {
        constexpr double nearly_met = 1e-4;
        Vector missing = Vector::Zero(excess.size());
        for (const Index r : set.constraints) missing[r] = -excess[r];
        const Real most_missing = missing.lpNorm<Eigen::Infinity>();
        if (!(most_missing > missed && most_missing <= nearly_met)) return;
        const Matrix reach = constraints_.adjoint(missing);
        Real farthest = std::numeric_limits<double>::infinity();
        Index leaving = -1, entry = -1;
        for (const Index r : set.constraints) {
            if (constraints_.is_equality(r) || !(missing[r] < 0.0) || !(dual[r] < -farthest * missing[r])) continue;
            farthest = -dual[r] / missing[r];
            leaving = r;
        }
        for (Index k = 0; k < set.sign.size(); ++k) {
            const Real sign = set.sign.data()[k], direction = reach.data()[k] < 0.0 ? -1.0 : 1.0;
            const bool comes = bounds_primal() ? sign * direction < 0.0 : sign == 0.0;
            const Real to_bound = (bounds_primal() ? Real(0.0) : Real(1.0)) - direction * U.data()[k];
            if (!comes || !(to_bound < farthest * numext::abs(reach.data()[k]))) continue;
            farthest = to_bound / numext::abs(reach.data()[k]);
            entry = k;
        }
        if (entry >= 0)
            set.sign.data()[entry] = bounds_primal() ? 0.0 : reach.data()[entry] < 0.0 ? -1.0 : 1.0;
        else if (leaving >= 0)
            std::erase(set.constraints, leaving);
    }

    bool bounds_primal() const { return norm_.kind == SvmNorm::Kind::max; }

    // Moves x and λ by as little as it takes for C x = b and C'λ = c, in rounds, each of which has more digits.
    static bool correct(const Matrix& C, const Vector& rhs, const Vector& c, Vector& x, Vector& dual) {
        constexpr int rounds = 3;
        constexpr double proximal = in_roundings(1e-14);
        const bool wide = C.rows() < C.cols();
        Matrix gram = smaller_gram(C);
        gram.diagonal().array() += proximal * gram.trace();
        const Cholesky factor(std::move(gram));
        if (!factor.succeeded()) return false;
        for (int k = 0; k < rounds; ++k) {
            const Vector missing = rhs - apply(C, x), unbalanced = c - apply_transpose(C, dual);
            x += wide ? apply_transpose(C, factor.solve(missing)) : factor.solve(apply_transpose(C, missing));
            dual += wide ? factor.solve(apply(C, unbalanced)) : apply(C, factor.solve(unbalanced));
        }
        return x.allFinite() && dual.allFinite();
    }

    const Constraints& constraints_;
    const SvmNorm& norm_;
    const Matrix& W_;
    const Vector& dual_;
};

}  // namespace

void solve_active_sets(const Constraints& constraints, const SvmNorm& norm, EntrywiseActiveSet set, const Matrix& W,
                       const Vector& dual, Real good, Candidate& best) {
    constexpr int most_exchanges = 6;
    const ActiveSetEquations equations(constraints, norm, W, dual);
    for (int k = 0; k < most_exchanges && best.distance > good; ++k) {
        const EntrywiseActiveSet tried = set;
        best.replace_by(equations.solve(set));
        if (set == tried) break;
    }
}

}  // namespace attsvm::inline ATTSVM_PRECISION
