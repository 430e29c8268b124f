// exp of a pack against long double, and norms at the ends of the range.
#include <limits>
#include <random>

#include "attsvm/elementary.hpp"
#include "check.hpp"

using Octet = attsvm::Pack<double, 8>;

namespace {

double exp_of(double x) { return attsvm::lane(attsvm::exp(Octet(x)), 5); }

// Half a unit of rounding, and what range reduction and the last product add.
void exp_is_right_to_the_last_place() {
    std::mt19937_64 bits(1);
    std::uniform_real_distribution<double> points(-708.0, 709.0);
    double worst = 0.0;
    for (int k = 0; k < 200000; ++k) {
        const double x = k % 2 == 0 ? points(bits) : points(bits) / 700.0;
        const long double right = std::exp(static_cast<long double>(x));
        const double ulp = std::nextafter(static_cast<double>(right), std::numeric_limits<double>::infinity()) -
                           static_cast<double>(right);
        worst = std::max(worst, static_cast<double>(std::abs(static_cast<long double>(exp_of(x)) - right)) / ulp);
    }
    std::printf("exp: at most %.3f units in the last place\n", worst);
    CHECK(worst < 1.05);
}

void exp_is_right_at_the_ends() {
    const double inf = std::numeric_limits<double>::infinity();
    CHECK(exp_of(-inf) == 0.0);
    CHECK(exp_of(inf) == inf);
    CHECK(exp_of(0.0) == 1.0);
    CHECK(exp_of(-800.0) == 0.0);
    CHECK(exp_of(800.0) == inf);
    CHECK(std::isnan(exp_of(std::numeric_limits<double>::quiet_NaN())));
    CHECK(std::abs(exp_of(-740.0) / std::exp(-740.0) - 1.0) < 0.05);  // a subnormal of few bits
}

void norm_survives_the_range() {
    for (const double scale : {1e-300, 1e-160, 1.0, 1e160, 1e300}) {
        const double x[] = {3.0 * scale, 0.0, 4.0 * scale};
        CHECK(std::abs(attsvm::norm(x, 3) / (5.0 * scale) - 1.0) < 1e-15);
    }
    const double zero[] = {0.0, 0.0};
    CHECK(attsvm::norm(zero, 2) == 0.0);
    Octet mixed[2];
    for (int k = 0; k < 8; ++k) {
        const double scale = std::pow(10.0, 80 * (k - 3.5));
        attsvm::set_lane(mixed[0], k, 3.0 * scale);
        attsvm::set_lane(mixed[1], k, -4.0 * scale);
    }
    const Octet norms = attsvm::norm(mixed, 2);
    for (int k = 0; k < 8; ++k)
        CHECK(std::abs(attsvm::lane(norms, k) / (5.0 * std::pow(10.0, 80 * (k - 3.5))) - 1.0) < 1e-13);
}

void scaled_forms_do_not_cancel() {
    for (const double x : {1e-3, 0.5, 3.0})
        for (const double s : {1.0, 1e-5, 1e-12, 1e-200, 0.0}) {
            const long double small = static_cast<long double>(s) * x;
            const long double up =
                s == 0.0 ? static_cast<long double>(x) : std::expm1(small) / static_cast<long double>(s);
            const long double down =
                s == 0.0 ? static_cast<long double>(x) : std::log1p(small) / static_cast<long double>(s);
            CHECK(std::abs(static_cast<long double>(attsvm::scaled_expm1(x, s)) / up - 1.0L) < 1e-15L);
            CHECK(std::abs(static_cast<long double>(attsvm::scaled_log1p(x, s)) / down - 1.0L) < 1e-15L);
        }
}

}  // namespace

int main() {
    exp_is_right_to_the_last_place();
    exp_is_right_at_the_ends();
    norm_survives_the_range();
    scaled_forms_do_not_cancel();
    return attsvm_test::report();
}
