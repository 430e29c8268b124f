// Threads that share work, its progress, and its cancellation.
//
// A job is cut into parts, and every thread has its share of them. It takes its own first, in order, then those that
// others have not begun. The calling thread does so too, and waits in the end only for parts that another has begun:
// what a thread has not begun that the system keeps off its processor is done by the others. Where a job took longer
// than the calling thread would have needed alone, the next ones are not shared, for ten times as long as was lost, so
// that on a busy computer a run is at most about a tenth slower than on one thread. Results do not depend on who did
// what.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "attsvm/pack.hpp"

namespace attsvm {

class Progress;

// Threads that help the one that calls. They are started by its first job, and end by themselves after this object:
// none is waited for, as it may be off its processor.
class Helpers {
   public:
    // [0, count), cut into `parts`, 65535 at most, for so many threads: run(task, first, last, thread) for each part.
    struct Job {
        int threads;
        Index count, parts;
        void (*run)(const void* task, Index first, Index last, int thread);
        const void* task;
    };

    explicit Helpers(int threads) : threads_(threads) {}
    ~Helpers();
    Helpers(const Helpers&) = delete;
    Helpers& operator=(const Helpers&) = delete;

    // Returns when all parts are done. The first exception of a part is thrown here; parts that have not begun by then
    // are left out. Meanwhile `progress`, where given, is asked.
    void share(const Job& job, Progress* progress);
    // How many jobs there have been: how often threads had to meet.
    std::int64_t jobs() const { return jobs_; }

   private:
    struct State;

    int threads_;
    std::int64_t jobs_ = 0;
    std::shared_ptr<State> state_;  // with the threads
};

// How many numbers a thread reads at least in a shared job, some microseconds of work, and in a run for which it is
// started, some times as long as that takes.
inline constexpr Index least_share = 15000, least_run = 150000;
// Whether work that reads this many numbers is worth a second thread.
inline bool worth_sharing(double numbers) { return numbers >= 2.0 * least_share; }
// How many of these threads a run is worth that reads this many numbers in all.
inline int worth_starting(int threads, double numbers) {
    return std::max(1, static_cast<int>(std::min(static_cast<double>(threads), numbers / least_run)));
}

// Threads for a run: the calling one, and helpers that are shared by copies of the team. What a task computes must not
// depend on the number of threads.
class Team {
   public:
    explicit Team(int threads = 1)
        : threads_(std::max(threads, 1)), helpers_(threads_ == 1 ? nullptr : std::make_shared<Helpers>(threads_)) {}
    int threads() const { return threads_; }
    std::int64_t jobs() const { return helpers_ == nullptr ? 0 : helpers_->jobs(); }

    // As many threads of this team as work that reads this many numbers is worth.
    Team for_work(Index numbers) const {
        const auto threads = static_cast<int>(std::min<Index>(threads_, numbers / least_share));
        return threads <= 1 ? Team(1) : Team(threads, helpers_);
    }

    // task(first, last, thread) for consecutive ranges that cover [0, count): some for each thread, so that one that
    // is late leaves some to others
    template <class Task>
    void for_ranges(Index count, const Task& task) const {
        share(count, 8, task, nullptr);
    }
    // task(k, thread) for every k in [0, count), which may take long; the calling thread, number 0, asks `progress`
    template <class Task>
    void for_each(Index count, Progress& progress, const Task& task) const {
        const auto each = [&](Index k, Index last, int thread) {
            for (; k < last; ++k) task(k, thread);
        };
        share(count, 64, each, &progress);
    }

   private:
    Team(int threads, std::shared_ptr<Helpers> helpers) : threads_(threads), helpers_(std::move(helpers)) {}

    template <class Task>
    void share(Index count, Index parts_per_thread, const Task& task, Progress* progress) const {
        if (threads_ == 1 || count <= 1) return task(Index{0}, count, 0);
        const auto run = [](const void* at, Index first, Index last, int thread) {
            (*static_cast<const Task*>(at))(first, last, thread);
        };
        const Index parts = std::min({count, parts_per_thread * threads_, Index{65535}});
        helpers_->share({threads_, count, parts, run, &task}, progress);
    }

    int threads_;
    std::shared_ptr<Helpers> helpers_;
};

// Many jobs go to one thread each; few large ones have their own parts shared out; what is small stays on one thread.
struct ThreadPlan {
    int across, within;
    // `repeats`: how often a job reads its numbers; `least_shared`: of how many numbers on its parts are shared out.
    ThreadPlan(int threads, Index jobs, double numbers_per_job, double repeats = 1.0,
               double least_shared = 2.0 * least_share) {
        threads = worth_starting(threads, static_cast<double>(jobs) * numbers_per_job * repeats);
        const bool many = jobs >= threads;
        across = many ? threads : 1;
        within = many || numbers_per_job < least_shared ? 1 : threads;
    }
};

// What is known of an SVM that is being solved: a relative duality gap, and how many constraints are active (-1: not
// known).
struct SvmState {
    double gap;
    Index active;
};

// What the caller is told of work in progress; false asks it to stop. Called from the caller's own thread only.
class ProgressCallback {
   public:
    virtual ~ProgressCallback() = default;
    virtual bool carry_on(double share_done, const std::optional<SvmState>& state) = 0;
};

// One run's progress over all its threads. The calling thread calls back about ten times a second, `at_once` for the
// first time if that is wanted.
class Progress {
   public:
    Progress(ProgressCallback* callback, double total_work, bool at_once = false)
        : callback_(callback), total_(total_work), asked_(at_once ? Time() : std::chrono::steady_clock::now()) {}

    bool stopped() const { return stop_.load(std::memory_order_relaxed); }
    void stop() { stop_.store(true, std::memory_order_relaxed); }

    // Counts finished work; `calling_thread` says whether this is the thread that may ask. False: stop.
    bool advance(double work, bool calling_thread) {
        done_.fetch_add(work, std::memory_order_relaxed);
        if (calling_thread) ask();
        return !stopped();
    }
    // Of the SVM that the calling thread solves; for that thread only.
    void note(double gap, Index active) { state_ = SvmState{std::clamp(gap, 0.0, 1.0), active}; }
    void ask() {
        const auto now = std::chrono::steady_clock::now();
        if (callback_ == nullptr || now - asked_ < std::chrono::milliseconds(100)) return;
        asked_ = now;
        if (!callback_->carry_on(std::min(1.0, done_.load(std::memory_order_relaxed) / total_), state_)) stop();
    }

   private:
    using Time = std::chrono::steady_clock::time_point;

    ProgressCallback* callback_;
    double total_;
    Time asked_;
    std::optional<SvmState> state_;
    std::atomic<double> done_{0.0};
    std::atomic<bool> stop_{false};
};

// job(index, calling_thread) for every index in [0, count), each on one thread. The calling thread goes on calling back
// when it has no job left. An exception of a job stops the others and is thrown here.
template <class Job>
void parallel_for_each(const Team& team, Index count, Progress& progress, const Job& job) {
    team.for_each(count, progress, [&](Index k, int thread) {
        if (progress.stopped()) return;
        try {
            job(k, thread == 0);
        } catch (...) {
            progress.stop();
            throw;
        }
    });
}

}  // namespace attsvm
