"""What proves an answer: the optimality conditions, the gap, and Farkas multipliers."""

from __future__ import annotations

import numpy as np
import plain_svm
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attsvm import AttentionData, SolverError, att_svm, label_svm, prompt_svm
from attsvm.svm import frobenius
from attsvm.svm.certificate import certify_optimality, farkas_residual
from attsvm.svm.constraints import Constraints, attention_constraints
from attsvm.svm.dual_active_set import ActiveSetAnswer

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
def machines(draw_):
    """A solution of any machine on a small problem, with its rows and right-hand sides."""
    n, T, d = (draw_(st.integers(low, high)) for low, high in ((1, 6), (2, 6), (1, 5)))
    rng = np.random.default_rng(draw_(st.integers(0, 2**32 - 1)))
    tokens, queries = draw(rng, draw_(st.sampled_from(KINDS)), n, T, d)
    labels, selected = rng.choice([-1.0, 1.0], n), rng.integers(0, T, n)
    data = AttentionData(tokens, labels, queries=queries)
    solver = draw_(st.sampled_from(["native", "osqp", "active-set"]))
    machine = draw_(st.sampled_from(["att", "prompt", "relaxed", "label"]))
    if machine == "label":
        rows = labels[:, np.newaxis] * tokens[np.arange(n), selected]
        return label_svm(data, selected, solver=solver), rows, np.ones(n), np.ones(n, dtype=bool)
    others = np.ones((n, T), dtype=bool)
    others[np.arange(n), selected] = False
    if machine == "att":
        rows = plain_svm.attention_rows(tokens, queries, selected)
        return att_svm(data, selected, solver=solver), rows, np.ones(len(rows)), others
    required = np.ones(n, dtype=bool) if machine == "prompt" else rng.random(n) < 0.5
    rows = plain_svm.attention_rows(tokens, None, selected)
    solution = prompt_svm(data, selected, required=required, solver=solver)
    return solution, rows, plain_svm.required_margins(tokens, required), others


@given(machines())
def test_every_answer_carries_its_proof(machine):
    """Optimal: primal and dual feasible, stationary, complementary. Infeasible: Farkas."""
    solution, rows, rhs, others = machine
    if solution.status == "infeasible":
        multipliers = solution.certificate[others]
        assert (multipliers >= 0).all()
        assert rhs @ multipliers == pytest.approx(1.0)
        terms = multipliers * np.linalg.norm(rows, axis=1)
        assert np.linalg.norm(multipliers @ rows) <= 1e-9 * terms.sum()
        assert solution.gap == solution.kkt <= 1e-9
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


@pytest.mark.parametrize("height", [1e-11, 1e-13, 0.0, -1e-13])
def test_problems_beyond_reach_are_infeasible_with_certificate(height):
    """Only a direction of norm above 1e9 would solve them, for differences of norm 1."""
    data, _ = opposite_differences(height)
    solution = prompt_svm(data, [0])
    assert solution.status == "infeasible"
    assert solution.gap <= 1e-9
    assert solution.certificate[0, 1:] == pytest.approx([0.5, 0.5])


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


@pytest.fixture
def solved(local_convergence):
    """Scaled constraints with their certified solution."""
    data = local_convergence.problem(0)
    constraints = attention_constraints(data, np.zeros(data.n, dtype=int))
    scaled = constraints.normalised()
    answer = frobenius.smallest_frobenius(constraints, "osqp")
    dual = answer.dual * scaled.row_norm / scaled.scale
    return scaled, answer.left / scaled.scale, answer.right, dual


def test_the_certificate_sees_every_kind_of_error(solved):
    scaled, left, right, dual = solved
    good = certify_optimality(scaled, left, right, dual)
    assert good.holds()
    assert max(good.gap, good.kkt) < 1e-13
    active = np.flatnonzero(dual)
    short, wrong, negative = dual.copy(), dual.copy(), dual.copy()
    short[active[0]] = 0.0
    wrong[active[:2]] *= [1 + 1e-6, 1 - 1e-6]
    negative[np.flatnonzero(dual == 0)[0]] = -1e-6
    bent = left + 1e-6 * np.random.default_rng(0).standard_normal(left.shape)
    for at in (
        (0.999999 * left, right, dual),
        (1.000001 * left, right, dual),
        (bent, right, dual),
        (left, right, short),
        (left, right, wrong),
        (left, right, negative),
        (left, right, 1.000001 * dual),
        (left, right, np.zeros_like(dual)),
        (np.zeros_like(left), right, dual),
        (-left, right, dual),
        (0.5 * left, right, 0.5 * dual),
    ):
        bad = certify_optimality(scaled, *at)
        assert not bad.holds()
        assert max(bad.gap, bad.kkt) > 1e-8


def test_the_gap_is_that_of_the_nearest_feasible_point(solved):
    """W at t times its size is scaled back, λ at t times its size loses (1 - t)² of the value."""
    scaled, left, right, dual = solved
    assert certify_optimality(scaled, 0.9 * left, right, dual).gap < 1e-13
    assert certify_optimality(scaled, left, right, 0.9 * dual).gap == pytest.approx(0.01)


def test_farkas_residual_is_that_of_a_valid_certificate_only():
    rows = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    unit = Constraints(
        rows,
        np.zeros(3, dtype=np.int64),
        np.ones((1, 1)),
        np.array([1.0, 0.5, 0.0]),
        np.zeros(3, dtype=bool),
        (np.arange(3),),
        (3,),
    )
    assert farkas_residual(unit, np.array([2.0, 2.0, 0.0])) == 0.0
    assert farkas_residual(unit, np.array([1.0, 1.0, 1e-3])) == pytest.approx(5e-4)
    assert farkas_residual(unit, np.array([1.0, 0.0, 0.0])) == 1.0
    assert farkas_residual(unit, np.array([1.0, 1.0, -1e-9])) == np.inf
    assert farkas_residual(unit, np.array([0.0, 0.0, 1.0])) == np.inf
    assert farkas_residual(unit, np.zeros(3)) == np.inf


@pytest.mark.parametrize("guess", ["none", "zeros", "ones", "random", "huge"])
def test_a_wrong_guess_changes_nothing_but_the_time(local_convergence, monkeypatch, guess):
    """Whatever OSQP says, the answer is certified and the same."""
    data = local_convergence.problem(4)
    selected = np.zeros(data.n, dtype=int)
    expected = att_svm(data, selected)
    rng = np.random.default_rng(0)
    wrong = {
        "none": lambda m: None,
        "zeros": np.zeros,
        "ones": np.ones,
        "random": rng.standard_normal,
        "huge": lambda m: 1e12 * rng.random(m),
    }[guess]
    monkeypatch.setattr(frobenius, "osqp_multipliers", lambda gram, rhs, equality: wrong(len(rhs)))
    solution = att_svm(data, selected, solver="osqp")
    assert max(solution.gap, solution.kkt) < 1e-11
    assert np.linalg.norm(solution.W - expected.W) < 1e-11 * expected.norm


def test_an_answer_without_certificate_is_an_error_that_says_what_was_tried(
    local_convergence, monkeypatch
):
    data = local_convergence.problem(4)
    monkeypatch.setattr(frobenius, "osqp_multipliers", lambda gram, rhs, equality: None)
    monkeypatch.setattr(frobenius, "solve_by_dual_active_set", lambda rows, rhs, equality: None)
    with pytest.raises(SolverError, match="osqp: dual unbounded; active set: does not end"):
        att_svm(data, np.zeros(data.n, dtype=int), solver="osqp")


def test_a_solver_that_calls_a_feasible_problem_infeasible_is_not_believed(
    local_convergence, monkeypatch
):
    data = local_convergence.problem(4)

    def lies(rows, rhs, equality):
        return ActiveSetAnswer(None, np.ones(len(rhs)))

    monkeypatch.setattr(frobenius, "solve_by_dual_active_set", lies)
    with pytest.raises(SolverError, match="residual of the certificate"):
        att_svm(data, np.zeros(data.n, dtype=int), solver="active-set")


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
