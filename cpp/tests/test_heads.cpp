// Heads, blocks, rules and mini-batches: a pack of problems runs as they do one by one.
#include "check.hpp"
#include "random_problem.hpp"

using attsvm::Buffer;
using attsvm::HeadKind;
using attsvm::Index;
using attsvm::Loss;
using attsvm_test::OwnedProblem;
using Pack = attsvm::NativePack<double>;
constexpr int in_a_pack = attsvm::native_lanes<double>;

namespace {

// Labels of a head without a vector are classes.
bool of_classes(HeadKind kind) { return kind.vector == attsvm::VectorSize::none; }

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
        head.label[i] = of_classes(kind) ? static_cast<double>(drawn % units) : drawn % 2 == 0 ? 1.0 : -1.0;
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
    const bool trained = kind.trainable;
    attsvm::Problem<Real, Real> view = problem.view();
    view.head = {kind, {nullptr, head.label.data(), out.v.data(), head.hidden.data(), units, Real(0.3)}, trained};
    attsvm::References<Real> references;
    references.certify = true;
    Real* const blocks[] = {out.V.data()};
    attsvm::Descent<Real, Real> descent(view, loss, rule, attsvm::Team(threads),
                                        {{}, 0, blocks, Real(0.0), trained ? out.v.data() : nullptr}, references);
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
    problems.reserve(in_a_pack);
    OwnedHead<Pack> packed_head;
    for (int k = 0; k < in_a_pack; ++k) {
        problems.push_back(attsvm_test::random_problem(static_cast<unsigned>(20 + k), n, T, d, d, true));
        heads.push_back(random_head(static_cast<unsigned>(40 + k), kind));
        attsvm_test::put_in_lane(packed_head.label, heads.back().label, k);
        attsvm_test::put_in_lane(packed_head.vector, heads.back().vector, k);
        attsvm_test::put_in_lane(packed_head.hidden, heads.back().hidden, k);
    }
    const Outcome<Pack> together = run(attsvm_test::packed<Pack>(problems), packed_head, kind, loss, rule);
    for (int k = 0; k < in_a_pack; ++k) {
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
    for (const std::string_view name : attsvm::Heads::names)
        for (const Index batch : {Index{0}, Index{2}})
            for (const std::string_view update : attsvm::Updates::names) {
                const HeadKind kind(name);
                if (kind.scored) continue;
                const Loss loss = of_classes(kind) ? Loss::of<attsvm::Squared>() : Loss::of<attsvm::Logistic>();
                attsvm::StepRule rule{
                    attsvm::StepRules::find("rule", update == "adam" ? "adam" : "ngd"), {{{0.02, 0.1}}}, {0.03, 0.0}};
                rule.momentum = update == "plain" ? 0.0 : 0.5;
                rule.nesterov = update == "nesterov";
                rule.adam_beta = 0.5;
                rule.adam_second_beta = 0.9;
                rule.adam_epsilon = 1e-3;
                CHECK(attsvm::Updates::names[static_cast<std::size_t>(rule.update())] == update);
                rule.ridge = 1e-3;
                rule.batch = batch;
                rule.seed = 5;
                a_pack_runs_as_its_problems_do(kind, loss, rule);
            }
    return attsvm_test::report();
}
