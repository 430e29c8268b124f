#include "attsvm/nuclear_constraints.hpp"

#include <numeric>

namespace attsvm::nuclear {

Vector Constraints::values(const Matrix& W) const {
    Matrix directions(left(), map().samples);
    map().directions(team_, W.data(), directions.data());
    Vector values(count());
    map().margins(team_, directions.data(), values.data());
    return values;
}

Matrix Constraints::adjoint(const Vector& dual) const {
    Matrix sums(left(), map().samples), adjoint(left(), right());
    map().token_sums(team_, dual.data(), sums.data());
    map().from_sums(team_, sums.data(), adjoint.data());
    return adjoint;
}

Matrix Constraints::symmetric_adjoint(const Vector& dual) const {
    Matrix K = Matrix::Zero(order(), order());
    const Matrix G = adjoint(dual);
    K.topRightCorner(left(), right()) = G;
    K.bottomLeftCorner(right(), left()) = G.transpose();
    return K;
}

Matrix Constraints::coupling(const Matrix& X, const Matrix& Y) const {
    constexpr double worth_sharing = 4e6;
    const Index k = left(), l = right(), m = count(), n = map().samples;
    const Index* const start = map().start;
    const auto D = differences();
    const auto Z = queries();
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
      equality_(part_.count()),
      team_(all.team()) {
    for (Index k = 0; k < count(); ++k) {
        rhs_[k] = all.rhs()[(*this)[k]];
        equality_[k] = all.is_equality((*this)[k]);
    }
}

// Rows that nearly agree have nearly equal values of a W, which need not be compared with all others.
Vector ChosenConstraints::of_all(const Constraints& all, const Vector& dual) const {
    Vector of_all = Vector::Zero(all.count());
    for (Index k = 0; k < count(); ++k) of_all[(*this)[k]] = dual[k];
    return of_all;
}

std::optional<std::vector<Index>> ChosenConstraints::revised(const Constraints& all, const Vector& dual,
                                                             const Vector& values) const {
    constexpr double missed = 1e-10;
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

std::vector<std::vector<Index>> clusters(const Constraints& constraints) {
    constexpr double apart = 1e-4;
    const MarginMap& map = constraints.map();
    const auto D = constraints.differences();
    const auto Z = constraints.queries();
    const Vector place =
        constraints.values(fixed_random(map.coordinates()).reshaped(constraints.left(), constraints.right()));
    std::vector<Index> order(static_cast<std::size_t>(constraints.count())), sample(order.size());
    for (Index i = 0; i < map.samples; ++i)
        std::fill(sample.begin() + map.start[i], sample.begin() + map.start[i + 1], i);
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

double duality_gap(const Constraints& constraints, const Vector& values, double norm, const Vector& dual) {
    double primal = norm;
    for (Index r = 0; r < constraints.count(); ++r)
        primal += std::abs(dual[r]) * constraints.problem().violation(r, values[r]);
    const double gap = std::abs(primal - constraints.rhs().dot(dual)) / primal;
    return std::isfinite(gap) ? gap : std::numeric_limits<double>::infinity();
}

namespace {

// What W has to be multiplied by for its smallest value to be the right-hand side; infinite if nothing does, 1 if
// equalities fix its size.
double scaling_to_feasible(const Constraints& constraints, const Vector& values) {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    double smallest = infinity;
    bool fixed = false;
    for (Index r = 0; r < constraints.count(); ++r) {
        const double rhs = constraints.rhs()[r];
        if (constraints.is_equality(r))
            fixed |= rhs != 0.0;
        else if (rhs > 0.0)
            smallest = std::min(smallest, values[r] / rhs);
    }
    return fixed || smallest == infinity ? 1.0 : smallest > 0.0 ? 1.0 / smallest : infinity;
}

}  // namespace

Candidate::Candidate(const Constraints& constraints, Matrix W_, double norm, Vector dual_)
    : W(std::move(W_)), dual(std::move(dual_)) {
    Vector values = constraints.values(W);
    const double scaling = scaling_to_feasible(constraints, values);
    if (!std::isfinite(scaling)) return;
    W *= scaling;
    values *= scaling;
    distance = duality_gap(constraints, values, scaling * norm, dual);
    for (Index r = 0; r < constraints.count(); ++r)
        distance = std::max(distance, constraints.problem().violation(r, values[r]));
}

void Candidate::replace_by(Candidate&& other) {
    if (other.distance < distance) *this = std::move(other);
}

}  // namespace attsvm::nuclear
