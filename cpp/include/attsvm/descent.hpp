// Gradient descent on attention with query directions q_i = V'z_i, and its record.
//
// V has one row per coordinate of the queries: V = W' for logits X W z. Logits X p are the case of one coordinate, z_i
// = 1.
#pragma once

#include <span>

#include "attsvm/pass.hpp"

namespace attsvm {

enum class Rule { gd, ngd, polyak };

struct StepRule {
    Rule kind = Rule::ngd;
    double rate = 0.1;           // gd: the step is rate times the gradient; ngd: the step has this length
    double polyak_factor = 2.0;  // polyak: the step is gap / (factor |gradient|²) times the gradient
};

struct Schedule {
    std::int64_t steps = 0;
    std::span<const std::int64_t> record;  // increasing, each in [0, steps]
};

// What is recorded of an iterate; `cosine_gap` is 1 - cosine with each reference.
template <class Real>
struct Record {
    Real loss, loss_gap, norm, log_grad_norm, max_attention;
    std::span<const Real> cosine_gap;
};

// Directions to compare with: unit matrices whose part inside the spans has V's shape, and whose part outside has a
// component along the outside part of W and one across it.
template <class Real>
struct References {
    Index count = 0;
    const Real* inside = nullptr;   // (count, query_dimension, dimension)
    const Real* outside = nullptr;  // (count, 2): along, across
};

template <class Token, class Real>
class Descent {
   public:
    // V (query_dimension, dimension) is the start and becomes the result; `outside` is the norm of W outside the spans.
    Descent(const Problem<Token, Real>& problem, Loss loss, StepRule rule, const Team& team, Real* V, Real outside,
            References<Real> references)
        : pass_(problem, loss, team.threads()),
          rule_(rule),
          team_(team),
          V_(V),
          outside_(outside),
          references_(references),
          Q_(problem.samples * problem.dimension),
          U_(problem.samples * problem.dimension),
          G_(size()),
          weight_(padded_to_columns<Real>(problem.samples)),
          weighted_Z_(problem.samples * problem.query_dimension),
          row_square_(problem.query_dimension),
          cosine_gap_(references.count),
          row_end_(problem.samples),
          column_begin_(problem.query_dimension),
          zero_(std::max(problem.samples, problem.query_dimension)),
          full_(problem.query_dimension) {
        find_extents();
    }

    // sink(k, record) for the k-th recorded step
    template <class Sink>
    void run(const Schedule& schedule, Progress& progress, bool calling_thread, Sink&& sink) {
        const Index work = size() + problem().samples * problem().tokens * problem().dimension;
        constexpr int lanes = NumberTraits<Real>::lanes;
        const std::int64_t stride = std::max<std::int64_t>(1, 50000 / work);
        std::size_t recorded = 0;
        for (std::int64_t step = 0;; ++step) {
            attend();
            differentiate();
            if (recorded < schedule.record.size() && schedule.record[recorded] == step) sink(recorded++, observe());
            if (step == schedule.steps) return;
            take_step();
            if ((step + 1) % stride == 0 && !progress.advance(static_cast<double>(stride * lanes), calling_thread))
                return;
        }
    }

    // Gradient at V, true size.
    Real gradient(Real* dV) {
        attend();
        differentiate();
        const Real unit = exp(log_unit_);
        for (Index k = 0; k < size(); ++k) dV[k] = G_[k] * unit;
        return pass_.loss_mean();
    }

    // Attention at the last iterate, weights and their logarithms (samples, tokens), and the index of the top token.
    void attention(Real* weight, Real* log_weight, Real* top) {
        const Index T = problem().tokens;
        for (Index i = 0; i < problem().samples; ++i)
            pass_.attention(i, &Q_[i * problem().dimension], weight + i * T, log_weight + i * T, top[i]);
    }

   private:
    const Problem<Token, Real>& problem() const { return pass_.problem(); }
    Index size() const { return problem().query_dimension * problem().dimension; }

    // Coordinates in which queries are triangular are common (an LQ basis): products then skip the zeros.
    void find_extents() {
        const Index n = problem().samples;
        const Index e = problem().query_dimension;
        for (Index j = 0; j < e; ++j) {
            column_begin_[j] = n;
            full_[j] = n;
        }
        for (Index i = 0; i < n; ++i)
            for (Index j = 0; j < e; ++j)
                if (any<Real>(problem().Z[i * e + j] != Real(0.0))) {
                    row_end_[i] = j + 1;
                    column_begin_[j] = std::min(column_begin_[j], i);
                }
    }

    // Q = Z V, then the pass.
    void attend() {
        const Index e = problem().query_dimension;
        multiply(team_, problem().samples, e, problem().dimension, Strided<Real>{problem().Z, e, 1},
                 Extents{zero_.data(), row_end_.data()}, V_, Q_.data());
        pass_.run(team_, Q_.data(), U_.data());
    }

    // G = Σ_i weight_i z_i u_i', the gradient in units of exp(log_unit_).
    void differentiate() {
        const Index n = problem().samples;
        const Index e = problem().query_dimension;
        pass_.sample_weights(weight_.data(), log_unit_);
        for (Index i = 0; i < n; ++i)
            for (Index j = 0; j < e; ++j) weighted_Z_[i * e + j] = weight_[i] * problem().Z[i * e + j];
        multiply(team_, e, n, problem().dimension, Strided<Real>{weighted_Z_.data(), 1, e},
                 Extents{column_begin_.data(), full_.data()}, U_.data(), G_.data());
        norm_ = matrix_norm(G_.data());
    }

    Real matrix_norm(const Real* M) {
        const Index d = problem().dimension;
        const Index e = problem().query_dimension;
        team_.for_ranges(e, [&](Index j, Index last, int) {
            for (; j < last; ++j) row_square_[j] = sum_of_squares(M + j * d, d);
        });
        const Real square = sum<Real>(e, [&](Index j) { return row_square_[j]; });
        return any<Real>(square < Real(1e-280)) || any<Real>(square > Real(1e280)) ? norm(M, e * d) : sqrt(square);
    }

    void take_step() {
        const Real zero(0.0);
        const auto moves = norm_ != zero;
        const Real divisor = select(moves, norm_, Real(1.0));
        Real factor;
        switch (rule_.kind) {
            case Rule::gd:
                factor = Real(rule_.rate) * exp(log_unit_);
                break;
            case Rule::ngd:
                factor = Real(rule_.rate) / divisor;
                break;
            case Rule::polyak:
                factor = pass_.loss_gap(log_unit_) / divisor / divisor / Real(rule_.polyak_factor);
                break;
        }
        // Where the gradient is zero the iterate is stationary: it stays.
        factor = select(moves, factor, zero);
        const Index d = problem().dimension;
        team_.for_ranges(problem().query_dimension, [&](Index j, Index last, int) {
            for (Index k = j * d; k < last * d; ++k) V_[k] -= factor * G_[k];
        });
    }

    Record<Real> observe() {
        Record<Real> out;
        out.loss = pass_.loss_mean();
        out.loss_gap = pass_.loss_gap(Real(0.0));
        const Real parts[] = {matrix_norm(V_), outside_};
        out.norm = any<Real>(outside_ != Real(0.0)) ? norm(parts, 2) : parts[0];
        out.log_grad_norm = log_unit_ + log(norm_);
        out.max_attention = pass_.top_weight_mean();
        const auto points = out.norm != Real(0.0);
        const Real length = select(points, out.norm, Real(1.0));
        for (Index r = 0; r < references_.count; ++r) {
            const Real* const inside = references_.inside + r * size();
            const Real along = outside_ / length - references_.outside[2 * r];
            const Real across = references_.outside[2 * r + 1];
            const Real square = along * along + across * across + sum<Real>(size(), [&](Index k) {
                                    const Real apart = V_[k] / length - inside[k];
                                    return apart * apart;
                                });
            // The zero iterate points nowhere: its cosine with any direction is taken as 0.
            cosine_gap_[r] = select(points, square * Real(0.5), Real(1.0));
        }
        out.cosine_gap = std::span<const Real>(cosine_gap_.data(), static_cast<std::size_t>(cosine_gap_.size()));
        return out;
    }

    Pass<Token, Real> pass_;
    StepRule rule_;
    Team team_;
    Real* V_;
    Real outside_;
    References<Real> references_;
    Buffer<Real> Q_, U_, G_, weight_, weighted_Z_, row_square_, cosine_gap_;
    Buffer<Index> row_end_, column_begin_, zero_, full_;
    Real log_unit_{0.0};
    Real norm_{0.0};
};

}  // namespace attsvm
