// How parameters make query directions, and take gradients from them.
//
//     direct      q_i = V'z_i                  dV = Σ w_i z_i u_i'
//     factored    q_i = K Q'z_i, W = K Q'      dK = G Q,  dQ = G'K  with  G = Σ w_i u_i z_i'
//
// V = W' for logits X W z; logits X p are the case of queries with one coordinate, z_i = 1. K is held as its transpose.
#pragma once

#include <cstdint>
#include <span>

#include "attsvm/products.hpp"
#include "attsvm/step_rules.hpp"

namespace attsvm {

// A trained matrix and its gradient. A normalised step has its own length in every block.
template <class Real>
struct Block {
    Real* value;
    Index rows, columns;
    Buffer<Real> gradient, row_square;
    Real gradient_norm{0.0};
    Real value_bound{-1.0};  // at least |value|; -1 where it is not known

    Block(Real* at, Index r, Index c) : value(at), rows(r), columns(c), gradient(r * c), row_square(r) {}
    Index size() const { return rows * columns; }

    // The `count`-th step, from 1: against the gradient taken `scale` times. Where the gradient is zero a block without
    // momentum is stationary: it stays.
    void step(const Team& team, const StepRule& rule, int update, Real scale, double rate, std::int64_t count) {
        const auto moves = gradient_norm != Real(0.0);
        scale = select(moves, scale, Real(0.0));
        const bool adam = update == Updates::index_of<AdamUpdate>();
        const auto unbiased = [&](double beta) { return 1.0 - std::pow(beta, static_cast<double>(count)); };
        Updates::visit(update, [&]<class Update>(Update) {
            if (Update::means > 0 && mean.size() == 0) mean = Buffer<Real>(size());
            if (Update::means > 1 && square_mean.size() == 0) square_mean = Buffer<Real>(size());
            const BlockStep<Real> at{value,
                                     gradient.data(),
                                     mean.data(),
                                     square_mean.data(),
                                     scale,
                                     Real(rate),
                                     Real(rate) * scale,
                                     Real(adam ? rule.adam_beta : rule.momentum),
                                     Real(rule.adam_second_beta),
                                     Real(rule.adam_epsilon),
                                     Real(adam ? rate / unbiased(rule.adam_beta) : rate),
                                     Real(adam ? 1.0 / unbiased(rule.adam_second_beta) : 1.0)};
            team.for_work(size()).for_ranges(
                rows, [&](Index j, Index last, int) { Update::apply(at, j * columns, last * columns); });
        });
        const bool bounded = update == Updates::index_of<PlainUpdate>() && !any<Real>(value_bound < Real(0.0));
        value_bound = bounded ? value_bound + Real(rate) * scale * gradient_norm : Real(-1.0);
    }

    Buffer<Real> mean, square_mean;  // of the update; empty until they are needed
};

// Frobenius norm of a matrix of as many rows as `row_square` has room for.
template <class Real>
Real matrix_norm(const Team& team, const Real* M, Index columns, Buffer<Real>& row_square) {
    const Index rows = row_square.size();
    team.for_work(rows * columns).for_ranges(rows, [&](Index j, Index last, int) {
        for (; j < last; ++j) row_square[j] = sum_of_squares(M + j * columns, columns);
    });
    const Real square = sum<Real>(rows, [&](Index j) { return row_square[j]; });
    return norm_of_square(square, M, rows * columns);
}

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
          first_(first, inner == 0 ? query_dimension : inner, dimension),
          second_(second, inner == 0 ? 0 : query_dimension, inner),
          keys_(samples * inner),
          query_norm_(samples),
          row_end_(samples),
          column_begin_(query_dimension),
          zero_(std::max(samples, query_dimension)),
          all_samples_(query_dimension),
          product_(inner == 0 ? 0 : query_dimension * dimension),
          product_row_square_(inner == 0 ? 0 : query_dimension) {
        find_extents();
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
    Index matrix_size() const { return e_ * d_; }

    // The query directions (samples, dimension).
    void queries(const Team& team, Real* Q) {
        if (factored()) {
            multiply(team, n_, e_, m_, Strided<Real>{Z_, e_, 1}, rows_of_Z(), second_.value, keys_.data());
            multiply(team, n_, m_, d_, Strided<Real>{keys_.data(), m_, 1}, {}, first_.value, Q);
        } else {
            multiply(team, n_, e_, d_, Strided<Real>{Z_, e_, 1}, rows_of_Z(), first_.value, Q);
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
    // The gradients of all blocks from those of the query directions, which it weights by sample in place.
    void differentiate(const Team& team, const Real* weight, Real* U, const WeightDecay* decay = nullptr) {
        const Strided<Real> Z_transposed{Z_, 1, e_};
        // By the threads that made the rows, for a product that they share.
        team.for_work(n_ * e_ * d_ / product_uses).for_ranges(n_, [&](Index i, Index last, int) {
            for (; i < last; ++i)
                for (Index k = 0; k < d_; ++k) U[i * d_ + k] *= weight[i];
        });
        if (factored()) {
            multiply(team, m_, n_, d_, Strided<Real>{keys_.data(), 1, m_}, {}, U, first_.gradient.data());
            team.for_work(n_ * m_ * d_).for_ranges(n_, [&](Index i, Index last, int) {
                for (; i < last; ++i) rows_dot(first_.value, m_, d_, U + i * d_, &keys_[i * m_]);
            });
            multiply(team, e_, n_, m_, Z_transposed, columns_of_Z(), keys_.data(), second_.gradient.data());
        } else {
            multiply(team, e_, n_, d_, Z_transposed, columns_of_Z(), U, first_.gradient.data());
        }
        for_each_block([&](Block<Real>& block, int) {
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

    const Block<Real>& first() const { return first_; }
    const Block<Real>& second() const { return second_; }

   private:
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
    Buffer<Real> keys_, query_norm_;
    Buffer<Index> row_end_, column_begin_, zero_, all_samples_;
    Buffer<Real> product_, product_row_square_;
};

}  // namespace attsvm
