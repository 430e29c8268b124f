// Heads, blocks, rules and mini-batches: a pack of eight problems runs as the eight problems run one by one.
#include "check.hpp"
#include "random_problem.hpp"

using attsvm::Buffer;
using attsvm::HeadKind;
using attsvm::Index;
using attsvm::Loss;
using attsvm::Movement;
using attsvm::Rule;
using attsvm_test::OwnedProblem;
using Octet = attsvm::Pack<double, 8>;

namespace {

constexpr Index n = 5, T = 7, d = 6, units = 4;

// Memory of a head, drawn for one problem.
template <class Real>
struct OwnedHead {
    Buffer<Real> label{n}, vector{units + d}, hidden{units * d};
};

OwnedHead<double> random_head(unsigned seed, HeadKind kind) {
    OwnedHead<double> head;
    std::mt19937_64 bits(seed);
    attsvm_test::fill_normal(head.vector, bits, 0.7);
    attsvm_test::fill_normal(head.hidden, bits, 0.7);
    for (Index i = 0; i < n; ++i) {
        const auto drawn = static_cast<std::int64_t>(bits() % 1024);
        head.label[i] = kind == HeadKind::softmax ? static_cast<double>(drawn % units) : drawn % 2 == 0 ? 1.0 : -1.0;
    }
    return head;
}

template <class Real>
struct Outcome {
    Buffer<Real> V{d * d}, v{units + d}, log_weight{n * T};
    std::vector<Real> record;
};

template <class Real>
Outcome<Real> run(const OwnedProblem<Real>& problem, const OwnedHead<Real>& head, HeadKind kind, Loss loss,
                  const attsvm::StepRule& rule, int threads = 1) {
    Outcome<Real> out;
    std::copy(problem.start.data(), problem.start.data() + d * d, out.V.data());
    std::copy(head.vector.data(), head.vector.data() + head.vector.size(), out.v.data());
    const bool trained = kind == HeadKind::linear;
    attsvm::Problem<Real, Real> view = problem.view();
    view.head = {kind, nullptr, head.label.data(), out.v.data(), head.hidden.data(), units, Real(0.3)};
    attsvm::References<Real> references;
    references.certify = true;
    attsvm::Descent<Real, Real> descent(view, loss, rule, attsvm::Team(threads),
                                        {0, out.V.data(), nullptr, Real(0.0), trained ? out.v.data() : nullptr},
                                        references);
    const std::vector<std::int64_t> marks{0, 3, 30};
    attsvm::Progress progress(nullptr, 1.0);
    descent.run({marks.back(), marks}, progress, true, [&](std::size_t, const attsvm::Record<Real>& at) {
        for (const Real& value : {at.loss, at.norm, at.log_grad_norm, at.max_attention, at.head_norm, at.margin})
            out.record.push_back(value);
    });
    Buffer<Real> weight(n * T), top(n);
    descent.attention(weight.data(), out.log_weight.data(), top.data());
    return out;
}

bool close(double a, double b) { return a == b || std::abs(a - b) <= 1e-9 * std::max({1.0, std::abs(a), std::abs(b)}); }

void a_pack_runs_as_its_problems_do(HeadKind kind, Loss loss, const attsvm::StepRule& rule) {
    std::vector<OwnedProblem<double>> problems;
    std::vector<OwnedHead<double>> heads;
    problems.reserve(8);
    OwnedHead<Octet> packed_head;
    for (int k = 0; k < 8; ++k) {
        problems.push_back(attsvm_test::random_problem(static_cast<unsigned>(20 + k), n, T, d, d, true));
        heads.push_back(random_head(static_cast<unsigned>(40 + k), kind));
        attsvm_test::put_in_lane(packed_head.label, heads.back().label, k);
        attsvm_test::put_in_lane(packed_head.vector, heads.back().vector, k);
        attsvm_test::put_in_lane(packed_head.hidden, heads.back().hidden, k);
    }
    const Outcome<Octet> together = run(attsvm_test::packed<Octet>(problems), packed_head, kind, loss, rule);
    for (int k = 0; k < 8; ++k) {
        const auto at = static_cast<std::size_t>(k);
        const Outcome<double> alone = run(problems[at], heads[at], kind, loss, rule);
        for (Index j = 0; j < d * d; ++j) CHECK(close(attsvm::lane(together.V[j], k), alone.V[j]));
        for (Index j = 0; j < alone.v.size(); ++j) CHECK(close(attsvm::lane(together.v[j], k), alone.v[j]));
        for (std::size_t j = 0; j < alone.record.size(); ++j)
            CHECK(close(attsvm::lane(together.record[j], k), alone.record[j]));
        const Outcome<double> shared = run(problems[at], heads[at], kind, loss, rule, 3);
        CHECK(shared.record == alone.record);
    }
}

}  // namespace

int main() {
    for (const HeadKind kind : {HeadKind::linear, HeadKind::relu, HeadKind::penalised, HeadKind::softmax})
        for (const Index batch : {Index{0}, Index{2}})
            for (const Movement movement :
                 {Movement::plain, Movement::heavy_ball, Movement::nesterov, Movement::adam}) {
                const Loss loss = kind == HeadKind::softmax ? Loss::squared : Loss::logistic;
                attsvm::StepRule rule{movement == Movement::adam ? Rule::gd : Rule::ngd, {0.02, 0.1}, {}, {0.03, 0.0}};
                rule.inertia = {movement, 0.5, 0.9, 1e-3};
                rule.ridge = 1e-3;
                rule.batch = batch;
                rule.seed = 5;
                a_pack_runs_as_its_problems_do(kind, loss, rule);
            }
    return attsvm_test::report();
}
