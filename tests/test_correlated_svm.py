"""SVMs of correlated tokens, whose constraints are nearly parallel, as in real embeddings."""

from __future__ import annotations

import numpy as np
import plain_svm
import pytest
from correlated_tokens import correlated

import attsvm
from attsvm.svm.solve import NORMS
from attsvm.svm.svm_problem import attention_problem


@pytest.mark.parametrize("noise", [0.03, 0.1, 0.3, 1.0])
def test_agrees_with_a_conic_solver(noise):
    data, selected = correlated(16, 6, 12, noise, directions=4)
    rows = plain_svm.attention_rows(data.tokens, data.queries, selected)
    expected = plain_svm.smallest(rows, np.ones(len(rows)))
    for solver in ("native", "active-set"):
        solution = attsvm.att_svm(data, selected, solver=solver)
        assert max(solution.gap, solution.kkt) < 1e-9
        difference = solution.W.ravel() - expected
        assert np.linalg.norm(difference) < 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_fewer_than_two_steps_for_each_active_constraint(noise):
    """6,200 constraints, of which about 800 are active in the end."""
    data, selected = correlated(200, 32, 64, noise)
    problem = attention_problem(data, selected.reshape(1, -1))
    result, _ = NORMS["fro"].solvers["native"](problem, None)
    assert result["status"][0] == 0
    assert result["gap"][0] <= 1e-11
    active = np.count_nonzero(result["dual"])
    assert active <= result["iterations"][0] < 2 * active


@pytest.mark.parametrize("queries", [1.0, -2.0])
def test_queries_of_one_coordinate_are_those_of_a_vector(queries):
    """Their constraints stand as those of one sample, whatever the sign of the query."""
    rng = np.random.default_rng(5)
    for _ in range(10):
        rows = rng.standard_normal((1, 9, 3, 14))
        rows[..., 0] = np.abs(rows[..., 0]) + 0.2
        tokens = np.concatenate([rows, np.zeros((1, 9, 1, 14))], axis=2) / -queries
        problem = attsvm.svm.svm_problem.SvmProblem(
            tokens=tokens,
            queries=np.full((1, 9, 1), queries),
            selected=np.full((1, 9), 3),
            lengths=np.full((1, 9), 4),
            rhs=np.ones((1, 9, 4)),
            equality=np.zeros((1, 9, 4), dtype=bool),
        )
        expected = plain_svm.smallest(rows.reshape(27, 14), np.ones(27))
        for solver in ("native", "active-set"):
            result, _ = NORMS["fro"].solvers[solver](problem, None)
            assert result["status"][0] == 0
            W = result["left"][0].T @ result["right"][0]
            assert W[:, 0] == pytest.approx(expected, abs=1e-7)


@pytest.mark.slow
def test_thousands_of_active_constraints_are_found_together():
    """31,000 constraints, of which nearly as many are active as W has coordinates."""
    data, selected = correlated(1000, 32, 64, 0.3)
    problem = attention_problem(data, selected.reshape(1, -1))
    result, _ = NORMS["fro"].solvers["native"](problem, None)
    assert result["status"][0] == 0
    assert max(result["gap"][0], result["kkt"][0]) <= 1e-11
    assert np.count_nonzero(result["dual"]) > 3000
    assert result["iterations"][0] < 300
