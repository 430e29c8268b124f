"""The dual active set method, and the coordinates it works in."""

from __future__ import annotations

import numpy as np
import plain_svm
import pytest

from attsvm.svm import coordinates
from attsvm.svm.constraints import Constraints
from attsvm.svm.dual_active_set import solve_by_dual_active_set
from attsvm.svm.frobenius import Infeasible, Optimal, smallest_frobenius


def constraints_of(rows, rhs, equality):
    """Constraints on a vector."""
    m = len(rhs)
    return Constraints(
        np.asarray(rows, dtype=float),
        np.zeros(m, dtype=np.int64),
        np.ones((1, 1)),
        np.asarray(rhs, dtype=float),
        np.asarray(equality, dtype=bool),
        (np.arange(m),),
        (m,),
    )


@pytest.mark.parametrize("solver", ["osqp", "active-set"])
def test_equalities_of_any_sign_agree_with_a_conic_solver(solver):
    rng = np.random.default_rng(0)
    for _ in range(40):
        m, d = rng.integers(1, 12), rng.integers(8, 14)
        rows, equality = rng.standard_normal((m, d)), rng.random(m) < 0.4
        rhs = np.where(equality, rng.standard_normal(m), 1.0)
        answer = smallest_frobenius(constraints_of(rows, rhs, equality), solver)
        assert isinstance(answer, Optimal)
        assert max(answer.gap, answer.kkt) < 1e-9
        w = (answer.left.T @ answer.right)[:, 0]
        expected = plain_svm.smallest(rows, rhs, equality)
        assert np.linalg.norm(w - expected) < 1e-6 * np.linalg.norm(expected)
        assert w == pytest.approx(answer.dual @ rows, abs=1e-10)
        assert (answer.dual[~equality] >= 0).all()
        assert answer.values[equality] == pytest.approx(rhs[equality], abs=1e-11)


@pytest.mark.parametrize("solver", ["osqp", "active-set"])
def test_equalities_at_zero_keep_w_orthogonal(solver):
    """Shape of the several-token machine: x_1 and x_2 alike, both above x_3."""
    tokens = np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
    rows = [tokens[0] - tokens[1], tokens[0] - tokens[2], tokens[1] - tokens[2]]
    answer = smallest_frobenius(constraints_of(rows, [0, 1, 1], [True, False, False]), solver)
    assert isinstance(answer, Optimal)
    assert answer.left[0] == pytest.approx(np.array([1.5, 1.5, -1.0]) / 5.5)
    assert answer.values == pytest.approx([0.0, 1.0, 1.0], abs=1e-15)


@pytest.mark.parametrize("solver", ["osqp", "active-set"])
def test_repeated_and_dependent_equalities_are_harmless_where_they_agree(solver):
    rows = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    equality = [True, True, True, True]
    answer = smallest_frobenius(constraints_of(rows, [1, 2, 3, 1], equality), solver)
    assert isinstance(answer, Optimal)
    assert answer.left[0] == pytest.approx([1.0, 2.0, 0.0])
    contradiction = smallest_frobenius(constraints_of(rows, [1, 2, 4, 1], equality), solver)
    assert isinstance(contradiction, Infeasible)
    assert contradiction.certificate @ rows == pytest.approx(np.zeros(3), abs=1e-15)
    assert contradiction.certificate @ [1, 2, 4, 1] == pytest.approx(1.0)


@pytest.mark.parametrize("solver", ["osqp", "active-set"])
def test_an_inequality_against_equalities_has_a_certificate_of_either_sign(solver):
    """w_1 = -1 and w_1 >= 1: λ = (-1/2, 1/2)."""
    answer = smallest_frobenius(
        constraints_of([[1.0, 0.0], [1.0, 0.0]], [-1, 1], [True, False]), solver
    )
    assert isinstance(answer, Infeasible)
    assert answer.certificate == pytest.approx([-0.5, 0.5])


@pytest.mark.parametrize("solver", ["osqp", "active-set"])
def test_a_zero_equality_row_is_dropped_or_contradictory(solver):
    rows = [[0.0, 0.0], [1.0, 0.0]]
    answer = smallest_frobenius(constraints_of(rows, [0, 1], [True, False]), solver)
    assert isinstance(answer, Optimal)
    assert answer.left[0] == pytest.approx([1.0, 0.0])
    assert answer.values.tolist() == [0.0, 1.0]
    contradiction = smallest_frobenius(constraints_of(rows, [-2, 1], [True, False]), solver)
    assert isinstance(contradiction, Infeasible)
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


def attention_like(rng, m, d, s, e):
    differences, queries = rng.standard_normal((m, d)), rng.standard_normal((s, e))
    query = np.sort(rng.integers(0, s, m))
    return Constraints(
        differences,
        query,
        queries,
        np.ones(m),
        np.zeros(m, dtype=bool),
        (np.arange(m),),
        (m,),
    )


@pytest.mark.parametrize(("m", "d", "s", "e"), [(7, 4, 3, 5), (5, 30, 3, 20), (20, 3, 9, 2)])
def test_coordinates_keep_inner_products_and_give_w_back(m, d, s, e):
    constraints = attention_like(np.random.default_rng(m), m, d, s, e)
    plain = coordinates.row_coordinates(constraints)
    assert plain.rows.shape == (m, min(m, d) * min(s, e))
    assert plain.rows @ plain.rows.T == pytest.approx(constraints.gram(), abs=1e-12)
    w = np.random.default_rng(0).standard_normal(plain.rows.shape[1])
    left, right = plain.factors(w)
    assert left.shape[1] == d
    assert right.shape[1] == e
    assert constraints.values(left, right) == pytest.approx(plain.rows @ w, abs=1e-12)
    assert np.linalg.norm(left.T @ right) == pytest.approx(np.linalg.norm(w))


@pytest.fixture
def few_numbers(monkeypatch):
    """Room for 100 numbers only."""
    monkeypatch.setattr(coordinates, "_MOST_NUMBERS", 100)


@pytest.mark.usefixtures("few_numbers")
def test_coordinates_from_the_gram_matrix_are_as_few_as_the_constraints():
    constraints = attention_like(np.random.default_rng(8), 12, 10, 4, 8)
    from_gram = coordinates.row_coordinates(constraints)
    assert from_gram.rows.shape == (12, 12)
    assert from_gram.factors(np.ones(12)) is None
    assert from_gram.rows @ from_gram.rows.T == pytest.approx(constraints.gram(), abs=1e-12)


@pytest.mark.usefixtures("few_numbers")
@pytest.mark.parametrize("contradicts", [False, True])
def test_a_problem_of_too_many_coordinates_is_solved_on_its_gram_matrix(contradicts):
    constraints = attention_like(np.random.default_rng(9), 12, 10, 4, 8)
    if contradicts:
        constraints.differences[1] = -constraints.differences[0]
        constraints.query[:2] = 0
    answer = smallest_frobenius(constraints, "active-set")
    if contradicts:
        assert isinstance(answer, Infeasible)
        assert answer.certificate[:2] == pytest.approx([0.5, 0.5])
        assert answer.residual < 1e-14
    else:
        expected = smallest_frobenius(constraints, "osqp")
        assert answer.solver == "active-set"
        assert expected.solver == "osqp"
        assert max(answer.gap, answer.kkt) < 1e-12
        assert answer.values == pytest.approx(expected.values, rel=1e-10)
        assert answer.norm == pytest.approx(expected.norm, rel=1e-12)
