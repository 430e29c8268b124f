"""The machines in the C++ core, against the exact method in Python and a conic solver."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import plain_svm
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attsvm
from attsvm import AttentionData, att_svm, label_svm, prompt_svm
from attsvm.datasets import unit_sphere
from attsvm.svm import SolverError, dual_native, problems
from attsvm.svm.constraints import Constraints
from attsvm.svm.dual_native import Machines, solve_natively
from attsvm.svm.frobenius import Optimal, smallest_frobenius


def constraints_of(machines: Machines, b: int) -> Constraints:
    """The same machine, constraint by constraint."""
    sample, token = np.nonzero(machines.constrained[b])
    tokens = machines.tokens[b].astype(float)
    rows = tokens[sample, token]
    selected = machines.selected[b][sample]
    rows = np.where((selected < 0)[:, np.newaxis], rows, tokens[sample, selected] - rows)
    return Constraints(
        rows,
        sample,
        machines.queries[b],
        machines.rhs[b][sample, token],
        machines.equality[b][sample, token],
        (sample, token),
        machines.rhs[b].shape,
    )


def nobody(b: int):
    raise AssertionError(f"machine {b} is left unresolved")


def random_machines(rng, kind, count=20):
    """Machines of every kind that has its own difficulties."""
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
    return Machines(tokens, queries, selected, lengths, rhs, equality)


KINDS = [
    *("plain", "lattice", "repeated", "ragged", "equality"),
    *("vector", "rows", "scales", "far", "large"),
]


def assert_agrees_with_the_exact_method(kind, seed):
    machines = random_machines(np.random.default_rng([seed, KINDS.index(kind)]), kind)
    solution = solve_natively("W", machines, nobody)
    for b in range(len(machines.tokens)):
        constraints = constraints_of(machines, b)
        feasible = solution.status[b] == "optimal"
        asked = np.where(constraints.equality, constraints.rhs != 0, constraints.rhs > 0)
        if not asked.any():
            assert feasible
            assert solution.norm[b] == 0.0
            continue
        expected = smallest_frobenius(constraints, "active-set")
        assert feasible == isinstance(expected, Optimal)
        if isinstance(expected, Optimal):
            W = expected.left.T @ expected.right
            assert np.linalg.norm(solution.W[b] - W) <= 1e-7 * expected.norm
            assert solution.norm[b] == pytest.approx(expected.norm, rel=1e-9)
            margins = solution.margins[b][constraints.position]
            assert margins == pytest.approx(expected.values, rel=1e-6, abs=1e-6)
            assert (solution.dual[b][~machines.equality[b]] >= 0).all()
        else:
            multipliers = solution.certificate[b][constraints.position]
            assert constraints.rhs @ multipliers == pytest.approx(1.0)
            assert (multipliers[~constraints.equality] >= 0).all()
            rows = np.linalg.norm(constraints.differences, axis=1)
            weights = np.abs(multipliers) * rows
            weights *= np.linalg.norm(constraints.queries[constraints.query], axis=1)
            weight = weights[constraints.rhs != 0].sum()
            combined = constraints.token_sums(multipliers).T @ constraints.queries
            assert np.linalg.norm(combined) <= 1e-8 * weight


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


@pytest.mark.parametrize("machine", [att_svm, prompt_svm, label_svm])
def test_a_batch_has_what_each_problem_has_alone(machine):
    data = unit_sphere(3, 4, 2, batch=30, rng=2)
    selected = np.random.default_rng(0).integers(0, 4, (30, 3))
    solution = machine(data, selected)
    assert set(solution.solver) == {"native"}
    assert set(solution.status) == {"optimal", "infeasible"}
    for b in range(30):
        one = machine(data.problem(b), selected[b], solver="native")
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


def test_auto_takes_the_core_for_batches_and_for_many_constraints():
    data = unit_sphere(6, 8, 10, batch=2, rng=0)
    assert att_svm(data, attsvm.optimal_tokens(data)).solver.tolist() == ["native", "native"]
    one = data.problem(0)
    assert att_svm(one, attsvm.optimal_tokens(one)).solver == "osqp"
    large = unit_sphere(30, 8, 20, rng=0)
    assert att_svm(large, attsvm.optimal_tokens(large)).solver == "native"
    assert prompt_svm(large, np.zeros(30, dtype=int)).solver == "native"
    assert label_svm(large, np.zeros(30, dtype=int)).solver != "native"


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
        monkeypatch.setattr(dual_native, "thread_count", lambda _, threads=threads: threads)
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


def test_what_the_core_leaves_unresolved_is_solved_by_the_other_methods(monkeypatch):
    data = unit_sphere(5, 4, 6, batch=4, rng=8)
    selected = attsvm.optimal_tokens(data)
    expected = att_svm(data, selected)
    monkeypatch.setattr(dual_native, "OPTIMALITY_TOLERANCE", -1.0)
    solution = att_svm(data, selected)
    assert set(solution.solver) <= {"osqp", "active-set"}
    assert solution.norm == pytest.approx(expected.norm, rel=1e-11)
    assert np.abs(solution.W - expected.W).max() <= 1e-9
    one = att_svm(data.problem(2), selected[2], solver="native")
    assert one.solver in ("osqp", "active-set")
    monkeypatch.setattr(problems, "_MOST_TRIED_AGAIN", 10)
    with pytest.raises(SolverError, match="15 constraints; tried native"):
        att_svm(data, selected)


def test_numbers_beyond_float64_are_refused_with_a_reason():
    data = unit_sphere(3, 3, 4, batch=2, rng=9)
    data = AttentionData(1e300 * data.tokens, data.labels, queries=data.queries)
    with pytest.raises(SolverError, match="beyond what float64 holds"):
        att_svm(data, np.zeros((2, 3), dtype=int))


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
def test_ctrl_c_ends_the_machines(shape, batch):
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
