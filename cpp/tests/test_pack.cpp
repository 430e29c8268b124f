// The arithmetic of a register's lanes is that of single numbers, whatever instructions it takes; nothing beyond the
// lanes that are named is read or written.
#include <array>
#include <limits>
#include <random>

#include "attsvm/elementary.hpp"
#include "check.hpp"

using attsvm::Index;
using Lanes = attsvm::NativePack<double>;

namespace {

constexpr int width = attsvm::native_lanes<double>;
constexpr double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
constexpr std::array numbers{0.0, -0.0, 1.5, -1.5, 2.0, 5e-324, -1e308, inf, -inf, nan};

bool same(double a, double b) { return std::bit_cast<std::int64_t>(a) == std::bit_cast<std::int64_t>(b); }

// One number in lane k, other numbers beside it.
Lanes with(double number, int k, std::size_t others) {
    Lanes x;
    for (int j = 0; j < width; ++j)
        set_lane(x, j, j == k ? number : numbers[(others + static_cast<std::size_t>(j)) % numbers.size()]);
    return x;
}

void choices_are_those_of_numbers() {
    for (std::size_t i = 0; i < numbers.size(); ++i)
        for (std::size_t j = 0; j < numbers.size(); ++j)
            for (int k = 0; k < width; ++k) {
                const double a = numbers[i], b = numbers[j];
                const Lanes x = with(a, k, i), y = with(b, k, j);
                CHECK(same(lane(larger(x, y), k), attsvm::larger(a, b)));
                CHECK(same(lane(smaller(x, y), k), attsvm::smaller(a, b)));
                CHECK(same(lane(larger_where(x == x, x, y), k), a == a && b > a ? b : a));
                CHECK(same(lane(select(x > y, x, y), k), a > b ? a : b));
                CHECK(same(lane(magnitude(x), k), std::abs(a)));
                CHECK(same(lane(Lanes(a), k), a));
            }
}

void masks_know_their_lanes() {
    for (unsigned bits = 0; bits < 1u << width; ++bits) {
        Lanes x(0.0);
        for (int k = 0; k < width; ++k)
            if ((bits >> k & 1u) != 0) set_lane(x, k, 1.0);
        const auto mask = x == Lanes(1.0);
        CHECK(Lanes::Compare::any(mask) == (bits != 0));
        CHECK(Lanes::Compare::all(mask) == (bits == (1u << width) - 1u));
        if (bits != 0) CHECK(Lanes::Compare::first(mask) == std::countr_zero(bits));
    }
}

void parts_of_a_register_leave_the_rest() {
    std::array<double, width> from{}, to{};
    std::array<float, width> single{};
    for (std::size_t k = 0; k < width; ++k)
        single[k] = static_cast<float>(from[k] = 1.0 + 0.1 * static_cast<double>(k));
    const Lanes whole = attsvm::load(single.data());
    for (int k = 0; k < width; ++k) CHECK(lane(whole, k) == static_cast<double>(single[static_cast<std::size_t>(k)]));
    for (Index count = 1; count < width; ++count) {
        const Lanes doubles = attsvm::load_some(from.data(), count), floats = attsvm::load_some(single.data(), count);
        to.fill(-1.0);
        attsvm::store_some(to.data(), attsvm::load(from.data()), count);
        for (int k = 0; k < width; ++k) {
            const auto at = static_cast<std::size_t>(k);
            CHECK(lane(doubles, k) == (k < count ? from[at] : 0.0));
            CHECK(lane(floats, k) == (k < count ? static_cast<double>(single[at]) : 0.0));
            CHECK(to[at] == (k < count ? from[at] : -1.0));
        }
    }
}

void sums_of_eight_are_those_of_each() {
    std::mt19937_64 bits(3);
    std::normal_distribution<double> normal;
    std::array<Lanes, 8> x;
    for (Lanes& one : x)
        for (int k = 0; k < width; ++k) set_lane(one, k, normal(bits));
    std::array<double, 8> sums{};
    attsvm::sum_lanes_of_eight(x.data(), sums.data());
    for (std::size_t k = 0; k < 8; ++k) CHECK(same(sums[k], sum_lanes(x[k])));
}

// Also where the exponential of another lane is no normal number.
void exponentials_do_not_depend_on_other_lanes() {
    std::mt19937_64 bits(5);
    std::uniform_real_distribution<double> points(-745.0, 709.5);
    for (int round = 0; round < 20000; ++round) {
        Lanes x;
        for (int k = 0; k < width; ++k) set_lane(x, k, round % 3 == 0 && k == round % width ? -inf : points(bits));
        const Lanes together = exp(x);
        for (int k = 0; k < width; ++k) CHECK(same(lane(together, k), lane(exp(Lanes(lane(x, k))), k)));
    }
}

}  // namespace

int main() {
    choices_are_those_of_numbers();
    masks_know_their_lanes();
    parts_of_a_register_leave_the_rest();
    sums_of_eight_are_those_of_each();
    exponentials_do_not_depend_on_other_lanes();
    return attsvm_test::report();
}
