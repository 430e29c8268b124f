// The gradient of softmax attention against the plain formula in long double, and where logits are far apart.
#include <random>
#include <vector>

#include "attsvm/token_softmax.hpp"
#include "check.hpp"

using attsvm::Index;

namespace {

struct Gradient {
    std::vector<double> c;
    attsvm::TokenGradient<double> at;
};

Gradient gradient(std::vector<double> logits, std::vector<double> scores) {
    const auto T = static_cast<Index>(logits.size());
    const auto padded = static_cast<std::size_t>(attsvm::padded_to_columns<double>(T));
    std::vector<double> weight(padded), moving(padded);
    logits.resize(padded);
    scores.resize(padded);
    attsvm::mask_logits(T, static_cast<double>(T), logits.data());
    const auto at = attsvm::token_gradient(T, scores.data(), logits.data(), weight.data(), moving.data());
    logits.resize(static_cast<std::size_t>(T));
    return {logits, at};
}

void agrees_with_the_plain_formula() {
    std::mt19937_64 bits(7);
    std::normal_distribution<double> normal;
    for (const double spread : {0.1, 1.0, 5.0})
        for (const std::size_t T : {std::size_t{2}, std::size_t{5}, std::size_t{16}, std::size_t{19}}) {
            std::vector<double> logits(T), scores(T);
            for (double& a : logits) a = spread * normal(bits);
            for (double& g : scores) g = normal(bits);
            long double total = 0.0L, mean = 0.0L;
            std::vector<long double> s(T);
            for (std::size_t t = 0; t < T; ++t) total += s[t] = std::exp(static_cast<long double>(logits[t]));
            for (std::size_t t = 0; t < T; ++t) mean += (s[t] /= total) * static_cast<long double>(scores[t]);
            const Gradient got = gradient(logits, scores);
            long double error = 0.0L, size = 0.0L;
            for (std::size_t t = 0; t < T; ++t) {
                const long double right = s[t] * (static_cast<long double>(scores[t]) - mean);
                const long double ours =
                    static_cast<long double>(got.c[t]) * std::exp(static_cast<long double>(got.at.log_scale));
                error = std::max(error, std::abs(ours - right));
                size = std::max(size, std::abs(right));
            }
            CHECK(error <= 2e-15L * size);
            CHECK(std::abs(static_cast<long double>(got.at.margin) - mean) < 1e-15L * (1.0L + std::abs(mean)));
        }
}

// Two tokens at logit distance D: the gradient is e^-D (g_2 - g_1) / (1 + e^-D)².
void keeps_its_digits_however_far_logits_are_apart() {
    for (const double distance : {1.0, 50.0, 700.0, 5000.0, 1e6}) {
        const Gradient got = gradient({distance, 0.0}, {1.0, 0.25});
        const double spread = 1.0 + std::exp(-distance);
        CHECK(got.at.log_scale == -distance);
        CHECK(std::abs(got.c[1] / (-0.75 / (spread * spread)) - 1.0) < 1e-15);
        CHECK(std::abs(got.c[0] / got.c[1] + 1.0) < 1e-15);
    }
}

// The heavy tokens score the same; what moves is the light third one, below every float64.
void a_tie_of_scores_hides_nothing() {
    const Gradient got = gradient({0.0, 0.0, -2000.0}, {1.0, 1.0, 0.0});
    CHECK(got.at.log_scale == -2000.0);
    CHECK(std::abs(got.c[2] + 0.5) < 1e-15);
    CHECK(std::abs(got.c[0] - 0.25) < 1e-15);
    CHECK(std::abs(got.c[1] - 0.25) < 1e-15);
}

void equal_scores_do_not_move() {
    const Gradient got = gradient({0.3, -0.2, 1.0}, {0.5, 0.5, 0.5});
    CHECK(got.at.log_scale == -std::numeric_limits<double>::infinity());
    for (const double c : got.c) CHECK(c == 0.0);
    CHECK(got.at.margin == 0.5);
}

void nan_is_not_hidden() {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    for (const std::vector<double>& logits : {std::vector<double>{nan, 0.0}, std::vector<double>{0.0, nan}}) {
        const Gradient got = gradient(logits, {1.0, 0.0});
        CHECK(std::isnan(got.at.margin));
        CHECK(std::isnan(got.c[0]) || std::isnan(got.c[1]));
    }
}

// In rows of any length, of which any number of tokens exist, and nothing beyond the row is written.
void weights_are_right_to_the_last_places() {
    const double inf = std::numeric_limits<double>::infinity();
    for (Index tokens = 1; tokens <= 19; ++tokens)
        for (Index rows = 1; rows <= tokens; ++rows) {
            const auto padded = static_cast<std::size_t>(attsvm::padded_to_columns<double>(tokens));
            const auto end = static_cast<std::size_t>(tokens);
            std::vector<double> score(padded), logit(padded), weight(padded, 7.0), log_weight(padded, 7.0);
            for (std::size_t t = 0; t < padded; ++t) logit[t] = 40.0 * std::sin(static_cast<double>(5 * t + 3));
            attsvm::mask_logits(rows, static_cast<double>(rows), logit.data());
            const auto top = static_cast<std::size_t>(
                attsvm::attention_weights(rows, tokens, score.data(), logit.data(), weight.data(), log_weight.data()));
            long double others = 0.0L;
            for (std::size_t t = 0; t < static_cast<std::size_t>(rows); ++t) {
                CHECK(logit[t] <= logit[top]);
                if (t != top) others += std::exp(static_cast<long double>(logit[t]) - logit[top]);
            }
            for (std::size_t t = 0; t < end; ++t) {
                if (t >= static_cast<std::size_t>(rows)) {
                    CHECK(weight[t] == 0.0 && log_weight[t] == -inf);
                    continue;
                }
                const long double right = (static_cast<long double>(logit[t]) - logit[top]) - std::log1p(others);
                CHECK(std::abs(log_weight[t] - right) <= 4e-16L * (1.0L + std::abs(right)));
                CHECK(std::abs(weight[t] / std::exp(static_cast<long double>(log_weight[t])) - 1.0L) <= 4e-16L);
            }
            for (std::size_t t = end; t < padded; ++t) CHECK(weight[t] == 7.0 && log_weight[t] == 7.0);
        }
}

}  // namespace

int main() {
    agrees_with_the_plain_formula();
    keeps_its_digits_however_far_logits_are_apart();
    a_tie_of_scores_hides_nothing();
    equal_scores_do_not_move();
    nan_is_not_hidden();
    weights_are_right_to_the_last_places();
    return attsvm_test::report();
}
