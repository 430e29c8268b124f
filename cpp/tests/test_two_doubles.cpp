// Numbers of twice the precision against the digits of 300-bit arithmetic (mpmath).
#include "attsvm/two_doubles.hpp"

#include "check.hpp"

using attsvm::TwoDoubles;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

bool agree(const TwoDoubles& found, const TwoDoubles& right) {
    constexpr double accuracy = 1e-30;
    return std::abs((found - right).high) <= accuracy * std::abs(right.high);
}

void functions_have_twice_the_digits_of_float64() {
    CHECK(agree(TwoDoubles(1.0) / 3.0, {0x1.5555555555555p-2, 0x1.5555555555555p-56}));
    CHECK(agree(sqrt(TwoDoubles(2.0)), {0x1.6a09e667f3bcdp+0, -0x1.bdd3413b26456p-54}));
    CHECK(agree(exp(TwoDoubles(1.0)), {0x1.5bf0a8b145769p+1, 0x1.4d57ee2b1013ap-53}));
    CHECK(agree(exp(TwoDoubles(-30.5)), {0x1.ff3864232b407p-45, -0x1.bd3e30ae3be64p-99}));
    CHECK(agree(log(TwoDoubles(3.0)), {0x1.193ea7aad030bp+0, -0x1.a256f99caabebp-54}));
    CHECK(agree(log(TwoDoubles(0x1p-900)), {-0x1.37ea8e219ecebp+9, -0x1.effc7120d89b8p-46}));
    CHECK(agree(pow(TwoDoubles(0.1), 1.7), {0x1.46e75df96dc9ap-6, 0x1.606a84acc0aaep-60}));
}

void sums_keep_what_is_far_smaller() {
    const TwoDoubles sum = TwoDoubles(1.0) + 0x1p-80;
    CHECK((sum - 1.0).high == 0x1p-80);
    CHECK((sum * sum - 1.0).high == 0x1p-79);
    CHECK(sum > 1.0 && !(sum < 1.0) && sum != TwoDoubles(1.0));
}

void the_ends_of_the_range_are_those_of_float64() {
    CHECK(exp(TwoDoubles(-infinity)).high == 0.0);
    CHECK(exp(TwoDoubles(720.0)).high == infinity);
    CHECK(log(TwoDoubles(0.0)).high == -infinity);
    CHECK(std::abs(log(TwoDoubles(1e-310)).high - std::log(1e-310)) < 1e-12);
    CHECK((TwoDoubles(-infinity) * 0.5).high == -infinity);
    CHECK(isnan(TwoDoubles(infinity) - infinity));
}

}  // namespace

int main() {
    functions_have_twice_the_digits_of_float64();
    sums_keep_what_is_far_smaller();
    the_ends_of_the_range_are_those_of_float64();
    return attsvm_test::report();
}
