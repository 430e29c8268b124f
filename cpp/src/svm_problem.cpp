#include "attsvm/svm_problem.hpp"

namespace attsvm {

namespace {

// The two tokens that a constraint's difference is made of; the first is null where there is only the other.
template <class Token>
struct Difference {
    const Token *top, *token;
    Difference(const SvmProblem<Token>& svm, Index i, Index t) : top(svm.selected_token(i)), token(svm.token(i, t)) {}
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

// Whether W = 0 does not meet the constraint.
template <class Token>
bool excludes_zero(const SvmProblem<Token>& svm, Index at) {
    return svm.rhs[at] > 0 || (svm.equality[at] && svm.rhs[at] != 0);
}

}  // namespace

template <class Token>
UnitConstraints::UnitConstraints(const Team& team, const SvmProblem<Token>& svm, QueryCoordinates coordinates)
    : start_(svm.samples + 1), query_norm_(svm.samples), L_(svm.samples * svm.query_dimension) {
    const Index n = svm.samples, T = svm.tokens, d = svm.dimension, e = svm.query_dimension;
    for (Index i = 0; i < n; ++i) {
        const double* const z = svm.query(i);
        query_norm_[i] = norm(z, e);
        for (Index t = 0; t < T; ++t) {
            if (!svm.has_constraint(i, t)) continue;
            const Index at = i * T + t;
            const bool zero = !(query_norm_[i] > 0) || Difference<Token>(svm, i, t).is_zero(d);
            if (!zero) place_.push_back(at);
            if (!excludes_zero(svm, at)) continue;
            trivial_ = false;
            if (zero && !contradiction_) contradiction_ = at;
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
    if (e > n && coordinates == QueryCoordinates::fewest) use_fewer_query_coordinates(team);
}

template UnitConstraints::UnitConstraints(const Team&, const SvmProblem<double>&, QueryCoordinates);
template UnitConstraints::UnitConstraints(const Team&, const SvmProblem<float>&, QueryCoordinates);

// Fewer queries than their coordinates: those in a basis of their span, in which L is lower triangular.
void UnitConstraints::use_fewer_query_coordinates(const Team& team) {
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

}  // namespace attsvm
