// The linear map from W to its margins A_r(W) = D_r' W z_i, and its adjoint; the Gram matrix K = A A* is never formed.
//
// Row l_i of L holds coordinates of query z_i. W is held as V (query_dimension × dimension) with A_r(W) = D_r' V' l_i.
// A*(λ) is V = L' P, where row i of P is the sum of λ_r D_r over the constraints r of sample i.
#pragma once

#include <span>
#include <vector>

#include "attsvm/buffer.hpp"
#include "attsvm/elementary.hpp"
#include "attsvm/products.hpp"
#include "attsvm/threads.hpp"

namespace attsvm {

// Constraints stand in the order of their samples; those of sample i are start[i], ..., start[i + 1] - 1.
struct MarginMap {
    Index samples, dimension, query_dimension;
    const Index* start;
    const double* D;         // (constraints, dimension)
    const double* L;         // (samples, query_dimension)
    Extents of_samples;      // where the rows of L may be other than zero
    Extents of_coordinates;  // the same of its columns

    Index constraints() const { return start[samples]; }
    Index coordinates() const { return query_dimension * dimension; }
    Index rows(Index i) const { return start[i + 1] - start[i]; }
    std::vector<Index> sample_of_rows() const;
    const double* row(Index r) const { return D + r * dimension; }
    const double* query(Index i) const { return L + i * query_dimension; }

    // P (samples × dimension) from λ
    void token_sums(const Team& team, const double* dual, double* P) const;
    // V = L' P
    void from_sums(const Team& team, const double* P, double* V) const;
    // Y = L V, whose rows are the W z_i
    void directions(const Team& team, const double* V, double* Y) const;
    // A(W) from Y
    void margins(const Team& team, const double* Y, double* values) const;

    // W z_i of one sample
    void direction(const double* V, Index i, double* y) const {
        rows_combine(V, query_length(i), dimension, query(i), y);
    }
    // A_r(W) of one constraint, from the W z_i of its sample
    double margin(Index r, const double* y) const {
        double dot = 0.0;
        rows_dot(row(r), 1, dimension, y, &dot);
        return dot;
    }
    // V += l_i p'
    void add(Index i, const double* p, double* V) const {
        const double* const l = query(i);
        for (Index c = 0; c < query_length(i); ++c)
            for (Index j = 0; j < dimension; ++j) V[c * dimension + j] += l[c] * p[j];
    }

   private:
    Index query_length(Index i) const { return of_samples.end == nullptr ? query_dimension : of_samples.end[i]; }
};

// Products with a MarginMap, and the memory they need.
class MarginProducts {
   public:
    MarginProducts(const Team& team, const MarginMap& map)
        : team_(team),
          map_(map),
          P_(map.samples * map.dimension),
          V_(map.coordinates()),
          Y_(map.samples * map.dimension) {}

    // W = A*(λ)
    void adjoint(const double* dual) {
        map_.token_sums(team_, dual, P_.data());
        map_.from_sums(team_, P_.data(), V_.data());
    }
    // A(W)
    void margins(double* values) {
        map_.directions(team_, V_.data(), Y_.data());
        map_.margins(team_, Y_.data(), values);
    }
    Buffer<double>& V() { return V_; }
    const Buffer<double>& P() const { return P_; }
    double norm() const { return attsvm::norm(V_.data(), V_.size()); }

   private:
    Team team_;
    const MarginMap& map_;
    Buffer<double> P_, V_, Y_;
};

// Some of the constraints, in their order, with their rows copied together.
class PartOfConstraints {
   public:
    PartOfConstraints(const MarginMap& whole, std::span<const Index> chosen);

    const MarginMap& map() const { return map_; }
    Index count() const { return std::ssize(chosen_); }
    // The constraint that stands at position k of the part.
    Index operator[](Index k) const { return chosen_[static_cast<std::size_t>(k)]; }

   private:
    std::span<const Index> chosen_;
    Buffer<Index> start_;
    Buffer<double> D_;
    MarginMap map_;
};

}  // namespace attsvm
