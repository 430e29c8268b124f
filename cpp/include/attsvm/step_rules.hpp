// Step rules: a step of a block of parameters is its rate times a direction made of the gradient.
//
//     scale     gd: 1;  ngd: 1 / |gradient of the block|;  polyak: (loss - infimum) / (factor |all gradients|²)
//     update    plain: g = scale times the gradient;  with velocity b <- β b + g  heavy ball: b,  Nesterov: g + β b;
//               Adam: m / (√s + ε) with the running means m of g and s of g ∘ g, their bias taken out
//
// A rule is one struct, and an entry of `StepRules`; an update is one struct, and an entry of `Updates`. Any rule that
// has no update of its own goes with every momentum.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "attsvm/sample_losses.hpp"

namespace attsvm {

// Of the k-th step, from 1: its rate is that of the block divided by k^decay.
struct BlockRate {
    double rate = 0.1, decay = 0.0;
    double at(std::int64_t step) const {
        return decay == 0.0 ? rate : rate * std::pow(static_cast<double>(step), -decay);
    }
};

// Norms of the gradients: of the attention blocks together `norm` exp(log_unit), of a head that is trained too
// `head_norm` exp(head_log_unit).
template <class Real>
struct GradientNorms {
    Real log_unit, norm;
    bool joint;
    Real head_log_unit, head_norm;

    // log of the norm of all together
    Real log_of_all() const {
        const Real blocks = log_unit + log(norm);
        if (!joint) return blocks;
        const Real head = head_log_unit + log(head_norm);
        const Real most = larger(blocks, head), least = larger(-blocks, -head);  // the lesser, with its sign turned
        const auto moves = most > Real(-std::numeric_limits<double>::infinity());
        const Real apart = select(moves, most, Real(0.0)) + least;
        return most + Real(0.5) * log1p(exp(-(apart + apart)));
    }
};

// The numbers of one step of a block, and its arrays; b or m is in `mean`, s in `square_mean`.
template <class Real>
struct BlockStep {
    Real* value;
    const Real* gradient;
    Real *mean, *square_mean;
    Real scale, rate, factor;                   // factor = rate · scale
    Real beta, second_beta, epsilon;            // β, or β1, β2 and ε of Adam
    Real unbiased_rate, unbiased_square_share;  // of Adam
};

struct PlainUpdate {
    static constexpr std::string_view name = "plain";
    static constexpr int means = 0;  // arrays kept from step to step

    template <class Real>
    static void apply(const BlockStep<Real>& at, Index k, Index end) {
        for (; k < end; ++k) at.value[k] -= at.factor * at.gradient[k];
    }
};

struct HeavyBallUpdate {
    static constexpr std::string_view name = "heavy_ball";
    static constexpr int means = 1;

    template <class Real>
    static void apply(const BlockStep<Real>& at, Index k, Index end) {
        for (; k < end; ++k) {
            at.mean[k] = at.beta * at.mean[k] + at.scale * at.gradient[k];
            at.value[k] -= at.rate * at.mean[k];
        }
    }
};

struct NesterovUpdate {
    static constexpr std::string_view name = "nesterov";
    static constexpr int means = 1;

    template <class Real>
    static void apply(const BlockStep<Real>& at, Index k, Index end) {
        for (; k < end; ++k) {
            const Real slope = at.scale * at.gradient[k];
            at.mean[k] = at.beta * at.mean[k] + slope;
            at.value[k] -= at.rate * (slope + at.beta * at.mean[k]);
        }
    }
};

struct AdamUpdate {
    static constexpr std::string_view name = "adam";
    static constexpr int means = 2;

    template <class Real>
    static void apply(const BlockStep<Real>& at, Index k, Index end) {
        const Real one(1.0);
        for (; k < end; ++k) {
            const Real slope = at.scale * at.gradient[k];
            at.mean[k] = at.beta * at.mean[k] + (one - at.beta) * slope;
            at.square_mean[k] = at.second_beta * at.square_mean[k] + (one - at.second_beta) * slope * slope;
            at.value[k] -=
                at.unbiased_rate * at.mean[k] / (sqrt(at.square_mean[k] * at.unbiased_square_share) + at.epsilon);
        }
    }
};

struct StepRule;

struct NormalisedGradient {
    static constexpr std::string_view name = "ngd", description = "normalised steps";
    static constexpr bool by_coordinate = false;    // whether steps depend on the coordinates of tokens and queries
    static constexpr bool needs_infimum = false;    // of the loss
    static constexpr std::string_view update = "";  // one of `Updates`, where the rule has its own

    // What the gradient of a block, given in units of exp(log_unit) and not zero, is multiplied with.
    template <class Real>
    static Real scale(const StepRule&, const SampleLosses<Real>&, const GradientNorms<Real>&, Real, Real block_norm) {
        return Real(1.0) / block_norm;
    }
};

struct PlainGradient : NormalisedGradient {
    static constexpr std::string_view name = "gd", description = "steps of gradient descent";

    template <class Real>
    static Real scale(const StepRule&, const SampleLosses<Real>&, const GradientNorms<Real>&, Real log_unit, Real) {
        return exp(log_unit);
    }
};

struct PolyakGradient : NormalisedGradient {
    static constexpr std::string_view name = "polyak", description = "Polyak steps";
    static constexpr bool needs_infimum = true;

    template <class Real>
    static Real scale(const StepRule& rule, const SampleLosses<Real>& losses, const GradientNorms<Real>& norms,
                      Real log_unit, Real);
};

struct AdamGradient : PlainGradient {
    static constexpr std::string_view name = "adam", description = "steps of Adam", update = "adam";
    static constexpr bool by_coordinate = true;
};

using Updates = TypeList<PlainUpdate, HeavyBallUpdate, NesterovUpdate, AdamUpdate>;
using StepRules = TypeList<PlainGradient, NormalisedGradient, PolyakGradient, AdamGradient>;

struct StepRule {
    int kind = StepRules::index_of<NormalisedGradient>();
    BlockRate first{}, second{}, head{};
    double polyak_factor = 2.0;
    double largest_step = std::numeric_limits<double>::infinity();  // of polyak: what multiplies the gradient at most
    double weight_decay = 0.0;  // λ of λ|block|² added to the loss for every block but the head
    double momentum = 0.0;      // β; 0 for none
    bool nesterov = false;
    double adam_beta = 0.9, adam_second_beta = 0.999, adam_epsilon = 1e-8;
    Index batch = 0;  // samples of a step, drawn without return until all have been drawn; 0: all samples in every step
    std::uint64_t seed = 0;  // of the draws

    // The index in `Updates`.
    int update() const {
        return StepRules::visit(kind, [this]<class Kind>(Kind) {
            if (!Kind::update.empty()) return Updates::find("update", Kind::update);
            if (momentum == 0.0) return Updates::index_of<PlainUpdate>();
            return nesterov ? Updates::index_of<NesterovUpdate>() : Updates::index_of<HeavyBallUpdate>();
        });
    }
    template <class Real>
    Real scale(const SampleLosses<Real>& losses, const GradientNorms<Real>& norms, Real log_unit,
               Real block_norm) const {
        return StepRules::visit(
            kind, [&]<class Kind>(Kind) { return Kind::scale(*this, losses, norms, log_unit, block_norm); });
    }
};

template <class Real>
Real PolyakGradient::scale(const StepRule& rule, const SampleLosses<Real>& losses, const GradientNorms<Real>& norms,
                           Real log_unit, Real) {
    const Real factor(rule.polyak_factor);
    Real step;
    if (norms.joint) {
        const Real log_all = norms.log_of_all();
        step = exp(log(losses.loss_mean() / factor) - log_all - log_all + log_unit);
    } else {
        step = losses.loss_gap(log_unit) / factor / norms.norm / norms.norm;
    }
    return std::isinf(rule.largest_step) ? step : smaller(step, Real(rule.largest_step) * exp(log_unit));
}

}  // namespace attsvm
