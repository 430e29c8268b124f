"""Equalities and dependent rows, by every solver; and the oracle in NumPy."""

from __future__ import annotations

import numpy as np
import plain_svm
import pytest
from active_set import smallest_exactly, solve_by_dual_active_set

from attsvm.svm.solve import solve
from attsvm.svm.svm_problem import row_problem

SOLVERS = ["native", "osqp", "active-set"]


def solved(rows, rhs, equality, solver):
    """The SVM of a vector with these constraints."""
    rows, rhs = np.asarray(rows, dtype=float), np.asarray(rhs, dtype=float)
    equality = np.asarray(equality, dtype=bool)
    problem = row_problem(rows[np.newaxis], rhs[np.newaxis], equality[np.newaxis])
    return solve("v", problem, batch=None, solver=solver)


@pytest.mark.parametrize("solver", SOLVERS)
def test_equalities_of_any_sign_agree_with_a_conic_solver(solver):
    rng = np.random.default_rng(0)
    for _ in range(40):
        m, d = rng.integers(1, 12), rng.integers(8, 14)
        rows, equality = rng.standard_normal((m, d)), rng.random(m) < 0.4
        rhs = np.where(equality, rng.standard_normal(m), 1.0)
        answer = solved(rows, rhs, equality, solver)
        assert answer.status == "optimal"
        assert max(answer.gap, answer.kkt) < 1e-9
        w = answer.v
        exact = smallest_exactly(rows, rhs, equality)
        assert w == pytest.approx(exact.w, abs=1e-10)
        expected = plain_svm.smallest(rows, rhs, equality)
        assert np.linalg.norm(w - expected) < 1e-6 * np.linalg.norm(expected)
        assert w == pytest.approx(answer.dual @ rows, abs=1e-10)
        assert (answer.dual[~equality] >= 0).all()
        assert answer.margins[equality] == pytest.approx(rhs[equality], abs=1e-11)


@pytest.mark.parametrize("solver", SOLVERS)
def test_equalities_at_zero_keep_w_orthogonal(solver):
    """Shape of the several-token SVM: x_1 and x_2 alike, both above x_3."""
    tokens = np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
    rows = [tokens[0] - tokens[1], tokens[0] - tokens[2], tokens[1] - tokens[2]]
    answer = solved(rows, [0, 1, 1], [True, False, False], solver)
    assert answer.status == "optimal"
    assert answer.v == pytest.approx(np.array([1.5, 1.5, -1.0]) / 5.5)
    assert answer.margins == pytest.approx([0.0, 1.0, 1.0], abs=1e-15)


@pytest.mark.parametrize("solver", SOLVERS)
def test_repeated_and_dependent_equalities_are_harmless_where_they_agree(solver):
    rows = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    equality = [True, True, True, True]
    answer = solved(rows, [1, 2, 3, 1], equality, solver)
    assert answer.status == "optimal"
    assert answer.v == pytest.approx([1.0, 2.0, 0.0])
    contradiction = solved(rows, [1, 2, 4, 1], equality, solver)
    assert contradiction.status == "infeasible"
    assert contradiction.certificate @ rows == pytest.approx(np.zeros(3), abs=1e-15)
    assert contradiction.certificate @ [1, 2, 4, 1] == pytest.approx(1.0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_inequality_against_equalities_has_a_certificate_of_either_sign(solver):
    """w_1 = -1 and w_1 >= 1: λ = (-1/2, 1/2)."""
    answer = solved([[1.0, 0.0], [1.0, 0.0]], [-1, 1], [True, False], solver)
    assert answer.status == "infeasible"
    assert answer.certificate == pytest.approx([-0.5, 0.5])


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_zero_equality_row_is_dropped_or_contradictory(solver):
    rows = [[0.0, 0.0], [1.0, 0.0]]
    answer = solved(rows, [0, 1], [True, False], solver)
    assert answer.status == "optimal"
    assert answer.v == pytest.approx([1.0, 0.0])
    assert answer.margins.tolist() == [0.0, 1.0]
    contradiction = solved(rows, [-2, 1], [True, False], solver)
    assert contradiction.status == "infeasible"
    assert contradiction.certificate.tolist() == [-0.5, 0.0]


def test_many_repeated_rows_end_with_independent_active_ones():
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((6, 9))
    rows /= np.linalg.norm(rows, axis=1)[:, np.newaxis]
    again = rng.integers(0, 6, 200)
    once = solve_by_dual_active_set(rows, np.ones(6), np.zeros(6, dtype=bool))
    many = solve_by_dual_active_set(rows[again], np.ones(200), np.zeros(200, dtype=bool))
    assert many.w == pytest.approx(once.w, rel=1e-12)
    assert (many.dual > 0).sum() <= 6
