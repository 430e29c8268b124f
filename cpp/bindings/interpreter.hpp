// Work of the core without the interpreter's lock (the GIL): Ctrl-C, progress reports, and the end of the interpreter.
//
// A thread that asks for the lock while the interpreter ends is ended by it, through the frames of the core, which
// aborts the process. So `at_exit` (registered with Python's atexit) waits for those that are about to take the lock;
// later ones sleep until the process is gone.
#pragma once

#include <pybind11/pybind11.h>

#include <functional>
#include <optional>

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

// work(progress) without the lock; what a signal handler or `report` raises is raised here. Of work that tells its
// progress `report` is called for the first time soon after it begins.
void without_gil(const std::optional<pybind11::function>& report, double total_work,
                 const std::function<void(attsvm::Progress&)>& work);
