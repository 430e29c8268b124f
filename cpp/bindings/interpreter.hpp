// Work of the core without the interpreter's lock (the GIL): Ctrl-C, progress reports, and the end of the interpreter.
//
// A thread that asks for the lock while the interpreter ends is ended by it, through the frames of the core, which
// aborts the process. So `at_exit` (registered with Python's atexit) waits for those that are about to take the lock;
// later ones sleep until the process is gone.
#pragma once

#include <pybind11/pybind11.h>

#include <exception>
#include <optional>
#include <utility>

#include "attsvm/threads.hpp"

// Gives the lock away, and takes it back at the end of its scope.
class ReleasedGil {
   public:
    ReleasedGil() : state_(PyEval_SaveThread()) {}
    ~ReleasedGil();
    ReleasedGil(const ReleasedGil&) = delete;
    ReleasedGil& operator=(const ReleasedGil&) = delete;

    // Whether the interpreter ends, on another thread than this one.
    static bool interpreter_ends();
    static void at_exit();

    // From take to give, Python can be run.
    void take();
    void give();

   private:
    PyThreadState* state_;
};

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

// work(progress) without the lock; what a signal handler or `report` raises is raised here.
template <class Work>
void without_gil(const std::optional<pybind11::function>& report, double total_work, Work work) {
    std::exception_ptr failure;
    {
        ReleasedGil gil;
        PythonProgress callback(gil, report);
        attsvm::Progress progress(&callback, total_work);
        work(progress);
        failure = callback.failure();
    }
    if (failure) std::rethrow_exception(failure);
}
