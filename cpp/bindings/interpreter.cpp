#include "interpreter.hpp"

#include <atomic>
#include <chrono>
#include <thread>

namespace {

std::atomic<bool> ending{false};
std::atomic<std::thread::id> ending_thread{};
std::atomic<int> holders{0};  // threads of the core that wait for the lock, or run Python

}  // namespace

bool ReleasedGil::interpreter_ends() { return ending && ending_thread.load() != std::this_thread::get_id(); }

ReleasedGil::~ReleasedGil() {
    take();
    --holders;
}

void ReleasedGil::take() {
    ++holders;
    if (interpreter_ends()) {
        --holders;
        for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
    PyEval_RestoreThread(state_);
}

void ReleasedGil::give() {
    state_ = PyEval_SaveThread();
    --holders;
}

void ReleasedGil::at_exit() {
    ending_thread = std::this_thread::get_id();
    ending = true;
    const pybind11::gil_scoped_release released;
    while (holders != 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}
