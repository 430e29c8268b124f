"""Laws of the SVMs: turning, scaling and reordering the data."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attsvm import AttentionData, att_svm, label_svm, prompt_svm

shapes = st.tuples(st.integers(1, 5), st.integers(2, 5), st.integers(3, 7))
seeds = st.integers(0, 2**32 - 1)


def draw(shape, seed):
    rng = np.random.default_rng(seed)
    n, T, d = shape
    data = AttentionData(
        rng.standard_normal(shape), rng.choice([-1.0, 1.0], n), queries=rng.standard_normal((n, d))
    )
    return rng, data, rng.integers(0, T, n)


def rotation(rng, d):
    return np.linalg.qr(rng.standard_normal((d, d)))[0]


def assert_same(expected, variable, status, norm):
    """Equal as far as the rounding of the data, e = 1e-14 in every margin, leaves them equal.

    A margin short by e |A| |W| costs as much of the norm; two points of nearly the smallest norm
    in a convex set, with a relative difference e, are sqrt(2 e) apart.
    """
    assert status == expected.status
    if status == "optimal":
        e = 1e-14 * (1 + 30 * expected.norm)
        assert norm == pytest.approx(expected.norm, rel=e)
        difference = np.linalg.norm(variable - variable_of(expected))
        assert difference <= np.sqrt(2 * e) * expected.norm


def variable_of(solution):
    return next((x for x in (solution.W, solution.p, solution.v) if x is not None), None)


@given(shapes, seeds)
def test_turning_tokens_and_queries_turns_w(shape, seed):
    rng, data, selected = draw(shape, seed)
    R, S = rotation(rng, data.d), rotation(rng, data.d)
    turned = AttentionData(data.tokens @ R.T, data.labels, queries=data.queries @ S.T)
    expected, solution = att_svm(data, selected), att_svm(turned, selected)
    back = R.T @ solution.W @ S if solution.feasible else None
    assert_same(expected, back, solution.status, solution.norm)


@given(shapes, seeds)
def test_turning_tokens_turns_the_prompt_and_the_head(shape, seed):
    rng, data, selected = draw(shape, seed)
    R = rotation(rng, data.d)
    turned = AttentionData(data.tokens @ R.T, data.labels)
    for solve in (prompt_svm, label_svm):
        expected, solution = solve(data, selected), solve(turned, selected)
        back = R.T @ variable_of(solution) if solution.feasible else None
        assert_same(expected, back, solution.status, solution.norm)


@given(shapes, seeds, st.floats(-6, 6))
def test_scaling_tokens_divides_the_solution(shape, seed, exponent):
    _, data, selected = draw(shape, seed)
    c = 10.0**exponent
    scaled = AttentionData(c * data.tokens, data.labels, queries=data.queries)
    for solve in (att_svm, prompt_svm, label_svm):
        expected, solution = solve(data, selected), solve(scaled, selected)
        back = c * variable_of(solution) if solution.feasible else None
        assert_same(expected, back, solution.status, c * solution.norm)


@given(shapes, seeds)
def test_the_order_of_inputs_and_tokens_does_not_matter(shape, seed):
    rng, data, selected = draw(shape, seed)
    inputs, tokens = rng.permutation(data.n), rng.permutation(data.T)
    mixed = AttentionData(
        data.tokens[inputs][:, tokens], data.labels[inputs], queries=data.queries[inputs]
    )
    moved = np.argsort(tokens)[selected[inputs]]
    for solve in (att_svm, prompt_svm, label_svm):
        expected, solution = solve(data, selected), solve(mixed, moved)
        assert_same(expected, variable_of(solution), solution.status, solution.norm)
        if expected.feasible and solve is not label_svm:
            assert np.array_equal(solution.support, expected.support[inputs][:, tokens])


@given(shapes, seeds)
def test_an_input_twice_is_as_good_as_once(shape, seed):
    _, data, selected = draw(shape, seed)
    twice = np.repeat(np.arange(data.n), 2)
    doubled = AttentionData(data.tokens[twice], data.labels[twice], queries=data.queries[twice])
    for solve in (att_svm, prompt_svm, label_svm):
        expected, solution = solve(data, selected), solve(doubled, selected[twice])
        assert_same(expected, variable_of(solution), solution.status, solution.norm)


@given(shapes, seeds)
def test_relaxing_an_input_never_makes_the_prompt_longer(shape, seed):
    _, data, selected = draw(shape, seed)
    required = np.ones(data.n, dtype=bool)
    norms = [prompt_svm(data, selected).norm]
    for i in range(data.n):
        required[i] = False
        norms.append(prompt_svm(data, selected, required=required).norm)
    assert all(shorter <= longer * (1 + 1e-9) for longer, shorter in pairwise(norms))
    assert norms[-1] == 0.0
