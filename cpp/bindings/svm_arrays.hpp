// Batches of SVMs between Python's arrays and the core.
#pragma once

#include <optional>

#include "arrays.hpp"
#include "attsvm/dual_svm.hpp"
#include "interpreter.hpp"

// Checks the shapes and has `solve` solve the SVMs without the GIL: solve(batch, progress, result).
template <class Token, class Solve>
pybind11::dict solved(const Array<Token>& tokens, const Array<double>& queries, const Array<std::int64_t>& selected,
                      const Array<std::int64_t>& lengths, const Array<double>& rhs, const Array<bool>& equality,
                      const std::optional<pybind11::function>& report, Solve solve) {
    using attsvm::Index;
    using namespace pybind11::literals;
    if (tokens.ndim() != 4) throw std::invalid_argument("tokens: need four axes");
    if (queries.ndim() != 3) throw std::invalid_argument("queries: need three axes");
    const Index B = tokens.shape(0), n = tokens.shape(1), T = tokens.shape(2), d = tokens.shape(3);
    const Index e = queries.shape(2);
    if (n < 1 || T < 1 || d < 1 || e < 1) throw std::invalid_argument("tokens: no axis may be empty");
    expect_shape("queries", queries, {B, n, e});
    expect_shape("selected", selected, {B, n});
    expect_shape("lengths", lengths, {B, n});
    expect_shape("rhs", rhs, {B, n, T});
    expect_shape("equality", equality, {B, n, T});
    for (const std::int64_t valid : view(lengths))
        if (valid < 0 || valid > T) throw std::invalid_argument("lengths: must lie in 0..T");
    for (const std::int64_t token : view(selected))
        if (token >= T) throw std::invalid_argument("selected: must be below T");

    auto dual = make_array<double>({B, n, T});
    auto margins = make_array<double>({B, n, T});
    auto left = make_array<double>({B, n, d});
    auto right = make_array<double>({B, n, e});
    auto norm = make_array<double>({B});
    auto gap = make_array<double>({B});
    auto kkt = make_array<double>({B});
    auto status = make_array<std::int8_t>({B});
    auto iterations = make_array<std::int64_t>({B});
    const attsvm::SvmBatch<Token> batch{
        B, {n, T, d, e, tokens.data(), queries.data(), selected.data(), lengths.data(), rhs.data(), equality.data()}};
    const attsvm::SvmResultView result{dual.mutable_data(),  margins.mutable_data(), left.mutable_data(),
                                       right.mutable_data(), norm.mutable_data(),    gap.mutable_data(),
                                       kkt.mutable_data(),   status.mutable_data(),  iterations.mutable_data()};

    without_gil(report, static_cast<double>(B), [&](attsvm::Progress& progress) { solve(batch, progress, result); });
    return pybind11::dict("dual"_a = dual, "margins"_a = margins, "left"_a = left, "right"_a = right, "norm"_a = norm,
                          "gap"_a = gap, "kkt"_a = kkt, "status"_a = status, "iterations"_a = iterations);
}
