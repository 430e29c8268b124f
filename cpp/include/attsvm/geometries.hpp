// Norms N of matrices, and steepest descent in them. A geometry is one struct, and an entry of `Geometries`:
//
//     norm(M, p)           N
//     direct(G, geometry)  G becomes a multiple of D(G), where <G, D> over N(D) <= 1 is largest, N*(G) = <G, D(G)>;
//     entry(x)             the rest of it, entry by entry, which is left to the step that reads them
//     by_coordinate        whether D depends on the coordinates of tokens and queries
//     has_mirror           whether N^p / p is smooth: its gradient is `mirror`, with the inverse `inverse_mirror`, and
//                          N* is N with the exponent `dual_p`
//
// Every lane of a pack is a matrix of its own. Of a vector the spectral and the nuclear norm are the Euclidean one.
#pragma once

#include <string_view>

#include "attsvm/products.hpp"
#include "attsvm/thin_svd.hpp"
#include "attsvm/type_list.hpp"

namespace attsvm {

// -1, 0 or 1; NaN stays.
template <class Real>
ATTSVM_INLINE Real sign(Real x) {
    return select(x > Real(0.0), Real(1.0), select(Real(0.0) > x, Real(-1.0), x));
}
// x^e of x >= 0
template <class Real>
Real power(Real x, double e) {
    if (e == 1.0) return x;
    if (e == 0.5) return sqrt(x);
    if (e == 1.5) return x * sqrt(x);
    if (e == 2.0) return x * x;
    return lanewise(x, [e](double y) { return std::pow(y, e); });
}
// x where it is not zero, else 1: to divide by
template <class Real>
Real or_one(Real x) {
    return select(x != Real(0.0), x, Real(1.0));
}

// Terms that a matrix is the sum of: left' right, with left (depth, rows) and right (depth, columns).
template <class Real>
struct Terms {
    Index depth = 0;
    const Real* left = nullptr;
    const Real* right = nullptr;
    bool left_stays = false;  // from step to step

    // Whether singular values are computed from them: more terms cancel in any case.
    bool decide(Index rows, Index columns) const { return depth > 0 && depth <= 2 * std::min(rows, columns); }
};

// A matrix, row after row, and what its steepest direction is computed with.
template <class Real>
struct MatrixBlock {
    const Team& team;
    Index rows, columns;
    Real* data;
    Real* of_row;         // workspace, one number a row
    bool transposed;      // whether the caller's matrix is the transpose of this one
    Real euclidean;       // its Frobenius norm
    Terms<Real> terms{};  // where they are known
    bool asks_dual_norm = true;

    Index size() const { return rows * columns; }
    bool is_vector() const { return rows == 1 || columns == 1; }

    // action(row, j) for every row
    template <class Action>
    void for_rows(Action action) const {
        team.for_work(size()).for_ranges(rows, [&](Index j, Index last, int) {
            for (; j < last; ++j) action(data + j * columns, j);
        });
    }
    template <class Term>
    Real sum_of(Term term) const {
        for_rows(
            [&](const Real* row, Index j) { of_row[j] = sum<Real>(columns, [&](Index k) { return term(row[k]); }); });
        return sum<Real>(rows, [&](Index j) { return of_row[j]; });
    }
    Real largest() const {
        for_rows([&](const Real* row, Index j) {
            of_row[j] = Real(0.0);
            for (Index k = 0; k < columns; ++k) of_row[j] = larger(magnitude(row[k]), of_row[j]);
        });
        Real most(0.0);
        for (Index j = 0; j < rows; ++j) most = larger(of_row[j], most);
        return most;
    }
};

// D(G) is what the block holds now, every entry by `entry`, divided by `length`. A dual norm that is not asked for may
// be NaN.
template <class Real>
struct Steepest {
    Real dual_norm, length;
};

// One of `Geometries` with its settings.
struct Geometry {
    int kind = 0;
    double p = 2.0;         // of l_p
    int newton_schulz = 0;  // of the spectral norm: iterations towards the polar factor instead of the SVD; 0 for none
};

struct FrobeniusGeometry {
    static constexpr std::string_view name = "fro";
    static constexpr bool by_coordinate = false, has_mirror = true;
    static constexpr bool uses_terms = false;  // of a sum, for the relative accuracy of small singular values
    static double dual_p(double p) { return p; }

    template <class Real>
    static Real norm(const MatrixBlock<Real>& M, double) {
        return M.euclidean;
    }
    template <class Real>
    static Steepest<Real> direct(const MatrixBlock<Real>& G, const Geometry&) {
        return {G.euclidean, or_one(G.euclidean)};
    }
    template <class Real>
    static Real entry(Real x) {
        return x;
    }
    template <class Real>
    static Real mirror(Real x, double) {
        return x;
    }
    template <class Real>
    static Real inverse_mirror(Real y, double) {
        return y;
    }
};

struct MaxGeometry : FrobeniusGeometry {
    static constexpr std::string_view name = "max";
    static constexpr bool by_coordinate = true, has_mirror = false;

    template <class Real>
    static Real norm(const MatrixBlock<Real>& M, double) {
        return M.largest();
    }
    template <class Real>
    static Steepest<Real> direct(const MatrixBlock<Real>& G, const Geometry&) {
        const Real dual_norm = G.asks_dual_norm ? G.sum_of([](Real x) { return magnitude(x); })
                                                : Real(std::numeric_limits<double>::quiet_NaN());
        return {dual_norm, Real(1.0)};
    }
    template <class Real>
    static Real entry(Real x) {
        return sign(x);
    }
};

struct L1Geometry : FrobeniusGeometry {
    static constexpr std::string_view name = "l1";
    static constexpr bool by_coordinate = true, has_mirror = false;

    template <class Real>
    static Real norm(const MatrixBlock<Real>& M, double) {
        return M.sum_of([](Real x) { return magnitude(x); });
    }
    // Of equally large entries the first, in the order of the rows of the caller's matrix.
    template <class Real>
    static Steepest<Real> direct(const MatrixBlock<Real>& G, const Geometry&) {
        Real most(0.0), first(0.0);
        for_places(G, [&](Real& entry, Real place) {
            const Real size = magnitude(entry);
            first = select(size > most, place, select(size == most, smaller(place, first), first));
            most = larger(size, most);
        });
        for_places(G, [&](Real& entry, Real place) { entry = select(place == first, sign(entry), Real(0.0)); });
        return {most, Real(1.0)};
    }

   private:
    template <class Real, class Action>
    static void for_places(const MatrixBlock<Real>& G, Action action) {
        for (Index j = 0; j < G.rows; ++j)
            for (Index k = 0; k < G.columns; ++k)
                action(G.data[j * G.columns + k],
                       Real(static_cast<double>(G.transposed ? k * G.rows + j : j * G.columns + k)));
    }
};

struct LpGeometry : FrobeniusGeometry {
    static constexpr std::string_view name = "lp";
    static constexpr bool by_coordinate = true;
    static double dual_p(double p) { return p / (p - 1.0); }

    template <class Real>
    static Real norm(const MatrixBlock<Real>& M, double p) {
        const Real most = M.largest(), unit = or_one(most);
        return most * power(M.sum_of([&](Real x) { return power(magnitude(x) / unit, p); }), 1.0 / p);
    }
    // sign(G) |G|^(q-1) / |G|_q^(q-1), from entries in units of the largest.
    template <class Real>
    static Steepest<Real> direct(const MatrixBlock<Real>& G, const Geometry& geometry) {
        const double p = geometry.p, q = dual_p(p);
        const Real most = G.largest(), unit = or_one(most);
        G.for_rows([&](Real* row, Index j) {
            Real total(0.0);
            for (Index k = 0; k < G.columns; ++k) {
                const Real share = magnitude(row[k]) / unit, size = power(share, q - 1.0);
                total += share * size;
                row[k] = sign(row[k]) * size;
            }
            G.of_row[j] = total;
        });
        const Real total = or_one(sum<Real>(G.rows, [&](Index j) { return G.of_row[j]; }));
        return {most * power(total, 1.0 / q), power(total, 1.0 / p)};
    }
    // of |W|_p^p / p
    template <class Real>
    static Real mirror(Real x, double p) {
        return sign(x) * power(magnitude(x), p - 1.0);
    }
    template <class Real>
    static Real inverse_mirror(Real y, double p) {
        return sign(y) * power(magnitude(y), 1.0 / (p - 1.0));
    }
};

// What spectral and nuclear norm share: the SVD, lane after lane.
template <bool top_pair_only>
struct SingularGeometry : FrobeniusGeometry {
    static constexpr bool has_mirror = false, uses_terms = true;

    template <class Real>
    static Real norm(const MatrixBlock<Real>& M, double) {
        return decompose(M, !top_pair_only, [](const ThinSvd&, int) {});
    }
    // Σ u_k v_k' of the pairs with singular values at least 1e-12 of the largest, or of the first pair alone.
    template <class Real>
    static Steepest<Real> direct(const MatrixBlock<Real>& G, const Geometry& geometry) {
        if (G.is_vector()) return FrobeniusGeometry::direct(G, geometry);
        if (geometry.newton_schulz > 0) return iterate(G, geometry.newton_schulz);
        const Real dual = decompose(G, top_pair_only, [&](const ThinSvd& svd, int lane) {
            const Index pairs = top_pair_only ? std::min<Index>(svd.size(), 1) : svd.rank();
            Buffer<double> product(is_pack<Real> ? G.size() : 0);
            double* to;
            if constexpr (is_pack<Real>)
                to = product.data();
            else
                to = G.data;
            multiply(G.team, G.rows, pairs, G.columns, Strided<double>{svd.left(0), 1, G.rows}, {}, svd.right(0), to);
            if constexpr (is_pack<Real>)
                for (Index k = 0; k < G.size(); ++k) set_lane(G.data[k], lane, product[k]);
        });
        return {dual, Real(1.0)};
    }

   private:
    // action(svd, lane) for every lane; the largest singular value, or their sum.
    template <class Real, class Action>
    static Real decompose(const MatrixBlock<Real>& M, bool largest, Action action) {
        const bool by_terms = M.terms.decide(M.rows, M.columns);
        Real norm(0.0);
        for (int k = 0; k < NumberTraits<Real>::lanes; ++k) {
            if (!std::isfinite(lane(M.euclidean, k))) {
                set_lane(norm, k, lane(M.euclidean, k));
                continue;
            }
            const ThinSvd svd = by_terms ? ThinSvd(M.terms.depth, M.rows, M.columns,
                                                   lane_of(M.terms.left, M.terms.depth * M.rows, k).data,
                                                   lane_of(M.terms.right, M.terms.depth * M.columns, k).data)
                                         : ThinSvd(M.rows, M.columns, lane_of(M.data, M.size(), k).data);
            double total = 0.0;
            for (Index j = 0; j < (largest ? std::min<Index>(svd.size(), 1) : svd.size()); ++j) total += svd.value(j);
            set_lane(norm, k, total);
            action(svd, k);
        }
        return norm;
    }
    // A lane of an array, in memory of its own if it has several.
    struct OneLane {
        Buffer<double> copy;
        const double* data;
    };
    template <class Real>
    static OneLane lane_of(const Real* array, Index count, int k) {
        if constexpr (is_pack<Real>) {
            Buffer<double> copy(count);
            for (Index j = 0; j < count; ++j) copy[j] = lane(array[j], k);
            const double* const data = copy.data();
            return {std::move(copy), data};
        } else {
            return {{}, array};
        }
    }

    // X <- a X + (b X X' + c (X X')²) X from X = G / |G|_F, the quintic Newton-Schulz iteration of Muon.
    template <class Real>
    static Steepest<Real> iterate(const MatrixBlock<Real>& G, int iterations) {
        constexpr double a = 3.4445, b = -4.7750, c = 2.0315;
        const bool wide = G.rows < G.columns;  // the smaller Gram matrix is used
        const Index height = wide ? G.columns : G.rows, width = wide ? G.rows : G.columns;
        const auto place = [&](Index j, Index k) { return wide ? k * G.columns + j : j * G.columns + k; };
        Buffer<Real> X(height * width), product(height * width), gram(width * width), square(width * width);
        const Real unit = or_one(G.euclidean);
        for (Index j = 0; j < height; ++j)
            for (Index k = 0; k < width; ++k) X[j * width + k] = G.data[place(j, k)] / unit;
        Real dual(0.0);
        for (int iteration = 0; iteration < iterations; ++iteration) {
            multiply(G.team, width, height, width, Strided<Real>{X.data(), 1, width}, {}, X.data(), gram.data());
            multiply(G.team, width, width, width, Strided<Real>{gram.data(), width, 1}, {}, gram.data(), square.data());
            for (Index k = 0; k < gram.size(); ++k) square[k] = Real(b) * gram[k] + Real(c) * square[k];
            multiply(G.team, height, width, width, Strided<Real>{X.data(), width, 1}, {}, square.data(),
                     product.data());
            for (Index k = 0; k < X.size(); ++k) X[k] = Real(a) * X[k] + product[k];
        }
        for (Index j = 0; j < height; ++j)
            for (Index k = 0; k < width; ++k) {
                dual += G.data[place(j, k)] * X[j * width + k];
                G.data[place(j, k)] = X[j * width + k];
            }
        return {dual, Real(1.0)};  // <G, X>, which N*(G) is for the polar factor X
    }
};

struct SpectralGeometry : SingularGeometry<false> {
    static constexpr std::string_view name = "spec";
};

struct NuclearGeometry : SingularGeometry<true> {
    static constexpr std::string_view name = "nuc";
};

using Geometries = TypeList<FrobeniusGeometry, MaxGeometry, L1Geometry, LpGeometry, SpectralGeometry, NuclearGeometry>;

// Of a matrix (rows, columns): N; and N*, with D put in its place.
double norm_of(const Geometry& geometry, double* M, Index rows, Index columns);
double steepest_direction(const Geometry& geometry, double* M, Index rows, Index columns);

inline Geometry geometry_named(std::string_view name, double p = 2.0) { return {Geometries::find("norm", name), p, 0}; }

}  // namespace attsvm
