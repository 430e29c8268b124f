#include "attsvm/nuclear_constraints.hpp"

#include <numeric>

namespace attsvm::inline ATTSVM_PRECISION::nuclear {

namespace {

template <class Dense>
Numbers<Dense> numbers(const double* from, Index rows, Index columns = 1,
                       [[maybe_unused]] const double* lacking = nullptr) {
    if constexpr (std::is_same_v<typename Dense::Scalar, double>) {
        return Numbers<Dense>(from, rows, columns);
    } else {
        const auto of = [&](const double* entries) {
            return Eigen::Map<const Eigen::MatrixXd>(entries, rows, columns).cast<typename Dense::Scalar>();
        };
        Dense sum = of(from);
        if (lacking != nullptr) sum += of(lacking);
        return sum;
    }
}

// A(W) and A*(λ) of float64 are products of the core's
[[maybe_unused]] void evaluate(const Constraints& constraints, const Eigen::MatrixXd& W, Eigen::VectorXd& values) {
    const MarginMap& map = constraints.map();
    Eigen::MatrixXd directions(constraints.left(), map.samples);
    map.directions(constraints.team(), W.data(), directions.data());
    map.margins(constraints.team(), directions.data(), values.data());
}
[[maybe_unused]] void add_up(const Constraints& constraints, const Eigen::VectorXd& dual, Eigen::MatrixXd& adjoint) {
    const MarginMap& map = constraints.map();
    Eigen::MatrixXd sums(constraints.left(), map.samples);
    map.token_sums(constraints.team(), dual.data(), sums.data());
    map.from_sums(constraints.team(), sums.data(), adjoint.data());
}
template <class M, class V>
void evaluate(const Constraints& constraints, const M& W, V& values) {
    const Index* const start = constraints.map().start;
    const M directions = times(W, constraints.queries());
    for (Index i = 0; i < constraints.map().samples; ++i)
        values.segment(start[i], constraints.map().rows(i)) = apply_transpose(
            constraints.differences().middleCols(start[i], constraints.map().rows(i)), directions.col(i));
}
template <class M, class V>
void add_up(const Constraints& constraints, const V& dual, M& adjoint) {
    const Index* const start = constraints.map().start;
    M sums(constraints.left(), constraints.map().samples);
    for (Index i = 0; i < constraints.map().samples; ++i) {
        const Index first = start[i], rows = constraints.map().rows(i);
        sums.col(i) = apply(constraints.differences().middleCols(first, rows), dual.segment(first, rows));
    }
    adjoint = times_transpose(sums, constraints.queries());
}

}  // namespace

Constraints::Constraints(const UnitProblem& problem, const Team& team, const double* lacking)
    : problem_(problem),
      team_(team),
      lacking_(lacking),
      rhs_(numbers<Vector>(problem.rhs, problem.size())),
      D_(numbers<Matrix>(problem.map.D, left(), count(), lacking)),
      L_(numbers<Matrix>(problem.map.L, right(), problem.map.samples)) {}

Vector Constraints::values(const Matrix& W) const {
    Vector values(count());
    evaluate(*this, W, values);
    return values;
}

Matrix Constraints::adjoint(const Vector& dual) const {
    Matrix adjoint(left(), right());
    add_up(*this, dual, adjoint);
    return adjoint;
}

Matrix Constraints::symmetric_adjoint(const Vector& dual) const {
    Matrix K = Matrix::Zero(order(), order());
    const Matrix G = adjoint(dual);
    K.topRightCorner(left(), right()) = G;
    K.bottomLeftCorner(right(), left()) = G.transpose();
    return K;
}

Matrix Constraints::dense_rows() const {
    std::vector<Index> all(static_cast<std::size_t>(count()));
    std::iota(all.begin(), all.end(), Index{0});
    return dense_rows(all);
}
Matrix Constraints::dense_rows(const std::vector<Index>& chosen) const {
    const std::vector<Index> sample = map().sample_of_rows();
    Matrix rows(map().coordinates(), std::ssize(chosen));
    for (Index k = 0; const Index r : chosen)
        rows.col(k++) = (D_.col(r) * L_.col(sample[static_cast<std::size_t>(r)]).transpose()).reshaped();
    return rows;
}

Matrix Constraints::coupling(const Matrix& X, const Matrix& Y) const {
    constexpr double worth_sharing = 4e6;
    const Index k = left(), l = right(), m = count(), n = map().samples;
    const Index* const start = map().start;
    const auto& D = differences();
    const auto& Z = queries();
    const Matrix XD = times(X.topLeftCorner(k, k), D), YD = times(Y.topLeftCorner(k, k), D);
    const Matrix uXv = transpose_times(D, times(X.topRightCorner(k, l), Z));
    const Matrix uYv = transpose_times(D, times(Y.topRightCorner(k, l), Z));
    const Matrix vXv = transpose_times(Z, times(X.bottomRightCorner(l, l), Z));
    const Matrix vYv = transpose_times(Z, times(Y.bottomRightCorner(l, l), Z));
    Matrix coupled(m, m);
    const bool shared = static_cast<double>(m * m) * static_cast<double>(k) >= worth_sharing;
    Progress progress(nullptr, 1.0);
    parallel_for_each(shared ? team_ : Team(1), n, progress, [&](Index j, bool) {
        const Index first = start[j], width = map().rows(j), rest = m - first;
        Matrix panel(k, rest);
        for (Index i = j; i < n; ++i)
            panel.middleCols(start[i] - first, map().rows(i)) =
                vYv(i, j) * XD.middleCols(start[i], map().rows(i)) + vXv(i, j) * YD.middleCols(start[i], map().rows(i));
        auto column = coupled.block(first, first, rest, width);
        transpose_times(panel, D.middleCols(first, width), column);
        for (Index i = j; i < n; ++i)
            for (Index c = 0; c < width; ++c)
                column.col(c).segment(start[i] - first, map().rows(i)) +=
                    uYv(first + c, i) * uXv.col(j).segment(start[i], map().rows(i)) +
                    uXv(first + c, i) * uYv.col(j).segment(start[i], map().rows(i));
    });
    return coupled;
}

ChosenConstraints::ChosenConstraints(const Constraints& all, std::vector<Index> chosen)
    : chosen_(std::move(chosen)),
      part_(all.map(), chosen_),
      rhs_(part_.count()),
      lacking_(all.lacking() == nullptr ? 0 : part_.count() * all.left()),
      equality_(part_.count()),
      team_(all.team()) {
    for (Index k = 0; k < count(); ++k) {
        rhs_[k] = all.problem().rhs[(*this)[k]];
        equality_[k] = all.is_equality((*this)[k]);
        if (lacking_.size() > 0)
            std::copy_n(all.lacking() + (*this)[k] * all.left(), all.left(), lacking_.data() + k * all.left());
    }
}

Vector ChosenConstraints::of_all(const Constraints& all, const Vector& dual) const {
    Vector of_all = Vector::Zero(all.count());
    for (Index k = 0; k < count(); ++k) of_all[(*this)[k]] = equality_[k] ? dual[k] : std::max<Real>(dual[k], 0.0);
    return of_all;
}

bool ChosenConstraints::each_exceeds(double share, const Vector& dual) const {
    const Real bound = share * dual.lpNorm<Eigen::Infinity>();
    bool exceeds = true;
    for (Index k = 0; k < count(); ++k) exceeds &= equality_[k] || dual[k] > bound;
    return exceeds;
}

bool ChosenConstraints::others_exceed(double bound, const Vector& values) const {
    Vector of_others = values;
    for (const Index r : chosen_) of_others[r] = std::numeric_limits<double>::infinity();
    return of_others.minCoeff() > bound;
}

std::optional<std::vector<Index>> ChosenConstraints::revised(const Constraints& all, const Vector& dual,
                                                             const Vector& values) const {
    constexpr double missed = in_precision(1e-10);
    std::vector<bool> chosen(static_cast<std::size_t>(all.count()));
    for (Index k = 0; k < count(); ++k) chosen[static_cast<std::size_t>((*this)[k])] = true;
    std::vector<Index> active;
    bool changed = false;
    for (Index r = 0; r < all.count(); ++r) {
        const bool was = chosen[static_cast<std::size_t>(r)];
        const bool is = all.is_equality(r) || (was ? dual[r] > 0.0 : values[r] < all.rhs()[r] - missed);
        if (is) active.push_back(r);
        changed |= is != was;
    }
    if (!changed || active.empty()) return {};
    return active;
}

// Rows that nearly agree have nearly equal values of a W, which need not be compared with all others.
std::vector<std::vector<Index>> clusters(const Constraints& constraints) {
    constexpr double apart = 1e-4;
    const MarginMap& map = constraints.map();
    const auto& D = constraints.differences();
    const auto& Z = constraints.queries();
    const Vector place =
        constraints.values(fixed_random(map.coordinates()).reshaped(constraints.left(), constraints.right()));
    const std::vector<Index> sample = map.sample_of_rows();
    std::vector<Index> order(sample.size());
    std::iota(order.begin(), order.end(), Index{0});
    std::sort(order.begin(), order.end(), [&](Index r, Index s) { return place[r] < place[s]; });
    const auto agree = [&](Index r, Index s) {
        const Index i = sample[static_cast<std::size_t>(r)], j = sample[static_cast<std::size_t>(s)];
        return D.col(r).dot(D.col(s)) * Z.col(i).dot(Z.col(j)) >= 1.0 - 0.5 * apart * apart;
    };
    std::vector<std::vector<Index>> clusters;
    std::vector<bool> taken(order.size());
    for (std::size_t a = 0; a < order.size(); ++a) {
        if (taken[a]) continue;
        std::vector<Index>& cluster = clusters.emplace_back(1, order[a]);
        if (constraints.is_equality(order[a])) continue;
        for (std::size_t b = a + 1; b < order.size() && place[order[b]] <= place[order[a]] + apart; ++b) {
            if (taken[b] || constraints.is_equality(order[b]) || !agree(order[a], order[b])) continue;
            cluster.push_back(order[b]);
            taken[b] = true;
        }
    }
    return clusters;
}

Real duality_gap(const Constraints& constraints, const Vector& values, Real norm, const Vector& dual) {
    Real primal = norm;
    for (Index r = 0; r < constraints.count(); ++r)
        primal += numext::abs(dual[r]) * constraints.problem().violation(r, values[r]);
    const Real gap = numext::abs(primal - constraints.rhs().dot(dual)) / primal;
    return numext::isfinite(gap) ? gap : std::numeric_limits<double>::infinity();
}

namespace {

// What W has to be multiplied by for its smallest value to be the right-hand side; infinite if nothing does, 1 if
// equalities fix its size.
Real scaling_to_feasible(const Constraints& constraints, const Vector& values) {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    Real smallest = infinity;
    bool fixed = false;
    for (Index r = 0; r < constraints.count(); ++r) {
        const Real rhs = constraints.rhs()[r];
        if (constraints.is_equality(r))
            fixed |= rhs != 0.0;
        else if (rhs > 0.0)
            smallest = std::min<Real>(smallest, values[r] / rhs);
    }
    return fixed || smallest == infinity ? 1.0 : smallest > 0.0 ? 1.0 / smallest : infinity;
}

}  // namespace

Candidate::Candidate(const Constraints& constraints, Matrix W_, Real norm, Vector dual_)
    : W(std::move(W_)), dual(std::move(dual_)) {
    Vector values = constraints.values(W);
    const Real scaling = scaling_to_feasible(constraints, values);
    if (!numext::isfinite(scaling)) return;
    W *= scaling;
    values *= scaling;
    distance = duality_gap(constraints, values, scaling * norm, dual);
    for (Index r = 0; r < constraints.count(); ++r)
        distance = std::max<Real>(distance, constraints.problem().violation(r, values[r]));
}

void Candidate::replace_by(Candidate&& other) {
    if (other.distance < distance) *this = std::move(other);
}

}  // namespace attsvm::inline ATTSVM_PRECISION::nuclear
