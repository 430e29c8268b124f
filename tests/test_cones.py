"""The cone around the direction of an SVM, and the cone of what separates the selected tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attsvm import AttentionData, att_svm, cosine, in_cone, in_separation_cone, prompt_svm, train
from attsvm.datasets import unit_sphere
from attsvm.theory import margins

SEEDS = st.integers(0, 2**32 - 1)


@given(seed=SEEDS, mu=st.floats(0, 2), radius=st.floats(0, 10))
def test_the_cone_is_what_its_definition_says(seed, mu, radius):
    rng = np.random.default_rng(seed)
    data = unit_sphere(2, 3, 4, batch=3, rng=rng)
    solution = att_svm(data, np.zeros((3, 2), dtype=int))
    W = 2 * rng.standard_normal((3, 4, 4))
    inside = in_cone(W, solution, mu, radius)
    for b in range(3):
        if not solution.feasible[b]:
            assert not inside[b]
            continue
        norm = np.sqrt(np.sum(W[b] ** 2))
        similar = np.sum(W[b] * solution.W[b]) / (norm * np.linalg.norm(solution.W[b]))
        assert inside[b] == (norm >= radius and similar >= 1 - mu)


def test_the_direction_itself_lies_in_a_cone_as_narrow_as_rounding():
    data = unit_sphere(2, 3, 400, rng=0)
    solution = att_svm(data, [0, 1])
    assert in_cone(solution, solution, mu=1e-28, radius=0.99 * solution.norm) is True
    assert in_cone(solution, solution, mu=1e-28, radius=1.01 * solution.norm) is False
    assert in_cone(2 * solution.W, solution, mu=1e-28, radius=1.99 * solution.norm) is True


def test_a_run_by_its_factors_is_where_its_matrix_is():
    for d in (5, 300):
        data = unit_sphere(2, 3, d, rng=1)
        run = train(data, steps=300)
        solution = att_svm(data, run.selected)
        gap = 1 - cosine(run.W, solution.W)
        for mu in (0.99 * gap, 1.01 * gap):
            assert in_cone(run, solution, mu, 1.0) is in_cone(run.W, solution, mu, 1.0)
        assert in_cone(run, solution, 1.01 * gap, 1.0) is True
        assert in_cone(run, solution, 0.99 * gap, 1.0) is False


def test_zero_and_the_infeasible_are_in_no_cone():
    line = AttentionData([[[-1.0], [0.0], [1.0]]], [1])
    assert in_cone([0.0], prompt_svm(line, [0]), mu=2.0, radius=0.0) is False
    assert in_cone([1.0], prompt_svm(line, [1]), mu=2.0, radius=0.0) is False
    both = AttentionData([line.tokens] * 2, [line.labels] * 2)
    solution = prompt_svm(both, [[2], [1]])
    assert in_cone([[1.0], [1.0]], solution, mu=0.5, radius=1.0).tolist() == [True, False]


@given(seed=SEEDS, scale=st.floats(1e-300, 1e300))
def test_separation_is_by_the_smallest_margin_of_the_unit_matrix(seed, scale):
    rng = np.random.default_rng(seed)
    data = unit_sphere(2, 3, 4, batch=3, rng=rng)
    selected = rng.integers(0, 3, size=(3, 2))
    W = scale * rng.standard_normal((3, 4, 4))
    unit = W / scale / np.linalg.norm(W / scale, axis=(1, 2), keepdims=True)
    smallest = margins(unit, data, selected).min(axis=(1, 2))
    for epsilon in (0.0, 0.1, abs(smallest[0]) * 0.999, abs(smallest[0]) * 1.001):
        inside = in_separation_cone(W, data, selected, epsilon)
        np.testing.assert_array_equal(inside, smallest >= epsilon)


def test_no_cone_of_separation_is_wider_than_the_margin_of_the_svm():
    """The unit direction of the SVM has the margin 1 / |W^mm|, and no other has more."""
    data = unit_sphere(2, 3, 4, rng=0)
    solution = att_svm(data, [0, 1])
    assert in_separation_cone(solution, data, [0, 1], epsilon=(1 - 1e-9) / solution.norm) is True
    assert in_separation_cone(solution, data, [0, 1], epsilon=(1 + 1e-9) / solution.norm) is False
    assert in_separation_cone(-solution.W, data, [0, 1], epsilon=0.0) is False


def test_the_apex_separates_weakly():
    data = unit_sphere(2, 3, 4, rng=0)
    assert in_separation_cone(np.zeros((4, 4)), data, [0, 1], epsilon=1.0) is True


def test_what_is_no_cone_is_refused():
    data = unit_sphere(2, 3, 4, rng=0)
    solution = att_svm(data, [0, 1])
    W = np.eye(4)
    with pytest.raises(ValueError, match=r"^mu: expected a number in \[0, 2\], got -0\.1"):
        in_cone(W, solution, -0.1, 1.0)
    with pytest.raises(ValueError, match=r"^radius: expected a number >= 0, got -1"):
        in_cone(W, solution, 0.1, -1)
    with pytest.raises(ValueError, match=r"^W: expected W, got p"):
        in_cone(np.ones(4), solution, 0.1, 1.0)
    with pytest.raises(ValueError, match=r"^W: expected shape \(d, d\) = \(4, 4\), got \(5, 5\)"):
        in_cone(np.eye(5), solution, 0.1, 1.0)
    with pytest.raises(ValueError, match=r"^epsilon: expected a number >= 0"):
        in_separation_cone(W, data, [0, 1], -1e-9)
    with pytest.raises(ValueError, match=r"^selected: expected 0..2, got 3"):
        in_separation_cone(W, data, [0, 3], 0.1)
