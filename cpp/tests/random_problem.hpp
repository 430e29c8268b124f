// Random problems on the unit sphere for the tests, as one problem or as a pack of them.
#pragma once

#include <random>
#include <vector>

#include "attsvm/descent.hpp"

namespace attsvm_test {

using attsvm::Buffer;
using attsvm::Index;

// The default rule of this kind.
template <class Kind>
attsvm::StepRule rule_of(double rate = 0.1, double decay = 0.0) {
    return {attsvm::StepRules::index_of<Kind>(), {{{rate, decay}}}};
}

// The memory of one problem; `Real` decides how many problems stand in its lanes.
template <class Real>
struct OwnedProblem {
    Index n, T, d, e;
    Buffer<Real> X, Z, score, start, reference;
    Buffer<std::int64_t> length;

    OwnedProblem(Index n_, Index T_, Index d_, Index e_)
        : n(n_),
          T(T_),
          d(d_),
          e(e_),
          X(n * T * d),
          Z(n * e),
          score(n * T),
          start(e * d),
          reference(e * d),
          length(n * attsvm::NumberTraits<Real>::lanes) {}

    attsvm::Problem<Real, Real> view() const {
        return {
            n, T, d, e, X.data(), Z.data(), {attsvm::HeadKind::of<attsvm::FixedHead>(), {score.data()}}, length.data()};
    }
};

inline void fill_normal(Buffer<double>& values, std::mt19937_64& bits, double scale = 1.0) {
    std::normal_distribution<double> normal(0.0, scale);
    for (Index k = 0; k < values.size(); ++k) values[k] = normal(bits);
}

inline OwnedProblem<double> random_problem(unsigned seed, Index n, Index T, Index d, Index e, bool ragged) {
    OwnedProblem<double> problem(n, T, d, e);
    std::mt19937_64 bits(seed);
    const double unit = 1.0 / std::sqrt(static_cast<double>(d));
    fill_normal(problem.X, bits, unit);
    fill_normal(problem.Z, bits, unit);
    fill_normal(problem.score, bits, unit);
    fill_normal(problem.start, bits, unit);
    fill_normal(problem.reference, bits);
    const double size = attsvm::norm(problem.reference.data(), problem.reference.size());
    for (Index k = 0; k < problem.reference.size(); ++k) problem.reference[k] /= size;
    std::uniform_int_distribution<std::int64_t> lengths(1, T);
    for (Index i = 0; i < n; ++i) problem.length[i] = ragged ? lengths(bits) : T;
    return problem;
}

template <class Real>
void put_in_lane(Buffer<Real>& packed, const Buffer<double>& from, int lane) {
    for (Index k = 0; k < from.size(); ++k) attsvm::set_lane(packed[k], lane, from[k]);
}

// One problem per lane.
template <class Real>
OwnedProblem<Real> packed(const std::vector<OwnedProblem<double>>& problems) {
    constexpr int lanes = attsvm::NumberTraits<Real>::lanes;
    const auto& first = problems.front();
    OwnedProblem<Real> pack(first.n, first.T, first.d, first.e);
    for (int k = 0; k < lanes; ++k) {
        const auto& one = problems[static_cast<std::size_t>(k)];
        put_in_lane(pack.X, one.X, k);
        put_in_lane(pack.Z, one.Z, k);
        put_in_lane(pack.score, one.score, k);
        put_in_lane(pack.start, one.start, k);
        put_in_lane(pack.reference, one.reference, k);
        for (Index i = 0; i < first.n; ++i) pack.length[i * lanes + k] = one.length[i];
    }
    return pack;
}

// A run's result and record, number by number.
template <class Real>
struct Outcome {
    Buffer<Real> V, weight, log_weight, top;
    std::vector<Real> record;
};

template <class Real>
Outcome<Real> run_descent(const OwnedProblem<Real>& problem, attsvm::Loss loss, attsvm::StepRule rule,
                          std::int64_t steps, int threads = 1) {
    Outcome<Real> out{Buffer<Real>(problem.e * problem.d),
                      Buffer<Real>(problem.n * problem.T),
                      Buffer<Real>(problem.n * problem.T),
                      Buffer<Real>(problem.n),
                      {}};
    std::copy(problem.start.data(), problem.start.data() + problem.start.size(), out.V.data());
    std::vector<std::int64_t> recorded;
    for (std::int64_t step = 0; step <= steps; step += std::max<std::int64_t>(1, steps / 4)) recorded.push_back(step);
    attsvm::Progress progress(nullptr, static_cast<double>(steps));
    const Buffer<Real> reference_outside(2);
    Real* const blocks[] = {out.V.data()};
    attsvm::Descent<Real, Real> descent(problem.view(), loss, rule, attsvm::Team(threads), {{}, 0, blocks, Real(0.0)},
                                        {1, problem.reference.data(), reference_outside.data()});
    descent.run({steps, recorded}, progress, true, [&](std::size_t, const attsvm::Record<Real>& at) {
        for (const Real& value : {at.loss, at.loss_gap, at.norm, at.log_grad_norm, at.max_attention, at.cosine_gap[0]})
            out.record.push_back(value);
    });
    descent.attention(out.weight.data(), out.log_weight.data(), out.top.data());
    return out;
}

}  // namespace attsvm_test
