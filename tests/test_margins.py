"""Margins of any W or p, given as an array, a run or a solution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attsvm import AttentionData, att_svm, label_svm, prompt_svm, train
from attsvm.datasets import unit_sphere
from attsvm.theory import margins

SEEDS = st.integers(0, 2**32 - 1)


@given(seed=SEEDS)
def test_margins_are_what_their_definition_says(seed):
    rng = np.random.default_rng(seed)
    drawn = unit_sphere(3, 4, 5, batch=2, rng=rng)
    lengths = rng.integers(1, 4, size=(2, 3), endpoint=True)
    data = AttentionData(drawn.tokens, drawn.labels, queries=drawn.queries, lengths=lengths)
    selected = rng.integers(0, lengths)
    W, p = rng.standard_normal((2, 5, 5)), rng.standard_normal((2, 5))
    of_W, of_p = margins(W, data, selected), margins(p, data, selected)
    for b, i, t in np.ndindex(2, 3, 4):
        if t >= lengths[b, i] or t == selected[b, i]:
            assert of_W[b, i, t] == of_p[b, i, t] == np.inf
        else:
            difference = data.tokens[b, i, selected[b, i]] - data.tokens[b, i, t]
            expected = difference @ W[b] @ data.queries[b, i]
            assert of_W[b, i, t] == pytest.approx(expected, rel=1e-12, abs=1e-14)
            assert of_p[b, i, t] == pytest.approx(difference @ p[b], rel=1e-12, abs=1e-14)
    np.testing.assert_array_equal(of_W[1], margins(W[1], data.problem(1), selected[1]))
    np.testing.assert_array_equal(of_p[1], margins(p[1], data.problem(1), selected[1]))


def test_those_of_a_solution_are_its_own():
    data = unit_sphere(3, 4, 5, batch=2, rng=0)
    selected = np.zeros((2, 3), dtype=int)
    for solution in (att_svm(data, selected), prompt_svm(data, selected)):
        assert margins(solution, data, selected) == pytest.approx(solution.margins, rel=1e-9)


@pytest.mark.parametrize("parameter", ["W", "KQ", "p"])
@pytest.mark.parametrize("init", [None, "uniform"])
@pytest.mark.parametrize("d", [4, 200])
def test_those_of_a_run_are_the_differences_of_its_logarithms(parameter, init, d):
    """Also where W is known by its factors, d > nT, and where the start lies outside the spans."""
    data = unit_sphere(3, 4, d, rng=0)
    run = train(data, parameter=parameter, init=init, steps=20, rng=0)
    of_run = margins(run, data, run.selected)
    logs = run.log_attention
    expected = np.take_along_axis(logs, run.selected[:, np.newaxis], axis=1) - logs
    np.put_along_axis(expected, run.selected[:, np.newaxis], np.inf, axis=1)
    assert of_run == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(of_run, margins(run.direction, data, run.selected), rtol=1e-9)


def test_an_infeasible_solution_of_a_batch_has_none():
    data = AttentionData([[[[-1.0], [0.0], [1.0]]]] * 2, [[1], [1]])
    solution = prompt_svm(data, [[0], [1]])
    of_solution = margins(solution, data, [[0], [1]])
    assert of_solution[0].tolist() == [[np.inf, 1.0, 2.0]]
    assert np.isnan(of_solution[1, 0, [0, 2]]).all()


@pytest.mark.parametrize(
    ("W", "message"),
    [
        (np.ones((3, 4)), r"^W: expected shape \(d, d\) = \(4, 4\), got \(3, 4\)"),
        (np.ones(3), r"^W: expected shape \(d,\) = \(4,\), got \(3,\)"),
        (np.ones((2, 4, 4)), r"^W: expected shape \(d, d\) for W or \(d,\) for p, got"),
        (np.full(4, np.nan), r"^W: expected finite numbers"),
        (train(unit_sphere(2, 3, 5, rng=0), steps=1), r"^W: expected shape \(d, d\) = \(4, 4\)"),
        (
            train(unit_sphere(2, 3, 4, batch=2, rng=0), steps=1),
            r"^W: expected shape \(d, d\) = \(4, 4\), got \(2, 4, 4\)",
        ),
        (
            label_svm(AttentionData([[[1.0]]], [1]), [0]),
            r"^W: expected a solution W or p, got one of the label SVM",
        ),
        (
            prompt_svm(AttentionData([[[-1.0], [0.0], [1.0]]], [1]), [1]),
            r"^W: expected a feasible solution, got an infeasible one",
        ),
    ],
)
def test_what_is_no_matrix_of_the_data_is_refused(W, message):
    data = unit_sphere(2, 3, 4, rng=0)
    with pytest.raises(ValueError, match=message):
        margins(W, data, [0, 0])


def test_a_matrix_needs_queries_and_a_prompt_does_not():
    data = AttentionData(unit_sphere(2, 3, 4, rng=0).tokens, [1, 1])
    assert margins(np.ones(4), data, [0, 0]).shape == (2, 3)
    with pytest.raises(ValueError, match=r"^queries: needed for the logits X W z"):
        margins(np.eye(4), data, [0, 0])


def test_margins_beyond_float64_are_refused():
    data = AttentionData([[[1e200], [-1e200]]], [1], queries=[[1e200]])
    message = r"^data: expected tokens and queries whose products with W are finite, got a margin"
    with pytest.raises(ValueError, match=message + r" beyond float64 at \[0, 1\]$"):
        margins([[1.0]], data, [0])
    assert margins([[1e-200]], data, [0])[0, 1] == pytest.approx(2e200)
