// Losses l(m) of the margin m = y f(X). A loss is one struct, and an entry of `Losses` at the end of this file:
//
//     value(m), slope(m), curvature(m)    l, l' <= 0 and l''
//     log_slope(m)                        log(-l'), right far beyond where l' underflows
//     scaled_excess(b, x, s)              [l(b - s x) - l(b)] / s for a best margin b and a shortfall s x >= 0, without
//                                         cancellation, and also where the scale s <= 1 has underflown to 0
//     log_value(m)                        log l, l'/l and l''/l, of a loss that is positive
//     log_excess(b, y, log_share)         log e of e = l(b - x) - l(b), x = e^y, and its first two derivatives by y
//
// Functions of `Real` are used by descent, the last two by methods of second order.
#pragma once

#include <limits>

#include "attsvm/elementary.hpp"
#include "attsvm/type_list.hpp"

namespace attsvm {

// What the margins of a loss are: any real numbers; attention on the right tokens, in (0, 1] times their score; or
// log-probabilities of the right class.
enum class MarginKind { real, attention, log_probability };

// A function's value with two more numbers that its derivatives are made of.
struct SecondOrder {
    double value, rate, bend;
};

// Of an excess e(x) below this x its Taylor polynomial of second order is exact to float64.
inline constexpr double small_shortfall = 1e-8;

struct LossDefaults {
    static constexpr MarginKind margins = MarginKind::real;
    static constexpr double infimum = 0.0;  // over all margins
    static constexpr double largest_score = std::numeric_limits<double>::infinity();
    static constexpr bool positive = false;    // with log_value
    static constexpr bool has_excess = false;  // with log_excess
    static SecondOrder log_value(double) { return {}; }
    static SecondOrder log_excess(double, double, double) { return {}; }
};

struct Logistic : LossDefaults {  // log(1 + e^-m)
    static constexpr std::string_view name = "logistic";
    static constexpr double largest_score = 300.0;  // e^(±2·300) is a float64, whatever it is multiplied with
    static constexpr bool positive = true, has_excess = true;

    template <class Real>
    static Real value(Real m) {
        return larger(-m, Real(0.0)) + log1p(exp(-magnitude(m)));
    }
    static auto slope(auto m) { return decltype(m)(-1.0) / (decltype(m)(1.0) + exp(m)); }
    static auto curvature(auto m) { return slope(m) * slope(-m); }
    static auto log_slope(auto m) { return -(larger(m, decltype(m)(0.0)) + log1p(exp(-magnitude(m)))); }
    template <class Real>
    static Real scaled_excess(Real b, Real x, Real s) {
        return scaled_log1p(scaled_expm1(x, s) / (Real(1.0) + exp(b)), s);
    }
    static SecondOrder log_value(double m) {
        // log(1 + e^-m) = e^-m (1 - e^-m / 2 + ...): beyond 37 the bracket is 1 in float64.
        if (m > 37.0) return {-m, -1.0, 1.0};
        return {std::log(value(m)), slope(m) / value(m), curvature(m) / value(m)};
    }
    // e = log(1 + q (e^x - 1)) with q = 1 / (1 + e^b)
    static SecondOrder log_excess(double b, double y, double) {
        const double x = std::exp(y), q = -slope(b), half = -0.5 * slope(-b) * x;
        if (x < small_shortfall) return {y + log_slope(b) + half, 1.0 + half, half};
        const double excess = std::log1p(std::expm1(x) * q), rate = -x * slope(b - x) / excess;
        return {std::log(excess), rate, rate * (1.0 - x * slope(x - b) - rate)};
    }
};

struct Exponential : LossDefaults {  // e^-m
    static constexpr std::string_view name = "exponential";
    static constexpr double largest_score = 300.0;
    static constexpr bool positive = true, has_excess = true;

    static auto value(auto m) { return exp(-m); }
    static auto slope(auto m) { return -exp(-m); }
    static auto curvature(auto m) { return exp(-m); }
    static auto log_slope(auto m) { return -m; }
    static auto scaled_excess(auto b, auto x, auto s) { return exp(-b) * scaled_expm1(x, s); }
    static SecondOrder log_value(double m) { return {-m, -1.0, 1.0}; }
    static SecondOrder log_excess(double b, double y, double) {  // e = e^-b (e^x - 1)
        const double x = std::exp(y), half = 0.5 * x;
        if (x < small_shortfall) return {y - b + half, 1.0 + half, half};
        const double rate = -x / std::expm1(-x);
        return {-b + std::log(std::expm1(x)), rate, rate * (1.0 + x - rate)};
    }
};

struct Correlation : LossDefaults {  // -m
    static constexpr std::string_view name = "correlation";
    static constexpr double infimum = -std::numeric_limits<double>::infinity();
    static constexpr bool has_excess = true;

    static auto value(auto m) { return -m; }
    template <class Real>
    static Real slope(Real) {
        return Real(-1.0);
    }
    template <class Real>
    static Real curvature(Real) {
        return Real(0.0);
    }
    static auto log_slope(auto m) { return decltype(m)(0.0) * m; }
    static auto scaled_excess(auto, auto x, auto) { return x; }
    static SecondOrder log_excess(double, double y, double) { return {y, 1.0, 0.0}; }
};

struct Log : LossDefaults {  // -log m; descent has the logarithm of the margin, also where the margin has underflown
    static constexpr std::string_view name = "log";
    static constexpr MarginKind margins = MarginKind::attention;
    static constexpr double infimum = -std::numeric_limits<double>::infinity();
    static constexpr bool has_excess = true;

    static auto value(auto m) { return -log(m); }
    static auto slope(auto m) { return decltype(m)(-1.0) / m; }
    static auto curvature(auto m) { return decltype(m)(1.0) / (m * m); }
    static auto log_slope(auto m) { return -log(m); }
    static auto scaled_excess(auto b, auto x, auto s) { return -scaled_log1p(-x / b, s); }
    // e = -log(1 - x / b), given log(1 - x / b) too, which is exact where x is near b. b is 1.
    static SecondOrder log_excess(double, double y, double log_share) {
        const double x = std::exp(y);
        if (x < small_shortfall) return {y + 0.5 * x, 1.0 + 0.5 * x, 0.5 * x};
        const double excess = x > 0.5 ? -log_share : -std::log1p(-x);
        const double odds = x * std::exp(std::min(-log_share, 300.0)), rate = odds / excess;
        return {std::log(excess), rate, rate * (1.0 + odds - rate)};
    }
};

struct CrossEntropy : Correlation {  // -m of a margin that is the log-probability of the right class
    static constexpr std::string_view name = "cross_entropy";
    static constexpr MarginKind margins = MarginKind::log_probability;
    static constexpr double infimum = 0.0;
    static constexpr bool has_excess = false;
};

struct Squared : LossDefaults {  // (1 - e^m)² of a log-probability m
    static constexpr std::string_view name = "squared";
    static constexpr MarginKind margins = MarginKind::log_probability;

    static auto value(auto m) { return expm1(m) * expm1(m); }
    static auto slope(auto m) { return decltype(m)(2.0) * expm1(m) * exp(m); }
    static auto curvature(auto m) { return decltype(m)(2.0) * exp(m) * (exp(m) + expm1(m)); }
    static auto log_slope(auto m) { return log(decltype(m)(-2.0) * expm1(m)) + m; }
    template <class Real>
    static Real scaled_excess(Real, Real, Real) {
        return Real(std::numeric_limits<double>::quiet_NaN());  // not with a fixed head
    }
};

using Losses = TypeList<Logistic, Exponential, Correlation, Log, CrossEntropy, Squared>;

// One of `Losses`, chosen at run time.
class Loss {
   public:
    explicit Loss(std::string_view name) : index_(Losses::find("loss", name)) {}
    template <class Kind>
    static constexpr Loss of() {
        return Loss(Losses::index_of<Kind>());
    }

    // action(Kind{}) for the struct of this loss
    template <class Action>
    ATTSVM_INLINE auto visit(Action&& action) const {
        return Losses::visit(index_, action);
    }

   private:
    explicit constexpr Loss(int index) : index_(index) {}
    int index_;
};

}  // namespace attsvm
