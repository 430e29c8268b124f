// Threads that share work, its progress, and its cancellation.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __SANITIZE_THREAD__
#include <vector>
#endif

#include "attsvm/pack.hpp"

namespace attsvm {

// How many of `wanted` threads the system can start, 1 to `wanted`. OpenMP ends the process where it cannot start one,
// so the first call of a number above all before starts and ends as many itself.
int startable_threads(int wanted);
// Asks the system again: after a fork, or where the threads were released.
void forget_started_threads();

// The first exception of several threads, for the one that called them.
class FirstException {
   public:
    void keep() {
        const std::lock_guard lock(guard_);
        if (!first_) first_ = std::current_exception();
    }
    void rethrow() const {
        if (first_) std::rethrow_exception(first_);
    }

   private:
    std::mutex guard_;
    std::exception_ptr first_;
};

// work(thread, threads) on up to `threads` threads at once; the calling thread is number 0. What is thrown on any of
// them is thrown here once all have ended.
template <class Work>
void on_threads(int threads, Work work) {
    if (threads <= 1) return work(0, 1);
    FirstException failure;
    const auto guarded = [&](int thread, int count) {
        try {
            work(thread, count);
        } catch (...) {
            failure.keep();
        }
    };
#if defined(__SANITIZE_THREAD__)
    // The sanitizer does not see how OpenMP's own threads wait for each other; it does see these.
    std::vector<std::thread> others;
    for (int k = 1; k < threads; ++k) others.emplace_back(guarded, k, threads);
    guarded(0, threads);
    for (std::thread& other : others) other.join();
#elif defined(_OPENMP)
#pragma omp parallel num_threads(startable_threads(threads))
    guarded(omp_get_thread_num(), omp_get_num_threads());
#else
    guarded(0, 1);
#endif
    failure.rethrow();
}

// Whether work that reads this many numbers is worth a second thread.
inline bool worth_sharing(double numbers) { return numbers >= 30000.0; }

// Fixed tasks, shared out statically. What a task computes must not depend on the number of threads.
class Team {
   public:
    explicit Team(int threads = 1) : threads_(std::max(threads, 1)) {}
    int threads() const { return threads_; }

    // This team for work that is worth sharing, one thread for less.
    Team for_work(Index numbers) const { return worth_sharing(static_cast<double>(numbers)) ? *this : Team(1); }

    // task(first, last, thread) for consecutive ranges that cover [0, count)
    template <class Task>
    void for_ranges(Index count, Task task) const {
        if (threads_ == 1 || count <= 1) {
            task(Index{0}, count, 0);
            return;
        }
        on_threads(static_cast<int>(std::min<Index>(threads_, count)),
                   [&](int part, int parts) { task(count * part / parts, count * (part + 1) / parts, part); });
    }

   private:
    int threads_;
};

// Many jobs go to one thread each; few large ones have their own parts shared out; what is small stays on one thread.
struct ThreadPlan {
    int across, within;
    // `repeats`: how often a job reads its numbers.
    ThreadPlan(int threads, Index jobs, double numbers_per_job, double repeats = 1.0) {
        const bool many = jobs >= threads;
        const double work = static_cast<double>(jobs) * numbers_per_job * repeats;
        across = many && worth_sharing(work) ? threads : 1;
        within = many || !worth_sharing(numbers_per_job) ? 1 : threads;
    }
};

// What the caller is told of work in progress; false asks it to stop. Called from the caller's own thread only.
class ProgressCallback {
   public:
    virtual ~ProgressCallback() = default;
    virtual bool carry_on(double share_done) = 0;
};

// One run's progress over all its threads. The calling thread calls back about ten times a second.
class Progress {
   public:
    Progress(ProgressCallback* callback, double total_work) : callback_(callback), total_(total_work) {}

    bool stopped() const { return stop_.load(std::memory_order_relaxed); }
    void stop() { stop_.store(true, std::memory_order_relaxed); }

    // Counts finished work; `calling_thread` says whether this is the thread that may ask. False: stop.
    bool advance(double work, bool calling_thread) {
        done_.fetch_add(work, std::memory_order_relaxed);
        if (calling_thread) ask();
        return !stopped();
    }
    void ask() {
        const auto now = std::chrono::steady_clock::now();
        if (callback_ == nullptr || now - asked_ < std::chrono::milliseconds(100)) return;
        asked_ = now;
        if (!callback_->carry_on(std::min(1.0, done_.load(std::memory_order_relaxed) / total_))) stop();
    }

   private:
    ProgressCallback* callback_;
    double total_;
    std::atomic<double> done_{0.0};
    std::atomic<bool> stop_{false};
    std::chrono::steady_clock::time_point asked_ = std::chrono::steady_clock::now();
};

// job(index, calling_thread) for every index in [0, count), each on one thread, taken up in order. The calling thread
// goes on calling back when it has no job left. An exception of a job stops the others and is thrown here.
template <class Job>
void parallel_for_each(int threads, Index count, Progress& progress, Job job) {
    std::atomic<Index> next{0};
    std::mutex guard;
    std::condition_variable someone_left;
    int running = 0;  // threads but the calling one that have begun less those that have ended
    const auto take_jobs = [&](bool calling_thread) {
        try {
            for (Index k = next++; k < count && !progress.stopped(); k = next++) job(k, calling_thread);
        } catch (...) {
            progress.stop();
            throw;
        }
    };
    on_threads(static_cast<int>(std::clamp<Index>(count, 1, std::max(threads, 1))), [&](int thread, int) {
        if (thread == 0) {
            take_jobs(true);
            std::unique_lock lock(guard);
            while (!someone_left.wait_for(lock, std::chrono::milliseconds(100), [&] { return running == 0; })) {
                lock.unlock();
                progress.ask();
                lock.lock();
            }
            return;
        }
        const auto count_running = [&](int change) {
            const std::lock_guard lock(guard);
            running += change;
            if (running == 0) someone_left.notify_one();
        };
        count_running(1);
        try {
            take_jobs(false);
        } catch (...) {
            count_running(-1);
            throw;
        }
        count_running(-1);
    });
}

}  // namespace attsvm
