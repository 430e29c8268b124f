// Threads that share one piece of work, and the word from outside that it should stop.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
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

// work(thread, threads) on up to `threads` threads at once; the calling thread is number 0.
template <class Work>
void on_threads(int threads, Work work) {
#if defined(__SANITIZE_THREAD__)
    // The sanitizer does not see how OpenMP's own threads wait for each other; it does see these.
    std::vector<std::thread> others;
    for (int k = 1; k < threads; ++k) others.emplace_back(work, k, threads);
    work(0, threads);
    for (std::thread& other : others) other.join();
#elif defined(_OPENMP)
    if (threads > 1) {
#pragma omp parallel num_threads(threads)
        work(omp_get_thread_num(), omp_get_num_threads());
    } else {
        work(0, 1);
    }
#else
    static_cast<void>(threads);
    work(0, 1);
#endif
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

// Many jobs go to one thread each; few large ones have their own parts shared out.
struct ThreadPlan {
    int across, within;
    ThreadPlan(int threads, Index jobs, double numbers_per_job) {
        const bool many = jobs >= threads;
        across = many ? threads : 1;
        within = many || !worth_sharing(numbers_per_job) ? 1 : threads;
    }
};

// What the caller is told of work in progress; false asks it to stop. Called from the caller's own thread only.
class Monitor {
   public:
    virtual ~Monitor() = default;
    virtual bool carry_on(double share_done) = 0;
};

// One run's progress over all its threads. The calling thread asks the monitor about ten times a second.
class Progress {
   public:
    Progress(Monitor* monitor, double total_work) : monitor_(monitor), total_(total_work) {}

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
        if (monitor_ == nullptr || now - asked_ < std::chrono::milliseconds(100)) return;
        asked_ = now;
        if (!monitor_->carry_on(std::min(1.0, done_.load(std::memory_order_relaxed) / total_))) stop();
    }

   private:
    Monitor* monitor_;
    double total_;
    std::atomic<double> done_{0.0};
    std::atomic<bool> stop_{false};
    std::chrono::steady_clock::time_point asked_ = std::chrono::steady_clock::now();
};

// job(index, calling_thread) for every index in [0, count), each on one thread, taken up in order. The calling thread
// goes on asking the monitor when it has no job left. An exception of a job stops the others and is thrown here.
template <class Job>
void share_jobs(int threads, Index count, Progress& progress, Job job) {
    std::atomic<Index> next{0};
    std::atomic<Index> finished{0};
    std::exception_ptr failure;
    std::mutex failure_guard;
    const auto work = [&](bool calling_thread) {
        for (Index k = next++; k < count; k = next++) {
            try {
                if (!progress.stopped()) job(k, calling_thread);
            } catch (...) {
                const std::lock_guard lock(failure_guard);
                if (!failure) failure = std::current_exception();
                progress.stop();
            }
            ++finished;
        }
        while (calling_thread && finished < count) {
            progress.ask();
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    };
    on_threads(static_cast<int>(std::clamp<Index>(count, 1, std::max(threads, 1))),
               [&](int thread, int) { work(thread == 0); });
    if (failure) std::rethrow_exception(failure);
}

}  // namespace attsvm
