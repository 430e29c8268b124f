"""Att-SVM: the smallest W that separates the selected tokens."""

from __future__ import annotations

import numpy as np
import plain_svm
import pytest

import attsvm
from attsvm import AttentionData, att_svm, prompt_svm


def assert_agrees_with_conic_solver(data, selected, solution):
    rows = plain_svm.attention_rows(data.tokens, data.queries, selected, data.lengths)
    expected = plain_svm.smallest(rows, np.ones(len(rows))).reshape(data.d, data.d)
    assert solution.status == "optimal"
    assert np.linalg.norm(solution.W - expected) < 1e-6 * np.linalg.norm(expected)
    assert solution.norm == pytest.approx(np.linalg.norm(expected), rel=1e-6)


def random_problem(rng, n, T, d):
    tokens, queries = rng.standard_normal((n, T, d)), rng.standard_normal((n, d))
    return AttentionData(tokens, np.ones(n), queries=queries)


@pytest.mark.parametrize("choice", ["optimal", "random"])
def test_published_problems_are_solved_to_certificate_and_agree_with_a_conic_solver(
    local_convergence, choice
):
    data = local_convergence
    if choice == "optimal":
        selected = attsvm.optimal_tokens(data)
    else:
        selected = np.random.default_rng(0).integers(0, data.T, (data.batch, data.n))
    solution = att_svm(data, selected)
    assert solution.gap.max() < 1e-9
    assert solution.kkt.max() < 1e-9
    for b, problem in enumerate(data.problems()):
        assert_agrees_with_conic_solver(problem, selected[b], att_svm(problem, selected[b]))
        assert np.array_equal(solution.W[b], att_svm(problem, selected[b], solver="native").W)


def test_solution_of_the_published_trajectory_figure(toys):
    """vis1: W^mm of tokens (0, 2) and its norm."""
    toy = toys["vis1"]
    data = AttentionData(toy["X"], [1, 1], queries=toy["Z"], value=toy["v"])
    solution = att_svm(data, attsvm.optimal_tokens(data))
    assert attsvm.optimal_tokens(data).tolist() == [0, 2]
    expected = np.array([[2.8537, -2.7029], [5.3712, 5.5805]])
    assert np.abs(solution.W - expected).max() < 1e-3
    assert solution.norm == pytest.approx(8.6857, abs=1e-3)


def test_two_tokens_give_the_scaled_outer_product_of_their_difference_and_the_query():
    """One constraint D'Wz >= 1: W = D z' / (|D|² |z|²)."""
    data = AttentionData([[[3.0, 1.0], [1.0, 0.0]]], [1], queries=[[1.0, 2.0]])
    solution = att_svm(data, [0])
    expected = np.outer([2.0, 1.0], [1.0, 2.0]) / 25
    assert np.abs(solution.W - expected).max() < 1e-16
    assert solution.norm == pytest.approx(1 / 5)
    assert solution.margins == pytest.approx(np.array([[np.inf, 1.0]]))
    assert solution.dual == pytest.approx(np.array([[0.0, 1 / 25]]))
    assert solution.support.tolist() == [[False, True]]


def test_norm_margins_and_dual_are_those_of_w(local_convergence):
    data = local_convergence.problem(0)
    selected = attsvm.optimal_tokens(data)
    solution = att_svm(data, selected)
    assert solution.norm == pytest.approx(np.linalg.norm(solution.W), rel=1e-14)
    for i in range(data.n):
        difference = data.tokens[i, selected[i]] - data.tokens[i]
        margins = difference @ solution.W @ data.queries[i]
        margins[selected[i]] = np.inf
        assert solution.margins[i] == pytest.approx(margins, rel=1e-13)
    own = np.take_along_axis(data.tokens, selected[:, np.newaxis, np.newaxis], axis=1)
    combination = np.einsum(
        "it,itd,ie->de", solution.dual, own - data.tokens, data.queries, optimize=True
    )
    assert combination == pytest.approx(solution.W, abs=1e-13 * solution.norm)
    assert (solution.support >= (solution.dual > 0)).all()
    assert solution.support.any()
    assert not solution.support.all()


def test_unit_query_in_one_dimension_gives_the_prompt_svm():
    """With e_1 as every query, W is p in its first column and 0 elsewhere."""
    rng = np.random.default_rng(3)
    tokens = rng.standard_normal((3, 4, 8))
    queries = np.zeros((3, 8))
    queries[:, 0] = 1.0
    data = AttentionData(tokens, np.ones(3), queries=queries)
    W, p = att_svm(data, [0, 1, 2]).W, prompt_svm(data, [0, 1, 2]).p
    assert W[:, 0] == pytest.approx(p, rel=1e-11)
    assert not W[:, 1:].any()


@pytest.mark.parametrize("solver", ["native", "osqp", "active-set"])
@pytest.mark.parametrize("shape", [(1, 2, 1), (4, 5, 3), (6, 8, 10), (3, 12, 2), (10, 6, 12)])
def test_both_solvers_agree_with_a_conic_solver(shape, solver):
    rng = np.random.default_rng(list(shape))
    solved = 0
    for _ in range(12):
        data = random_problem(rng, *shape)
        selected = rng.integers(0, shape[1], shape[0])
        solution = att_svm(data, selected, solver=solver)
        assert solution.solver in (solver, "active-set")
        if solution.status == "optimal":
            solved += 1
            assert max(solution.gap, solution.kkt) < 1e-9
            assert_agrees_with_conic_solver(data, selected, solution)
    assert solved >= 3


def test_padding_makes_no_constraint():
    rng = np.random.default_rng(5)
    data = random_problem(rng, 4, 6, 5)
    lengths = [6, 1, 3, 2]
    ragged = AttentionData(data.tokens, data.labels, queries=data.queries, lengths=lengths)
    selected = [5, 0, 2, 0]
    solution = att_svm(ragged, selected)
    assert_agrees_with_conic_solver(ragged, selected, solution)
    assert np.isfinite(solution.margins).sum() == 5 + 0 + 2 + 1
    assert not solution.dual[~ragged.valid].any()
    assert not solution.support[~ragged.valid].any()
    assert np.isposinf(solution.margins[~ragged.valid]).all()


def test_sequences_of_one_token_are_separated_by_zero():
    data = AttentionData(np.ones((2, 1, 3)), [1, -1], queries=np.ones((2, 3)))
    solution = att_svm(data, [0, 0])
    assert solution.status == "optimal"
    assert solution.norm == 0
    assert solution.solver == "none"
    assert not solution.W.any()
    assert solution.W.shape == (3, 3)
    assert np.isposinf(solution.margins).all()


def test_float32_data_is_solved_in_float64(local_convergence):
    data = local_convergence.problem(1)
    narrow = AttentionData(
        data.tokens.astype(np.float32), data.labels, queries=data.queries, value=data.value
    )
    selected = attsvm.optimal_tokens(data)
    wide_solution, solution = att_svm(data, selected), att_svm(narrow, selected)
    assert narrow.dtype == np.float32
    assert solution.W.dtype == np.float64
    assert np.array_equal(solution.W, wide_solution.W)  # the published numbers are float32


def test_same_bits_at_every_call(local_convergence):
    data = local_convergence.problem(2)
    selected = attsvm.optimal_tokens(data)
    first, again = att_svm(data, selected), att_svm(data, selected)
    assert first.W.tobytes() == again.W.tobytes()
    assert first.dual.tobytes() == again.dual.tobytes()


def test_w_is_formed_only_when_asked_for():
    """d = 100,000: W would take 80 GB, its factors take 4.8 MB."""
    rng = np.random.default_rng(0)
    tokens = rng.standard_normal((3, 4, 100_000), dtype=np.float32)
    queries = rng.standard_normal((3, 100_000), dtype=np.float32)
    data = AttentionData(tokens, np.ones(3), queries=queries)
    solution = att_svm(data, [0, 1, 2])
    assert solution.left.shape == solution.right.shape == (3, 100_000)
    assert max(solution.gap, solution.kkt) < 1e-12
    margins = solution.left @ (tokens[0, 0] - tokens[0, 1]) @ (solution.right @ queries[0])
    assert solution.margins[0, 1] == pytest.approx(margins)
    assert "W" not in vars(solution)


def test_factors_multiply_to_w(local_convergence):
    data = local_convergence.problem(3)
    for solver in ("native", "osqp", "active-set"):
        solution = att_svm(data, attsvm.optimal_tokens(data), solver=solver)
        assert solution.left.shape == solution.right.shape == (data.n, data.d)
        assert np.array_equal(solution.left.T @ solution.right, solution.W)
        assert solution.W is solution.W


def test_a_batch_stacks_its_problems_and_fills_infeasible_ones_with_nan():
    rng = np.random.default_rng(7)
    tokens, queries = rng.standard_normal((4, 3, 5, 6)), rng.standard_normal((4, 3, 6))
    tokens[2, 1, 3] = tokens[2, 1, 0]
    data = AttentionData(tokens, np.ones((4, 3)), queries=queries)
    selected = np.zeros((4, 3), dtype=int)
    solution = att_svm(data, selected)
    assert solution.status.tolist() == ["optimal", "optimal", "infeasible", "optimal"]
    assert solution.feasible.tolist() == [True, True, False, True]
    assert solution.W.shape == (4, 6, 6)
    assert solution.norm[2] == np.inf
    for b in (0, 1, 3):
        one = att_svm(data.problem(b), selected[b], solver="native")
        assert one.feasible is True
        assert one.certificate is None
        for name in ("W", "norm", "margins", "dual", "support", "gap", "kkt", "left", "right"):
            assert np.array_equal(getattr(solution, name)[b], getattr(one, name)), name
        assert np.isnan(solution.certificate[b]).all()
    for name in ("W", "margins", "dual", "left", "right"):
        assert np.isnan(getattr(solution, name)[2]).all(), name
    assert not solution.support[2].any()
    expected = np.zeros((3, 5))
    expected[1, 3] = 1.0
    assert np.array_equal(solution.certificate[2], expected)


def test_an_infeasible_problem_has_a_certificate_and_nothing_else():
    data = AttentionData([[[1.0], [2.0], [3.0]]], [1], queries=[[1.0]])
    solution = att_svm(data, [1])
    assert solution.status == "infeasible"
    assert solution.feasible is False
    assert solution.norm == np.inf
    assert solution.certificate == pytest.approx(np.array([[0.5, 0.0, 0.5]]))
    for name in ("W", "p", "v", "margins", "dual", "support", "left", "right"):
        assert getattr(solution, name) is None, name


def test_only_the_variable_of_the_svm_is_there(local_convergence):
    data = local_convergence.problem(0)
    solution = att_svm(data, attsvm.optimal_tokens(data))
    assert solution.variable == "W"
    assert solution.p is None
    assert solution.v is None


def test_a_solution_tells_itself_in_a_line(local_convergence):
    selected = attsvm.optimal_tokens(local_convergence)
    assert "50 of 50 feasible" in repr(att_svm(local_convergence, selected))
    one = repr(att_svm(local_convergence.problem(0), selected[0]))
    assert "'optimal'" in one
    assert "\n" not in one


@pytest.mark.parametrize(
    ("change", "error", "names"),
    [
        ({"data": np.zeros((2, 3, 4))}, TypeError, "data"),
        ({"selected": [0.0, 1.0]}, TypeError, "selected"),
        ({"selected": [True, False]}, TypeError, "selected"),
        ({"selected": None}, TypeError, "selected"),
        ({"selected": [0]}, ValueError, "selected"),
        ({"selected": [[0, 1]]}, ValueError, "selected"),
        ({"selected": [0, 3]}, ValueError, "selected"),
        ({"selected": [-1, 0]}, ValueError, "selected"),
        ({"norm": "l7"}, ValueError, "norm"),
        ({"norm": None}, TypeError, "norm"),
        ({"solver": "cvxpy"}, ValueError, "solver"),
    ],
)
def test_bad_arguments_are_named(change, error, names):
    rng = np.random.default_rng(0)
    good = {"data": random_problem(rng, 2, 3, 4), "selected": [0, 1]}
    with pytest.raises(error, match=f"^{names}: "):
        att_svm(**{**good, **change})


def test_queries_are_needed():
    data = AttentionData(np.ones((2, 3, 4)), [1, 1])
    with pytest.raises(ValueError, match=r"^queries: "):
        att_svm(data, [0, 0])


def test_a_selected_token_outside_a_short_sequence_is_refused():
    data = AttentionData(np.ones((2, 3, 4)), [1, 1], queries=np.ones((2, 4)), lengths=[3, 2])
    with pytest.raises(ValueError, match=r"^selected: .*0\.\.1, got 2 at \[1\]"):
        att_svm(data, [2, 2])


def test_the_direction_of_a_solution_is_that_of_its_variable():
    data = AttentionData([[[1.0, 0.0], [0.0, 1.0]]], [1], queries=[[1.0, 0.0]])
    for solve, name in ((att_svm, "W"), (prompt_svm, "p"), (attsvm.label_svm, "v")):
        solution = solve(data, [0])
        assert np.array_equal(solution.direction, getattr(solution, name))
        assert all(getattr(solution, other) is None for other in {"W", "p", "v"} - {name})
    conflict = AttentionData([[[1.0], [0.0]], [[0.0], [1.0]]], [1, 1])
    infeasible = prompt_svm(conflict, [0, 0])
    assert infeasible.p is None
    with pytest.raises(ValueError, match=r"^solution: expected a feasible one"):
        _ = infeasible.direction
