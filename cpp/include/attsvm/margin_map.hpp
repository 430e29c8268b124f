// The map from W to its margins A_r(W) = D_r' W z_i, its adjoint, and the Gram matrix K = A A* that is never formed.
//
// Queries are given by coordinates: row l_i of L for z_i. W is held as V (k × d), A_r(W) = D_r' V' l_i, and
// A*(λ) is V = L' P, where row i of P is the sum of λ_r D_r over the constraints r of sample i.
#pragma once

#include <vector>

#include "attsvm/buffer.hpp"
#include "attsvm/elementary.hpp"
#include "attsvm/products.hpp"
#include "attsvm/team.hpp"

namespace attsvm {

// Constraints in the order of their samples; those of sample i are start[i], ..., start[i + 1] - 1.
struct MarginMap {
    Index samples, dimension, query_dimension;
    const Index* start;
    const double* D;  // (m, dimension)
    const double* L;  // (samples, query_dimension)

    Index constraints() const { return start[samples]; }
    Index coordinates() const { return query_dimension * dimension; }
    Index rows(Index i) const { return start[i + 1] - start[i]; }
    const double* differences(Index i) const { return D + start[i] * dimension; }
    const double* query(Index i) const { return L + i * query_dimension; }

    // P (samples × dimension)
    void token_sums(const Team& team, const double* dual, double* P) const {
        team.for_ranges(samples, [&](Index i, Index last, int) {
            for (; i < last; ++i) rows_combine(differences(i), rows(i), dimension, dual + start[i], P + i * dimension);
        });
    }
    // V = L' P
    void from_sums(const Team& team, const double* P, double* V) const {
        multiply(team, query_dimension, samples, dimension, Strided<double>{L, 1, query_dimension}, Extents{}, P, V);
    }
    // Y = L V, whose rows are the W z_i
    void directions(const Team& team, const double* V, double* Y) const {
        multiply(team, samples, query_dimension, dimension, Strided<double>{L, query_dimension, 1}, Extents{}, V, Y);
    }
    // A(W) from the W z_i
    void margins(const Team& team, const double* Y, double* values) const {
        team.for_ranges(samples, [&](Index i, Index last, int) {
            for (; i < last; ++i) rows_dot(differences(i), rows(i), dimension, Y + i * dimension, values + start[i]);
        });
    }
    // The W z_i of one sample alone
    void direction(const double* V, Index i, double* y) const {
        rows_combine(V, query_dimension, dimension, query(i), y);
    }
    // V += l_i p'
    void add(Index i, const double* p, double* V) const {
        const double* const l = query(i);
        for (Index c = 0; c < query_dimension; ++c)
            for (Index j = 0; j < dimension; ++j) V[c * dimension + j] += l[c] * p[j];
    }
};

// Memory for the products with a MarginMap.
struct MarginScratch {
    Buffer<double> P, V, Y;
    explicit MarginScratch(const MarginMap& map)
        : P(map.samples * map.dimension), V(map.coordinates()), Y(map.samples * map.dimension) {}

    // P and V of A*(dual)
    void adjoint(const Team& team, const MarginMap& map, const double* dual) {
        map.token_sums(team, dual, P.data());
        map.from_sums(team, P.data(), V.data());
    }
    // A(W) for the W that V holds
    void values(const Team& team, const MarginMap& map, double* margins) {
        map.directions(team, V.data(), Y.data());
        map.margins(team, Y.data(), margins);
    }
    double square() const { return sum_of_squares(V.data(), V.size()); }
};

// Some of the constraints, with their rows copied together.
class PartOfConstraints {
   public:
    PartOfConstraints(const MarginMap& whole, std::vector<Index> chosen)
        : chosen_(std::move(chosen)), start_(whole.samples + 1), D_(count() * whole.dimension), map_(whole) {
        Index at = 0;
        for (Index i = 0; i < whole.samples; ++i) {
            for (; at < count() && chosen_[static_cast<std::size_t>(at)] < whole.start[i + 1]; ++at) {
                const double* const row = whole.D + chosen_[static_cast<std::size_t>(at)] * whole.dimension;
                std::copy(row, row + whole.dimension, D_.data() + at * whole.dimension);
            }
            start_[i + 1] = at;
        }
        map_.start = start_.data();
        map_.D = D_.data();
    }

    const MarginMap& map() const { return map_; }
    Index count() const { return static_cast<Index>(chosen_.size()); }
    Index operator[](Index k) const { return chosen_[static_cast<std::size_t>(k)]; }

    void gather(const double* whole, double* part) const {
        for (Index k = 0; k < count(); ++k) part[k] = whole[(*this)[k]];
    }

   private:
    std::vector<Index> chosen_;
    Buffer<Index> start_;
    Buffer<double> D_;
    MarginMap map_;
};

}  // namespace attsvm
