#include <semaphore>
#include <system_error>
#include <thread>
#include <vector>

#include "attsvm/threads.hpp"

namespace attsvm {

namespace {

std::mutex guard;
int started = 1;                             // as many threads have run at once
int most = std::numeric_limits<int>::max();  // more than these could not be started

}  // namespace

int startable_threads(int wanted) {
    const std::lock_guard lock(guard);
    wanted = std::min(wanted, most);
    if (wanted <= started) return wanted;
    std::counting_semaphore<> finish(0);
    std::vector<std::thread> trial;
    try {
        trial.reserve(static_cast<std::size_t>(wanted));
        while (std::ssize(trial) < wanted - 1) trial.emplace_back([&finish] { finish.acquire(); });
    } catch (const std::system_error&) {  // no more threads, or no memory for their stacks
        most = 0;
    } catch (const std::bad_alloc&) {
        most = 0;
    }
    finish.release(std::ssize(trial));
    for (std::thread& thread : trial) thread.join();
    const int possible = static_cast<int>(std::ssize(trial)) + 1;
    // Half of what was just possible, as OpenMP's threads and the work itself need memory besides.
    if (most == 0) most = std::max(1, possible / 2);
    started = std::max(started, std::min(possible, most));
    return std::min(wanted, most);
}

void forget_started_threads() {
    const std::lock_guard lock(guard);
    started = 1;
    most = std::numeric_limits<int>::max();
}

}  // namespace attsvm
