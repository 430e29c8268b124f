// Batches of problems of one shape: which engine runs them, and how they are shared among threads.
#pragma once

#include "attsvm/descent.hpp"

namespace attsvm {

// Views of a batch in the caller's memory, problem after problem; all but the tokens.
struct BatchArrays {
    Index problems, sequences, samples, tokens, dimension, query_dimension, references;
    ParameterKind parameter;
    Index inner;                      // of the blocks
    const double* Z;                  // (problems, samples, query_dimension)
    Head<double> head;                // of the first problem; those of the others stand behind
    const std::int64_t* length;       // (problems, samples)
    const std::int64_t* sequence;     // (samples), or null: see `Problem`
    const double* outside;            // (problems): norm of W outside the spans of tokens and queries
    const double* reference;          // (problems, references, query_dimension, dimension)
    const double* reference_outside;  // (problems, references, 2)
    Index head_references;
    const double* head_reference;  // (problems, head_references, dimension)
    bool certify;
    std::span<const Geometry> certified_norms;

    Index matrix_size() const { return query_dimension * dimension; }
    Sizes sizes() const { return {samples, query_dimension, dimension, inner}; }
    Index block_count() const { return static_cast<Index>(parameter.blocks().size()); }
    Index block_size(Index block) const {
        const BlockShape& shape = parameter.blocks()[static_cast<std::size_t>(block)];
        return size_of(shape.rows, sizes()) * size_of(shape.columns, sizes());
    }
    Index score_size() const { return head.kind.scored ? samples * tokens : 0; }
    Index label_size() const { return head.kind.scored ? 0 : samples; }
    Index head_size() const {
        if (head.kind.vector == VectorSize::none) return 0;
        return head.kind.vector == VectorSize::units ? head.arrays.units : dimension;
    }
    Index hidden_size() const { return head.arrays.units * dimension; }
    Index token_size() const { return sequences * tokens * dimension; }
    // There are problems for the lanes, and a pack of them stays in a core's own cache.
    bool runs_in_packs() const { return 2 * problems > native_lanes<double> && numbers_per_problem() <= 8192.0; }
    double numbers_per_problem() const {
        return static_cast<double>(samples) * static_cast<double>(tokens) * static_cast<double>(dimension);
    }
};

template <class Token>
struct Batch : BatchArrays {
    const Token* X;  // (problems, sequences, tokens, dimension)

    const Token* tokens_of(Index problem) const { return X + problem * token_size(); }
};

// An array of every block of parameters, each (problems, rows, columns).
using BlockArrays = std::array<double*, most_blocks>;
using ConstBlockArrays = std::array<const double*, most_blocks>;

// Where a batch's results go.
struct BatchResult {
    BlockArrays blocks;                                                          // the start, then the end
    double* head;                                                                // (problems, dimension), where trained
    double *weight, *log_weight;                                                 // (problems, samples, tokens)
    std::int64_t* selected;                                                      // (problems, samples)
    double *loss, *loss_gap, *norm, *head_norm, *log_grad_norm, *max_attention;  // (problems, recorded)
    double* largest_score;                                                       // (problems), 0 if not of a fixed head
    double* balance_drift;                                                       // (problems, recorded), of flow
    double *cosine_gap, *head_cosine_gap;                                        // (problems, references, recorded)
    double *margin, *certified_cosine;                                           // (problems, recorded), if certified
    std::int64_t* top;                                                           // (problems, recorded, samples)
    double* certified_ratio;                                                     // (problems, norms, recorded)
    // Of every recorded step, or null: attention (problems, recorded, samples, tokens), and the parameters, each block
    // (problems, recorded, rows, columns).
    double *recorded_weight, *recorded_log_weight;
    BlockArrays recorded_blocks;
    double* recorded_head;  // (problems, recorded, dimension)
};

// Runs every problem of the batch. `Token` is double or float.
template <class Token>
void descend(const Batch<Token>& batch, Loss loss, const StepRule& rule, const Schedule& schedule, int threads,
             Progress& progress, const BatchResult& result);

// Computes the loss (problems) and its gradients, shaped as the parameters, at the parameters; and the largest size of
// a token score (problems).
template <class Token>
void loss_and_gradient(const Batch<Token>& batch, Loss loss, const ConstBlockArrays& blocks, const double* head,
                       int threads, double* value, double* largest_score, const BlockArrays& gradients,
                       double* head_gradient);

// Computes V = W' (problems, query_dimension, dimension) of blocks of parameters.
void parameter_matrices(ParameterKind kind, Index problems, const Sizes& sizes, const ConstBlockArrays& blocks,
                        double* V);

// Computes y_i v'x_it (problems, samples, tokens) of a linear head, 0 at padding.
template <class Token>
void token_scores(const Batch<Token>& batch, int threads, double* scores);

}  // namespace attsvm
