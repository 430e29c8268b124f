"""SVMs in the C++ core, against an exact method in NumPy and a conic solver."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import plain_svm
import pytest
from active_set import smallest_exactly
from hypothesis import given
from hypothesis import strategies as st

import attsvm
from attsvm import AttentionData, att_svm, label_svm, prompt_svm
from attsvm.datasets import unit_sphere
from attsvm.svm import SolverError, solvers
from attsvm.svm.solve import solve
from attsvm.svm.svm_problem import SvmProblem


def constraints_of(problem: SvmProblem, b: int):
    """The constraints of one problem: rows of vec(W), right-hand sides, equalities, positions."""
    sample, token = np.nonzero(problem.constrained[b])
    tokens = problem.tokens[b].astype(float)
    rows = tokens[sample, token]
    selected = problem.selected[b][sample]
    rows = np.where((selected < 0)[:, np.newaxis], rows, tokens[sample, selected] - rows)
    queries = problem.queries[b][sample]
    width = rows.shape[1] * queries.shape[1]
    rows = np.einsum("rd,re->rde", rows, queries).reshape(len(rows), width)
    return rows, problem.rhs[b][sample, token], problem.equality[b][sample, token], (sample, token)


def random_problems(rng, kind, count=20):
    """Problems of every kind that has its own difficulties."""
    n, T, d, e = (int(rng.integers(low, high)) for low, high in ((1, 9), (2, 9), (1, 9), (1, 9)))
    if kind == "large":
        n, T, d, e, count = 30, 10, int(rng.integers(4, 16)), int(rng.integers(4, 16)), 4
    tokens, queries = rng.standard_normal((count, n, T, d)), rng.standard_normal((count, n, e))
    selected, lengths = rng.integers(0, T, (count, n)), np.full((count, n), T)
    rhs, equality = np.ones((count, n, T)), np.zeros((count, n, T), dtype=bool)
    if kind == "lattice":
        tokens, queries = np.round(2 * tokens), np.round(2 * queries)
    elif kind == "repeated":
        tokens[:, :, -1] = tokens[:, :, 0]
        tokens[:, -1], queries[:, -1] = tokens[:, 0], queries[:, 0]
        selected[:, -1] = selected[:, 0]
    elif kind == "ragged":
        lengths = rng.integers(1, T + 1, (count, n))
        selected = rng.integers(0, lengths)
        rhs = rng.integers(0, 2, rhs.shape).astype(float)
    elif kind == "equality":
        equality = rng.random(equality.shape) < 0.1
        rhs = 1 - rng.exponential(0.5, rhs.shape)
    elif kind == "vector":
        queries = np.ones((count, n, 1))
    elif kind == "rows":
        selected[:] = -1
    elif kind == "scales":
        tokens *= np.exp(rng.normal(0, 2, (count, n, T, 1)))
        queries *= np.exp(rng.normal(0, 2, (count, n, 1)))
    elif kind == "far":
        tokens, queries = tokens + 5, queries + 5
    return SvmProblem(tokens, queries, selected, lengths, rhs, equality)


KINDS = [
    *("plain", "lattice", "repeated", "ragged", "equality"),
    *("vector", "rows", "scales", "far", "large"),
]


def assert_agrees_with_the_exact_method(kind, seed):
    problem = random_problems(np.random.default_rng([seed, KINDS.index(kind)]), kind)
    solution = solve("W", problem, batch=len(problem.rhs))
    for b in range(len(problem.rhs)):
        rows, rhs, equality, position = constraints_of(problem, b)
        feasible = solution.status[b] == "optimal"
        if not np.where(equality, rhs != 0, rhs > 0).any():
            assert feasible
            assert solution.norm[b] == 0.0
            continue
        expected = smallest_exactly(rows, rhs, equality).w
        assert feasible == (expected is not None)
        if expected is not None:
            size = np.linalg.norm(expected)
            assert np.linalg.norm(solution.W[b].ravel() - expected) <= 1e-7 * size
            assert solution.norm[b] == pytest.approx(size, rel=1e-9)
            margins = solution.margins[b][position]
            assert margins == pytest.approx(rows @ expected, rel=1e-6, abs=1e-6)
            assert (solution.dual[b][~problem.equality[b]] >= 0).all()
        else:
            multipliers = solution.certificate[b][position]
            assert rhs @ multipliers == pytest.approx(1.0)
            assert (multipliers[~equality] >= 0).all()
            weights = np.abs(multipliers) * np.linalg.norm(rows, axis=1)
            assert np.linalg.norm(multipliers @ rows) <= 1e-13 * weights.sum()
            assert solution.gap[b] <= 2.3e-16


@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_the_exact_method(kind):
    assert_agrees_with_the_exact_method(kind, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 20))
@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_the_exact_method_on_many(kind, seed):
    assert_agrees_with_the_exact_method(kind, seed)


def test_agrees_with_a_conic_solver_where_there_are_thousands_of_constraints():
    """The conic solver ends about 1e-8 away, in W."""
    data = unit_sphere(60, 12, 12, rng=3)
    selected = attsvm.optimal_tokens(data)
    solution = att_svm(data, selected)
    assert solution.solver == "native"
    assert max(solution.gap, solution.kkt) < 1e-12
    rows = plain_svm.attention_rows(data.tokens, data.queries, selected)
    expected = plain_svm.smallest(rows, np.ones(len(rows))).reshape(12, 12)
    assert np.linalg.norm(solution.W - expected) <= 1e-6 * np.linalg.norm(expected)
    assert solution.norm == pytest.approx(np.linalg.norm(expected), rel=1e-8)


def test_the_gap_and_residual_are_as_good_as_claimed_at_any_size():
    for shape in [(6, 8, 10), (20, 10, 20), (50, 20, 50), (40, 6, 300)]:
        data = unit_sphere(*shape, rng=5)
        selected = attsvm.optimal_tokens(data)
        solution = att_svm(data, selected, solver="native")
        own = np.arange(data.n), selected
        rows = data.tokens[own][:, np.newaxis] - data.tokens
        margins = np.einsum("ntd,nd->nt", rows, data.queries @ solution.W.T)
        margins[own] = np.inf
        assert margins.min() >= 1 - 1e-12
        assert (solution.dual >= 0).all()
        combined = np.einsum("nt,ntd,ne->de", solution.dual, rows, data.queries)
        assert np.linalg.norm(combined - solution.W) <= 1e-12 * solution.norm
        assert solution.dual.sum() == pytest.approx(solution.norm**2, rel=1e-12)
        assert np.abs(solution.dual * (np.minimum(margins, 9) - 1)).max() <= 1e-11


@pytest.mark.parametrize("svm", [att_svm, prompt_svm, label_svm])
def test_a_batch_has_what_each_problem_has_alone(svm):
    data = unit_sphere(3, 4, 2, batch=30, rng=2)
    selected = np.random.default_rng(0).integers(0, 4, (30, 3))
    solution = svm(data, selected)
    assert set(solution.solver) == {"native"}
    assert set(solution.status) == {"optimal", "infeasible"}
    for b in range(30):
        one = svm(data.problem(b), selected[b], solver="native")
        assert one.status == solution.status[b]
        assert one.norm == solution.norm[b]
        for name in ("W", "p", "v", "left", "right", "margins", "dual", "support", "certificate"):
            alone, together = getattr(one, name), getattr(solution, name)
            if together is None:
                assert alone is None
            elif alone is None:
                assert not together[b].any() if name == "support" else np.isnan(together[b]).all()
            else:
                assert np.array_equal(alone, together[b]), name


def test_auto_is_the_core_for_one_problem_and_for_a_batch_small_and_large():
    batch = unit_sphere(6, 8, 10, batch=2, rng=0)
    assert att_svm(batch, attsvm.optimal_tokens(batch)).solver.tolist() == ["native", "native"]
    for data in (batch.problem(0), unit_sphere(30, 8, 20, rng=0)):
        selected = attsvm.optimal_tokens(data)
        for svm in (att_svm, prompt_svm, label_svm):
            plain, native = svm(data, selected), svm(data, selected, solver="native")
            assert plain.solver == native.solver == "native"
            assert np.array_equal(plain.dual, native.dual)


@pytest.mark.parametrize("solver", ["osqp", "active-set"])
@pytest.mark.parametrize("shape", [(6, 8, 10), (20, 6, 12)])
def test_a_second_solver_comes_to_the_same_answer(shape, solver):
    data = unit_sphere(*shape, batch=5, rng=1)
    selected = attsvm.optimal_tokens(data)
    expected, other = att_svm(data, selected), att_svm(data, selected, solver=solver)
    assert other.solver.tolist() == [solver] * 5
    assert max(other.gap.max(), other.kkt.max()) < 1e-11
    assert pytest.approx(expected.W, abs=1e-11 * expected.norm.max()) == other.W


def test_single_precision_tokens_are_read_as_they_are():
    data = unit_sphere(20, 9, 15, batch=3, rng=4, dtype=np.float32)
    wide = AttentionData(data.tokens.astype(float), data.labels, queries=data.queries.astype(float))
    selected = attsvm.optimal_tokens(data)
    narrow, expected = att_svm(data, selected), att_svm(wide, selected)
    assert narrow.W.dtype == np.float64
    assert np.array_equal(narrow.W, expected.W)
    assert np.array_equal(
        label_svm(data, selected).norm, label_svm(wide, selected).norm, equal_nan=True
    )


@pytest.mark.parametrize(("shape", "batch"), [((6, 5, 7), 40), ((160, 90, 330), None)])
def test_the_number_of_threads_changes_no_bit(monkeypatch, shape, batch):
    data = unit_sphere(*shape, batch=batch, rng=6)
    selected = attsvm.optimal_tokens(data)
    solutions = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(solvers, "thread_count", lambda _, threads=threads: threads)
        solutions.append(att_svm(data, selected))
    for name in ("dual", "margins", "left", "norm", "gap", "kkt"):
        first, *others = (getattr(solution, name) for solution in solutions)
        assert all(np.array_equal(first, other) for other in others), name


def test_very_long_tokens_need_no_matrix_of_their_size():
    """W would have 10^10 entries."""
    data = unit_sphere(3, 4, 100_000, rng=7)
    solution = att_svm(data, [0, 1, 2], solver="native")
    tokens = np.linalg.qr(data.tokens.reshape(12, -1).T, mode="r").T.reshape(3, 4, 12)
    queries = np.pad(np.linalg.qr(data.queries.T, mode="r").T, [(0, 0), (0, 9)])
    expected = att_svm(AttentionData(tokens, data.labels, queries=queries), [0, 1, 2])
    assert solution.norm == pytest.approx(expected.norm, rel=1e-12)
    own = np.arange(3), [0, 1, 2]
    rows = data.tokens[own][:, np.newaxis] - data.tokens
    margins = np.einsum("ntd,nd->nt", rows, (data.queries @ solution.right.T) @ solution.left)
    margins[own] = np.inf
    assert margins == pytest.approx(solution.margins, rel=1e-12)


def test_what_the_core_cannot_certify_is_an_error_that_names_the_problem(monkeypatch):
    data = unit_sphere(5, 4, 6, batch=4, rng=8)
    monkeypatch.setattr(solvers, "OPTIMALITY_TOLERANCE", -1.0)
    selected = attsvm.optimal_tokens(data)
    for solver, tried in (("auto", "native"), ("active-set", "active-set"), ("osqp", "osqp")):
        with pytest.raises(SolverError, match=f"15 constraints of problem 0; tried {tried}"):
            att_svm(data, selected, solver=solver)


@pytest.mark.parametrize("solver", ["auto", "osqp"])
@pytest.mark.parametrize("scale", [1e-308, 1e-160, 1e300])
def test_numbers_beyond_float64_are_refused_with_a_reason_and_without_warnings(scale, solver):
    data = unit_sphere(3, 3, 4, batch=2, rng=9)
    data = AttentionData(scale * data.tokens, data.labels, queries=data.queries)
    with pytest.raises(SolverError, match="beyond what float64 holds"):
        att_svm(data, np.zeros((2, 3), dtype=int), solver=solver)


def test_rows_beyond_float64_against_queries_of_zero_have_no_solution():
    largest = np.finfo(np.float64).max
    data = AttentionData([[[largest], [-largest]]], [1], queries=[[0.0]])
    for solver in ("auto", "osqp"):
        assert att_svm(data, [0], solver=solver).status == "infeasible"  # 0 >= 1


@given(st.integers(0, 2**32 - 1), st.floats(-60, 60), st.floats(-60, 60))
def test_units_of_tokens_and_queries_change_nothing_but_the_units(seed, tokens_log, queries_log):
    rng = np.random.default_rng(seed)
    tokens, queries = rng.standard_normal((1, 3, 4, 5)), rng.standard_normal((1, 3, 5))
    selected = rng.integers(0, 4, (1, 3))
    plain = att_svm(AttentionData(tokens, [[1, 1, 1]], queries=queries), selected)
    a, b = 10.0**tokens_log, 10.0**queries_log
    scaled = att_svm(AttentionData(a * tokens, [[1, 1, 1]], queries=b * queries), selected)
    assert scaled.status[0] == plain.status[0]
    assert scaled.norm[0] * a * b == pytest.approx(plain.norm[0], rel=1e-11)


@pytest.mark.parametrize(("shape", "batch"), [((30, 10, 10), 3000), ((500, 100, 200), None)])
def test_ctrl_c_ends_the_solvers(shape, batch):
    """Many small ones and a large one, either of which would go on for longer."""
    data = unit_sphere(*shape, batch=batch, rng=10)
    selected = attsvm.optimal_tokens(data)
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        att_svm(data, selected)
    timer.join()


@pytest.mark.parametrize("batch", [None, 20])
def test_a_start_changes_the_way_and_not_the_answer(batch):
    """Of descent's own attention, of the dual itself, of nonsense."""
    data = attsvm.datasets.unit_sphere(12, 9, 14, batch=batch, rng=0)
    run = attsvm.train(data, steps=1000)
    plain = attsvm.att_svm(data, run.selected, solver="native")
    rng = np.random.default_rng(1)
    for start in (run.attention, 5 * plain.dual, rng.random(data.valid.shape), 0 * plain.dual):
        solution = attsvm.att_svm(data, run.selected, start=start)
        np.testing.assert_allclose(solution.norm, plain.norm, rtol=1e-12)
        np.testing.assert_allclose(solution.W, plain.W, atol=1e-9 * np.max(plain.norm))
        assert np.max(solution.gap) < 1e-9


def test_starts_that_are_no_multipliers_are_refused():
    data = attsvm.datasets.unit_sphere(3, 4, 6, rng=0)
    good = np.ones((3, 4))
    for settings, message in (
        ({"start": -good}, "start: expected multipliers of 0 or more"),
        ({"start": good[:2]}, r"start: expected shape \(n, T\)"),
        ({"start": good * np.nan}, "start: expected finite"),
        ({"start": good, "norm": "nuc"}, "start: expected None but for the native solver"),
        ({"start": good, "solver": "osqp"}, "start: expected None but for the native solver"),
    ):
        with pytest.raises(ValueError, match=message):
            attsvm.att_svm(data, [0, 0, 0], **settings)
