#include "attsvm/threads.hpp"

#ifdef __linux__
#include <sched.h>
#endif

#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace attsvm {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;

constexpr auto spinning = microseconds(50);  // how long a thread waits for a job before it sleeps
constexpr int alone_per_loss = 10;

// Parts that no thread has begun, as one number: 16 bits for the first, 16 for the end.
constexpr std::uint32_t range(Index first, Index end) {
    return static_cast<std::uint32_t>(first) << 16U | static_cast<std::uint32_t>(end);
}
Index first_of(std::uint32_t parts) { return parts >> 16U; }
Index end_of(std::uint32_t parts) { return parts & 0xffffU; }
bool is_open(std::uint32_t parts) { return first_of(parts) < end_of(parts); }
constexpr std::uint32_t no_more_jobs = range(1, 0);

// A thread that waits on the processor of the calling one only keeps it from its work.
int current_processor() {
#ifdef __linux__
    return sched_getcpu();
#else
    return -1;
#endif
}

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

// The first exception of a thread takes memory for its thread-local data, without which libc ends the process.
bool ready_to_throw() {
    void* volatile memory = std::malloc(1U << 16U);  // volatile: the compiler may not remove the allocation
    std::free(memory);
    return memory != nullptr && std::uncaught_exceptions() == 0;  // this call allocates the thread-local data
}

// What one thread reads and writes most, in a line of its own.
struct alignas(64) Place {
    std::atomic<std::uint32_t> parts{0};  // its share of the job
    std::atomic<bool> asleep{false};
    std::atomic<std::int64_t> done{0};  // parts that this thread has done, of all jobs
    std::atomic<int> caller_processor{-1};
    Helpers::Job job{};

    // The first part, or the last for another thread than its own; -1 where none is left.
    Index take(bool own) {
        std::uint32_t open = parts.load(std::memory_order_acquire);
        while (is_open(open)) {
            const Index part = own ? first_of(open) : end_of(open) - 1;
            const std::uint32_t rest = own ? range(part + 1, end_of(open)) : range(first_of(open), part);
            if (parts.compare_exchange_weak(open, rest, std::memory_order_acq_rel, std::memory_order_acquire))
                return part;
        }
        return -1;
    }
};

}  // namespace

// A thread that has taken a part may read the job: it ends only after that part.
struct Helpers::State {
    explicit State(int wanted) : places(static_cast<std::size_t>(wanted)) {}
    static std::shared_ptr<State> start(int wanted);

    Place& place(int thread) { return places[static_cast<std::size_t>(thread)]; }

    void work(int thread) {
        Place& own = place(thread);
        for (int k = 0; k < threads; ++k) {
            Place& from = place((thread + k) % threads);
            for (Index part; (part = from.take(k == 0)) >= 0;) {
                run(from.job, part, thread);
                own.done.store(own.done.load(std::memory_order_relaxed) + 1);
                if (caller_sleeps.load()) {
                    {
                        const std::lock_guard lock(guard);
                    }
                    finished.notify_one();
                }
            }
        }
    }
    void run(const Job& job, Index part, int thread) {
        if (failed.load(std::memory_order_relaxed)) return;
        try {
            job.run(job.task, job.count * part / job.parts, job.count * (part + 1) / job.parts, thread);
        } catch (...) {
            const std::lock_guard lock(guard);
            if (!failure) failure = std::current_exception();
            failed = true;
        }
    }

    void help(int thread) {
        if (!ready_to_throw()) return;
        while (wait_for_job(place(thread))) work(thread);
    }
    static bool wait_for_job(Place& own) {
        const bool spins = current_processor() != own.caller_processor.load(std::memory_order_relaxed);
        const auto begun = Clock::now();
        do {
            for (int k = 0; k < 32; ++k) {
                const std::uint32_t parts = own.parts.load(std::memory_order_acquire);
                if (is_open(parts) || parts == no_more_jobs) return parts != no_more_jobs;
                pause();
            }
        } while (spins && Clock::now() - begun < spinning);
        own.asleep.store(true);
        std::uint32_t parts;
        while (!is_open(parts = own.parts.load()) && parts != no_more_jobs) own.parts.wait(parts);
        own.asleep.store(false);
        return parts != no_more_jobs;
    }

    // Whether a thread had to be woken.
    bool open(const Job& job) {
        const int processor = current_processor(), sharing = std::min(job.threads, threads);
        bool woken = false;
        for (int k = sharing - 1; k >= 0; --k) {
            Place& to = place(k);
            to.job = job;
            to.caller_processor.store(processor, std::memory_order_relaxed);
            to.parts.store(range(job.parts * k / sharing, job.parts * (k + 1) / sharing));
            if (!to.asleep.load()) continue;
            to.parts.notify_one();
            woken = true;
        }
        return woken;
    }
    bool all_done() const {
        std::int64_t done = 0;
        for (const Place& place : places) done += place.done.load();
        return done == given;
    }
    // Until all parts are done, with spinning since this moment, for so long at most.
    void wait(Clock::time_point since, Clock::duration spin, Progress* progress) {
        do {
            for (int k = 0; k < 32; ++k) {
                if (all_done()) return;
                pause();
            }
        } while (Clock::now() - since < spin);
        std::unique_lock lock(guard);
        caller_sleeps = true;
        while (!finished.wait_for(lock, std::chrono::milliseconds(100), [this] { return all_done(); })) {
            if (progress == nullptr) continue;
            lock.unlock();
            progress->ask();
            lock.lock();
        }
        caller_sleeps = false;
    }
    void end(int thread) {
        place(thread).parts.store(no_more_jobs);
        place(thread).parts.notify_one();
    }

    std::vector<Place> places;
    int threads = 1;         // that could be started, the calling one among them; fixed before the first job
    std::int64_t given = 0;  // parts of all jobs
    Clock::time_point alone_until{};
    std::atomic<bool> failed{false}, caller_sleeps{false};
    std::mutex guard;
    std::condition_variable finished;
    std::exception_ptr failure;
};

std::shared_ptr<Helpers::State> Helpers::State::start(int wanted) {
    auto state = std::make_shared<State>(wanted);
    std::vector<std::thread> started;
    try {
        started.reserve(static_cast<std::size_t>(wanted - 1));
        for (int k = 1; k < wanted; ++k) started.emplace_back([state, k] { state->help(k); });
    } catch (const std::exception&) {
        // No more threads, or no memory for their stacks: a half is ended again, as the work itself needs memory.
        for (auto last = std::ssize(started); std::ssize(started) > last / 2; started.pop_back()) {
            state->end(static_cast<int>(std::ssize(started)));
            started.back().join();
        }
    }
    state->threads = static_cast<int>(std::ssize(started)) + 1;
    for (std::thread& thread : started) thread.detach();
    return state;
}

Helpers::~Helpers() {
    for (int k = 1; state_ != nullptr && k < state_->threads; ++k) state_->end(k);
}

void Helpers::share(const Job& job, Progress* progress) {
    ++jobs_;
    if (state_ == nullptr) state_ = State::start(threads_);
    State& state = *state_;
    const auto begun = Clock::now();
    if (state.threads == 1 || begun < state.alone_until) return job.run(job.task, 0, job.count, 0);

    const std::int64_t before = state.place(0).done;
    state.given += job.parts;
    const auto work_begun = state.open(job) ? Clock::now() : begun;
    state.work(0);
    auto ended = Clock::now();
    const std::int64_t done = state.place(0).done - before;
    const auto per_part = (ended - work_begun) / std::max<std::int64_t>(done, 1);
    if (!state.all_done()) {
        state.wait(ended, std::clamp<Clock::duration>(2 * per_part, microseconds(10), microseconds(200)), progress);
        ended = Clock::now();
    }
    const auto lost = ended - begun - per_part * job.parts;
    if (done > 0 && lost > Clock::duration::zero()) state.alone_until = ended + alone_per_loss * lost;
    if (state.failed) {
        state.failed = false;
        std::rethrow_exception(std::exchange(state.failure, nullptr));
    }
}

}  // namespace attsvm
