#include "attsvm/id_descent.hpp"

namespace attsvm {

namespace {

// The length of the longest vector, from the diagonal of their Gram matrix.
double longest(const double* gram, Index count) {
    double square = 0.0;
    for (Index k = 0; k < count; ++k) square = std::max(square, gram[k * count + k]);
    return std::sqrt(square);
}

}  // namespace

IdDescent::IdDescent(const IdProblem& problem, const StepRule& rule, const Team& team, double* A,
                     const IdReferences& references)
    : problem_(problem),
      rule_(rule),
      update_(rule.update()),
      team_(team),
      references_(references),
      stride_(padded_to_columns<double>(problem.tokens)),
      scratch_(team.threads() * 4 * stride_),
      slope_(problem.samples * problem.tokens),
      weight_(padded_to_columns<double>(problem.samples)),
      losses_(problem.samples, Loss::of<Log>(), Infimum::of_best_tokens),
      table_memory_(problem.orthonormal() ? 0 : problem.pairs),
      half_(table_memory_.size()),
      half_coordinates_(problem.row_coordinates * problem.columns),
      coordinates_(problem.orthonormal() ? 0 : problem.size()),
      cosine_gap_(references.count),
      coefficients_(A, problem.pairs, 1),
      table_(problem.orthonormal() ? A : table_memory_.data(), problem.orthonormal() ? 0 : problem.pairs, 1) {
    for (Index i = 0; i < problem.samples; ++i) losses_.best(i) = 1.0;
    if (!problem.orthonormal()) {
        longest_row_ = longest(problem.row_gram, problem.rows);
        longest_column_ = longest(problem.column_gram, problem.columns);
    }
    find_places();
}

void IdDescent::run(const Schedule& schedule, Progress& progress, const Sink& sink) {
    std::size_t recorded = 0;
    for (std::int64_t step = 0;; ++step) {
        differentiate();
        if (recorded < schedule.record.size() && schedule.record[recorded] == step) sink(recorded++, observe());
        if (step == schedule.steps) return;
        take_step(step + 1);
        if (!progress.advance(1.0, true)) return;
    }
}

void IdDescent::attention(double* weight, double* log_weight, std::int64_t* top) {
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

// For every pair, the places (sample, token) where it occurs, in order: slopes are summed the same way by any number of
// threads.
void IdDescent::find_places() {
    begin_ = Buffer<Index>(problem_.pairs + 1);
    Index count = 0;
    for_places([&](Index, Index pair) { ++begin_[pair + 1], ++count; });
    for (Index pair = 0; pair < problem_.pairs; ++pair) {
        most_places_ = std::max(most_places_, begin_[pair + 1]);
        begin_[pair + 1] += begin_[pair];
    }
    place_ = Buffer<Index>(count);
    Buffer<Index> next(problem_.pairs);
    for_places([&](Index place, Index pair) { place_[begin_[pair] + next[pair]++] = place; });
}

template <class Action>
void IdDescent::for_places(Action action) const {
    for (Index i = 0; i < problem_.samples; ++i)
        for (Index t = 0; t < problem_.length[i]; ++t) {
            const Index place = i * problem_.tokens + t;
            action(place, static_cast<Index>(problem_.pair[place]));
        }
}

// Masked logits and scores of a sample; how many tokens it has.
Index IdDescent::look_up(Index i, double* logit, double* score) const {
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

void IdDescent::differentiate() {
    team_.for_ranges(problem_.samples, [&](Index i, Index last, int thread) {
        double* const logit = scratch_.data() + thread * 4 * stride_;
        double* const score = logit + 3 * stride_;
        for (; i < last; ++i) {
            const Index rows = look_up(i, logit, score);
            losses_[i] = token_gradient(rows, score, logit, logit + stride_, logit + 2 * stride_);
            std::copy_n(logit, rows, slope_.data() + i * problem_.tokens);
        }
    });
    losses_.weights(weight_.data(), log_unit_);
    team_.for_ranges(problem_.pairs, [&](Index pair, Index last, int) {
        for (; pair < last; ++pair) {
            double total = 0.0;
            for (Index k = begin_[pair]; k < begin_[pair + 1]; ++k)
                total += weight_[place_[k] / problem_.tokens] * slope_[place_[k]];
            coefficients_.gradient[pair] = total;
        }
    });
    coefficients_.gradient_norm = gradient_norm();
    table_.gradient_norm = coefficients_.gradient_norm;
}

// Also fills the gradient of the table of logits. A norm within the rounding of the terms of the gradient is zero.
double IdDescent::gradient_norm() {
    // The terms are at most so large: Σ_t |c_it| <= 2 T for scores 0 and 1.
    double terms = 2.0 * static_cast<double>(problem_.tokens) * longest_row_ * longest_column_ *
                   sum<double>(problem_.samples, [&](Index i) { return std::abs(weight_[i]); });
    const Index rows = problem_.rows, columns = problem_.columns;
    const double* const H = coefficients_.gradient.data();
    double length;
    if (problem_.orthonormal()) {
        length = norm(H, problem_.pairs);
    } else {
        multiply(team_, rows, rows, columns, Strided<double>{problem_.row_gram, rows, 1}, {}, H, half_.data());
        multiply(team_, rows, columns, columns, Strided<double>{half_.data(), columns, 1}, {}, problem_.column_gram,
                 table_.gradient.data());
        const double square = sum<double>(problem_.pairs, [&](Index pair) { return H[pair] * table_.gradient[pair]; });
        // The sum cancels where the gradient is much smaller than its terms.
        if (square < 1e-6 * terms * terms) terms = term_size();
        length = square < 1e-6 * terms * terms ? norm(in_coordinates(H), problem_.size()) : std::sqrt(square);
    }
    const double rounding = Parameters<double>::rounding_unit(most_places_ + rows + columns, problem_.tokens);
    if (rounding * terms < length || std::isnan(length)) return length;
    return rounding * term_size() >= length ? 0.0 : length;
}

// Σ_it |weight_i c_it| |e_x| |e_k| at most
double IdDescent::term_size() const {
    const double slopes = sum<double>(problem_.samples, [&](Index i) {
        const double* const slope = slope_.data() + i * problem_.tokens;
        return std::abs(weight_[i]) *
               sum<double>(static_cast<Index>(problem_.length[i]), [slope](Index t) { return std::abs(slope[t]); });
    });
    return longest_row_ * longest_column_ * slopes;
}

// Coefficients (pairs) of W as its coordinates (size).
const double* IdDescent::in_coordinates(const double* coefficients) {
    if (problem_.orthonormal()) return coefficients;
    const Index rows = problem_.rows, columns = problem_.columns, r = problem_.row_coordinates;
    multiply(team_, r, rows, columns, Strided<double>{problem_.row, 1, r}, {}, coefficients, half_coordinates_.data());
    multiply(team_, r, columns, problem_.column_coordinates, Strided<double>{half_coordinates_.data(), columns, 1}, {},
             problem_.column, coordinates_.data());
    return coordinates_.data();
}

void IdDescent::take_step(std::int64_t count) {
    const double size = coefficients_.gradient_norm;
    const GradientNorms<double> norms{log_unit_, size, false, 0.0, 0.0};
    const auto scale = [&](double unit, const Steepest<double>& at) { return rule_.scale(losses_, norms, unit, at); };
    coefficients_.step(team_, rule_, update_, rule_.blocks[0], count, log_unit_, scale);
    if (!problem_.orthonormal()) table_.step(team_, rule_, update_, rule_.blocks[0], count, log_unit_, scale);
}

Record<double> IdDescent::observe() {
    Record<double> out;
    const double* const W = in_coordinates(coefficients_.value);
    out.loss = losses_.loss_mean();
    out.loss_gap = losses_.loss_gap(0.0);
    out.norm = norm(W, problem_.size());
    out.log_grad_norm = log_unit_ + std::log(coefficients_.gradient_norm);
    out.max_attention = losses_.top_weight_mean();
    for (Index r = 0; r < references_.count; ++r) {
        const double outside = references_.outside[r];
        // The zero iterate points nowhere: its cosine with any direction is taken as 0.
        cosine_gap_[r] =
            out.norm == 0.0
                ? 1.0
                : 0.5 * (distance_square(W, references_.inside + r * problem_.size(), out.norm, problem_.size()) +
                         outside * outside);
    }
    out.cosine_gap = std::span<const double>(cosine_gap_.data(), static_cast<std::size_t>(cosine_gap_.size()));
    return out;
}

}  // namespace attsvm
