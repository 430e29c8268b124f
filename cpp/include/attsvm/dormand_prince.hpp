// The embedded Runge-Kutta pair of Dormand and Prince, of orders 5 and 4, with the step size control of Hairer,
// Nørsett, Wanner, "Solving Ordinary Differential Equations I", 1993, section II.4 (DOPRI5): y' = f(y).
#pragma once

#include <stdexcept>
#include <string>

#include "attsvm/buffer.hpp"
#include "attsvm/elementary.hpp"

namespace attsvm {

// The slope changes too fast for an explicit method.
struct Stiff : std::runtime_error {
    using std::runtime_error::runtime_error;
};

template <class Real>
class DormandPrince {
   public:
    // Every step has an error of at most `tolerance` times the norm of y, as estimated, or times 1e-100 of the stretch.
    DormandPrince(Index size, double tolerance)
        : size_(size), tolerance_(tolerance), next_(size), slopes_(stages * size), error_before_(Real(1e-4)) {}

    // Moves y (size) on by this much of its variable, every lane with steps of its own; f(y, slope) computes y', a unit
    // vector or zero. Where a step within the tolerance turns back, y is stationary: its path ends there, and it stays.
    // `carry_on` is asked at every step; where it is false, y is left on the way.
    template <class Slope, class CarryOn>
    void advance(Real length, Real* y, Slope f, CarryOn carry_on) {
        Real rest = length;
        if (!begun_) {
            f(static_cast<const Real*>(y), slope(0));
            step_ = length * Real(0.01);
            begun_ = true;
        }
        const Real least = length * Real(1e-13);
        rejected_ = Real(0.0);
        for (int tries = 0; any<Real>(rest > Real(0.0)) && carry_on(); ++tries) {
            if (tries == most_tries)
                throw Stiff("train: gradient flow turns too fast to be integrated: " + std::to_string(tries) +
                            " steps of the integration in one of lr (a smaller lr, or 'ngd', may help)");
            const Real step = smaller(step_, rest);
            const auto [error, turn] = try_step(step, y, length * Real(1e-100), f);
            // An error that is no number is that of an overflow, which the caller sees.
            const Real refused = select(error > Real(1.0), select(step > least, Real(1.0), Real(0.0)), Real(0.0));
            const auto accepted = refused == Real(0.0);
            const Real* const end = next_.data();
            for (Index k = 0; k < size_; ++k) {
                y[k] = select(accepted, end[k], y[k]);
                slope(0)[k] = select(accepted, slope(stages - 1)[k], slope(0)[k]);
            }
            rest = select(accepted, select(turn < Real(0.0), Real(0.0), rest - step), rest);
            control(step, error, refused);
        }
    }

   private:
    static constexpr int most_tries = 1'000'000;
    static constexpr Index stages = 7;
    static constexpr double weight[stages][stages] = {
        {},
        {1.0 / 5.0},
        {3.0 / 40.0, 9.0 / 40.0},
        {44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0},
        {19372.0 / 6561.0, -25360.0 / 2187.0, 64448.0 / 6561.0, -212.0 / 729.0},
        {9017.0 / 3168.0, -355.0 / 33.0, 46732.0 / 5247.0, 49.0 / 176.0, -5103.0 / 18656.0},
        {35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0}};
    // Of the difference of the two orders.
    static constexpr double difference[stages] = {71.0 / 57600.0,      0.0,          -71.0 / 16695.0, 71.0 / 1920.0,
                                                  -17253.0 / 339200.0, 22.0 / 525.0, -1.0 / 40.0};

    // Its error in units of the tolerance, and the inner product of the slopes at its ends.
    struct Attempt {
        Real error, turn;
    };

    Real* slope(Index stage) { return slopes_.data() + stage * size_; }

    // Leaves the end of the step in `next_` and the slope there in the last stage. All of a step that turns back is
    // error.
    template <class Slope>
    Attempt try_step(Real step, const Real* y, Real least_size, Slope f) {
        for (Index s = 1; s < stages; ++s) {
            for (Index k = 0; k < size_; ++k) {
                Real total(0.0);
                for (Index r = 0; r < s; ++r) total += Real(weight[s][r]) * slope(r)[k];
                next_[k] = y[k] + step * total;
            }
            f(static_cast<const Real*>(next_.data()), slope(s));
        }
        const Real square = sum<Real>(size_, [&](Index k) {
            Real total(0.0);
            for (Index s = 0; s < stages; ++s) total += Real(difference[s]) * slope(s)[k];
            return total * total;
        });
        const Real size =
            larger(larger(norm(static_cast<const Real*>(next_.data()), size_), norm(y, size_)), least_size);
        const Real turn = sum<Real>(size_, [&](Index k) { return slope(0)[k] * slope(stages - 1)[k]; });
        const Real share = select(turn < Real(0.0), larger(Real(1.0), sqrt(square)), sqrt(square));
        return {step * share / (Real(tolerance_) * size), turn};
    }

    // The next step, by a proportional-integral controller. After a step that was refused it is not longer.
    void control(Real step, Real error, Real refused) {
        constexpr double beta = 0.04, exponent = 0.2 - 0.75 * beta, safety = 0.9;
        const auto power = [](Real x, double e) { return lanewise(x, [e](double v) { return std::pow(v, e); }); };
        const auto accepted = refused == Real(0.0);
        const Real change = power(error, exponent) / Real(safety);
        const Real divisor = smaller(larger(change / power(error_before_, beta), Real(0.1)), Real(5.0));
        const Real longer = step / select(rejected_ == Real(0.0), divisor, larger(divisor, Real(1.0)));
        const Real shorter = step / smaller(change, Real(5.0));
        // The last step of a stretch is cut: it says nothing of the next one, unless it was too long.
        step_ = select(accepted, select(step >= step_, longer, step_), shorter);
        error_before_ = select(accepted, larger(error, Real(1e-4)), error_before_);
        rejected_ = refused;
    }

    Index size_;
    double tolerance_;
    Buffer<Real> next_, slopes_;
    Real error_before_, step_{0.0}, rejected_{0.0};
    bool begun_ = false;
};

}  // namespace attsvm
