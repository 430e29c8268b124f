// SVMs on tokens, min ½|W|² subject to A_r(W) >= b_r (or = b_r), and their form in units of its own.
#pragma once

#include <array>
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
    const Token* X;                          // (samples, tokens, dimension), or the rows that `token_id` names
    const double* Z;                         // (samples, query_dimension), or the rows that `query_id` names
    const std::int64_t* selected;            // (samples)
    const std::int64_t* length;              // (samples)
    const double* rhs;                       // (samples, tokens)
    const bool* equality;                    // (samples, tokens)
    const std::int64_t* token_id = nullptr;  // (samples, tokens)
    const std::int64_t* query_id = nullptr;  // (samples)

    bool has_constraint(Index i, Index t) const { return t < length[i] && t != selected[i]; }
    const Token* token(Index i, Index t) const {
        return X + (token_id == nullptr ? i * tokens + t : token_id[i * tokens + t]) * dimension;
    }
    // The selected token, null where there is none.
    const Token* selected_token(Index i) const { return selected[i] < 0 ? nullptr : token(i, selected[i]); }
    const double* query(Index i) const { return Z + (query_id == nullptr ? i : query_id[i]) * query_dimension; }
};

// Beyond float64 are rows, W or multipliers, as large as |W|².
enum class SvmStatus : std::int8_t { optimal = 0, infeasible = 1, unresolved = 2, beyond_float64 = 3 };

// Numbers as the sums of numbers of float64: each rounded, and thrice what rounding took. Those of a W are
// (query_dimension, dimension).
inline constexpr Index parts_of_extended = 4;
using InParts = std::array<Buffer<double>, parts_of_extended>;
template <class Dense>
InParts in_parts(const Dense& numbers) {  // of FourDoubles
    InParts parts;
    for (std::size_t part = 0; part < parts.size(); ++part) {
        parts[part] = Buffer<double>(numbers.size());
        for (Index k = 0; k < numbers.size(); ++k) parts[part][k] = numbers.data()[k].part[part];
    }
    return parts;
}

// Where the result of one SVM goes; arrays over tokens have an entry for every one, with a constraint or without.
struct SvmResultView {
    double* dual;          // (samples, tokens): multipliers; if infeasible those of the proof, with b'λ = 1
    double* margins;       // (samples, tokens): A_r(W), infinite where there is no constraint
    Index factors;         // rows of `left` and `right`, the number of samples or more
    double *left, *right;  // (factors, dimension) and (factors, query_dimension): W = left' right
    double *norm, *gap, *kkt;
    std::int8_t *status, *unique;  // whether there is one solution: 1 or 0, and -1 where that is not decided
    std::int64_t* iterations;      // of the method that gave the result; 0 where there was nothing to solve
    // Whether W is to be given in four times the precision, as InParts in as many times query_dimension rows.
    bool extended = false;
};

// How small gap and residuals must be for a result to be believed.
struct SvmTolerance {
    double optimality, infeasibility;
};

// SVMs of one shape, one after the other in memory.
template <class Token>
struct SvmBatch {
    Index count;
    SvmProblem<Token> first;
    Index token_rows = 0, query_rows = 0;  // rows of X and Z of one SVM where ids name them; 0: one table for all

    SvmProblem<Token> operator[](Index b) const {
        SvmProblem<Token> one = first;
        const Index n = one.samples, T = one.tokens;
        one.X += b * (one.token_id == nullptr ? n * T : token_rows) * one.dimension;
        one.Z += b * (one.query_id == nullptr ? n : query_rows) * one.query_dimension;
        one.selected += b * n;
        one.length += b * n;
        one.rhs += b * n * T;
        one.equality += b * n * T;
        if (one.token_id != nullptr) one.token_id += b * n * T;
        if (one.query_id != nullptr) one.query_id += b * n;
        return one;
    }
    SvmResultView at(Index b, SvmResultView result) const {
        const Index n = first.samples, T = first.tokens;
        result.dual += b * n * T;
        result.margins += b * n * T;
        result.left += b * result.factors * first.dimension;
        result.right += b * result.factors * first.query_dimension;
        result.norm += b;
        result.gap += b;
        result.kkt += b;
        result.status += b;
        result.unique += b;
        result.iterations += b;
        return result;
    }
};

// Constraints of unit size: |A_r| = 1 and |b_r| <= 1.
struct UnitProblem {
    MarginMap map;
    const double* rhs;
    const bool* equality;

    Index size() const { return map.constraints(); }

    // |b_r - A_r(W)| where the constraint misses, else 0
    template <class Real>
    Real violation(Index r, Real value) const {
        const Real missing = rhs[r] - value;
        return !(missing < 0.0) ? missing : equality[r] ? Real(-missing) : Real(0.0);
    }
    // What rounding alone may leave of a violation, for a W of this norm.
    static double rounding(double norm) { return 64.0 * std::numeric_limits<double>::epsilon() * (1.0 + norm); }
};

// Those of the caller, or of a basis of the queries' span where that has fewer.
enum class QueryCoordinates { given, fewest };

// The problem's constraints scaled to unit size, and the way back: with A_r = row_norm_r Â_r the problem in w is
// Â_r(w) >= b_r / (row_norm_r scale), and W = scale w. Rows that are zero have no such form and are left out.
class UnitConstraints {
   public:
    template <class Token>
    UnitConstraints(const Team& team, const SvmProblem<Token>& svm, QueryCoordinates coordinates);

    Index size() const { return static_cast<Index>(place_.size()); }
    // The position (i, t) of constraint r among all of the problem's, as i T + t.
    Index place(Index r) const { return place_[static_cast<std::size_t>(r)]; }
    // A zero row with a right-hand side that it cannot meet.
    std::optional<Index> contradiction() const { return contradiction_; }
    // Whether W = 0 is the solution, because it meets every constraint.
    bool trivial() const { return trivial_; }
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
    void use_fewer_query_coordinates(const Team& team);

    std::vector<Index> place_;
    Buffer<Index> start_, zeros_, order_, all_;
    std::optional<RowBasis> query_basis_;
    Buffer<double> query_norm_, L_, D_, rhs_, row_norm_;
    Buffer<bool> equality_;
    double scale_ = 0.0;
    std::optional<Index> contradiction_;
    bool trivial_ = true;
    MarginMap map_{};
};

}  // namespace attsvm
