#include "interpreter.hpp"

#include <atomic>
#include <chrono>
#include <exception>
#include <thread>

namespace {

std::atomic<bool> ending{false};
std::atomic<std::thread::id> ending_thread{};
std::atomic<int> holders{0};  // threads of the core that wait for the lock, or run Python

// Checks for signals, and reports progress to a function of Python.
class PythonProgress final : public attsvm::ProgressCallback {
   public:
    PythonProgress(ReleasedGil& gil, const std::optional<pybind11::function>& report) : gil_(gil), report_(report) {}

    bool carry_on(double share_done, const std::optional<attsvm::SvmState>& state) override {
        if (ReleasedGil::interpreter_ends()) return false;
        gil_.take();
        try {
            if (PyErr_CheckSignals() != 0) throw pybind11::error_already_set();
            if (report_ && state)
                (*report_)(share_done, state->gap, state->active);
            else if (report_)
                (*report_)(share_done);
        } catch (...) {
            failure_ = std::current_exception();
        }
        gil_.give();
        return !failure_;
    }
    std::exception_ptr failure() const { return failure_; }

   private:
    ReleasedGil& gil_;
    const std::optional<pybind11::function>& report_;
    std::exception_ptr failure_;
};

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

void without_gil(const std::optional<pybind11::function>& report, double total_work,
                 const std::function<void(attsvm::Progress&)>& work) {
    std::exception_ptr failure;
    {
        ReleasedGil gil;
        PythonProgress callback(gil, report);
        attsvm::Progress progress(&callback, total_work, report.has_value());
        work(progress);
        failure = callback.failure();
    }
    if (failure) std::rethrow_exception(failure);
}
