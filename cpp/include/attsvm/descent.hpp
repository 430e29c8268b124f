// Gradient descent on attention, and its record.
//
// Tokens and queries may be given in orthonormal coordinates of their spans. What of W lies outside these spans moves
// no logit and never changes; only norms and cosines know of it, by its size.
#pragma once

#include <span>

#include "attsvm/parameterisation.hpp"
#include "attsvm/pass.hpp"

namespace attsvm {

enum class Rule { gd, ngd, polyak };

struct StepRule {
    Rule kind = Rule::ngd;
    // gd: the step is rate times the gradient; ngd: the step of a block has this length. One rate for each block.
    double rate = 0.1, second_rate = 0.1;
    double polyak_factor = 2.0;  // polyak: the step is gap / (factor |gradient|²) times the gradient
};

struct Schedule {
    std::int64_t steps = 0;
    std::span<const std::int64_t> record;  // increasing, each in [0, steps]
};

// Where the blocks of parameters stand: the start, then the end. See `Parameterisation`.
template <class Real>
struct Parameters {
    Index inner;
    Real* first;
    Real* second;
    Real outside;  // norm of W outside the spans of tokens and queries
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
    Descent(const Problem<Token, Real>& problem, Loss loss, StepRule rule, const Team& team,
            Parameters<Real> parameters, References<Real> references)
        : pass_(problem, loss, team.threads()),
          parameters_(problem.samples, problem.query_dimension, problem.dimension, problem.Z, parameters.inner,
                      parameters.first, parameters.second),
          rule_(rule),
          team_(team),
          outside_(parameters.outside),
          references_(references),
          Q_(problem.samples * problem.dimension),
          U_(problem.samples * problem.dimension),
          weight_(padded_to_columns<Real>(problem.samples)),
          cosine_gap_(references.count) {}

    // sink(k, record) for the k-th recorded step
    template <class Sink>
    void run(const Schedule& schedule, Progress& progress, bool calling_thread, Sink&& sink) {
        const Index work = parameters_.matrix_size() + problem().samples * problem().tokens * problem().dimension;
        constexpr int lanes = NumberTraits<Real>::lanes;
        const std::int64_t stride = std::max<std::int64_t>(1, 50000 / work);
        std::size_t recorded = 0;
        for (std::int64_t step = 0;; ++step) {
            differentiate();
            if (recorded < schedule.record.size() && schedule.record[recorded] == step) sink(recorded++, observe());
            if (step == schedule.steps) return;
            take_step();
            if ((step + 1) % stride == 0 && !progress.advance(static_cast<double>(stride * lanes), calling_thread))
                return;
        }
    }

    // The loss at the parameters, and its gradients in true size, shaped as the blocks.
    Real gradient(Real* first, Real* second) {
        differentiate();
        const Real unit = exp(log_unit_);
        const auto put = [&](const Block<Real>& block, Real* to) {
            for (Index k = 0; k < block.size(); ++k) to[k] = block.gradient[k] * unit;
        };
        put(parameters_.first(), first);
        put(parameters_.second(), second);
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

    // Gradients of all blocks, in units of exp(log_unit_).
    void differentiate() {
        parameters_.queries(team_, Q_.data());
        pass_.run(team_, Q_.data(), U_.data());
        pass_.sample_weights(weight_.data(), log_unit_);
        parameters_.differentiate(team_, weight_.data(), U_.data());
    }

    void take_step() {
        switch (rule_.kind) {
            case Rule::gd: {
                const Real unit = exp(log_unit_);
                parameters_.step(team_, [&](Index block, Real) { return Real(rate(block)) * unit; });
                break;
            }
            case Rule::ngd:
                parameters_.step(team_, [&](Index block, Real norm) { return Real(rate(block)) / norm; });
                break;
            case Rule::polyak: {
                const Real gap = pass_.loss_gap(log_unit_) / Real(rule_.polyak_factor);
                const Real all = parameters_.gradient_norm();
                parameters_.step(team_, [&](Index, Real) { return gap / all / all; });
                break;
            }
        }
    }
    double rate(Index block) const { return block == 0 ? rule_.rate : rule_.second_rate; }

    Record<Real> observe() {
        Record<Real> out;
        out.loss = pass_.loss_mean();
        out.loss_gap = pass_.loss_gap(Real(0.0));
        const Real* const V = parameters_.matrix(team_);
        const Real parts[] = {parameters_.matrix_norm_of(team_, V), outside_};
        out.norm = any<Real>(outside_ != Real(0.0)) ? norm(parts, 2) : parts[0];
        out.log_grad_norm = log_unit_ + log(parameters_.gradient_norm());
        out.max_attention = pass_.top_weight_mean();
        const auto points = out.norm != Real(0.0);
        const Real length = select(points, out.norm, Real(1.0));
        const Index size = parameters_.matrix_size();
        for (Index r = 0; r < references_.count; ++r) {
            const Real* const inside = references_.inside + r * size;
            const Real along = outside_ / length - references_.outside[2 * r];
            const Real across = references_.outside[2 * r + 1];
            const Real square = along * along + across * across + sum<Real>(size, [&](Index k) {
                                    const Real apart = V[k] / length - inside[k];
                                    return apart * apart;
                                });
            // The zero iterate points nowhere: its cosine with any direction is taken as 0.
            cosine_gap_[r] = select(points, square * Real(0.5), Real(1.0));
        }
        out.cosine_gap = std::span<const Real>(cosine_gap_.data(), static_cast<std::size_t>(cosine_gap_.size()));
        return out;
    }

    Pass<Token, Real> pass_;
    Parameterisation<Real> parameters_;
    StepRule rule_;
    Team team_;
    Real outside_;
    References<Real> references_;
    Buffer<Real> Q_, U_, weight_, cosine_gap_;
    Real log_unit_{0.0};
};

}  // namespace attsvm
