// How parameters make query directions, and take gradients from them.
//
//     direct      q_i = V'z_i                  dV = Σ w_i z_i u_i'
//     factored    q_i = K Q'z_i, W = K Q'      dK = G Q,  dQ = G'K  with  G = Σ w_i u_i z_i'
//
// V = W' for logits X W z; logits X p are the case of queries with one coordinate, z_i = 1. K is held as its transpose.
#pragma once

#include <cstdint>
#include <span>

#include "attsvm/block.hpp"
#include "attsvm/products.hpp"

namespace attsvm {

template <class Real>
class Parameterisation {
   public:
    // Direct where `inner` is 0: then `first` is V (query_dimension, dimension) and there is no second block. Otherwise
    // `first` is K' (inner, dimension) and `second` is Q (query_dimension, inner).
    Parameterisation(Index samples, Index query_dimension, Index dimension, const Real* Z, Index inner, Real* first,
                     Real* second)
        : samples_(samples),
          n_(samples),
          e_(query_dimension),
          d_(dimension),
          m_(inner),
          all_Z_(Z),
          Z_(Z),
          first_(first, inner == 0 ? query_dimension : inner, dimension, true),
          second_(second, inner == 0 ? 0 : query_dimension, inner),
          keys_(samples * inner),
          of_second_(samples * inner),
          query_norm_(samples),
          row_end_(samples),
          column_begin_(query_dimension),
          zero_(std::max(samples, query_dimension)),
          all_samples_(query_dimension),
          one_query_(has_scalar_queries()),
          query_weight_(has_scalar_queries() ? samples : 0),
          product_(inner == 0 ? 0 : query_dimension * dimension),
          product_row_square_(inner == 0 ? 0 : query_dimension) {
        find_extents();
        for (Index i = 0; i < samples; ++i) one_query_ = one_query_ && !any<Real>(Z[i * e_] != Z[0]);
        for (Index i = 0; i < samples; ++i) query_norm_[i] = norm(Z + i * e_, e_);
    }

    // Works on these samples alone from now on, on all of them where none are named.
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

    bool factored() const { return m_ != 0; }
    // Whether queries are numbers, as those of logits X p, and whether they are one number, and directions one too.
    bool has_scalar_queries() const { return e_ == 1 && !factored(); }
    bool has_one_query() const { return one_query_; }
    Index matrix_size() const { return e_ * d_; }

    // The query directions (samples, dimension); of one query only the first.
    void queries(const Team& team, Real* Q) {
        if (factored()) {
            multiply(team, n_, e_, m_, Strided<Real>{Z_, e_, 1}, rows_of_Z(), second_.value, keys_.data());
            multiply(team, n_, m_, d_, Strided<Real>{keys_.data(), m_, 1}, {}, first_.value, Q);
        } else {
            multiply(team, one_query_ ? 1 : n_, e_, d_, Strided<Real>{Z_, e_, 1}, rows_of_Z(), first_.value, Q);
        }
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
        const Strided<Real> Z_transposed{Z_, 1, e_};
        if (has_scalar_queries()) {
            for (Index i = 0; i < n_; ++i) query_weight_[i] = weight[i] * Z_[i];
            multiply(team, 1, n_, d_, Strided<Real>{query_weight_.data(), n_, 1}, {}, U, first_.gradient.data());
        } else {
            // By the threads that made the rows, for a product that they share.
            team.for_work(n_ * e_ * d_ / product_uses).for_ranges(n_, [&](Index i, Index last, int) {
                for (; i < last; ++i)
                    for (Index k = 0; k < d_; ++k) U[i * d_ + k] *= weight[i];
            });
        }
        if (factored()) {
            multiply(team, m_, n_, d_, Strided<Real>{keys_.data(), 1, m_}, {}, U, first_.gradient.data());
            team.for_work(n_ * m_ * d_).for_ranges(n_, [&](Index i, Index last, int) {
                for (; i < last; ++i) rows_dot(first_.value, m_, d_, U + i * d_, &of_second_[i * m_]);
            });
            multiply(team, e_, n_, m_, Z_transposed, columns_of_Z(), of_second_.data(), second_.gradient.data());
        } else if (!has_scalar_queries()) {
            multiply(team, e_, n_, d_, Z_transposed, columns_of_Z(), U, first_.gradient.data());
        }
        first_.terms = {n_, factored() ? keys_.data() : Z_, U, !factored() && Z_ == all_Z_};
        second_.terms = {n_, Z_, of_second_.data(), false};
        for_each_block([&](Block<Real>& block, int) {
            if (decay != nullptr || has_scalar_queries()) block.terms = {};
            if (decay != nullptr)
                for (Index k = 0; k < block.size(); ++k)
                    block.gradient[k] = decay->gradient_scale * block.gradient[k] + decay->decay * block.value[k];
            block.gradient_norm = matrix_norm(team, block.gradient.data(), block.columns, block.row_square);
        });
    }

    // Whether a gradient may be only the rounding of its terms. A sample's u_i was summed from `depth` numbers of the
    // size term_size_i together; the sum over samples then has rounding of rounding_unit() Σ_i term_size_i |z_i| at
    // most, times the norm of the other factor of K Q'. If the sizes are `exact`, such a gradient is taken as zero.
    bool drop_rounding(const Team& team, const Real* term_size, Index depth, const WeightDecay* decay, bool exact) {
        Real terms(0.0);
        for (Index row = 0; row < n_; ++row) terms += term_size[row] * query_norm(row);
        if (factored() || decay != nullptr)
            for_each_block([&](Block<Real>& block, int) {
                if (exact || any<Real>(block.value_bound < Real(0.0)))
                    block.value_bound = matrix_norm(team, block.value, block.columns, block.row_square);
            });
        bool found = false;
        for_each_block([&](Block<Real>& block, int index) {
            Real size = factored() ? terms * (index == 0 ? second_ : first_).value_bound : terms;
            if (decay != nullptr) size = decay->gradient_scale * size + decay->decay * block.value_bound;
            const auto rounded = rounding_unit(n_, depth) * size >= block.gradient_norm;  // NaN is not
            found = found || any<Real>(rounded);
            if (exact) block.gradient_norm = select(rounded, Real(0.0), block.gradient_norm);
        });
        return found;
    }

    // Whether an entry of a gradient, other than zero, may be only the rounding of its terms: those of a sample are at
    // most term_size_i together.
    bool may_have_rounded_entries(const Team& team, const Real* term_size, Index depth, const WeightDecay* decay) {
        bool found = false;
        for_each_block([&](Block<Real>& block, int index) {
            const Real other = factored() ? matrix_norm_of_other(team, index) : Real(1.0);
            Real longest(0.0);
            for (Index row = 0; factored() && row < n_; ++row) longest += term_size[row] * query_norm(row);
            team.for_work(block.size()).for_ranges(block.rows, [&](Index j, Index last, int) {
                for (; j < last; ++j) {
                    const Real* const row = block.gradient.data() + j * block.columns;
                    const Real* const value = block.value + j * block.columns;
                    Real least(std::numeric_limits<double>::infinity()), largest(0.0);
                    for (Index k = 0; k < block.columns; ++k)
                        least = smaller(select(row[k] != Real(0.0), magnitude(row[k]), least), least);
                    for (Index k = 0; decay != nullptr && k < block.columns; ++k)
                        largest = larger(magnitude(value[k]), largest);
                    const Real terms =
                        factored() ? longest * other
                                   : sum<Real>(n_, [&](Index i) { return magnitude(Z_[i * e_ + j]) * term_size[i]; });
                    const Real bound = rounding_unit(n_, depth) * with_decay(terms, largest, decay);
                    block.row_square[j] = select(bound >= least, Real(1.0), Real(0.0));
                }
            });
            const Real count = sum<Real>(block.rows, [&](Index j) { return block.row_square[j]; });
            found = found || any<Real>(count > Real(0.0));
        });
        return found;
    }
    // Entries of gradients that are only the rounding of their terms are taken as zero. `sizes` (n, dimension) are the
    // sums of the sizes of the terms of every entry of U.
    void drop_rounded_entries(const Team& team, const Real* sizes, Index depth, const WeightDecay* decay) {
        const auto sizes_of = [](const Real* from, Index count) {
            Buffer<Real> size(count);
            for (Index k = 0; k < count; ++k) size[k] = magnitude(from[k]);
            return size;
        };
        const auto drop = [&](Block<Real>& block, const Buffer<Real>& left, const Real* right) {
            Buffer<Real> terms(block.size());
            multiply(team, block.rows, n_, block.columns, Strided<Real>{left.data(), 1, block.rows}, {}, right,
                     terms.data());
            for (Index k = 0; k < block.size(); ++k) {
                const Real bound = rounding_unit(n_, depth) * with_decay(terms[k], block.value[k], decay);
                block.gradient[k] = select(bound >= magnitude(block.gradient[k]), Real(0.0), block.gradient[k]);
            }
            block.terms = {};
            block.gradient_norm = matrix_norm(team, block.gradient.data(), block.columns, block.row_square);
        };
        const Buffer<Real> queries = sizes_of(Z_, n_ * e_);
        if (!factored()) return drop(first_, queries, sizes);
        const Buffer<Real> K = sizes_of(first_.value, m_ * d_), Q = sizes_of(second_.value, e_ * m_);
        Buffer<Real> keys(n_ * m_), of_second(n_ * m_);
        multiply(team, n_, e_, m_, Strided<Real>{queries.data(), e_, 1}, {}, Q.data(), keys.data());
        for (Index i = 0; i < n_; ++i) rows_dot(K.data(), m_, d_, sizes + i * d_, &of_second[i * m_]);
        drop(first_, keys, sizes);
        drop(second_, queries, of_second.data());
    }

    // Frobenius norm of all gradients together.
    Real gradient_norm() const {
        const Real norms[] = {first_.gradient_norm, second_.gradient_norm};
        return factored() ? norm(norms, 2) : norms[0];
    }

    // action(block, index) for every block
    template <class Action>
    void for_each_block(Action action) {
        action(first_, 0);
        if (factored()) action(second_, 1);
    }

    // W' (query_dimension, dimension), and its norm.
    const Real* matrix(const Team& team) {
        if (!factored()) return first_.value;
        multiply(team, e_, m_, d_, Strided<Real>{second_.value, m_, 1}, {}, first_.value, product_.data());
        return product_.data();
    }
    // Σ_i z_i u_i' (query_dimension, dimension)
    void outer(const Team& team, const Real* U, Real* sum_of_products) const {
        multiply(team, e_, n_, d_, Strided<Real>{Z_, 1, e_}, columns_of_Z(), U, sum_of_products);
    }
    Real matrix_norm_of(const Team& team, const Real* M) {
        return matrix_norm(team, M, d_, factored() ? product_row_square_ : first_.row_square);
    }

    // K'K - Q'Q (inner, inner), which gradient flow keeps.
    Buffer<Real> balance(const Team& team) const {
        Buffer<Real> out(m_ * m_);
        multiply(team, m_, e_, m_, Strided<Real>{second_.value, 1, m_}, {}, second_.value, out.data());
        for (Index j = 0; j < m_; ++j)
            for (Index k = 0; k < m_; ++k)
                out[j * m_ + k] =
                    sum<Real>(d_, [&](Index i) { return first_.value[j * d_ + i] * first_.value[k * d_ + i]; }) -
                    out[j * m_ + k];
        return out;
    }
    // How far it is from where it was, over |K|² + |Q|².
    Real balance_drift(const Team& team, const Buffer<Real>& before) const {
        const Buffer<Real> now = balance(team);
        const Real square = sum<Real>(now.size(), [&](Index k) {
            const Real apart = now[k] - before[k];
            return apart * apart;
        });
        return sqrt(square) / or_one(sum_of_squares(static_cast<const Real*>(first_.value), first_.size()) +
                                     sum_of_squares(static_cast<const Real*>(second_.value), second_.size()));
    }

    const Block<Real>& first() const { return first_; }
    const Block<Real>& second() const { return second_; }

   private:
    static Real with_decay(Real terms, Real value, const WeightDecay* decay) {
        return decay == nullptr ? terms : decay->gradient_scale * terms + decay->decay * magnitude(value);
    }
    // Of the factor that the gradient of the block of this index is multiplied with.
    Real matrix_norm_of_other(const Team& team, int index) {
        Block<Real>& other = index == 0 ? second_ : first_;
        return matrix_norm(team, other.value, other.columns, other.row_square);
    }
    Real query_norm(Index row) const {
        return query_norm_[chosen_.empty() ? row : chosen_[static_cast<std::size_t>(row)]];
    }
    // Coordinates in which queries are triangular are common (an LQ basis): products then skip the zeros.
    Extents rows_of_Z() const { return Z_ == all_Z_ ? Extents{zero_.data(), row_end_.data()} : Extents{}; }
    Extents columns_of_Z() const {
        return Z_ == all_Z_ ? Extents{column_begin_.data(), all_samples_.data()} : Extents{};
    }
    void find_extents() {
        std::fill(column_begin_.data(), column_begin_.data() + e_, n_);
        std::fill(all_samples_.data(), all_samples_.data() + e_, n_);
        for (Index i = 0; i < n_; ++i)
            for (Index j = 0; j < e_; ++j)
                if (any<Real>(Z_[i * e_ + j] != Real(0.0))) {
                    row_end_[i] = j + 1;
                    column_begin_[j] = std::min(column_begin_[j], i);
                }
    }

    Index samples_, n_, e_, d_, m_;
    const Real *all_Z_, *Z_;
    Buffer<Real> chosen_Z_;
    std::span<const Index> chosen_;
    Block<Real> first_, second_;
    Buffer<Real> keys_, of_second_, query_norm_;
    Buffer<Index> row_end_, column_begin_, zero_, all_samples_;
    bool one_query_;
    Buffer<Real> query_weight_;
    Buffer<Real> product_, product_row_square_;
};

}  // namespace attsvm
