// Constraints as given, evaluated in twice the precision of float64: differences of tokens without their rounding,
// products and sums with an error of about 2⁻¹⁰⁰ of their terms. It is what a certificate is computed with where
// float64 would decide by rounding.
#pragma once

#include <vector>

#include "attsvm/svm_problem.hpp"

namespace attsvm {

struct FourDoubles;

template <class Token>
class ExactConstraints {
   public:
    ExactConstraints(const Team& team, Progress& progress, bool calling_thread, const SvmProblem<Token>& svm,
                     const UnitConstraints& constraints);

    // Rows are taken in units of powers of two, 2^exponent(r), W in 2^scale_exponent(): all are of the order of 1.
    int exponent(Index r) const { return row_exponent_[r] + query_exponent_[constraint_sample_[r]]; }
    int scale_exponent() const { return scale_exponent_; }
    // b_r and the row A_r (query_dimension, dimension) in these units
    double rhs(Index r) const { return std::ldexp(svm_.rhs[constraints_.place(r)], -exponent(r) - scale_exponent_); }
    void row(Index r, FourDoubles* entries) const;
    // The same as differences (constraints, dimension), without their rounding, and queries (samples, query_dimension)
    void factors(double* differences, double* lacking, double* queries) const;

    // A_r(left' right) in these units, 2^(exponent(r) + scale_exponent()); left and right have `factors` rows. Those
    // of a W `in_parts`, which twice the precision would round, are evaluated in four times the precision.
    void margins(const double* left, const double* right, Index factors, bool in_parts, double* values);

    // Takes A*(λ), of multipliers that are sums of parts in units 2^(unit - exponent(r)); parts that are null are 0.
    // The two sums of `norm` and `residual` are of it. Of more than two parts, A*(λ) of each query is summed up in four
    // times the precision.
    using PartsOfMultipliers = std::array<const double*, parts_of_extended>;
    void set_multipliers(const PartsOfMultipliers& parts, int unit);
    // Take left' right off, in units of W.
    void subtract(const double* left, const double* right, Index factors);

    // |A*(λ)|, infinite where it takes too much work or is stopped.
    double norm() { return norm(false); }
    // The same with every entry divided by what is usual for unit rows in its place: the largest there, times
    // √(dimension query_dimension), at most 1. No feature counts for more because it is measured in a small unit. The
    // entries are kept for `residual` and `entries`.
    double weighted_norm() { return norm(true); }
    // (query_dimension, dimension)
    const Buffer<double>& entries() const { return V_; }
    // The weighted norm or more, and at most √queries times as much where different queries are orthogonal.
    double norm_bound() const;
    // Â_r(A*(λ)) of the unit rows: of what `norm` kept, or with the different queries taken for orthonormal.
    void residual(bool kept, double* values) const;
    // What rounding may have added to the weighted norm.
    double rounding() const;
    bool affordable() const;

    // Different queries: how many, and which one a sample has.
    Index queries() const { return static_cast<Index>(query_of_.size()); }
    Index query_of_sample(Index i) const { return group_[i]; }

   private:
    double norm(bool weighted);
    const Token* token(Index r) const {
        const Index i = constraint_sample_[r];
        return svm_.token(i, constraints_.place(r) - i * svm_.tokens);
    }

    Team team_;
    Progress& progress_;
    bool calling_thread_;
    const SvmProblem<Token>& svm_;
    const UnitConstraints& constraints_;
    UnitProblem problem_;
    int scale_exponent_;
    Buffer<int> row_exponent_, query_exponent_;
    Buffer<Index> constraint_sample_, group_;
    std::vector<Index> query_of_;      // sample whose query stands for a group
    Buffer<double> Z_;                 // (queries, query_dimension)
    Buffer<double> high_, low_;        // (queries, dimension): sums of λ_r times the differences
    Buffer<double> W_left_, W_right_;  // what is subtracted
    Buffer<double> token_weight_, query_weight_;
    Buffer<double> V_;     // (query_dimension, dimension)
    double weight_ = 0.0;  // Σ |λ_r| |A_r|
};

}  // namespace attsvm
