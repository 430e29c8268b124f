// SVMs on tokens, min ½|W|² subject to A_r(W) >= b_r (or = b_r), and their form in units of its own.
#pragma once

#include <limits>
#include <optional>
#include <vector>

#include "attsvm/margin_map.hpp"
#include "attsvm/row_basis.hpp"

namespace attsvm {

// One SVM in the caller's memory. Constraint (i, t) is (x_iα - x_it)' W z_i >= b_it for every valid token t of
// sample i other than the selected α; a sample without a selected token (α < 0) has x_it itself for the difference.
template <class Token>
struct SvmProblem {
    Index samples, tokens, dimension, query_dimension;
    const Token* X;                // (samples, tokens, dimension)
    const double* Z;               // (samples, query_dimension)
    const std::int64_t* selected;  // (samples)
    const std::int64_t* length;    // (samples)
    const double* rhs;             // (samples, tokens)
    const bool* equality;          // (samples, tokens)

    bool has_constraint(Index i, Index t) const { return t < length[i] && t != selected[i]; }
};

// Constraints of unit size: |A_r| = 1 and |b_r| <= 1.
struct UnitProblem {
    MarginMap map;
    const double* rhs;
    const bool* equality;

    Index size() const { return map.constraints(); }

    // |b_r - A_r(W)| where the constraint misses, else 0
    double violation(Index r, double value) const {
        const double missing = rhs[r] - value;
        return equality[r] ? std::abs(missing) : std::max(missing, 0.0);
    }
    // What rounding alone may leave of a violation, for a W of this norm.
    static double rounding(double norm) { return 64.0 * std::numeric_limits<double>::epsilon() * (1.0 + norm); }
};

// The problem's constraints scaled to unit size, and the way back: with A_r = row_norm_r Â_r the problem in w is
// Â_r(w) >= b_r / (row_norm_r scale), and W = scale w. Rows that are zero have no such form and are left out.
class UnitConstraints {
   public:
    template <class Token>
    UnitConstraints(const Team& team, const SvmProblem<Token>& svm)
        : start_(svm.samples + 1), query_norm_(svm.samples), L_(svm.samples * svm.query_dimension) {
        const Index n = svm.samples, T = svm.tokens, d = svm.dimension, e = svm.query_dimension;
        for (Index i = 0; i < n; ++i) {
            const double* const z = svm.Z + i * e;
            query_norm_[i] = norm(z, e);
            for (Index t = 0; t < T; ++t) {
                if (!svm.has_constraint(i, t)) continue;
                const Index at = i * T + t;
                const bool zero = !(query_norm_[i] > 0) || Difference<Token>(svm, i, t).is_zero(d);
                if (!zero) place_.push_back(at);
                if (zero && !contradiction_ && contradicts(svm, at)) contradiction_ = at;
            }
            start_[i + 1] = size();
            if (query_norm_[i] > 0)
                for (Index c = 0; c < e; ++c) L_[i * e + c] = z[c] / query_norm_[i];
        }

        D_ = Buffer<double>(size() * d);
        rhs_ = Buffer<double>(size());
        row_norm_ = Buffer<double>(size());
        equality_ = Buffer<bool>(size());
        team.for_ranges(n, [&](Index i, Index last, int) {
            for (; i < last; ++i)
                for (Index r = start_[i]; r < start_[i + 1]; ++r) {
                    const Index at = place(r);
                    double* const row = D_.data() + r * d;
                    const Difference<Token> difference(svm, i, at - i * T);
                    for (Index j = 0; j < d; ++j) row[j] = difference[j];
                    const double size = norm(row, d);
                    for (Index j = 0; j < d; ++j) row[j] /= size;
                    row_norm_[r] = size * query_norm_[i];
                    rhs_[r] = svm.rhs[at] / row_norm_[r];
                    equality_[r] = svm.equality[at];
                }
        });
        for (Index r = 0; r < size(); ++r) scale_ = std::max(scale_, std::abs(rhs_[r]));
        if (!(scale_ > 0)) scale_ = 1.0;
        for (Index r = 0; r < size(); ++r) rhs_[r] /= scale_;
        map_ = {n, d, e, start_.data(), D_.data(), L_.data(), {}, {}};
        if (e > n) use_fewer_query_coordinates(team);
    }

    Index size() const { return static_cast<Index>(place_.size()); }
    // The position (i, t) of constraint r among all of the problem's, as i T + t.
    Index place(Index r) const { return place_[static_cast<std::size_t>(r)]; }
    // A zero row with a right-hand side that it cannot meet.
    std::optional<Index> contradiction() const { return contradiction_; }
    // Whether W = 0 is the solution, because it meets every constraint.
    bool trivial() const {
        for (Index r = 0; r < size(); ++r)
            if (rhs_[r] > 0 || (equality_[r] && rhs_[r] != 0)) return false;
        return true;
    }
    // Whether |A_r|, W and its multipliers, as large as |W|², are numbers of float64.
    bool within_float64() const {
        constexpr double smallest = 1e-290;
        const auto usable = [](double x) { return x > smallest && x < 1.0 / smallest; };
        for (Index r = 0; r < size(); ++r)
            if (!usable(row_norm_[r]) || !usable(scale_ / row_norm_[r])) return false;
        return usable(scale_);
    }

    UnitProblem problem() const { return {map_, rhs_.data(), equality_.data()}; }
    // Rows B with ẑ_i = Σ_c l_ic B_c, (query_dimension of the problem × query_dimension of the SVM).
    Buffer<double> query_basis(const Team& team, Index query_dimension) const {
        if (query_basis_) return query_basis_->vectors(team);
        Buffer<double> identity(query_dimension * query_dimension);
        for (Index c = 0; c < query_dimension; ++c) identity[c * query_dimension + c] = 1.0;
        return identity;
    }
    double row_norm(Index r) const { return row_norm_[r]; }
    double query_norm(Index i) const { return query_norm_[i]; }
    double scale() const { return scale_; }

   private:
    template <class Token>
    static bool contradicts(const SvmProblem<Token>& svm, Index at) {
        return svm.rhs[at] > 0 || (svm.equality[at] && svm.rhs[at] != 0);
    }
    // The two tokens that a constraint's difference is made of; the first is null where there is only the other.
    template <class Token>
    struct Difference {
        const Token *top, *token;
        Difference(const SvmProblem<Token>& svm, Index i, Index t) {
            const Token* const sample = svm.X + i * svm.tokens * svm.dimension;
            token = sample + t * svm.dimension;
            top = svm.selected[i] < 0 ? nullptr : sample + svm.selected[i] * svm.dimension;
        }
        double operator[](Index j) const {
            const auto x = static_cast<double>(token[j]);
            return top == nullptr ? x : static_cast<double>(top[j]) - x;
        }
        bool is_zero(Index d) const {
            for (Index j = 0; j < d; ++j)
                if (token[j] != (top == nullptr ? Token{0} : top[j])) return false;
            return true;
        }
    };

    // Fewer queries than their coordinates: those in a basis of their span, in which L is lower triangular.
    void use_fewer_query_coordinates(const Team& team) {
        const Index n = map_.samples;
        query_basis_.emplace(team, L_.data(), n, map_.query_dimension);
        zeros_ = Buffer<Index>(n);
        order_ = Buffer<Index>(n + 1);
        all_ = Buffer<Index>(n);
        for (Index i = 0; i < n; ++i) order_[i + 1] = i + 1, all_[i] = n;
        map_.query_dimension = n;
        map_.L = query_basis_->coordinates().data();
        map_.of_samples = {zeros_.data(), order_.data() + 1};
        map_.of_coordinates = {order_.data(), all_.data()};
        L_ = Buffer<double>();
    }

    std::vector<Index> place_;
    Buffer<Index> start_, zeros_, order_, all_;
    std::optional<RowBasis> query_basis_;
    Buffer<double> query_norm_, L_, D_, rhs_, row_norm_;
    Buffer<bool> equality_;
    double scale_ = 0.0;
    std::optional<Index> contradiction_;
    MarginMap map_{};
};

}  // namespace attsvm
