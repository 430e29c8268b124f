"""p-SVM: the smallest prompt that separates the selected tokens, and its relaxed form."""

from __future__ import annotations

import numpy as np
import plain_svm
import pytest

from attsvm import AttentionData, prompt_svm


def test_single_input_of_the_papers_first_figure():
    """Tokens (-0.1, 1), (1, 0), (0, 0): globally (-1, 10) / 10.1, locally (1, 0)."""
    data = AttentionData([[[-0.1, 1.0], [1.0, 0.0], [0.0, 0.0]]], [1])
    best, local = prompt_svm(data, [0]), prompt_svm(data, [1])
    assert best.p == pytest.approx(np.array([-1.0, 10.0]) / 10.1, rel=1e-14)
    assert best.p == pytest.approx([-0.09901, 0.99010], abs=1e-5)
    assert best.norm**2 / 2 == pytest.approx(0.49505, abs=1e-5)
    assert best.margins[0, 1:] == pytest.approx([1.0990, 1.0], abs=1e-4)
    assert best.support.tolist() == [[False, False, True]]
    assert local.p == pytest.approx([1.0, 0.0], abs=1e-15)


def test_multiple_inputs_of_the_papers_first_figure(toys):
    """On the keys (x1, x2, 0), and on the tokens with their scores as third coordinate."""
    tokens = np.array(toys["multi_input_X"])
    keys = tokens * [1.0, 1.0, 0.0]
    on_keys = prompt_svm(AttentionData(keys, [1, 1, 1]), [0, 0, 0])
    assert on_keys.p == pytest.approx([0.84463, 0.17112, 0.0], abs=1e-5)
    assert on_keys.norm**2 / 2 == pytest.approx(0.37134, abs=1e-5)
    assert 1 / on_keys.norm == pytest.approx(1.16038, abs=1e-5)
    assert np.argwhere(on_keys.support).tolist() == [[0, 6], [1, 5]]
    on_tokens = prompt_svm(AttentionData(tokens, [1, 1, 1]), [0, 0, 0])
    assert on_tokens.p == pytest.approx([0.71236, 0.14433, 0.31319], abs=1e-5)
    assert on_tokens.norm**2 / 2 == pytest.approx(0.31319, abs=1e-5)


def joint_training_data(third):
    tokens = np.zeros((3, 2, 2))
    tokens[:, 1] = [[1.0, 1.0], [1.0, -1.0], third]
    return AttentionData(tokens, [1, -1, 1])


def test_joint_training_figure_where_all_inputs_are_support_vectors():
    solution = prompt_svm(joint_training_data([0.5, 1.0]), [1, 1, 1])
    assert solution.p == pytest.approx([4 / 3, 1 / 3], rel=1e-14)
    assert solution.norm**2 / 2 == pytest.approx(0.94444, abs=1e-5)


def test_joint_training_figure_where_an_input_is_relaxed():
    data = joint_training_data([0.5, 1.5])
    unrelaxed = prompt_svm(data, [1, 1, 1])
    relaxed = prompt_svm(data, [1, 1, 1], required=[True, True, False])
    assert unrelaxed.p == pytest.approx([1.25, 0.25], rel=1e-14)
    assert relaxed.p == pytest.approx([1.0, 0.0], abs=1e-15)
    assert relaxed.margins[:, 0] == pytest.approx([1.0, 1.0, 0.5])
    assert relaxed.support[:, 0].tolist() == [True, True, False]
    assert max(relaxed.gap, relaxed.kkt) < 1e-14


def test_relaxed_input_is_active_at_margin_zero():
    """p = (1, 0) would give the second input the margin -1; (1, 1) is the shortest that may be."""
    tokens = np.zeros((2, 2, 2))
    tokens[:, 1] = [[1.0, 0.0], [-1.0, 1.0]]
    solution = prompt_svm(AttentionData(tokens, [1, 1]), [1, 1], required=[True, False])
    assert solution.p == pytest.approx([1.0, 1.0])
    assert solution.margins[:, 0] == pytest.approx([1.0, 0.0], abs=1e-15)
    assert solution.support[:, 0].all()
    assert solution.dual[:, 0] == pytest.approx([2.0, 1.0])


def test_no_required_input_gives_zero():
    data = AttentionData(np.random.default_rng(0).standard_normal((3, 4, 2)), [1, 1, 1])
    solution = prompt_svm(data, [0, 1, 2], required=[False, False, False])
    assert solution.status == "optimal"
    assert solution.p.tolist() == [0.0, 0.0]
    assert solution.norm == solution.gap == solution.kkt == 0.0


def test_a_repeated_selected_token_is_allowed_where_it_is_not_required():
    tokens = np.array([[[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]], [[0.0, 2.0], [0.0, 0.0], [0.0, 1.0]]])
    data = AttentionData(tokens, [1, 1])
    assert prompt_svm(data, [0, 0]).status == "infeasible"
    solution = prompt_svm(data, [0, 0], required=[False, True])
    assert solution.p == pytest.approx([0.0, 1.0])
    assert solution.margins[0].tolist() == [np.inf, 0.0, 0.0]
    assert solution.support[0].tolist() == [False, True, True]


@pytest.mark.parametrize("solver", ["native", "osqp", "active-set"])
@pytest.mark.parametrize("shape", [(1, 2, 1), (2, 4, 3), (5, 4, 16), (10, 8, 75)])
def test_both_solvers_agree_with_a_conic_solver(shape, solver):
    rng = np.random.default_rng([*shape, 1])
    n, T, _ = shape
    solved = 0
    for k in range(12):
        data = AttentionData(rng.standard_normal(shape), np.ones(n))
        selected = rng.integers(0, T, n)
        required = rng.random(n) < 0.5 if k % 2 else np.ones(n, dtype=bool)
        required[0] = True
        solution = prompt_svm(data, selected, required=required, solver=solver)
        if solution.status == "infeasible":
            continue
        solved += 1
        assert max(solution.gap, solution.kkt) < 1e-9
        rows = plain_svm.attention_rows(data.tokens, None, selected)
        expected = plain_svm.smallest(rows, plain_svm.required_margins(data.tokens, required))
        assert np.linalg.norm(solution.p - expected) < 1e-6 * np.linalg.norm(expected)
    assert solved >= 3


def test_queries_are_not_used():
    rng = np.random.default_rng(2)
    tokens = rng.standard_normal((2, 3, 6))
    bare = AttentionData(tokens, [1, 1])
    dressed = AttentionData(tokens, [1, 1], queries=rng.standard_normal((2, 6)))
    assert np.array_equal(prompt_svm(bare, [0, 1]).p, prompt_svm(dressed, [0, 1]).p)


def test_a_batch_takes_required_inputs_of_each_problem():
    rng = np.random.default_rng(4)
    data = AttentionData(rng.standard_normal((3, 2, 3, 6)), np.ones((3, 2)))
    selected = rng.integers(0, 3, (3, 2))
    required = np.array([[True, True], [True, False], [False, False]])
    solution = prompt_svm(data, selected, required=required)
    assert solution.p.shape == (3, 6)
    assert solution.variable == "p"
    assert solution.W is None
    for b in range(3):
        one = prompt_svm(data.problem(b), selected[b], required=required[b], solver="native")
        assert np.array_equal(solution.p[b], one.p)


@pytest.mark.parametrize(
    ("change", "error", "names"),
    [
        ({"data": None}, TypeError, "data"),
        ({"selected": [0.5, 1.0]}, TypeError, "selected"),
        ({"selected": [0, 5]}, ValueError, "selected"),
        ({"required": [1, 0]}, TypeError, "required"),
        ({"required": [True]}, ValueError, "required"),
        ({"required": [[True, True]]}, ValueError, "required"),
        ({"solver": "gurobi"}, ValueError, "solver"),
    ],
)
def test_bad_arguments_are_named(change, error, names):
    tokens = np.random.default_rng(0).standard_normal((2, 3, 4))
    good = {"data": AttentionData(tokens, [1, 1]), "selected": [0, 1]}
    with pytest.raises(error, match=f"^{names}: "):
        prompt_svm(**{**good, **change})
