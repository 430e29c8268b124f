// Step rules: what a step of a block of parameters W is made of, from its gradient.
//
//     average     M = G, or running means of the gradients, M <- β M + (1 - β) G
//     direction   D(M), the steepest direction of the block's norm
//     length      gd: N*(M);  ngd: 1;  polyak: |M| (loss - infimum) / (factor |all gradients|²)
//     update      plain: g = length times D;  with velocity b <- β b + g  heavy ball: b,  Nesterov: g + β b;
//                 Adam: m / (√s + ε) with the running means m of G and s of G ∘ G, their bias taken out
//     step        W <- (1 - rate λ) W - rate times the update; by mirror descent in the dual variable of W
//
// A rule is one struct, and an entry of `StepRules`; an update is one struct, and an entry of `Updates`; the norms are
// those of geometries.hpp. Gradients come in units of exp(log_unit), and so are the means kept: a mean goes on where
// float64 would have underflown.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include "attsvm/geometries.hpp"
#include "attsvm/sample_losses.hpp"

namespace attsvm {

// Of the k-th step, from 1: its rate is that of the block divided by k^decay.
struct BlockRate {
    double rate = 0.1, decay = 0.0;
    Geometry geometry{};
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

// Running means of gradients, or of their powers, in units of exp(power · log_unit): x <- old x + fresh g^power with g
// in units of its own. The unit falls no faster than a mean of zeros: numbers kept neither overflow nor underflow.
template <class Real>
struct RunningMean {
    Buffer<Real> value;
    Real log_unit{-std::numeric_limits<double>::infinity()};
    Real old{0.0}, fresh{0.0};

    // For gradients in units of exp(unit), -inf where they are zero.
    void begin(Index size, double beta, Real unit, double power = 1.0) {
        if (value.size() == 0) value = Buffer<Real>(size);
        const Real nothing(-std::numeric_limits<double>::infinity());
        const Real before = log_unit + Real(std::log(beta) / power);
        log_unit = larger(before, unit);
        const Real at = select(log_unit > nothing, log_unit, Real(0.0));
        old = exp(Real(power) * (before - at));
        fresh = Real(1.0 - beta) * exp(Real(power) * (unit - at));
    }
};

// The numbers of one step of a block, and its arrays; b or m is in `mean`. Updates take it by value: of a reference,
// the numbers would be read again after every write to an array.
template <class Real>
struct BlockStep {
    Real* value;
    const Real* gradient;
    Real *mean, *root_mean_square;
    Real scale, rate, factor;  // factor = rate · scale
    Real beta;
    // Of Adam: m <- old m + fresh g, s <- old s + fresh g²; its rate and its ε in the units of m and √s.
    Real mean_old, mean_fresh, square_old, square_fresh, adam_rate, epsilon;
};

struct PlainUpdate {
    static constexpr std::string_view name = "plain";
    static constexpr bool keeps_velocity = false;

    template <class Norm, class Real>
    static void apply(BlockStep<Real> at, Index k, Index end) {
        for (; k < end; ++k) at.value[k] -= at.factor * Norm::entry(at.gradient[k]);
    }
};

struct HeavyBallUpdate {
    static constexpr std::string_view name = "heavy_ball";
    static constexpr bool keeps_velocity = true;

    template <class Norm, class Real>
    static void apply(BlockStep<Real> at, Index k, Index end) {
        for (; k < end; ++k) {
            at.mean[k] = at.beta * at.mean[k] + at.scale * Norm::entry(at.gradient[k]);
            at.value[k] -= at.rate * at.mean[k];
        }
    }
};

struct NesterovUpdate {
    static constexpr std::string_view name = "nesterov";
    static constexpr bool keeps_velocity = true;

    template <class Norm, class Real>
    static void apply(BlockStep<Real> at, Index k, Index end) {
        for (; k < end; ++k) {
            const Real slope = at.scale * Norm::entry(at.gradient[k]);
            at.mean[k] = at.beta * at.mean[k] + slope;
            at.value[k] -= at.rate * (slope + at.beta * at.mean[k]);
        }
    }
};

struct AdamUpdate {
    static constexpr std::string_view name = "adam";
    static constexpr bool keeps_velocity = false;

    // √s is kept, in twice the range of s; 0/0 is 0.
    template <class Norm, class Real>
    static void apply(BlockStep<Real> at, Index k, Index end) {
        for (; k < end; ++k) {
            const Real slope = at.gradient[k], root = at.root_mean_square[k];
            const Real most = larger(root, magnitude(slope));
            const Real unit =
                select(Real(1e-140) > most, Real(0x1p500), select(most > Real(1e140), Real(0x1p-600), Real(1.0)));
            const Real a = unit * root, b = unit * slope;
            at.mean[k] = at.mean_old * at.mean[k] + at.mean_fresh * slope;
            at.root_mean_square[k] = sqrt(at.square_old * a * a + at.square_fresh * b * b) / unit;
            at.value[k] -= at.adam_rate * at.mean[k] / or_one(at.root_mean_square[k] + at.epsilon);
        }
    }
};

struct StepRule;

struct NormalisedGradient {
    static constexpr std::string_view name = "ngd", description = "normalised steps";
    static constexpr bool by_coordinate = false;    // whether steps depend on the coordinates of tokens and queries in
                                                    // every norm
    static constexpr bool needs_infimum = false;    // of the loss
    static constexpr bool mirrors = false;          // whether steps are those of the dual variable of mirror descent
    static constexpr bool flows = false;            // whether steps are integrated
    static constexpr bool takes_average = true;     // whether running means of gradients may take their place
    static constexpr bool asks_dual_norm = false;   // for the scale
    static constexpr std::string_view update = "";  // one of `Updates`, where the rule has its own
    // Settings where no others are given. Of a norm that is not settled any other may be given.
    static constexpr std::string_view norm = "fro";
    static constexpr bool takes_norm = true;
    static constexpr double average = 0.0, average_seen = 0.0, weight_decay = 0.0;

    // What the gradient of a block, given in units of exp(log_unit) and not zero, is multiplied with.
    template <class Real>
    static Real scale(const StepRule&, const SampleLosses<Real>&, const GradientNorms<Real>&, Real,
                      const Steepest<Real>& at) {
        return Real(1.0) / at.length;
    }
};

struct PlainGradient : NormalisedGradient {
    static constexpr std::string_view name = "gd", description = "steps of gradient descent";
    static constexpr bool asks_dual_norm = true;

    template <class Real>
    static Real scale(const StepRule&, const SampleLosses<Real>&, const GradientNorms<Real>&, Real log_unit,
                      const Steepest<Real>& at) {
        return exp(log_unit) * (at.dual_norm / at.length);
    }
};

struct PolyakGradient : NormalisedGradient {
    static constexpr std::string_view name = "polyak", description = "Polyak steps";
    static constexpr bool needs_infimum = true, takes_norm = false, takes_average = false;

    template <class Real>
    static Real scale(const StepRule& rule, const SampleLosses<Real>& losses, const GradientNorms<Real>& norms,
                      Real log_unit, const Steepest<Real>&);
};

struct AdamGradient : NormalisedGradient {
    static constexpr std::string_view name = "adam", description = "steps of Adam", update = "adam";
    static constexpr bool by_coordinate = true, takes_norm = false, takes_average = false;
};

struct AdamWGradient : AdamGradient {
    static constexpr std::string_view name = "adamw", description = "steps of AdamW";
    static constexpr double weight_decay = 0.01;
};

struct SignDescent : NormalisedGradient {
    static constexpr std::string_view name = "sign", description = "steps by signs", norm = "max";
    static constexpr bool takes_norm = false;
};

struct Signum : SignDescent {
    static constexpr std::string_view name = "signum", description = "steps by signs of averaged gradients";
    static constexpr double average = 0.9, average_seen = 0.9;
};

struct Lion : SignDescent {
    static constexpr std::string_view name = "lion", description = "steps of Lion";
    static constexpr bool takes_average = false;
    static constexpr double average = 0.99, average_seen = 0.9;
};

struct CoordinateDescent : SignDescent {
    static constexpr std::string_view name = "coordinate", description = "steps of one coordinate", norm = "l1";
};

struct SpectralDescent : SignDescent {
    static constexpr std::string_view name = "spectral", description = "steps of spectral descent", norm = "spec";
};

struct Muon : SpectralDescent {
    static constexpr std::string_view name = "muon", description = "steps of Muon";
    static constexpr double average = 0.95, average_seen = 0.95;
};

struct MirrorDescent : NormalisedGradient {
    static constexpr std::string_view name = "mirror", description = "normalised steps of mirror descent";
    static constexpr bool mirrors = true;
};

struct PlainMirrorDescent : PlainGradient {
    static constexpr std::string_view name = "plain_mirror", description = "steps of mirror descent";
    static constexpr bool mirrors = true;
};

// Of all blocks together, dW/ds = -G / |G|: the rate is the arc length of a step.
struct GradientFlow : NormalisedGradient {
    static constexpr std::string_view name = "flow", description = "arc lengths of gradient flow", update = "plain";
    static constexpr bool takes_norm = false, takes_average = false, flows = true;
};

using Updates = TypeList<PlainUpdate, HeavyBallUpdate, NesterovUpdate, AdamUpdate>;
using StepRules =
    TypeList<PlainGradient, NormalisedGradient, PolyakGradient, SignDescent, Signum, CoordinateDescent, SpectralDescent,
             Muon, AdamGradient, AdamWGradient, Lion, MirrorDescent, PlainMirrorDescent, GradientFlow>;

inline constexpr int most_blocks = 2;  // of attention, of any parameterisation

struct StepRule {
    int kind = StepRules::index_of<NormalisedGradient>();
    std::array<BlockRate, most_blocks> blocks{};
    BlockRate head{};
    double polyak_factor = 2.0;
    double largest_step = std::numeric_limits<double>::infinity();  // of polyak: what multiplies the gradient at most
    double ridge = 0.0;         // λ of λ|block|² added to the loss for every block but the head
    double weight_decay = 0.0;  // λ of the factor 1 - rate λ of every block before its step
    double average = 0.0;       // β of the running mean that is kept of gradients; 0 for none
    double average_seen =
        0.0;                // β of the mean that the step is made of: the kept one before the step, and the gradient
    double momentum = 0.0;  // β of the velocity; 0 for none
    bool nesterov = false;
    double adam_beta = 0.9, adam_second_beta = 0.999, adam_epsilon = 1e-8;
    double flow_tolerance = 1e-10;  // of the error of a step of the integration, relative to the parameters
    Index batch = 0;  // samples of a step, drawn without return until all have been drawn; 0: all samples in every step
    std::uint64_t seed = 0;  // of the draws

    // With the settings of the kind.
    static StepRule named(std::string_view name) {
        StepRule rule{StepRules::find("kind", name)};
        StepRules::visit(rule.kind, [&rule]<class Kind>(Kind) {
            rule.head.geometry = geometry_named(Kind::norm);
            for (BlockRate& block : rule.blocks) block.geometry = rule.head.geometry;
            rule.average = Kind::average;
            rule.average_seen = Kind::average_seen;
            rule.weight_decay = Kind::weight_decay;
        });
        return rule;
    }

    // The index in `Updates`.
    int update() const {
        return StepRules::visit(kind, [this]<class Kind>(Kind) {
            if (!Kind::update.empty()) return Updates::find("update", Kind::update);
            if (momentum == 0.0) return Updates::index_of<PlainUpdate>();
            return nesterov ? Updates::index_of<NesterovUpdate>() : Updates::index_of<HeavyBallUpdate>();
        });
    }
    bool mirrors() const {
        return StepRules::visit(kind, []<class Kind>(Kind) { return Kind::mirrors; });
    }
    bool flows() const {
        return StepRules::visit(kind, []<class Kind>(Kind) { return Kind::flows; });
    }
    bool asks_dual_norm() const {
        return StepRules::visit(kind, []<class Kind>(Kind) { return Kind::asks_dual_norm; });
    }
    // Whether steps depend on the coordinates of tokens and queries.
    bool by_coordinate() const {
        return StepRules::visit(kind, []<class Kind>(Kind) { return Kind::by_coordinate; }) ||
               any_geometry([]<class Norm>(Norm) { return Norm::by_coordinate; });
    }
    // Whether every block moves by multiples of its gradients alone.
    bool moves_along_gradients() const {
        return StepRules::visit(kind, []<class Kind>(Kind) { return Kind::update.empty(); }) && weight_decay == 0.0 &&
               average == 0.0 && !any_geometry([]<class Norm>(Norm) { return Norm::name != FrobeniusGeometry::name; });
    }
    template <class Property>
    bool any_geometry(Property property) const {
        const auto of_block = [&](const BlockRate& block) { return Geometries::visit(block.geometry.kind, property); };
        return std::any_of(blocks.begin(), blocks.end(), of_block) || of_block(head);
    }
    template <class Real>
    Real scale(const SampleLosses<Real>& losses, const GradientNorms<Real>& norms, Real log_unit,
               const Steepest<Real>& at) const {
        return StepRules::visit(kind,
                                [&]<class Kind>(Kind) { return Kind::scale(*this, losses, norms, log_unit, at); });
    }
};

template <class Real>
Real PolyakGradient::scale(const StepRule& rule, const SampleLosses<Real>& losses, const GradientNorms<Real>& norms,
                           Real log_unit, const Steepest<Real>&) {
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
