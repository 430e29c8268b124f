#include "attsvm/newton_equations.hpp"

namespace attsvm::inline ATTSVM_PRECISION {
namespace {

// The entry of two constraints r and s of samples i and j is D_r' N D_s with
//     N = diag(Σ_c l_ic l_jc h_c) + diag(l_j) crossed diag(l_i)
template <class Differences, class Queries>
Matrix gram(const MarginMap& map, const Differences& D, const Queries& L, const Matrix& weights,
            const Matrix& crossed) {
    if (map.query_dimension == 1) {
        Matrix rows = D, of_column = weights;
        for (Index i = 0; i < map.samples; ++i) rows.middleCols(map.start[i], map.rows(i)) *= L(0, i);
        if (crossed.size() > 0) of_column(0, 0) += crossed(0, 0);
        return transpose_times(rows, of_column.col(0).asDiagonal() * rows);
    }
    const Index square = crossed.rows();
    Matrix gram(map.constraints(), map.constraints());
    for (Index i = 0; i < map.samples; ++i) {
        if (map.rows(i) == 0) continue;
        const Index end = map.start[i + 1];
        const Matrix pairs = L.leftCols(i + 1).array().colwise() * L.col(i).array();
        const Matrix of_pairs = times(weights, pairs);
        Matrix scaled = D.leftCols(end), across;
        if (square > 0) across = times(crossed * L.col(i).head(square).asDiagonal(), D.topLeftCorner(square, end));
        for (Index j = 0; j <= i; ++j) {
            auto columns = scaled.middleCols(map.start[j], map.rows(j));
            columns.array().colwise() *= of_pairs.col(j).array();
            if (square > 0)
                columns.topRows(square) +=
                    L.col(j).head(square).asDiagonal() * across.middleCols(map.start[j], map.rows(j));
        }
        transpose_times(D.middleCols(map.start[i], map.rows(i)), scaled, gram.block(map.start[i], 0, map.rows(i), end));
    }
    return gram;
}

}  // namespace

Matrix weighted_gram(const nuclear::Constraints& constraints, const Matrix& weights) {
    return gram(constraints.map(), constraints.differences(), constraints.queries(), weights, {});
}

Matrix TransposingMap::operator()(const Matrix& B) const { return of_inner(times(transpose_times(left, B), right)); }
Matrix TransposingMap::of_inner(const Matrix& G) const {
    Matrix E = own.cwiseProduct(G);
    const Index square = crossed.rows();
    E.topLeftCorner(square, square) += crossed.cwiseProduct(G.topLeftCorner(square, square).transpose());
    return times(left, times_transpose(E, right));
}
Matrix TransposingMap::gram(const nuclear::Constraints& constraints) const {
    return attsvm::ATTSVM_PRECISION::gram(constraints.map(), transpose_times(left, constraints.differences()),
                                          transpose_times(right, constraints.queries()), own, crossed);
}

// Σ_i (l_i l_i') ⊗ S_i with the symmetric S_i = Σ_r θ_r D_r D_r', block by block
Matrix gram_of_entries(const nuclear::Constraints& constraints, const Vector& theta, Progress& progress) {
    constexpr Index columns_at_once = 4;
    const MarginMap& map = constraints.map();
    const auto& L = constraints.queries();
    const Index d = constraints.left(), e = constraints.right(), n = map.samples;
    if (e == 1) {
        const Matrix rows = constraints.dense_rows();
        return times_transpose(rows * theta.asDiagonal(), rows);
    }
    Matrix S(d * (d + 1) / 2, n), gram(d * e, d * e);
    parallel_for_each(constraints.team(), n, progress, [&](Index i, bool) {
        const auto D = constraints.differences().middleCols(map.start[i], map.rows(i));
        const Matrix of_sample = times_transpose(D * theta.segment(map.start[i], map.rows(i)).asDiagonal(), D);
        Real* column = S.col(i).data();
        for (Index j = 0; j < d; ++j) column = std::copy_n(of_sample.col(j).data() + j, d - j, column);
    });
    const Index groups = (e + columns_at_once - 1) / columns_at_once;
    parallel_for_each(constraints.team(), groups, progress, [&](Index group, bool) {
        const Index first = group * columns_at_once, last = std::min(first + columns_at_once, e), rows = e - first;
        Matrix pairs(rows * (last - first), n);
        for (Index c = first; c < last; ++c)
            pairs.middleRows((c - first) * rows, rows) = L.bottomRows(rows) * L.row(c).asDiagonal();
        const Matrix blocks = times_transpose(S, pairs);
        for (Index c = first; c < last; ++c)
            for (Index b = c; b < e; ++b) {
                const Real* from = blocks.col((c - first) * rows + b - first).data();
                for (Index j = 0; j < d; ++j)
                    for (Index k = j; k < d; ++k) gram(b * d + k, c * d + j) = gram(b * d + j, c * d + k) = *from++;
            }
    });
    return gram;
}

NewtonEquations::NewtonEquations(const nuclear::Constraints& constraints, Matrix weights, Vector quotients,
                                 const GoesOn& goes_on)
    : constraints_(constraints), weights_(std::move(weights)), quotients_(std::move(quotients)) {
    for (Index r = 0; r < constraints.count(); ++r)
        if (constraints.is_equality(r)) equalities_.push_back(r);
    for_entries_ = constraints.map().coordinates() < constraints.count() - std::ssize(equalities_);
    if (!for_entries_) {
        Matrix M = weighted_gram(constraints, weights_);
        M.diagonal() += quotients_;
        factor_ = factorised(M, goes_on);
        return;
    }
    root_ = weights_.cwiseSqrt();
    theta_ = quotients_.cwiseInverse();
    for (const Index r : equalities_) theta_[r] = 0.0;
    Progress progress(nullptr, 1.0);
    Matrix K = gram_of_entries(constraints, theta_, progress);
    K.array() *= (root_.reshaped() * root_.reshaped().transpose()).array();
    K.diagonal().array() += 1.0;
    factor_ = factorised(K, goes_on);
    if (!factor_.succeeded()) return;
    rows_of_equalities_ = root_.reshaped().asDiagonal() * constraints.dense_rows(equalities_);
    const Matrix half = factor_.solve_lower(rows_of_equalities_, goes_on);
    of_equalities_ = factorised(transpose_times(half, half));
}

NewtonEquations::Step NewtonEquations::solve(const Matrix& f, const Vector& b) const {
    const Vector rhs = b.size() > 0 ? b : Vector::Zero(constraints_.count());
    return for_entries_ ? solve_for_entries(f, rhs) : solve_for_multipliers(f, rhs);
}

// What the shift of a factor on its diagonal changes is corrected in rounds, where four times the precision would be
// much more work.
NewtonEquations::Step NewtonEquations::solve_for_multipliers(const Matrix& f, Vector b) const {
    constexpr Index small = 64;
    const int rounds = std::is_same_v<Real, double> && b.size() > small ? 2 : 0;
    if (f.size() > 0) b -= constraints_.values(weights_.cwiseProduct(f));
    Vector dual = factor_.solve(b);
    for (int k = 0; k < rounds; ++k)
        dual += factor_.solve(b - constraints_.values(weights_.cwiseProduct(constraints_.adjoint(dual))) -
                              quotients_.cwiseProduct(dual));
    Matrix W = constraints_.adjoint(dual);
    if (f.size() > 0) W += f;
    return {weights_.cwiseProduct(W), std::move(dual)};
}

NewtonEquations::Step NewtonEquations::solve_for_entries(const Matrix& f, const Vector& b) const {
    Matrix W = constraints_.adjoint(theta_.cwiseProduct(b));
    if (f.size() > 0) W += f;
    Vector entries = factor_.solve(root_.cwiseProduct(W).reshaped());
    const Vector of_equalities = of_equalities_.solve(b(equalities_) - apply_transpose(rows_of_equalities_, entries));
    entries += factor_.solve(apply(rows_of_equalities_, of_equalities));
    W = root_.cwiseProduct(entries.reshaped(root_.rows(), root_.cols()));
    Vector dual = theta_.cwiseProduct(b - constraints_.values(W));
    dual(equalities_) = of_equalities;
    return {std::move(W), std::move(dual)};
}

}  // namespace attsvm::inline ATTSVM_PRECISION
