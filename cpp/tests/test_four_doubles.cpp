// Numbers of four times the precision against the digits of 400-bit arithmetic (mpmath).
#include "attsvm/four_doubles.hpp"

#include "check.hpp"

using attsvm::FourDoubles;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

bool agree(const FourDoubles& found, double (&&right)[4]) {
    constexpr double accuracy = 1e-59;
    return std::abs((found - FourDoubles::sum(right)).part[0]) <= accuracy * std::abs(right[0]);
}

void functions_have_four_times_the_digits_of_float64() {
    CHECK(agree(FourDoubles(1.0) / 3.0,
                {0x1.5555555555555p-2, 0x1.5555555555555p-56, 0x1.5555555555555p-110, 0x1.5555555555555p-164}));
    CHECK(agree(sqrt(FourDoubles(2.0)),
                {0x1.6a09e667f3bcdp+0, -0x1.bdd3413b26456p-54, 0x1.57d3e3adec175p-108, 0x1.2775099da2f59p-164}));
    CHECK(agree(exp(FourDoubles(1.0)),
                {0x1.5bf0a8b145769p+1, 0x1.4d57ee2b1013ap-53, -0x1.618713a31d3e2p-109, 0x1.c5a6d2b53c26dp-163}));
    CHECK(agree(exp(FourDoubles(-30.5)),
                {0x1.ff3864232b407p-45, -0x1.bd3e30ae3be64p-99, -0x1.7029918b6fcaep-154, 0x1.b04721a3734dcp-208}));
    CHECK(agree(log(FourDoubles(3.0)),
                {0x1.193ea7aad030bp+0, -0x1.a256f99caabebp-54, -0x1.20d2907aef499p-110, -0x1.03ee41f84d022p-165}));
    CHECK(agree(log(FourDoubles(0x1p-900)),
                {-0x1.37ea8e219ecebp+9, -0x1.effc7120d89b8p-46, 0x1.dd4bfdfa8c7edp-100, -0x1.570703c0cab03p-155}));
    CHECK(agree(log(FourDoubles(0x1p-1000)),
                {-0x1.5a92d6d005c94p+9, 0x1.971e6bd14ec61p-45, 0x1.2ec636a49c1b2p-100, -0x1.7d243d0f1a192p-155}));
    CHECK(agree(pow(FourDoubles(0.1), 1.7),
                {0x1.46e75df96dc9ap-6, 0x1.606a84acc0aaep-60, -0x1.84cf32096b465p-114, 0x1.d18cefd2bad2ap-168}));
}

void sums_keep_what_is_far_smaller() {
    const FourDoubles sum = FourDoubles(1.0) + 0x1p-180;
    CHECK((sum - 1.0).part[0] == 0x1p-180);
    CHECK((sum * sum - 1.0).part[0] == 0x1p-179);
    CHECK(sum > 1.0 && !(sum < 1.0) && sum != FourDoubles(1.0));
}

// Also where the largest parts of two numbers cancel: what compares them and rounds them reads the first alone.
void the_first_part_is_the_number_rounded() {
    double a[] = {-0x1.d9f5e8f234624p+0, -0x1.2286ec1731dcap-54, -0x1.eba08c507249ap-108, -0x1.b2128e40f669bp-189};
    double b[] = {0x1.d9f5e8f234624p+0, -0x1.02f8d51a7cd82p-54, -0x1.eab7551b7b0e9p-109, -0x1.6e7c1586202cbp-190};
    const FourDoubles sum = FourDoubles::sum(a) + FourDoubles::sum(b);
    CHECK(sum.part[1] != 0.0 && sum.part[0] + sum.part[1] == sum.part[0]);
    CHECK(sum.part[2] != 0.0 && sum.part[1] + sum.part[2] == sum.part[1]);
}

void the_ends_of_the_range_are_those_of_float64() {
    CHECK(exp(FourDoubles(-infinity)).part[0] == 0.0);
    CHECK(exp(FourDoubles(720.0)).part[0] == infinity);
    CHECK(log(FourDoubles(0.0)).part[0] == -infinity);
    CHECK(std::abs(log(FourDoubles(1e-310)).part[0] - std::log(1e-310)) < 1e-12);
    CHECK(FourDoubles(0x1p1010) * 0x1p-1010 == FourDoubles(1.0));
    CHECK((FourDoubles(-infinity) * 0.5).part[0] == -infinity);
    CHECK(isnan(FourDoubles(infinity) - infinity));
    CHECK((FourDoubles(2.0) / infinity).part[0] == 0.0);
    CHECK(isnan(FourDoubles(infinity) / infinity));
}

}  // namespace

int main() {
    functions_have_four_times_the_digits_of_float64();
    sums_keep_what_is_far_smaller();
    the_first_part_is_the_number_rounded();
    the_ends_of_the_range_are_those_of_float64();
    return attsvm_test::report();
}
