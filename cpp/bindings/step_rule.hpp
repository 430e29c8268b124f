// A step rule as Python names it.
#pragma once

#include <array>
#include <stdexcept>
#include <string>

#include "attsvm/descent.hpp"

inline attsvm::Rule rule_named(const std::string& name) {
    if (name == "gd") return attsvm::Rule::gd;
    if (name == "ngd") return attsvm::Rule::ngd;
    if (name == "polyak") return attsvm::Rule::polyak;
    throw std::invalid_argument("rule: unknown name '" + name + "'");
}

inline attsvm::Movement movement_named(const std::string& name) {
    if (name == "plain") return attsvm::Movement::plain;
    if (name == "heavy_ball") return attsvm::Movement::heavy_ball;
    if (name == "nesterov") return attsvm::Movement::nesterov;
    if (name == "adam") return attsvm::Movement::adam;
    throw std::invalid_argument("movement: unknown name '" + name + "'");
}

struct StepRuleArguments {
    const std::string& name;
    const std::array<double, 3>&rates, &decays;  // of the first block, the second, and the head
    double polyak_factor, largest_step, ridge;
    const std::string& movement;
    const std::array<double, 3>& inertia;  // momentum, second momentum, epsilon
    attsvm::Index batch_size;
    std::uint64_t seed;

    attsvm::StepRule rule() const {
        return {rule_named(name),
                {rates[0], decays[0]},
                {rates[1], decays[1]},
                {rates[2], decays[2]},
                polyak_factor,
                largest_step,
                ridge,
                {movement_named(movement), inertia[0], inertia[1], inertia[2]},
                batch_size,
                seed};
    }
};
