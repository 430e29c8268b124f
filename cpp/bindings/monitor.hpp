// Python told of work in progress: Ctrl-C, and a function that hears how far the work is.
#pragma once

#include <pybind11/pybind11.h>

#include <exception>
#include <optional>
#include <utility>

#include "attsvm/team.hpp"

class PythonMonitor final : public attsvm::Monitor {
   public:
    explicit PythonMonitor(std::optional<pybind11::function> report) : report_(std::move(report)) {}

    bool carry_on(double share_done) override {
        const pybind11::gil_scoped_acquire gil;
        try {
            if (PyErr_CheckSignals() != 0) throw pybind11::error_already_set();
            if (report_) (*report_)(share_done);
            return true;
        } catch (pybind11::error_already_set&) {
            failure_ = std::current_exception();
            return false;
        }
    }
    void rethrow() const {
        if (failure_) std::rethrow_exception(failure_);
    }

   private:
    std::optional<pybind11::function> report_;
    std::exception_ptr failure_;
};
