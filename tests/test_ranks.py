"""Rank with a relative tolerance, and the effective rank."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attsvm import (
    AttentionData,
    att_svm,
    effective_rank,
    label_svm,
    optimal_tokens,
    prompt_svm,
    rank,
    train,
)
from attsvm.datasets import unit_sphere

SEEDS = st.integers(0, 2**32 - 1)


def with_singular_values(values, rng, shape=(6, 8)):
    left = np.linalg.qr(rng.standard_normal((shape[0], len(values))))[0]
    right = np.linalg.qr(rng.standard_normal((shape[1], len(values))))[0]
    return left * values @ right.T


@given(seed=SEEDS, r=st.integers(1, 6), scale=st.floats(1e-150, 1e150))
def test_ranks_of_a_matrix_of_known_singular_values(seed, r, scale):
    rng = np.random.default_rng(seed)
    equal = scale * with_singular_values(np.ones(r), rng)
    assert rank(equal) == r
    assert effective_rank(equal) == pytest.approx(r, rel=1e-12)
    values = np.sort(rng.uniform(0.01, 1, r))[::-1]
    p = values / values.sum()
    spread = scale * with_singular_values(values, rng)
    assert rank(spread) == r
    assert effective_rank(spread) == pytest.approx(math.exp(-sum(p * np.log(p))), rel=1e-10)
    assert 1 - 1e-12 <= effective_rank(spread) <= r * (1 + 1e-12)


def test_the_tolerance_is_relative_to_the_largest():
    W = 1e-9 * with_singular_values([1.0, 1.1e-5, 0.9e-5], np.random.default_rng(0))
    assert rank(W) == 2
    assert rank(W, rtol=1e-4) == 1
    assert rank(W, rtol=1e-6) == 3


def test_zero_has_the_rank_zero():
    assert rank(np.zeros((3, 3))) == 0
    assert effective_rank(np.zeros((3, 3))) == 0.0
    stack = np.stack([np.zeros((2, 2)), np.eye(2)])
    assert rank(stack).tolist() == [0, 2]
    assert effective_rank(stack) == pytest.approx([0, 2])


def test_an_infeasible_svm_has_no_rank():
    line = AttentionData([[[-1.0], [0.0], [1.0]]], [1])
    infeasible = prompt_svm(line, [1])
    assert rank(infeasible) is None
    assert effective_rank(infeasible) is None
    both = prompt_svm(AttentionData([line.tokens] * 2, [line.labels] * 2), [[0], [1]])
    assert np.nanmean(rank(both)) == 1
    assert np.isnan(rank(both)).tolist() == np.isnan(effective_rank(both)).tolist() == [False, True]


@pytest.mark.parametrize("d", [5, 300])
def test_ranks_by_factors_are_those_of_the_matrix(d):
    data = unit_sphere(3, 4, d, batch=4, rng=0)
    solution = att_svm(data, optimal_tokens(data))
    run = train(data, parameter="KQ", inner=2, steps=10, rng=0)
    for given_by_factors in (solution, run):
        W = given_by_factors.W
        assert effective_rank(given_by_factors) == pytest.approx(effective_rank(W), rel=1e-9)
        np.testing.assert_array_equal(rank(given_by_factors), rank(W))
        np.testing.assert_array_equal(rank(W), [rank(one) for one in W])
    assert rank(run).tolist() == 4 * [2]
    assert rank(train(data.problem(0), parameter="p", steps=3)) == 1


def test_what_has_no_rank_is_refused():
    with pytest.raises(ValueError, match=r"^rtol: expected a positive number, got 0"):
        rank(np.eye(2), rtol=0)
    with pytest.raises(
        ValueError, match=r"^W: expected shape \(d, d\) or \(B, d, d\) with B problems, got \(3,\)"
    ):
        rank([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"^W: expected finite numbers, got inf"):
        effective_rank([[np.inf]])
    with pytest.raises(ValueError, match=r"^W: expected a solution W or p"):
        rank(label_svm(AttentionData([[[1.0]]], [1]), [0]))


def assert_svms_have_full_rank(n, T, d, problems):
    """On feasible problems, the rank of the smallest W is min(n, d), all but for a few of them."""
    data = unit_sphere(n, T, d, batch=problems, rng=15)
    solution = att_svm(data, optimal_tokens(data))
    ranks = rank(solution)
    np.testing.assert_array_equal(np.isnan(ranks), ~solution.feasible)
    assert solution.feasible.any()
    assert np.nanmax(ranks) <= min(n, d)
    assert np.nanmean(ranks) == pytest.approx(min(n, d), rel=0.04)
    if n < d:
        assert (ranks[solution.feasible] == n).all()


@pytest.mark.parametrize(("n", "T", "d"), [(5, 5, 3), (5, 5, 10), (10, 5, 5), (5, 15, 20)])
def test_e15_frobenius_rank_is_that_of_the_queries(n, T, d):
    assert_svms_have_full_rank(n, T, d, 100)


GRID = [(5, 5), (10, 5), (15, 5), (5, 10), (5, 15)]
LEAST = {(10, 5): 3, (15, 5): 4}
"""Dimension below which hardly any problem is feasible."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "T", "d"),
    [(*nT, d) for nT in GRID for d in (2, 3, 4, 5, 10, 15, 20) if d >= LEAST.get(nT, 2)],
)
def test_e15_frobenius_rank_is_that_of_the_queries_over_the_grid(n, T, d):
    assert_svms_have_full_rank(n, T, d, 200)
