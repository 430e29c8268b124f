// Parameterisations: how blocks of parameters make the query direction q_i of a sample with the query z_i, and take
// gradients back. With u_i the gradient of the loss in q_i, and V = W' for logits X W z:
//
//     W, p, Wp        q_i = V'z_i             dV = Σ z_i u_i'      p: z_i = 1, V = p';  Wp: z_i = p, which is fixed
//     KQ              q_i = K Q'z_i           dK = G Q,  dQ = G'K      with  G = Σ u_i z_i'
//     W+p             q_i = W p               dW = g p', dp = W'g      with  g = Σ u_i
//     diagonal KQ     q_i = k ∘ q ∘ z_i       dk = g ∘ q,  dq = g ∘ k  with  g = Σ u_i ∘ z_i
//
// K, and W where it is a factor, are held as their transposes. A parameterisation is one struct, and an entry of
// `Parameterisations`.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "attsvm/block.hpp"
#include "attsvm/products.hpp"
#include "attsvm/type_list.hpp"

namespace attsvm {

// The queries z_i of the samples of a step, as the rows of Z. Coordinates in which all queries are triangular are
// common (an LQ basis): products then skip the zeros.
template <class Real>
class Queries {
   public:
    Queries(Index samples, Index dimension, const Real* Z)
        : samples_(samples),
          n_(samples),
          e_(dimension),
          all_Z_(Z),
          Z_(Z),
          norm_(samples),
          row_end_(samples),
          column_begin_(dimension),
          zero_(std::max(samples, dimension)),
          all_samples_(dimension) {
        std::fill(all_samples_.data(), all_samples_.data() + e_, n_);
        const auto is_zero = [&](Index i, Index j) { return !any<Real>(Z_[i * e_ + j] != Real(0.0)); };
        for (Index i = 0; i < n_; ++i)
            for (row_end_[i] = e_; row_end_[i] > 0 && is_zero(i, row_end_[i] - 1);) --row_end_[i];
        for (Index j = 0; j < e_; ++j)
            while (column_begin_[j] < n_ && is_zero(column_begin_[j], j)) ++column_begin_[j];
        for (Index i = 0; i < samples; ++i) norm_[i] = attsvm::norm(Z + i * e_, e_);
    }

    // Of these samples alone from now on, of all where none are named.
    void choose(std::span<const Index> samples) {
        chosen_ = samples;
        if (samples.empty()) {
            n_ = samples_;
            Z_ = all_Z_;
            return;
        }
        if (chosen_Z_.size() == 0) chosen_Z_ = Buffer<Real>(samples_ * e_);
        n_ = static_cast<Index>(samples.size());
        for (Index row = 0; row < n_; ++row)
            std::copy_n(all_Z_ + samples[static_cast<std::size_t>(row)] * e_, e_, chosen_Z_.data() + row * e_);
        Z_ = chosen_Z_.data();
    }

    Index rows() const { return n_; }
    Index dimension() const { return e_; }
    bool all() const { return Z_ == all_Z_; }
    const Real* operator[](Index row) const { return Z_ + row * e_; }
    Real norm(Index row) const { return norm_[chosen_.empty() ? row : chosen_[static_cast<std::size_t>(row)]]; }

    // Z A (rows, columns)
    void times(const Team& team, const Real* A, Index columns, Real* product) const {
        times(team, n_, A, columns, product);
    }
    // The same of the first rows
    void times(const Team& team, Index rows, const Real* A, Index columns, Real* product) const {
        const Extents extents = all() ? Extents{zero_.data(), row_end_.data()} : Extents{};
        multiply(team, rows, e_, columns, Strided<Real>{Z_, e_, 1}, extents, A, product);
    }
    // Z'A (dimension, columns)
    void transpose_times(const Team& team, const Real* A, Index columns, Real* product) const {
        const Extents extents = all() ? Extents{column_begin_.data(), all_samples_.data()} : Extents{};
        multiply(team, e_, n_, columns, Strided<Real>{Z_, 1, e_}, extents, A, product);
    }

   private:
    Index samples_, n_, e_;
    const Real *all_Z_, *Z_;
    Buffer<Real> chosen_Z_;
    std::span<const Index> chosen_;
    Buffer<Real> norm_;
    Buffer<Index> row_end_, column_begin_, zero_, all_samples_;
};

struct Sizes {
    Index samples, query_dimension, dimension, inner;
};

// An axis of a block. `inner` is any size that the blocks agree on.
enum class Axis { one, query_dimension, dimension, inner };

inline Index size_of(Axis axis, const Sizes& sizes) {
    return axis == Axis::one               ? 1
           : axis == Axis::query_dimension ? sizes.query_dimension
           : axis == Axis::dimension       ? sizes.dimension
                                           : sizes.inner;
}

struct BlockShape {
    std::string_view name;
    Axis rows, columns;
    bool transposed = false;  // the caller has the transpose; an axis `one` he does not have
};

// The z_i: those of the data, the number 1, or one fixed vector for all samples.
enum class QuerySource { data, one, prompt };

// How W follows from the blocks: its transpose V is the only one; W = K Q' of K' and Q; or as `matrix` makes V.
enum class MatrixForm { block, product, other };

// What a struct works on: its blocks, and memory of its own.
template <class Real>
struct ParameterState {
    Queries<Real> Z;
    Sizes sizes;
    std::vector<Block<Real>> blocks;
    Buffer<Real> work;
};

struct ParameterDefaults {
    static constexpr QuerySource queries = QuerySource::data;
    static constexpr MatrixForm form = MatrixForm::other;
    static constexpr bool bilinear = false;  // in two blocks: where both are zero they are stationary
    static constexpr bool square = false;    // queries have the dimension of tokens
    static constexpr bool diagonal = false;  // W has nothing off its diagonal
    // Descent is the same in orthonormal coordinates of the spans of tokens and queries.
    static constexpr bool reducible = false;
    static Index work_size(const Sizes&) { return 0; }

    // Bounds the norm of the gradient of this block by a multiple of Σ_i |u_i| |z_i|.
    template <class Real>
    static Real gain(const ParameterState<Real>&, std::size_t) {
        return Real(1.0);
    }
    // Bounds the terms of every entry of row j of a gradient where |u_i| <= size_i; all are at most `bound`.
    template <class Real>
    static Real row_bound(const ParameterState<Real>&, const Real*, Index, Real bound) {
        return bound;
    }
    // What gradient flow keeps of two factors: K'K - Q'Q
    template <class Real>
    static Buffer<Real> balance(const Team&, const ParameterState<Real>&) {
        return {};
    }
};

struct MatrixParameter : ParameterDefaults {
    static constexpr std::string_view name = "W";
    static constexpr std::array blocks{BlockShape{"W", Axis::query_dimension, Axis::dimension, true}};
    static constexpr MatrixForm form = MatrixForm::block;
    static constexpr bool reducible = true;

    // The query directions (samples, dimension)
    template <class Real>
    static void directions(const Team& team, ParameterState<Real>& at, Real* Q) {
        const Block<Real>& V = at.blocks[0];
        if (all_zero(V.value, V.size()))  // the usual start
            std::fill_n(Q, at.Z.rows() * V.columns, Real(0.0));
        else
            at.Z.times(team, V.value, V.columns, Q);
    }
    // The gradients of all blocks from those of the query directions, after a call of `directions`; and where they are
    // known the terms of these gradients
    template <class Real>
    static void gradients(const Team& team, ParameterState<Real>& at, const Real* U) {
        at.Z.transpose_times(team, U, at.sizes.dimension, at.blocks[0].gradient.data());
        at.blocks[0].terms = {at.Z.rows(), at.Z[0], U, at.Z.all()};
    }
    template <class Real>
    static Real row_bound(const ParameterState<Real>& at, const Real* size, Index j, Real) {
        return sum<Real>(at.Z.rows(), [&](Index row) { return magnitude(at.Z[row][j]) * size[row]; });
    }
    // V (query_dimension, dimension), in `into`, which is zero, where it is no block
    template <class Real>
    static const Real* matrix(const Team&, const ParameterState<Real>& at, Real*) {
        return at.blocks[0].value;
    }
};

struct PromptParameter : MatrixParameter {
    static constexpr std::string_view name = "p";
    static constexpr std::array blocks{BlockShape{"p", Axis::one, Axis::dimension, true}};
    static constexpr QuerySource queries = QuerySource::one;
};

struct MatrixOfPrompt : MatrixParameter {
    static constexpr std::string_view name = "Wp";
    static constexpr QuerySource queries = QuerySource::prompt;
};

// K and Q of W = K Q'. What of a start lies outside the spans is part of W, and changes.
struct FactorParameters : ParameterDefaults {
    static constexpr std::string_view name = "KQ";
    static constexpr std::array blocks{BlockShape{"K", Axis::inner, Axis::dimension, true},
                                       BlockShape{"Q", Axis::query_dimension, Axis::inner}};
    static constexpr MatrixForm form = MatrixForm::product;
    static constexpr bool bilinear = true;
    static Index work_size(const Sizes& sizes) { return 2 * sizes.samples * sizes.inner; }  // Z Q and U K

    template <class Real>
    static void directions(const Team& team, ParameterState<Real>& at, Real* Q) {
        const Index m = at.sizes.inner;
        at.Z.times(team, at.blocks[1].value, m, at.work.data());
        multiply(team, at.Z.rows(), m, at.sizes.dimension, Strided<Real>{at.work.data(), m, 1}, {}, at.blocks[0].value,
                 Q);
    }
    template <class Real>
    static void gradients(const Team& team, ParameterState<Real>& at, const Real* U) {
        const Index n = at.Z.rows(), m = at.sizes.inner, d = at.sizes.dimension;
        Block<Real>&K = at.blocks[0], &Q = at.blocks[1];
        Real *const of_Q = at.work.data(), *const of_K = of_Q + at.sizes.samples * m;
        multiply(team, m, n, d, Strided<Real>{of_Q, 1, m}, {}, U, K.gradient.data());
        team.for_work(n * m * d).for_ranges(n, [&](Index i, Index last, int) {
            for (; i < last; ++i) rows_dot(K.value, m, d, U + i * d, of_K + i * m);
        });
        at.Z.transpose_times(team, of_K, m, Q.gradient.data());
        K.terms = {n, of_Q, U, false};
        Q.terms = {n, at.Z[0], of_K, false};
    }
    template <class Real>
    static Real gain(const ParameterState<Real>& at, std::size_t block) {
        return at.blocks[1 - block].value_bound;
    }
    template <class Real>
    static Buffer<Real> balance(const Team& team, const ParameterState<Real>& at) {
        const Index m = at.sizes.inner, d = at.sizes.dimension;
        const Real *const K = at.blocks[0].value, *const Q = at.blocks[1].value;
        Buffer<Real> out(m * m);
        multiply(team, m, at.sizes.query_dimension, m, Strided<Real>{Q, 1, m}, {}, Q, out.data());
        for (Index j = 0; j < m; ++j)
            for (Index k = 0; k < m; ++k)
                out[j * m + k] = sum<Real>(d, [&](Index i) { return K[j * d + i] * K[k * d + i]; }) - out[j * m + k];
        return out;
    }
    template <class Real>
    static const Real* matrix(const Team& team, const ParameterState<Real>& at, Real* into) {
        const Index m = at.sizes.inner;
        multiply(team, at.sizes.query_dimension, m, at.sizes.dimension, Strided<Real>{at.blocks[1].value, m, 1}, {},
                 at.blocks[0].value, into);
        return into;
    }
};

// W and p of logits X W p: factors with the query 1, whose direction is that of all samples.
struct MatrixAndPrompt : FactorParameters {
    static constexpr std::string_view name = "W+p";
    static constexpr std::array blocks{BlockShape{"W", Axis::inner, Axis::dimension, true},
                                       BlockShape{"p", Axis::one, Axis::inner, true}};
    static constexpr QuerySource queries = QuerySource::one;
    static Index work_size(const Sizes& sizes) { return sizes.dimension; }  // g

    template <class Real>
    static void directions(const Team& team, ParameterState<Real>& at, Real* Q) {
        const Index n = at.Z.rows(), d = at.sizes.dimension;
        matrix(team, at, Q);
        for (Index i = 1; i < n; ++i) std::copy_n(Q, d, Q + i * d);
    }
    template <class Real>
    static void gradients(const Team& team, ParameterState<Real>& at, const Real* U) {
        const Index m = at.sizes.inner, d = at.sizes.dimension;
        Block<Real>&W = at.blocks[0], &p = at.blocks[1];
        Real* const g = at.work.data();
        at.Z.transpose_times(team, U, d, g);
        multiply(team, m, 1, d, Strided<Real>{p.value, 1, m}, {}, g, W.gradient.data());
        team.for_work(m * d).for_ranges(
            m, [&](Index j, Index last, int) { rows_dot(W.value + j * d, last - j, d, g, p.gradient.data() + j); });
        W.terms = {1, p.value, g, false};
    }
};

// k and q of W = diag(k ∘ q).
struct DiagonalFactors : ParameterDefaults {
    static constexpr std::string_view name = "diagonal KQ";
    static constexpr std::array blocks{BlockShape{"k", Axis::one, Axis::dimension, true},
                                       BlockShape{"q", Axis::one, Axis::dimension, true}};
    static constexpr bool bilinear = true, square = true, diagonal = true;

    template <class Real>
    static void directions(const Team& team, ParameterState<Real>& at, Real* Q) {
        const Index d = at.sizes.dimension;
        const Real *const k = at.blocks[0].value, *const q = at.blocks[1].value;
        team.for_work(at.Z.rows() * d).for_ranges(at.Z.rows(), [&](Index i, Index last, int) {
            for (; i < last; ++i)
                for (Index j = 0; j < d; ++j) Q[i * d + j] = k[j] * q[j] * at.Z[i][j];
        });
    }
    template <class Real>
    static void gradients(const Team& team, ParameterState<Real>& at, const Real* U) {
        const Index d = at.sizes.dimension;
        Block<Real>&k = at.blocks[0], &q = at.blocks[1];
        team.for_work(at.Z.rows() * d).for_ranges(d, [&](Index j, Index last, int) {
            std::fill(&k.gradient[j], &k.gradient[last], Real(0.0));
            for (Index i = 0; i < at.Z.rows(); ++i)
                for (Index at_j = j; at_j < last; ++at_j) k.gradient[at_j] += U[i * d + at_j] * at.Z[i][at_j];
            for (; j < last; ++j) {
                const Real g = k.gradient[j];
                k.gradient[j] = g * q.value[j];
                q.gradient[j] = g * k.value[j];
            }
        });
    }
    template <class Real>
    static Real gain(const ParameterState<Real>& at, std::size_t block) {
        return at.blocks[1 - block].value_bound;
    }
    template <class Real>
    static Buffer<Real> balance(const Team&, const ParameterState<Real>& at) {
        Buffer<Real> out(at.sizes.dimension);
        const Real *const k = at.blocks[0].value, *const q = at.blocks[1].value;
        for (Index j = 0; j < out.size(); ++j) out[j] = k[j] * k[j] - q[j] * q[j];
        return out;
    }
    template <class Real>
    static const Real* matrix(const Team&, const ParameterState<Real>& at, Real* into) {
        const Index d = at.sizes.dimension;
        for (Index j = 0; j < d; ++j) into[j * d + j] = at.blocks[0].value[j] * at.blocks[1].value[j];
        return into;
    }
};

using Parameterisations =
    TypeList<MatrixParameter, PromptParameter, FactorParameters, MatrixOfPrompt, MatrixAndPrompt, DiagonalFactors>;

// One of `Parameterisations`, chosen at run time.
class ParameterKind {
   public:
    ParameterKind() : ParameterKind(MatrixParameter::name) {}
    explicit ParameterKind(std::string_view name) : index_(Parameterisations::find("parameter", name)) {}

    // action(Kind{}) for the struct
    template <class Action>
    ATTSVM_INLINE auto visit(Action&& action) const {
        return Parameterisations::visit(index_, action);
    }
    std::span<const BlockShape> blocks() const {
        return visit([]<class Kind>(Kind) { return std::span<const BlockShape>(Kind::blocks); });
    }

   private:
    int index_;
};

// The parameters of one problem, or of those in the lanes of `Real`, with their gradients.
template <class Real>
class Parameters {
   public:
    // `values` are the blocks, in memory of others; `by_coordinate` tells whether steps depend on the sign of an entry.
    Parameters(ParameterKind kind, const Sizes& sizes, const Real* Z, std::span<Real* const> values,
               bool by_coordinate = false)
        : kind_(kind), state_{{sizes.samples, sizes.query_dimension, Z}, sizes, {}, {}} {
        state_.blocks.reserve(values.size());
        for (std::size_t k = 0; k < values.size(); ++k) {
            const BlockShape& shape = kind.blocks()[k];
            state_.blocks.emplace_back(values[k], size_of(shape.rows, sizes), size_of(shape.columns, sizes),
                                       shape.transposed);
            if (by_coordinate) state_.blocks.back().row_least = Buffer<Real>(state_.blocks.back().rows);
        }
        kind.visit([&]<class Kind>(Kind) {
            state_.work = Buffer<Real>(Kind::work_size(sizes));
            bilinear_ = Kind::bilinear;
            if (Kind::form == MatrixForm::block) {
                scalar_weight_ = Buffer<Real>(sizes.query_dimension == 1 ? sizes.samples : 0);
                one_query_ = has_scalar_queries();
                for (Index i = 0; i < sizes.samples; ++i) one_query_ = one_query_ && !any<Real>(Z[i] != Z[0]);
                return;
            }
            matrix_ = Buffer<Real>(matrix_size());
            matrix_row_square_ = Buffer<Real>(sizes.query_dimension);
        });
    }

    // Works on these samples alone from now on, on all of them where none are named.
    void choose(std::span<const Index> samples) { state_.Z.choose(samples); }

    std::span<Block<Real>> blocks() { return state_.blocks; }
    std::span<const Block<Real>> blocks() const { return state_.blocks; }
    Index matrix_size() const { return state_.sizes.query_dimension * state_.sizes.dimension; }

    // Whether V is one row and queries are numbers, as those of logits X p; and whether they are one number, and
    // directions one too.
    bool has_scalar_queries() const { return scalar_weight_.size() != 0; }
    bool has_one_query() const { return one_query_; }

    // The query directions (samples, dimension); of one query only the first.
    void directions(const Team& team, Real* Q) {
        if (one_query_) return state_.Z.times(team, 1, state_.blocks[0].value, state_.sizes.dimension, Q);
        kind_.visit([&]<class Kind>(Kind) { Kind::directions(team, state_, Q); });
    }

    // Bounds the rounding of a sum over `samples` of sums of `depth` numbers, per size of its terms.
    static Real rounding_unit(Index samples, Index depth) {
        return Real(static_cast<double>(samples + depth + 16) * 0x1p-53);
    }
    // A term λ|block|² of the loss: the gradients of the loss without it count `gradient_scale` times, and `decay`
    // times the block is added.
    struct WeightDecay {
        Real gradient_scale, decay;
    };
    // The gradients of all blocks from those of the query directions, which it may weight by sample in place.
    void differentiate(const Team& team, const Real* weight, Real* U, const WeightDecay* decay = nullptr) {
        const Index n = state_.Z.rows(), d = state_.sizes.dimension;
        if (has_scalar_queries()) {
            for (Index i = 0; i < n; ++i) scalar_weight_[i] = weight[i] * *state_.Z[i];
            multiply(team, 1, n, d, Strided<Real>{scalar_weight_.data(), n, 1}, {}, U,
                     state_.blocks[0].gradient.data());
            state_.blocks[0].terms = {};
        } else {
            // By the threads that made the rows, for a product that they share.
            team.for_work(n * matrix_size() / product_uses).for_ranges(n, [&](Index i, Index last, int) {
                for (; i < last; ++i)
                    for (Index k = 0; k < d; ++k) U[i * d + k] *= weight[i];
            });
            kind_.visit([&]<class Kind>(Kind) { Kind::gradients(team, state_, U); });
        }
        for (Block<Real>& block : state_.blocks) {
            if (decay != nullptr) {
                block.terms = {};
                for (Index k = 0; k < block.size(); ++k)
                    block.gradient[k] = decay->gradient_scale * block.gradient[k] + decay->decay * block.value[k];
            }
            block.measure_gradient(team);
        }
    }

    // Σ_i term_size_i |z_i|
    Real terms_of(const Real* term_size) const {
        Real terms(0.0);
        for (Index row = 0; row < state_.Z.rows(); ++row) terms += term_size[row] * state_.Z.norm(row);
        return terms;
    }
    // Whether a gradient may be only the rounding of its terms. A sample's u_i was summed from `depth` numbers of the
    // size term_size_i together; the sum over samples then has rounding of rounding_unit() times their `terms` at most,
    // times the block's gain. If the sizes are `exact`, such a gradient is taken as zero.
    bool drop_rounding(const Team& team, Real terms, Index depth, const WeightDecay* decay, bool exact) {
        if (bilinear_ || decay != nullptr) bound_values(team, exact);
        bool found = false;
        for (std::size_t k = 0; k < state_.blocks.size(); ++k) {
            Block<Real>& block = state_.blocks[k];
            Real size = terms * kind_.visit([&]<class Kind>(Kind) { return Kind::gain(state_, k); });
            if (decay != nullptr) size = decay->gradient_scale * size + decay->decay * block.value_bound;
            const auto rounded = rounding_unit(state_.Z.rows(), depth) * size >= block.gradient_norm;  // NaN is not
            found = found || any<Real>(rounded);
            if (exact) block.gradient_norm = select(rounded, Real(0.0), block.gradient_norm);
        }
        return found;
    }

    // Whether an entry of a gradient, other than zero, may be only the rounding of its terms: those of a sample are at
    // most term_size_i together.
    bool may_have_rounded_entries(const Team& team, const Real* term_size, Real terms, Index depth,
                                  const WeightDecay* decay) {
        if (bilinear_) bound_values(team, false);
        const Real unit = rounding_unit(state_.Z.rows(), depth);
        bool found = false;
        for (std::size_t b = 0; b < state_.blocks.size(); ++b) {
            Block<Real>& block = state_.blocks[b];
            kind_.visit([&]<class Kind>(Kind) {
                const Real most = terms * Kind::gain(state_, b);
                if (decay == nullptr && !any<Real>(unit * most >= block.least_entry())) return;
                team.for_work(block.size()).for_ranges(block.rows, [&](Index j, Index last, int) {
                    for (; j < last; ++j) {
                        const Real* const row = block.gradient.data() + j * block.columns;
                        const Real* const value = block.value + j * block.columns;
                        Real least(std::numeric_limits<double>::infinity()), largest(0.0);
                        for (Index k = 0; k < block.columns; ++k)
                            least = smaller(select(row[k] != Real(0.0), magnitude(row[k]), least), least);
                        for (Index k = 0; decay != nullptr && k < block.columns; ++k)
                            largest = larger(magnitude(value[k]), largest);
                        const Real of_row = Kind::row_bound(state_, term_size, j, most);
                        const Real bound = unit * with_decay(of_row, largest, decay);
                        block.row_square[j] = select(bound >= least, Real(1.0), Real(0.0));
                    }
                });
                const Real count = sum<Real>(block.rows, [&](Index j) { return block.row_square[j]; });
                found = found || any<Real>(count > Real(0.0));
            });
        }
        return found;
    }
    // Entries of gradients that are only the rounding of their terms are taken as zero. `sizes` (n, dimension) are the
    // sums of the sizes of the terms of every entry of U: gradients of the sizes of all numbers are those of theirs.
    void drop_rounded_entries(const Team& team, const Real* sizes, Index depth, const WeightDecay* decay) {
        const auto sizes_of = [](const Real* from, Index count) {
            Buffer<Real> size(count);
            for (Index k = 0; k < count; ++k) size[k] = magnitude(from[k]);
            return size;
        };
        Sizes shape = state_.sizes;
        shape.samples = state_.Z.rows();
        const Buffer<Real> Z = sizes_of(state_.Z[0], shape.samples * shape.query_dimension);
        std::array<Buffer<Real>, most_blocks> values;
        std::array<Real*, most_blocks> pointers{};
        const std::size_t count = state_.blocks.size();
        for (std::size_t k = 0; k < count; ++k) {
            values[k] = sizes_of(state_.blocks[k].value, state_.blocks[k].size());
            pointers[k] = values[k].data();
        }
        Parameters of_sizes(kind_, shape, Z.data(), std::span<Real* const>(pointers).first(count));
        Buffer<Real> directions(shape.samples * shape.dimension);
        of_sizes.directions(team, directions.data());
        kind_.visit([&]<class Kind>(Kind) { Kind::gradients(team, of_sizes.state_, sizes); });
        for (std::size_t b = 0; b < count; ++b) {
            Block<Real>& block = state_.blocks[b];
            const Buffer<Real>& terms = of_sizes.state_.blocks[b].gradient;
            for (Index k = 0; k < block.size(); ++k) {
                const Real bound = rounding_unit(shape.samples, depth) * with_decay(terms[k], block.value[k], decay);
                block.gradient[k] = select(bound >= magnitude(block.gradient[k]), Real(0.0), block.gradient[k]);
            }
            block.terms = {};
            block.measure_gradient(team);
        }
    }

    // Frobenius norm of all gradients together.
    Real gradient_norm() const {
        if (state_.blocks.size() == 1) return state_.blocks[0].gradient_norm;
        std::array<Real, most_blocks> norms{};
        std::transform(state_.blocks.begin(), state_.blocks.end(), norms.begin(),
                       [](const Block<Real>& block) { return block.gradient_norm; });
        return norm(norms.data(), static_cast<Index>(state_.blocks.size()));
    }

    // V = W' (query_dimension, dimension), and its norm.
    const Real* matrix(const Team& team) {
        return kind_.visit([&]<class Kind>(Kind) { return Kind::matrix(team, state_, matrix_.data()); });
    }
    Real matrix_norm_of(const Team& team, const Real* V) {
        Buffer<Real>& row_square = matrix_.size() == 0 ? state_.blocks[0].row_square : matrix_row_square_;
        return matrix_norm(team, V, state_.sizes.dimension, row_square);
    }
    // Σ_i z_i u_i' (query_dimension, dimension), or its part on the diagonal where W has no other
    void outer(const Team& team, const Real* U, Real* sum_of_products) const {
        const Index d = state_.sizes.dimension;
        state_.Z.transpose_times(team, U, d, sum_of_products);
        if (kind_.visit([]<class Kind>(Kind) { return Kind::diagonal; }))
            for (Index j = 0; j < matrix_size(); ++j)
                if (j % (d + 1) != 0) sum_of_products[j] = Real(0.0);
    }

    // What gradient flow keeps of two factors.
    Buffer<Real> balance(const Team& team) const {
        return kind_.visit([&]<class Kind>(Kind) { return Kind::balance(team, state_); });
    }
    // How far it is from where it was, over the squared norm of all blocks.
    Real balance_drift(const Team& team, const Buffer<Real>& before) const {
        const Buffer<Real> now = balance(team);
        const Real square = sum<Real>(now.size(), [&](Index k) {
            const Real apart = now[k] - before[k];
            return apart * apart;
        });
        Real size(0.0);
        for (const Block<Real>& block : state_.blocks)
            size += sum_of_squares(static_cast<const Real*>(block.value), block.size());
        return sqrt(square) / or_one(size);
    }
    bool bilinear() const { return bilinear_; }

   private:
    static Real with_decay(Real terms, Real value, const WeightDecay* decay) {
        return decay == nullptr ? terms : decay->gradient_scale * terms + decay->decay * magnitude(value);
    }
    // Bounds the norms of all blocks, or if they must be exact computes them.
    void bound_values(const Team& team, bool exact) {
        for (Block<Real>& block : state_.blocks)
            if (exact || any<Real>(block.value_bound < Real(0.0)))
                block.value_bound = matrix_norm(team, block.value, block.columns, block.row_square);
    }

    ParameterKind kind_;
    ParameterState<Real> state_;
    bool bilinear_ = false, one_query_ = false;
    Buffer<Real> scalar_weight_;
    Buffer<Real> matrix_, matrix_row_square_;
};

}  // namespace attsvm
