#include "attsvm/margin_map.hpp"

namespace attsvm {

std::vector<Index> MarginMap::sample_of_rows() const {
    std::vector<Index> sample;
    for (Index i = 0; i < samples; ++i) sample.insert(sample.end(), static_cast<std::size_t>(rows(i)), i);
    return sample;
}

void MarginMap::token_sums(const Team& team, const double* dual, double* P) const {
    team.for_ranges(samples, [&](Index i, Index last, int) {
        for (; i < last; ++i) rows_combine(row(start[i]), rows(i), dimension, dual + start[i], P + i * dimension);
    });
}

void MarginMap::from_sums(const Team& team, const double* P, double* V) const {
    multiply(team, query_dimension, samples, dimension, Strided<double>{L, 1, query_dimension}, of_coordinates, P, V);
}

void MarginMap::directions(const Team& team, const double* V, double* Y) const {
    multiply(team, samples, query_dimension, dimension, Strided<double>{L, query_dimension, 1}, of_samples, V, Y);
}

void MarginMap::margins(const Team& team, const double* Y, double* values) const {
    team.for_ranges(samples, [&](Index i, Index last, int) {
        for (; i < last; ++i) rows_dot(row(start[i]), rows(i), dimension, Y + i * dimension, values + start[i]);
    });
}

PartOfConstraints::PartOfConstraints(const MarginMap& whole, std::span<const Index> chosen)
    : chosen_(chosen), start_(whole.samples + 1), D_(count() * whole.dimension), map_(whole) {
    Index k = 0;
    for (Index i = 0; i < whole.samples; ++i) {
        for (; k < count() && (*this)[k] < whole.start[i + 1]; ++k)
            std::copy(whole.row((*this)[k]), whole.row((*this)[k]) + whole.dimension, D_.data() + k * whole.dimension);
        start_[i + 1] = k;
    }
    map_.start = start_.data();
    map_.D = D_.data();
}

}  // namespace attsvm
