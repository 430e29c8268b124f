"""Attention SVMs in the nuclear norm: values, certificates, a semidefinite program, laws."""

from __future__ import annotations

import os
import signal
import threading
from fractions import Fraction

import numpy as np
import plain_svm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attsvm
from attsvm import AttentionData, SolverError, att_svm, nuclear_suboptimality
from attsvm.datasets import unit_sphere
from attsvm.svm import solvers
from attsvm.svm.svm_problem import attention_problem


def random_problem(rng, n, T, d):
    data = AttentionData(
        rng.standard_normal((n, T, d)), np.ones(n), queries=rng.standard_normal((n, d))
    )
    return data, rng.integers(0, T, n)


def assert_certified(data, selected, solution, tolerance=1e-8):
    """Gap and residuals of one problem, from W and the multipliers and nothing else."""
    rows = plain_svm.attention_rows(
        data.tokens.astype(float), data.queries.astype(float), selected, data.lengths
    )
    token = np.arange(data.T)
    others = (token < data.lengths[:, np.newaxis]) & (token != np.asarray(selected)[:, np.newaxis])
    margins, dual = rows @ solution.W.ravel(), solution.dual[others]
    G = (dual @ rows).reshape(solution.W.shape)
    norm = np.linalg.norm(solution.W, "nuc")
    assert solution.norm == pytest.approx(norm, rel=1e-12)
    assert solution.margins[others] == pytest.approx(margins, rel=1e-9, abs=1e-9)
    assert np.isposinf(solution.margins[~others]).all()
    assert not solution.dual[~others].any()
    assert margins.min() == pytest.approx(1, abs=1e-9)
    assert dual.min() >= 0
    assert np.linalg.norm(G, 2) <= 1 + 1e-12
    assert norm - dual.sum() <= tolerance * norm
    assert max(solution.gap, solution.kkt) <= tolerance
    active = solution.support[others]
    assert np.array_equal(active, solution.margins[others] <= 1 + 1e-6)
    assert dual[~active].max(initial=0) <= 1e-6 * dual.max()


def test_solution_of_the_published_trajectory_figure(toys):
    """vis1: W*^mm of tokens (0, 2), its norm and rank, and its angle to W^mm."""
    toy = toys["vis1"]
    data = AttentionData(toy["X"], [1, 1], queries=toy["Z"], value=toy["v"])
    solution = att_svm(data, [0, 2], norm="nuc")
    assert np.abs(solution.W - [[0.4867, 0.4693], [7.0055, 6.7544]]).max() < 1e-3
    assert solution.norm == pytest.approx(9.7548, abs=1e-3)
    assert np.linalg.matrix_rank(solution.W, rtol=1e-5) == 1
    frobenius = att_svm(data, [0, 2]).W
    assert attsvm.cosine(frobenius, solution.W) == pytest.approx(0.8904, abs=1e-3)
    assert repr(solution).startswith("SVMSolution(W: 'optimal', norm=9.75")


def test_published_problems_have_the_published_angle_and_rank(local_convergence):
    """Section 7.2: mean cosine of W^mm and W*^mm .856, mean rank of W*^mm 3.1."""
    data = local_convergence
    selected = attsvm.optimal_tokens(data)
    solution = att_svm(data, selected, norm="nuc")
    assert (solution.status == "optimal").all()
    for b, problem in enumerate(data.problems()):
        one = att_svm(problem, selected[b], norm="nuc")
        assert_certified(problem, selected[b], one)
        assert np.array_equal(one.W, solution.W[b])
    cosines = attsvm.cosine(att_svm(data, selected).W, solution.W, axis=(-2, -1))
    assert cosines.mean() == pytest.approx(0.856, abs=0.02)
    ranks = [np.linalg.matrix_rank(W, rtol=1e-5) for W in solution.W]
    assert np.mean(ranks) == pytest.approx(3.1, abs=0.4)


@pytest.mark.parametrize(
    ("n", "d", "rank"), [(5, 10, 2.4), (5, 15, 2.6), (10, 10, 3.85), (10, 20, 3.7), (15, 10, 4.7)]
)
def test_mean_ranks_of_the_published_rank_figure(n, d, rank):
    """Section 7.3, T=5, feasible problems only; the figure's own dashed curve is solver noise."""
    data = unit_sphere(n, 5, d, batch=100, rng=d)
    solution = att_svm(data, attsvm.optimal_tokens(data), norm="nuc")
    ranks = [np.linalg.matrix_rank(W, rtol=1e-5) for W in solution.W[solution.feasible]]
    assert max(ranks) <= min(n, d)
    assert np.mean(ranks) == pytest.approx(rank, abs=0.4)


def test_one_constraint_gives_the_scaled_outer_product():
    """D'Wz >= 1: W = D z' / (|D|² |z|²), its nuclear norm 1 / (|D| |z|), the multiplier too."""
    data = AttentionData([[[3.0, 1.0], [1.0, 0.0]]], [1], queries=[[1.0, 2.0]])
    solution = att_svm(data, [0], norm="nuc")
    assert np.abs(solution.W - np.outer([2.0, 1.0], [1.0, 2.0]) / 25).max() < 1e-15
    assert solution.norm == pytest.approx(1 / 5, rel=1e-14)
    assert solution.dual == pytest.approx(np.array([[0.0, 1 / 5]]))
    assert solution.support.tolist() == [[False, True]]


def test_orthogonal_constraints_give_the_sum_of_their_outer_products():
    """D_i and z_i orthonormal: |Σ D_i z_i'|_op = 1 bounds |W|_* by n from below."""
    n = 4
    tokens = np.stack([np.eye(n), -np.eye(n)], axis=1) / 2
    data = AttentionData(tokens, np.ones(n), queries=np.eye(n)[::-1])
    solution = att_svm(data, [0] * n, norm="nuc")
    assert np.abs(solution.W - np.eye(n)[::-1]).max() < 1e-12
    assert solution.norm == pytest.approx(n, rel=1e-13)


def test_equal_queries_give_the_prompt_svm():
    """A W of rank 1 in the direction of the only query: |W|_* = |p| / |z|."""
    rng = np.random.default_rng(1)
    data, selected = random_problem(rng, 4, 5, 20)
    z = rng.standard_normal(20)
    data = AttentionData(data.tokens, data.labels, queries=np.tile(z, (4, 1)))
    solution = att_svm(data, selected, norm="nuc")
    p = attsvm.prompt_svm(data, selected).p
    assert np.abs(solution.W - np.outer(p, z) / (z @ z)).max() < 1e-9 * np.abs(solution.W).max()


@pytest.mark.parametrize("shape", [(1, 2, 1), (2, 3, 2), (4, 5, 3), (5, 4, 6), (6, 8, 10)])
def test_norm_is_that_of_the_semidefinite_program(shape):
    rng = np.random.default_rng(list(shape))
    solved = 0
    for _ in range(8):
        data, selected = random_problem(rng, *shape)
        solution = att_svm(data, selected, norm="nuc", solver="native")
        assert solution.status == att_svm(data, selected).status
        if solution.status == "optimal":
            solved += 1
            assert_certified(data, selected, solution)
            rows = plain_svm.attention_rows(data.tokens, data.queries, selected)
            expected = plain_svm.smallest_nuclear_norm(rows, data.d)
            assert solution.norm == pytest.approx(expected, rel=1e-7)
    assert solved >= 2


KINDS = [
    *("plain", "lattice", "repeated", "ragged", "few coordinates", "one query", "self-attention"),
    *("scales", "near a rank-one W", "float32"),
]


def problem_of(rng, kind):
    """A problem of a kind that has its own difficulties."""
    n, T, d = (int(rng.integers(*between)) for between in ((1, 11), (2, 11), (1, 21)))
    if kind == "few coordinates":
        d = int(rng.integers(1, 5))
    tokens, queries = rng.standard_normal((n, T, d)), rng.standard_normal((n, d))
    selected, lengths = rng.integers(0, T, n), np.full(n, T)
    if kind == "lattice":
        tokens, queries = np.round(1.5 * tokens), np.round(1.5 * queries)
    elif kind == "repeated" and T > 2:
        tokens[:, -1] = tokens[:, 0]
        tokens[-1], queries[-1] = tokens[0], queries[0]
        selected[:] = rng.integers(1, T - 1)
    elif kind == "ragged":
        lengths = rng.integers(1, T + 1, n)
        selected = rng.integers(0, lengths)
    elif kind == "one query":
        queries[:] = queries[0]
    elif kind == "self-attention":
        queries = tokens[:, 0].copy()
    elif kind == "scales":
        tokens *= np.exp(rng.normal(0, 2, (n, T, 1)))
        queries *= np.exp(rng.normal(0, 2, (n, 1)))
    elif kind == "near a rank-one W":
        W = np.outer(rng.standard_normal(d), rng.standard_normal(d))
        selected = np.einsum("ntd,de,ne->nt", tokens, W, queries).argmax(axis=1)
    elif kind == "float32":
        tokens, queries = tokens.astype(np.float32), queries.astype(np.float32)
    return AttentionData(tokens, np.ones(n), queries=queries, lengths=lengths), selected


@pytest.mark.parametrize("kind", KINDS)
def test_every_problem_is_certified_one_way_or_the_other(kind):
    """Feasibility does not depend on the norm: the Frobenius SVM has the same status."""
    statuses = set()
    for seed in range(60):
        data, selected = problem_of(np.random.default_rng([seed, KINDS.index(kind)]), kind)
        solution = att_svm(data, selected, norm="nuc")
        frobenius = att_svm(data, selected, solver="native")
        assert solution.status == frobenius.status
        statuses.add(solution.status)
        if solution.status == "infeasible":
            assert np.array_equal(solution.certificate, frobenius.certificate)
            assert (solution.W, solution.dual, solution.norm) == (None, None, np.inf)
        elif solution.solver != "none":
            assert_certified(data, selected, solution)
            assert frobenius.norm <= solution.norm * (1 + 1e-8)
            W = frobenius.W
            assert solution.norm <= np.linalg.norm(W, "nuc") * (1 + 1e-8)
    assert "optimal" in statuses


@pytest.mark.parametrize("margin", [1e-6, 1e-9, 1e-12])
def test_opposite_rows_but_for_a_small_margin_are_solved(margin):
    """(1, m) and (-1, m) with the query e_1: W = (0, 1/m)' e_1'."""
    tokens = [[[1.0, margin], [0.0, 0.0]], [[-1.0, margin], [0.0, 0.0]]]
    data = AttentionData(tokens, [1, 1], queries=[[1.0, 0.0], [1.0, 0.0]])
    solution = att_svm(data, [0, 0], norm="nuc")
    assert solution.status == "optimal"
    assert margin * solution.W == pytest.approx(np.array([[0.0, 0.0], [1.0, 0.0]]), abs=1e-9)
    assert solution.margins[:, 1] == pytest.approx(1, abs=1e-9)


def test_margins_hold_on_the_data_as_given():
    """Two pairs of nearly opposite rows, |W| of 1e7: float64 rounds margins by 1e-9 and more."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        axes = np.linalg.qr(rng.standard_normal((6, 6)))[0]
        rows = np.concatenate([axes[:2], -axes[:2]]) + 1e-7 * np.tile(axes[2:4], (2, 1))
        first = rng.standard_normal((4, 6))
        queries = np.tile(rng.standard_normal((2, 6)), (2, 1))
        data = AttentionData(np.stack([first, first - rows], axis=1), np.ones(4), queries=queries)
        W = [[Fraction(entry) for entry in row] for row in att_svm(data, [0] * 4, norm="nuc").W]
        for (top, other), z in zip(data.tokens, data.queries, strict=True):
            difference = [Fraction(a) - Fraction(b) for a, b in zip(top, other, strict=True)]
            direction = [sum(w * Fraction(x) for w, x in zip(row, z, strict=True)) for row in W]
            assert sum(a * b for a, b in zip(difference, direction, strict=True)) >= 1 - 1e-9


@pytest.mark.parametrize("noise", [1e-9, 1e-8, 1e-7, 1e-6])
def test_nearly_equal_inputs_are_solved_to_the_last_digits(noise):
    """Every input three times, two of them moved: of such rows one is active in the end."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        plain = unit_sphere(3, 6, 5, rng=seed)
        tokens, queries = (
            np.tile(x, (3,) + (1,) * (x.ndim - 1)) for x in (plain.tokens, plain.queries)
        )
        tokens[3:] += noise * rng.standard_normal(tokens[3:].shape)
        queries[6:] += noise * rng.standard_normal(queries[6:].shape)
        data = AttentionData(tokens, np.ones(9), queries=queries)
        selected = np.tile(attsvm.optimal_tokens(plain), 3)
        solution = att_svm(data, selected, norm="nuc")
        assert solution.status == "optimal"
        assert_certified(data, selected, solution, tolerance=1e-11)
        expected = att_svm(plain, selected[:3], norm="nuc").norm
        assert solution.norm == pytest.approx(expected, rel=100 * noise)


@pytest.mark.parametrize("method", ["interior-point", "thresholding"])
@pytest.mark.parametrize("shape", [(6, 8, 10), (20, 6, 12)])
def test_each_method_of_the_core_solves_alone(method, shape):
    data = unit_sphere(*shape, batch=10, rng=3)
    selected = attsvm.optimal_tokens(data)
    problem = attention_problem(data, selected)
    answer = attsvm._core.smallest_nuclear(
        svms=problem.core(),
        method=method,
        extended=False,
        optimality=1e-9,
        infeasibility=1e-9,
        threads=1,
        report=None,
    )
    expected = att_svm(data, selected, norm="nuc")
    assert np.array_equal(answer["status"] == 0, expected.feasible)
    assert expected.feasible.any()
    assert answer["norm"] == pytest.approx(expected.norm, rel=1e-9)


@pytest.mark.parametrize("shape", [(30, 10, 40), (60, 15, 30)])
def test_hundreds_of_constraints(shape):
    data = unit_sphere(*shape, rng=4)
    selected = attsvm.optimal_tokens(data)
    solution = att_svm(data, selected, norm="nuc")
    assert_certified(data, selected, solution, tolerance=1e-9)


def test_very_long_tokens_need_no_matrix_of_their_size():
    """W would have 10^10 entries."""
    data = unit_sphere(3, 4, 100_000, rng=7)
    solution = att_svm(data, [0, 1, 2], norm="nuc")
    tokens = np.linalg.qr(data.tokens.reshape(12, -1).T, mode="r").T.reshape(3, 4, 12)
    queries = np.pad(np.linalg.qr(data.queries.T, mode="r").T, [(0, 0), (0, 9)])
    expected = att_svm(AttentionData(tokens, [1, 1, 1], queries=queries), [0, 1, 2], norm="nuc")
    assert solution.norm == pytest.approx(expected.norm, rel=1e-10)
    triangle = np.linalg.qr(solution.right.T, mode="r")
    assert np.linalg.norm(triangle @ solution.left, "nuc") == pytest.approx(solution.norm)


def test_batches_mix_feasible_infeasible_and_trivial_problems():
    rng = np.random.default_rng(11)
    tokens, queries = rng.standard_normal((4, 3, 3, 5)), rng.standard_normal((4, 3, 5))
    tokens[1, 0, 1] = tokens[1, 0, 0]  # equal to the selected token
    tokens[2, 1], queries[2, 1], tokens[2, 1, [0, 1]] = (
        tokens[2, 0],
        queries[2, 0],
        tokens[2, 0, [1, 0]],
    )
    lengths = np.full((4, 3), 3)
    lengths[3] = 1
    data = AttentionData(tokens, np.ones((4, 3)), queries=queries, lengths=lengths)
    solution = att_svm(data, np.zeros((4, 3), dtype=int), norm="nuc")
    assert solution.status.tolist() == ["optimal", "infeasible", "infeasible", "optimal"]
    assert solution.solver[3] == "none"
    assert not solution.W[3].any()
    assert np.isnan(solution.W[1:3]).all()
    frobenius = att_svm(data, np.zeros((4, 3), dtype=int))
    assert np.array_equal(solution.certificate, frobenius.certificate, equal_nan=True)


@given(st.integers(0, 2**32 - 1), st.floats(-8, 8))
@settings(max_examples=50)
def test_scale_and_rotations_do_to_the_norm_what_they_must(seed, logarithm):
    """Tokens times c: norm / c. Orthogonal changes of tokens and of queries: the same norm."""
    rng = np.random.default_rng(seed)
    data, selected = random_problem(rng, 3, 4, 5)
    plain = att_svm(data, selected, norm="nuc")
    c = 10.0**logarithm
    Q, R = (np.linalg.qr(rng.standard_normal((5, 5)))[0] for _ in range(2))
    turned = AttentionData(c * (data.tokens @ Q), data.labels, queries=data.queries @ R)
    solution = att_svm(turned, selected, norm="nuc")
    assert solution.status == plain.status
    assert c * solution.norm == pytest.approx(plain.norm, rel=1e-8)
    if plain.status == "optimal":
        W = Q @ solution.W @ R.T
        assert nuclear_suboptimality(W, data, selected, plain) == pytest.approx(0, abs=2e-8)


def test_suboptimality_is_zero_at_every_solution_and_nowhere_else():
    """W_11 >= 1 and 2 W_11 >= 1: the solution is e_1 e_1', of norm 1."""
    tokens = np.array([[[1.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]])
    data = AttentionData(tokens, [1, 1], queries=[[1.0, 0.0], [2.0, 0.0]])
    solution = att_svm(data, [0, 0], norm="nuc")
    assert solution.norm == pytest.approx(1, rel=1e-13)
    assert nuclear_suboptimality([[3.0, 0], [0, 0]], data, [0, 0], solution) < 1e-13
    assert nuclear_suboptimality([[1.0, 0], [0, 1.0]], data, [0, 0], solution) == pytest.approx(0.5)
    assert nuclear_suboptimality([[0.0, 0], [0, 1.0]], data, [0, 0], solution) == 1
    assert nuclear_suboptimality([[-1.0, 0], [0, 0]], data, [0, 0], solution) == pytest.approx(3)


def test_random_problems_are_known_to_have_one_solution():
    """Also problem 174, whose active constraints are met to a gap of 1e-12."""
    rng = np.random.default_rng(0)
    tokens = rng.standard_normal((500, 6, 8, 10))
    labels = rng.choice([-1.0, 1.0], (500, 6))
    data = AttentionData(tokens, labels, queries=rng.standard_normal((500, 6, 10)))
    selected = rng.integers(0, 8, (500, 6))
    assert att_svm(data.take([174, 0, 1]), selected[[174, 0, 1]], norm="nuc").unique.all()


def test_suboptimality_sees_a_whole_set_of_solutions():
    """W_11 >= 1 and W_22 >= 1: every [[1, b], [b, 1]] with |b| <= 1 has nuclear norm 2."""
    tokens = np.array([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]])
    data = AttentionData(tokens, [1, 1], queries=np.eye(2))
    solution = att_svm(data, [0, 0], norm="nuc")
    assert solution.norm == pytest.approx(2, rel=1e-13)
    for b in (-1.0, -0.3, 0.0, 0.8, 1.0):
        W = 5 * np.array([[1, b], [b, 1]])
        assert abs(nuclear_suboptimality(W, data, [0, 0], solution)) < 1e-12
    outside = np.array([[1, 0.5], [-0.5, 1]])
    assert nuclear_suboptimality(outside, data, [0, 0], solution) == pytest.approx(1 - 2 / 5**0.5)


def test_suboptimality_of_a_batch():
    data = unit_sphere(4, 3, 6, batch=5, rng=2)
    selected = attsvm.optimal_tokens(data)
    solution = att_svm(data, selected, norm="nuc")
    together = nuclear_suboptimality(att_svm(data, selected).W, data, selected, solution)
    assert together.shape == (5,)
    for b, problem in enumerate(data.problems()):
        one = att_svm(problem, selected[b], norm="nuc")
        W = att_svm(problem, selected[b]).W
        expected = nuclear_suboptimality(W, problem, selected[b], one)
        assert 0 < expected < 1
        assert together[b] == pytest.approx(expected, rel=1e-6)
        gap = 1 - np.sum(solution_subgradient(problem, selected[b], one) * W) / np.linalg.norm(
            W, "nuc"
        )
        assert gap <= expected + 1e-9


def test_suboptimality_of_runs_and_solutions_is_that_of_their_matrices():
    data = unit_sphere(3, 4, 20, rng=4)
    run = attsvm.train(data, steps=200)
    solution = att_svm(data, run.selected, norm="nuc")
    for W in (run, solution, att_svm(data, run.selected)):
        expected = nuclear_suboptimality(W.W, data, run.selected, solution)
        assert nuclear_suboptimality(W, data, run.selected, solution) == pytest.approx(
            expected, abs=1e-12
        )
    with pytest.raises(ValueError, match=r"^W: expected W, got p$"):
        nuclear_suboptimality(np.ones(20), data, run.selected, solution)


def solution_subgradient(data, selected, solution):
    own = data.tokens[np.arange(data.n), selected][:, np.newaxis]
    return np.einsum("it,itd,ie->de", solution.dual, own - data.tokens, data.queries)


def test_suboptimality_where_there_is_no_solution_or_only_zero():
    tokens = [[[1.0, 0.0], [1.0, 0.0]]]
    data = AttentionData(tokens, [1], queries=[[1.0, 0.0]])
    infeasible = att_svm(data, [0], norm="nuc")
    assert np.isnan(nuclear_suboptimality(np.eye(2), data, [0], infeasible))
    data = AttentionData(tokens, [1], queries=[[1.0, 0.0]], lengths=[1])
    assert nuclear_suboptimality(np.eye(2), data, [0], att_svm(data, [0], norm="nuc")) == np.inf


ONE = unit_sphere(3, 4, 5, rng=0)
SOLUTION = att_svm(ONE, [0, 1, 2], norm="nuc")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: att_svm(ONE, [0, 0, 0], norm="op"),
            ValueError,
            "norm: expected one of 'fro', 'nuc'",
        ),
        (lambda: att_svm(ONE, [0, 0, 0], norm=None), TypeError, "norm: "),
        (lambda: att_svm(ONE, [0, 0, 0], norm="nuc", solver="osqp"), ValueError, "solver: "),
        (lambda: att_svm(ONE, [0, 0], norm="nuc"), ValueError, "selected: "),
        (lambda: nuclear_suboptimality(np.eye(4), ONE, [0, 1, 2], SOLUTION), ValueError, "W: "),
        (
            lambda: nuclear_suboptimality(np.zeros((5, 5)), ONE, [0, 1, 2], SOLUTION),
            ValueError,
            "W: expected a direction, got zero",
        ),
        (
            lambda: nuclear_suboptimality(np.eye(5), ONE, [0, 1, 1], SOLUTION),
            ValueError,
            "solution: expected the SVM of `selected`",
        ),
        (
            lambda: nuclear_suboptimality(
                np.eye(5), AttentionData(ONE.tokens, ONE.labels), [0, 1, 2], SOLUTION
            ),
            ValueError,
            "queries: ",
        ),
        (lambda: nuclear_suboptimality(np.eye(5), ONE.tokens, [0], SOLUTION), TypeError, "data: "),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_what_cannot_be_certified_is_not_called_optimal(monkeypatch):
    monkeypatch.setattr(solvers, "NUCLEAR_OPTIMALITY_TOLERANCE", -1.0)
    with pytest.raises(
        SolverError,
        match="nuclear-norm answer for 9 constraints; tried native; where inputs nearly agree",
    ):
        att_svm(ONE, [0, 1, 2], norm="nuc")


def test_numbers_beyond_float64_are_refused():
    data = AttentionData(1e300 * ONE.tokens, ONE.labels, queries=ONE.queries)
    with pytest.raises(SolverError):
        att_svm(data, [0, 1, 2], norm="nuc")


@pytest.mark.parametrize(("shape", "batch"), [((6, 5, 7), 40), ((80, 20, 60), None)])
def test_the_number_of_threads_changes_no_bit(monkeypatch, shape, batch):
    data = unit_sphere(*shape, batch=batch, rng=6)
    selected = attsvm.optimal_tokens(data)
    solutions = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(solvers, "thread_count", lambda _, threads=threads: threads)
        solutions.append(att_svm(data, selected, norm="nuc"))
    for name in ("dual", "margins", "left", "norm", "gap", "kkt"):
        first, *others = (getattr(solution, name) for solution in solutions)
        assert all(np.array_equal(first, other, equal_nan=True) for other in others), name


@pytest.mark.parametrize(("shape", "batch"), [((15, 10, 15), 3000), ((400, 40, 150), None)])
def test_ctrl_c_ends_the_solver(shape, batch):
    """Many small ones and a large one, either of which would go on for longer."""
    data = unit_sphere(*shape, batch=batch, rng=10)
    selected = attsvm.optimal_tokens(data)
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        att_svm(data, selected, norm="nuc")
    timer.join()
