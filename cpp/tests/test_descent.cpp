// One text, two engines: a pack of problems runs as they do one by one, on any number of threads.
#include "check.hpp"
#include "random_problem.hpp"

using attsvm::Buffer;
using attsvm::Index;
using attsvm::Loss;
using attsvm::NormalisedGradient;
using attsvm::PlainGradient;
using attsvm_test::Outcome;
using attsvm_test::OwnedProblem;
using attsvm_test::rule_of;
using Pack = attsvm::NativePack<double>;
constexpr int in_a_pack = attsvm::native_lanes<double>;

namespace {

constexpr Loss logistic = Loss::of<attsvm::Logistic>();

bool close(double a, double b, double tolerance) {
    return a == b || std::abs(a - b) <= tolerance * std::max({1.0, std::abs(a), std::abs(b)});
}

void a_pack_runs_as_its_problems_do(Loss loss, const attsvm::StepRule& step, Index query_dimension, bool ragged,
                                    std::int64_t steps) {
    const Index n = 6, T = 8, d = 10;
    std::vector<OwnedProblem<double>> problems;
    problems.reserve(in_a_pack);
    for (unsigned seed = 0; seed < in_a_pack; ++seed)
        problems.push_back(attsvm_test::random_problem(seed, n, T, d, query_dimension, ragged));
    const Outcome<Pack> together = run_descent(attsvm_test::packed<Pack>(problems), loss, step, steps);
    for (int lane = 0; lane < in_a_pack; ++lane) {
        const Outcome<double> alone = run_descent(problems[static_cast<std::size_t>(lane)], loss, step, steps);
        const double size = attsvm::norm(alone.V.data(), alone.V.size());
        double apart = 0.0;
        for (Index k = 0; k < alone.V.size(); ++k)
            apart = std::max(apart, std::abs(attsvm::lane(together.V[k], lane) - alone.V[k]));
        CHECK(apart <= 1e-13 * size);
        for (std::size_t k = 0; k < alone.record.size(); ++k)
            CHECK(close(attsvm::lane(together.record[k], lane), alone.record[k], 1e-12));
        for (Index k = 0; k < n * T; ++k) CHECK(close(attsvm::lane(together.weight[k], lane), alone.weight[k], 1e-12));
        for (Index i = 0; i < n; ++i) CHECK(attsvm::lane(together.top[i], lane) == alone.top[i]);
    }
}

void packs_agree() {
    for (const bool ragged : {false, true})
        for (const Index query_dimension : {Index{1}, Index{10}}) {
            for (const Loss loss : {logistic, Loss::of<attsvm::Exponential>(), Loss::of<attsvm::Correlation>()})
                for (const attsvm::StepRule& rule : {rule_of<PlainGradient>(1.0), rule_of<NormalisedGradient>()})
                    a_pack_runs_as_its_problems_do(loss, rule, query_dimension, ragged, 200);
            a_pack_runs_as_its_problems_do(logistic, rule_of<NormalisedGradient>(), query_dimension, ragged, 20000);
        }
    // Polyak steps are long while the loss is far from its infimum, and magnify rounding: few of them.
    a_pack_runs_as_its_problems_do(logistic, rule_of<attsvm::PolyakGradient>(1.0), 10, false, 4);
}

void threads_change_no_bit() {
    const auto problem = attsvm_test::random_problem(11, 70, 19, 33, 21, true);
    const auto one = run_descent(problem, logistic, {}, 40, 1);
    for (const int threads : {2, 3, 5}) {
        const auto many = run_descent(problem, logistic, {}, 40, threads);
        CHECK(std::equal(one.V.data(), one.V.data() + one.V.size(), many.V.data()));
        CHECK(one.record == many.record);
    }
}

// Queries in triangular coordinates leave products shorter; the zeros they skip must not matter.
void skipped_zeros_do_not_matter() {
    auto problem = attsvm_test::random_problem(12, 9, 6, 11, 9, false);
    for (Index i = 0; i < problem.n; ++i)
        for (Index j = i + 1; j < problem.e; ++j) problem.Z[i * problem.e + j] = 0.0;
    auto padded = attsvm_test::random_problem(12, 9, 6, 11, 10, false);
    for (Index i = 0; i < problem.n; ++i) {
        for (Index j = 0; j < problem.e; ++j) padded.Z[i * padded.e + j] = problem.Z[i * problem.e + j];
        padded.Z[i * padded.e + problem.e] = 0.0;
    }
    padded.X = std::move(problem.X);
    padded.score = std::move(problem.score);
    for (Index k = 0; k < padded.start.size(); ++k) padded.start[k] = k < problem.start.size() ? problem.start[k] : 0.0;
    problem.X = attsvm::Buffer<double>(padded.X.size());
    std::copy(padded.X.data(), padded.X.data() + padded.X.size(), problem.X.data());
    problem.score = attsvm::Buffer<double>(padded.score.size());
    std::copy(padded.score.data(), padded.score.data() + padded.score.size(), problem.score.data());
    const auto short_run = run_descent(problem, logistic, {}, 300);
    const auto long_run = run_descent(padded, logistic, {}, 300);
    for (Index k = 0; k < problem.start.size(); ++k) CHECK(close(short_run.V[k], long_run.V[k], 1e-12));
}

// Two samples attend to the same tokens, and what one gains the other loses: the gradient is zero, its terms are not.
template <class Real>
void opposite_samples_stay(const OwnedProblem<double>& one) {
    OwnedProblem<Real> problem(2 * one.n, one.T, one.d, one.e);
    const auto put = [](Buffer<Real>& to, const Buffer<double>& from, double sign) {
        for (Index k = 0; k < from.size(); ++k) {
            to[k] = Real(from[k]);
            to[from.size() + k] = Real(sign * from[k]);
        }
    };
    put(problem.X, one.X, 1.0);
    put(problem.Z, one.Z, 1.0);
    put(problem.score, one.score, -1.0);
    for (Index k = 0; k < one.start.size(); ++k) problem.start[k] = Real(one.start[k]);
    std::fill(problem.length.data(), problem.length.data() + problem.length.size(), one.T);
    const Outcome<Real> end = run_descent(problem, Loss::of<attsvm::Correlation>(), {}, 20);
    for (Index k = 0; k < problem.start.size(); ++k)
        CHECK(attsvm::lane(end.V[k], 0) == attsvm::lane(problem.start[k], 0));
}

void a_gradient_of_rounding_is_zero() {
    for (unsigned seed = 30; seed < 40; ++seed) {
        const auto one = attsvm_test::random_problem(seed, 3, 5, 7, 4, false);
        opposite_samples_stay<double>(one);
        opposite_samples_stay<Pack>(one);
    }
}

class Impatient final : public attsvm::ProgressCallback {
   public:
    bool carry_on(double share_done, const std::optional<attsvm::SvmState>&) override {
        CHECK(share_done >= 0.0 && share_done <= 1.0);
        return ++asked < 2;
    }
    int asked = 0;
};

void a_callback_stops_every_job() {
    Impatient callback;
    attsvm::Progress progress(&callback, 1e18);
    const auto problem = attsvm_test::random_problem(13, 4, 4, 4, 4, false);
    attsvm::parallel_for_each(attsvm::Team(2), 5, progress, [&](Index, bool calling_thread) {
        Outcome<double> out{attsvm::Buffer<double>(16), {}, {}, {}, {}};
        double* const blocks[] = {out.V.data()};
        attsvm::Descent<double, double> descent(problem.view(), logistic, {}, attsvm::Team(1), {{}, 0, blocks, 0.0},
                                                {});
        descent.run({std::int64_t{1'000'000'000'000'000}, {}}, progress, calling_thread,
                    [](std::size_t, const auto&) {});
    });
    CHECK(callback.asked == 2);
    CHECK(progress.stopped());
}

void a_callback_may_be_asked_at_once() {
    Impatient callback;
    attsvm::Progress progress(&callback, 2.0, true);
    CHECK(progress.advance(1.0, true));
    CHECK(callback.asked == 1);
}

void a_failing_job_is_reported() {
    attsvm::Progress progress(nullptr, 1.0);
    bool caught = false;
    try {
        attsvm::parallel_for_each(attsvm::Team(2), 9, progress, [](Index k, bool) {
            if (k == 4) throw std::runtime_error("four");
        });
    } catch (const std::runtime_error&) {
        caught = true;
    }
    CHECK(caught);
}

}  // namespace

int main() {
    packs_agree();
    threads_change_no_bit();
    skipped_zeros_do_not_matter();
    a_gradient_of_rounding_is_zero();
    a_callback_stops_every_job();
    a_callback_may_be_asked_at_once();
    a_failing_job_is_reported();
    return attsvm_test::report();
}
