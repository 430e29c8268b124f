// Descent on W for next-token data, by token ids: logits e_x'W e_k of token x under the last token k are looked up.
//
// The gradient of W is E' H E with H the slopes summed by pairs (x, k), so that from W = 0 every iterate is E' A E, and
// its table of logits is P = (E E') A (E E'). Nothing depends on the dimension of the embeddings. Where these are
// orthonormal P is A, and only pairs that occur are kept. Norms and directions are those of C = X' A Y, W in
// orthonormal coordinates of the embeddings' spans, X and Y the embeddings in these.
#pragma once

#include "attsvm/descent.hpp"

namespace attsvm {

// A view of memory that others own. The pairs are those that occur, or with Gram matrices all of rows × columns.
struct IdProblem {
    Index samples, tokens, pairs;
    const std::int64_t* pair;      // (samples, tokens): where in the table the logit of a token stands
    const std::uint8_t* is_right;  // (samples, tokens): whether it is the label
    const std::int64_t* length;    // (samples)
    // Null where the embeddings are orthonormal:
    Index rows = 0, columns = 0, row_coordinates = 0, column_coordinates = 0;
    const double* row_gram = nullptr;     // (rows, rows)
    const double* column_gram = nullptr;  // (columns, columns)
    const double* row = nullptr;          // X (rows, row_coordinates)
    const double* column = nullptr;       // Y (columns, column_coordinates)

    bool orthonormal() const { return row_gram == nullptr; }
    // Of W in coordinates.
    Index size() const { return orthonormal() ? pairs : row_coordinates * column_coordinates; }
};

// Directions to compare with, of norm 1: their coordinates, and the norm of what lies outside the spans.
struct IdReferences {
    Index count = 0;
    const double* inside = nullptr;   // (count, size)
    const double* outside = nullptr;  // (count)
};

class IdDescent {
   public:
    // A (pairs) is where the coefficients stand: zero at first.
    IdDescent(const IdProblem& problem, const StepRule& rule, const Team& team, double* A,
              const IdReferences& references);

    using Sink = Descent<double, double>::Sink;
    void run(const Schedule& schedule, Progress& progress, const Sink& sink);

    // Attention at the last iterate, weights and their logarithms (samples, tokens), and the top tokens (samples).
    void attention(double* weight, double* log_weight, std::int64_t* top);

   private:
    void find_places();
    template <class Action>
    void for_places(Action action) const;
    Index look_up(Index i, double* logit, double* score) const;
    void differentiate();
    double gradient_norm();
    double term_size() const;
    const double* in_coordinates(const double* coefficients);
    void take_step(std::int64_t count);
    Record<double> observe();

    IdProblem problem_;
    StepRule rule_;
    int update_;
    Team team_;
    IdReferences references_;
    Index stride_;
    Buffer<double> scratch_, slope_, weight_;
    SampleLosses<double> losses_;
    Buffer<double> table_memory_, half_, half_coordinates_, coordinates_, cosine_gap_;
    Block<double> coefficients_, table_;
    Buffer<Index> begin_, place_;
    double log_unit_ = 0.0, longest_row_ = 1.0, longest_column_ = 1.0;
    Index most_places_ = 0;
};

}  // namespace attsvm
