"""What proves an answer: the optimality conditions, the gap, and Farkas multipliers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import plain_svm
import pytest
from exact_margins import Exact, exact_rows
from hypothesis import given
from hypothesis import strategies as st

from attsvm import AttentionData, SolverError, att_svm, label_svm, prompt_svm
from attsvm.svm import dual_osqp
from attsvm.svm.solvers import certify
from attsvm.svm.svm_problem import attention_problem, row_problem

KINDS = ("gaussian", "lattice", "repeated inputs")


def draw(rng, kind, n, T, d):
    """Tokens and queries; the last two kinds are full of ties and linear dependence."""
    if kind == "lattice":
        return (
            rng.integers(-1, 2, (n, T, d)).astype(float),
            rng.integers(-1, 2, (n, d)).astype(float),
        )
    tokens, queries = rng.standard_normal((n, T, d)), rng.standard_normal((n, d))
    if kind == "repeated inputs":
        again = rng.integers(0, n, n)
        tokens, queries = tokens[again], queries[again]
    return tokens, queries


@st.composite
def solutions(draw_):
    """A solution of any SVM on a small problem, with its rows and right-hand sides."""
    n, T, d = (draw_(st.integers(low, high)) for low, high in ((1, 6), (2, 6), (1, 5)))
    rng = np.random.default_rng(draw_(st.integers(0, 2**32 - 1)))
    tokens, queries = draw(rng, draw_(st.sampled_from(KINDS)), n, T, d)
    labels, selected = rng.choice([-1.0, 1.0], n), rng.integers(0, T, n)
    data = AttentionData(tokens, labels, queries=queries)
    solver = draw_(st.sampled_from(["native", "osqp", "active-set"]))
    kind = draw_(st.sampled_from(["att", "prompt", "relaxed", "label"]))
    if kind == "label":
        rows = labels[:, np.newaxis] * tokens[np.arange(n), selected]
        return label_svm(data, selected, solver=solver), rows, np.ones(n), np.ones(n, dtype=bool)
    others = np.ones((n, T), dtype=bool)
    others[np.arange(n), selected] = False
    if kind == "att":
        rows = plain_svm.attention_rows(tokens, queries, selected)
        return att_svm(data, selected, solver=solver), rows, np.ones(len(rows)), others
    required = np.ones(n, dtype=bool) if kind == "prompt" else rng.random(n) < 0.5
    rows = plain_svm.attention_rows(tokens, None, selected)
    solution = prompt_svm(data, selected, required=required, solver=solver)
    return solution, rows, plain_svm.required_margins(tokens, required), others


@given(solutions())
def test_every_answer_carries_its_proof(solved):
    """Optimal: primal and dual feasible, stationary, complementary. Infeasible: Farkas."""
    solution, rows, rhs, others = solved
    if solution.status == "infeasible":
        multipliers = solution.certificate[others]
        assert (multipliers >= 0).all()
        assert rhs @ multipliers == pytest.approx(1.0)
        terms = multipliers * np.linalg.norm(rows, axis=1)
        assert np.linalg.norm(multipliers @ rows) <= 1e-14 * terms.sum()
        assert solution.gap == solution.kkt <= 2.3e-16
        return
    w = next(x for x in (solution.W, solution.p, solution.v) if x is not None).ravel()
    dual, margins = solution.dual[others], rows @ w
    assert margins == pytest.approx(solution.margins[others], rel=1e-9, abs=1e-9)
    assert (margins >= rhs - 1e-9).all()
    assert (dual >= 0).all()
    assert np.linalg.norm(dual @ rows - w) <= 1e-9 * solution.norm
    assert np.abs(dual * (margins - rhs)).max(initial=0.0) <= 1e-9 * max(rhs @ dual, 1e-300)
    assert rhs @ dual == pytest.approx(solution.norm**2, rel=1e-8)
    assert np.array_equal(solution.support[others], solution.margins[others] - rhs <= 1e-6)
    assert max(solution.gap, solution.kkt) <= 1e-9


def opposite_differences(height, turn=0.6):
    """D = (1, h) and (-1, h), turned: p = (0, 1 / h), turned, is the only active direction."""
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    differences = np.array([[1.0, height], [-1.0, height]]) @ rotation.T
    tokens = np.concatenate([np.zeros((1, 2)), -differences])
    return AttentionData(tokens[np.newaxis], [1]), rotation @ [0.0, 1.0]


@pytest.mark.parametrize("solver", ["native", "osqp", "active-set"])
@pytest.mark.parametrize("height", [1e-2, 1e-4, 1e-5, 1e-6, 1e-7])
def test_ill_conditioned_problems_come_out_right(height, solver):
    data, direction = opposite_differences(height)
    solution = prompt_svm(data, [0], solver=solver)
    assert solution.status == "optimal"
    assert solution.norm == pytest.approx(1 / height, rel=3e-16 / height)
    assert solution.p / solution.norm == pytest.approx(direction, abs=3e-16 / height)
    assert max(solution.gap, solution.kkt) < max(1e-11, 1e-15 / height)


def opposite_rows(first, second):
    """Rows first'p >= 1 and second'p >= 1 as given, without rounding."""
    return AttentionData([[first, [0.0, 0.0]], [second, [0.0, 0.0]]], [1, 1])


@pytest.mark.parametrize("solver", ["native", "osqp", "active-set"])
@pytest.mark.parametrize("height", [1e-6, 1e-9, 1e-10, 1e-12])
def test_a_problem_that_is_feasible_by_little_is_feasible(height, solver):
    solution = prompt_svm(opposite_rows([1.0, height], [-1.0, height]), [0, 0], solver=solver)
    assert solution.status == "optimal"
    assert solution.norm * height == pytest.approx(1, rel=1e-9)
    margins = solution.p @ np.array([[1.0, height], [-1.0, height]]).T
    assert margins.min() >= 1 - 1e-9


@pytest.mark.parametrize("solver", ["native", "osqp", "active-set"])
@pytest.mark.parametrize("height", [0.0, 1e-6, 1e-9, 1e-12, 3e-5])
def test_exactly_opposite_rows_are_infeasible_with_proof(height, solver):
    solution = prompt_svm(opposite_rows([1.0, height], [-1.0, -height]), [0, 0], solver=solver)
    assert solution.status == "infeasible"
    assert solution.gap <= 1e-25
    assert solution.certificate[:, 1] == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("height", [1e-11, 1e-13])
def test_what_rounding_of_p_decides_is_solved_in_parts(height):
    """Turned, with a solution of norm 1 / height whose margins no float64 p can have."""
    data, direction = opposite_differences(height)
    solution = prompt_svm(data, [0])
    assert solution.solver == "extended"
    assert max(solution.gap, solution.kkt) <= 1e-9
    assert solution.p * height == pytest.approx(direction, abs=3e-16 / height)
    rows = exact_rows(data.tokens, None, [0])
    parts = [(rows @ Exact(part)).fractions() for part in solution.left]
    assert [float(sum(margin)) for margin in zip(*parts, strict=True)] == pytest.approx([1, 1])
    assert max(abs(high - 1) for high in parts[0]) > 1e-9


@pytest.mark.parametrize("height", [-1e-13, -1e-9, -1.0])
def test_infeasible_by_little_is_infeasible(height):
    rows = [[1.0, height], [-1.0, height], [0.0, 1.0]]
    tokens = [[row, [0.0, 0.0]] for row in rows]
    solution = prompt_svm(AttentionData(tokens, [1, 1, 1]), [0, 0, 0])
    assert solution.status == "infeasible"
    combined = solution.certificate[:, 1] @ np.array(rows)
    assert np.linalg.norm(combined) <= 1e-16


def test_sums_of_given_differences_are_without_rounding():
    """x_0 > x_1 > x_2 > x_0 contradict each other, though rounded differences do not add to 0."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        x = rng.standard_normal((3, 2)) * 10.0 ** rng.integers(-3, 4, (3, 1))
        data = AttentionData([[x[0], x[1]], [x[1], x[2]], [x[2], x[0]]], [1, 1, 1])
        solution = prompt_svm(data, [0, 0, 0])
        assert solution.status == "infeasible"
        assert solution.certificate[:, 1] == pytest.approx([1 / 3] * 3)


def exact_margins(tokens, solution):
    """Margins of the first token over the second, as fractions, of p or the sum of its parts."""
    parts = solution.left if solution.solver == "extended" else [solution.p]
    p = [sum(map(Fraction, entry)) for entry in np.transpose(parts)]
    return [
        sum((Fraction(a) - Fraction(b)) * x for a, b, x in zip(first, second, p, strict=True))
        for first, second in tokens.tolist()
    ]


def test_margins_of_optimal_answers_are_reached_whatever_the_sizes_of_rows():
    """Near duplicates, and rows of sizes from 1e-6 to 1e6."""
    rng = np.random.default_rng(0)
    optimal = 0
    for _ in range(300):
        n, d = rng.integers(2, 8), rng.integers(2, 6)
        tokens = rng.standard_normal((n, 2, d)) * 10.0 ** rng.integers(-6, 7, (n, 1, 1))
        tokens[-1] = tokens[0] * (1 + 10.0 ** -rng.integers(5, 15) * rng.standard_normal((2, d)))
        solution = prompt_svm(AttentionData(tokens, np.ones(n)), np.zeros(n, dtype=int))
        if solution.status == "optimal":
            optimal += 1
            assert min(exact_margins(tokens, solution)) >= 1 - 1e-9
    assert optimal > 150


def test_ill_conditioned_attention_problem_comes_out_right():
    """The same with queries: W = p z' / |z|² for a single input."""
    data, direction = opposite_differences(1e-6)
    data = AttentionData(data.tokens, data.labels, queries=[[0.6, 0.8]])
    solution = att_svm(data, [0])
    assert solution.norm == pytest.approx(1e6, rel=1e-9)
    assert solution.W / solution.norm == pytest.approx(np.outer(direction, [0.6, 0.8]), abs=1e-9)
    assert max(solution.gap, solution.kkt) < 1e-9


def test_no_feasible_direction_has_a_larger_margin(local_convergence):
    """1 / norm is the largest margin: random directions near W and far from it have less."""
    data = local_convergence.problem(0)
    selected = np.zeros(data.n, dtype=int)
    solution = att_svm(data, selected)
    rows = plain_svm.attention_rows(data.tokens, data.queries, selected)
    rng = np.random.default_rng(0)
    unit = solution.W.ravel() / solution.norm
    assert (rows @ unit).min() == pytest.approx(1 / solution.norm, rel=1e-12)
    for spread in np.geomspace(1e-6, 1.0, 200):
        other = unit + spread * rng.standard_normal(unit.size)
        assert (rows @ other).min() / np.linalg.norm(other) < 1 / solution.norm


def test_the_certificate_sees_every_kind_of_error(local_convergence):
    data = local_convergence.problem(0)
    problem = attention_problem(data, np.zeros(data.n, dtype=int))
    good = certify(problem, att_svm(data, np.zeros(data.n, dtype=int)).dual[np.newaxis])
    left, right, dual = good["left"], good["right"], good["dual"]
    again = certify(problem, dual, left, right)
    assert again["status"] == 0
    assert max(again["gap"], again["kkt"]) < 1e-13
    active, inactive = np.nonzero(dual), np.nonzero((dual == 0) & problem.constrained)
    first, second = (tuple(axis[k] for axis in active) for k in (0, 1))
    short, wrong, negative = dual.copy(), dual.copy(), dual.copy()
    short[first] = 0.0
    wrong[first] *= 1 + 1e-6
    wrong[second] *= 1 - 1e-6
    negative[tuple(axis[0] for axis in inactive)] = -1e-6
    bent = left + 1e-6 * np.random.default_rng(0).standard_normal(left.shape)
    for at in (
        (dual, 0.999999 * left, right),
        (dual, 1.000001 * left, right),
        (dual, bent, right),
        (short, left, right),
        (wrong, left, right),
        (negative, left, right),
        (1.000001 * dual, left, right),
        (np.zeros_like(dual), left, right),
        (dual, np.zeros_like(left), right),
        (dual, -left, right),
        (0.5 * dual, 0.5 * left, right),
    ):
        bad = certify(problem, *at)
        assert bad["status"] == 2
        assert np.isnan(bad["norm"])


def test_multipliers_prove_infeasibility_only_where_they_do():
    rows, rhs = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]), np.array([1.0, 0.5, 0.0])
    problem = row_problem(rows[np.newaxis], rhs[np.newaxis], np.zeros((1, 3), dtype=bool))
    proof = certify(problem, np.array([2.0, 2.0, 0.0]).reshape(1, 3, 1))
    assert proof["status"] == 1
    assert proof["gap"] <= 1e-25
    assert proof["dual"].ravel() == pytest.approx([2 / 3, 2 / 3, 0.0])
    feasible = row_problem(np.abs(rows)[np.newaxis], rhs[np.newaxis], np.zeros((1, 3), dtype=bool))
    for multipliers in ([2.0, 2.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]):
        assert certify(feasible, np.array(multipliers).reshape(1, 3, 1))["status"] != 1


@pytest.mark.parametrize("guess", ["zeros", "ones", "random", "huge"])
def test_a_wrong_guess_changes_nothing_but_the_time(local_convergence, monkeypatch, guess):
    """Whatever OSQP says, the answer is certified and the same."""
    data = local_convergence.problem(4)
    selected = np.zeros(data.n, dtype=int)
    expected = att_svm(data, selected)
    rng = np.random.default_rng(0)
    wrong = {
        "zeros": np.zeros,
        "ones": np.ones,
        "random": rng.standard_normal,
        "huge": lambda m: 1e12 * rng.random(m),
    }[guess]
    monkeypatch.setattr(dual_osqp, "_solve", lambda gram, rhs, equality: wrong(len(rhs)))
    solution = att_svm(data, selected, solver="osqp")
    assert max(solution.gap, solution.kkt) < 1e-11
    assert np.linalg.norm(solution.W - expected.W) < 1e-11 * expected.norm


@pytest.mark.parametrize("scale", [1e-60, 1e-3, 1e3, 1e60])
def test_the_size_of_tokens_and_queries_does_not_matter(local_convergence, scale):
    data = local_convergence.problem(0)
    scaled = AttentionData(scale * data.tokens, data.labels, queries=scale * data.queries)
    selected = np.zeros(data.n, dtype=int)
    solution = att_svm(scaled, selected)
    assert max(solution.gap, solution.kkt) < 1e-13
    assert solution.norm * scale**2 == pytest.approx(att_svm(data, selected).norm, rel=1e-13)
    assert np.sqrt(solution.dual.sum()) == pytest.approx(solution.norm, rel=1e-13)  # b'λ = |W|²


@pytest.mark.parametrize("scale", [1e-60, 1e60])
def test_the_size_of_tokens_and_queries_does_not_matter_to_a_certificate(scale):
    data = AttentionData(scale * np.array([[[1.0], [2.0], [3.0]]]), [1], queries=[[scale]])
    assert att_svm(data, [1]).certificate == pytest.approx(np.array([[0.5, 0.0, 0.5]]))


@pytest.mark.parametrize("scale", [1e-200, 1e-75, 1e75, 1e200, 1e307])
def test_sizes_beyond_float64_are_an_error(scale):
    tokens = scale * np.array([[[1.0, 0.0], [0.0, 1.0]]])
    data = AttentionData(tokens, [1], queries=scale * np.ones((1, 2)))
    with pytest.raises(SolverError, match="beyond what float64 holds"):
        att_svm(data, [0])
    with pytest.raises(SolverError, match="beyond what float64 holds"):
        prompt_svm(AttentionData([[[1e308, 0.0], [-1e308, 0.0]]], [1]), [0])
