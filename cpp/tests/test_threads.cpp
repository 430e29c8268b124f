// Parts of shared jobs: each is done once, by whoever comes first; what is thrown; how often threads meet.
#include <stdexcept>
#include <thread>
#include <vector>

#include "attsvm/threads.hpp"
#include "check.hpp"
#include "random_problem.hpp"

namespace {

using attsvm::Index, attsvm::Team;

// Whether it holds within a minute.
template <class Condition>
bool comes_true(const Condition& condition) {
    const auto begun = std::chrono::steady_clock::now();
    while (!condition()) {
        if (std::chrono::steady_clock::now() - begun > std::chrono::minutes(1)) return false;
        std::this_thread::yield();
    }
    return true;
}

void every_index_is_done_once() {
    for (const int threads : {1, 2, 3, 16}) {
        const Team team(threads);
        for (const Index count : {0, 1, 2, 7, 16, 1000, 200'000}) {
            std::vector<std::atomic<int>> times(static_cast<std::size_t>(count));
            std::atomic<bool> known{true};
            team.for_ranges(count, [&](Index k, Index last, int thread) {
                if (thread < 0 || thread >= threads) known = false;
                for (; k < last; ++k) ++times[static_cast<std::size_t>(k)];
            });
            CHECK(known && std::all_of(times.begin(), times.end(), [](const auto& n) { return n == 1; }));
        }
    }
}

// A thread that is held up at its first part, the calling one or the other, leaves all else to the rest.
void what_a_thread_has_not_begun_others_do() {
    for (const bool caller : {false, true})
        for (int repeat = 0; repeat < 20; ++repeat) {
            std::atomic<Index> done{0};
            bool held_up = false;
            Team(2).for_ranges(16, [&](Index k, Index last, int thread) {
                if ((thread == 0) == caller && !held_up) {
                    held_up = true;
                    CHECK(comes_true([&] { return done == 16 - (last - k); }));
                }
                done += last - k;
            });
            CHECK(done == 16);
        }
}

void what_any_part_throws_is_thrown_and_the_team_goes_on() {
    const Team team(3);
    for (Index bad = 0; bad < 24; ++bad) {
        bool caught = false;
        try {
            team.for_ranges(24, [&](Index k, Index last, int) {
                if (k <= bad && bad < last) throw std::runtime_error("bad");
            });
        } catch (const std::runtime_error&) {
            caught = true;
        }
        CHECK(caught);
        std::atomic<Index> done{0};
        team.for_ranges(24, [&](Index k, Index last, int) { done += last - k; });
        CHECK(done == 24);
    }
}

void teams_of_several_callers_are_apart() {
    std::atomic<Index> done{0};
    std::vector<std::thread> callers;
    callers.reserve(4);
    for (int caller = 0; caller < 4; ++caller)
        callers.emplace_back([&done] {
            const Team team(3);
            for (int job = 0; job < 500; ++job)
                team.for_ranges(24, [&](Index k, Index last, int) { done += last - k; });
        });
    for (std::thread& caller : callers) caller.join();
    CHECK(done == 4 * 500 * 24);
}

// How often threads meet in a step is its cost on many processors.
void a_step_shares_this_many_jobs() {
    constexpr auto loss = attsvm::Loss::of<attsvm::Logistic>();
    const auto jobs = [&](Index n, Index T, Index d, std::int64_t steps) {
        const auto problem = attsvm_test::random_problem(1, n, T, d, d, false);
        attsvm::Buffer<double> V(d * d);
        const Team team(2);
        double* const blocks[] = {V.data()};
        attsvm::Descent<double, double> descent(problem.view(), loss, {}, team, {{}, 0, blocks, 0.0}, {});
        attsvm::Progress progress(nullptr, 1.0);
        descent.run({steps, {}}, progress, true, [](std::size_t, const auto&) {});
        return team.jobs();
    };
    CHECK(jobs(100, 32, 64, 11) - jobs(100, 32, 64, 1) == 10 * 4);
}

}  // namespace

int main() {
    every_index_is_done_once();
    what_a_thread_has_not_begun_others_do();
    what_any_part_throws_is_thrown_and_the_team_goes_on();
    teams_of_several_callers_are_apart();
    a_step_shares_this_many_jobs();
    return attsvm_test::report();
}
