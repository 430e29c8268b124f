// Descent on W for next-token data, by token ids: logits e_x'W e_k of token x under the last token k are looked up.
//
// The gradient of W is E' H E with H the slopes summed by pairs (x, k), so that from W = 0 every iterate is E' A E, and
// its table of logits is P = (E E') A (E E'). Nothing depends on the dimension of the embeddings. Where these are
// orthonormal P is A, and only pairs that occur are kept.
#pragma once

#include "attsvm/descent.hpp"

namespace attsvm {

// A view of memory that others own. The pairs are those that occur, or with Gram matrices all of rows × columns.
struct IdProblem {
    Index samples, tokens, pairs;
    const std::int64_t* pair;      // (samples, tokens): where in the table the logit of a token stands
    const std::uint8_t* is_right;  // (samples, tokens): whether it is the label
    const std::int64_t* length;    // (samples)
    Index rows = 0, columns = 0;
    const double* row_gram = nullptr;     // (rows, rows), or null where the embeddings are orthonormal
    const double* column_gram = nullptr;  // (columns, columns)

    bool orthonormal() const { return row_gram == nullptr; }
};

// Directions to compare with: their tables of logits, and their norms.
struct IdReferences {
    Index count = 0;
    const double* table = nullptr;  // (count, pairs)
    const double* norm = nullptr;   // (count)
};

class IdDescent {
   public:
    // A (pairs) is where the coefficients stand: zero at first.
    IdDescent(const IdProblem& problem, StepRule rule, const Team& team, double* A, IdReferences references)
        : problem_(problem),
          rule_(rule),
          team_(team),
          references_(references),
          stride_(padded_to_columns<double>(problem.tokens)),
          scratch_(team.threads() * 4 * stride_),
          slope_(problem.samples * problem.tokens),
          weight_(padded_to_columns<double>(problem.samples)),
          outcomes_(problem.samples, Loss::log, Infimum::of_best_tokens),
          table_memory_(problem.orthonormal() ? 0 : problem.pairs),
          half_(table_memory_.size()),
          cosine_gap_(references.count),
          coefficients_(A, problem.pairs, 1),
          table_(problem.orthonormal() ? A : table_memory_.data(), problem.orthonormal() ? 0 : problem.pairs, 1) {
        for (Index i = 0; i < problem.samples; ++i) outcomes_.best(i) = 1.0;
        find_places();
    }

    template <class Sink>
    void run(const Schedule& schedule, Progress& progress, Sink&& sink) {
        std::size_t recorded = 0;
        for (std::int64_t step = 0;; ++step) {
            differentiate();
            if (recorded < schedule.record.size() && schedule.record[recorded] == step) sink(recorded++, observe());
            if (step == schedule.steps) return;
            take_step(step + 1);
            if (!progress.advance(1.0, true)) return;
        }
    }

    // Attention at the last iterate, weights and their logarithms (samples, tokens), and the top tokens (samples).
    void attention(double* weight, double* log_weight, std::int64_t* top) {
        const Index T = problem_.tokens;
        team_.for_ranges(problem_.samples, [&](Index i, Index last, int thread) {
            double* const logit = scratch_.data() + thread * 4 * stride_;
            for (; i < last; ++i) {
                const Index rows = look_up(i, logit, logit + 3 * stride_);
                top[i] = static_cast<std::int64_t>(
                    attention_weights(rows, T, logit + 3 * stride_, logit, weight + i * T, log_weight + i * T));
            }
        });
    }

   private:
    // For every pair, the places (sample, token) where it occurs, in order: slopes are summed the same way by any
    // number of threads.
    void find_places() {
        begin_ = Buffer<Index>(problem_.pairs + 1);
        Index count = 0;
        for_places([&](Index, Index pair) { ++begin_[pair + 1], ++count; });
        for (Index pair = 0; pair < problem_.pairs; ++pair) begin_[pair + 1] += begin_[pair];
        place_ = Buffer<Index>(count);
        Buffer<Index> next(problem_.pairs);
        for_places([&](Index place, Index pair) { place_[begin_[pair] + next[pair]++] = place; });
    }
    template <class Action>
    void for_places(Action action) const {
        for (Index i = 0; i < problem_.samples; ++i)
            for (Index t = 0; t < problem_.length[i]; ++t) {
                const Index place = i * problem_.tokens + t;
                action(place, static_cast<Index>(problem_.pair[place]));
            }
    }

    // Masked logits and scores of a sample; how many tokens it has.
    Index look_up(Index i, double* logit, double* score) const {
        const auto rows = static_cast<Index>(problem_.length[i]);
        for (Index t = 0; t < rows; ++t) {
            const Index place = i * problem_.tokens + t;
            logit[t] = table_.value[problem_.pair[place]];
            score[t] = problem_.is_right[place] != 0 ? 1.0 : 0.0;
        }
        std::fill(score + rows, score + padded_to_columns<double>(rows), 0.0);
        mask_logits(rows, static_cast<double>(rows), logit);
        return rows;
    }

    void differentiate() {
        team_.for_ranges(problem_.samples, [&](Index i, Index last, int thread) {
            double* const logit = scratch_.data() + thread * 4 * stride_;
            double* const score = logit + 3 * stride_;
            for (; i < last; ++i) {
                const Index rows = look_up(i, logit, score);
                outcomes_[i] = token_gradient(rows, score, logit, logit + stride_, logit + 2 * stride_);
                std::copy_n(logit, rows, slope_.data() + i * problem_.tokens);
            }
        });
        outcomes_.weights(weight_.data(), log_unit_);
        team_.for_ranges(problem_.pairs, [&](Index pair, Index last, int) {
            for (; pair < last; ++pair) {
                double total = 0.0;
                for (Index k = begin_[pair]; k < begin_[pair + 1]; ++k)
                    total += weight_[place_[k] / problem_.tokens] * slope_[place_[k]];
                coefficients_.gradient[pair] = total;
            }
        });
        if (problem_.orthonormal()) {
            coefficients_.gradient_norm = norm(coefficients_.gradient.data(), problem_.pairs);
            return;
        }
        const Index rows = problem_.rows, columns = problem_.columns;
        multiply(team_, rows, rows, columns, Strided<double>{problem_.row_gram, rows, 1}, {},
                 coefficients_.gradient.data(), half_.data());
        multiply(team_, rows, columns, columns, Strided<double>{half_.data(), columns, 1}, {}, problem_.column_gram,
                 table_.gradient.data());
        const double square = sum<double>(
            problem_.pairs, [&](Index pair) { return coefficients_.gradient[pair] * table_.gradient[pair]; });
        coefficients_.gradient_norm = table_.gradient_norm = std::sqrt(std::max(square, 0.0));
    }

    void take_step(std::int64_t count) {
        double scale = std::exp(log_unit_);
        const double size = coefficients_.gradient_norm;
        if (rule_.kind == Rule::ngd) scale = size == 0.0 ? 0.0 : 1.0 / size;
        if (rule_.kind == Rule::polyak) {
            const double step = outcomes_.loss_gap(log_unit_) / rule_.polyak_factor / size / size;
            scale = std::isinf(rule_.largest_step) ? step : std::min(step, rule_.largest_step * scale);
        }
        coefficients_.step(team_, scale, rule_.first.at(count), rule_.inertia, count);
        if (!problem_.orthonormal()) table_.step(team_, scale, rule_.first.at(count), rule_.inertia, count);
    }

    double inner(const double* table) const {
        return sum<double>(problem_.pairs, [&](Index pair) { return coefficients_.value[pair] * table[pair]; });
    }

    Record<double> observe() {
        Record<double> out;
        out.loss = outcomes_.loss_mean();
        out.loss_gap = outcomes_.loss_gap(0.0);
        out.norm = std::sqrt(std::max(inner(table_.value), 0.0));
        out.log_grad_norm = log_unit_ + std::log(coefficients_.gradient_norm);
        out.max_attention = outcomes_.top_weight_mean();
        for (Index r = 0; r < references_.count; ++r) {
            const double size = out.norm * references_.norm[r];
            cosine_gap_[r] = size == 0.0 ? 1.0 : 1.0 - inner(references_.table + r * problem_.pairs) / size;
        }
        out.cosine_gap = std::span<const double>(cosine_gap_.data(), static_cast<std::size_t>(cosine_gap_.size()));
        return out;
    }

    IdProblem problem_;
    StepRule rule_;
    Team team_;
    IdReferences references_;
    Index stride_;
    Buffer<double> scratch_, slope_, weight_;
    Outcomes<double> outcomes_;
    Buffer<double> table_memory_, half_, cosine_gap_;
    Block<double> coefficients_, table_;
    Buffer<Index> begin_, place_;
    double log_unit_ = 0.0;
};

}  // namespace attsvm
