"""v-SVM: the smallest head that tells the labels from the selected tokens."""

from __future__ import annotations

import numpy as np
import plain_svm
import pytest

from attsvm import AttentionData, label_svm


@pytest.mark.parametrize(
    ("third", "margins"), [([0.5, 1.0], [1.0, 1.0, 1.0]), ([0.5, 1.5], [1.0, 1.0, 1.5])]
)
def test_joint_training_figure(third, margins):
    """v^mm = (0, 1), whether or not the third input is a support vector."""
    tokens = np.zeros((3, 2, 2))
    tokens[:, 1] = [[1.0, 1.0], [1.0, -1.0], third]
    solution = label_svm(AttentionData(tokens, [1, -1, 1]), [1, 1, 1])
    assert solution.variable == "v"
    assert solution.v == pytest.approx([0.0, 1.0], abs=1e-15)
    assert solution.norm == pytest.approx(1.0)
    assert solution.margins == pytest.approx(margins)
    assert solution.support.tolist() == [margin == 1.0 for margin in margins]
    assert solution.margins.shape == solution.dual.shape == (3,)
    assert max(solution.gap, solution.kkt) < 1e-14


def test_there_is_no_intercept():
    """1 and 2 on a line have different labels: a threshold would do, a hyperplane through 0 not."""
    data = AttentionData([[[1.0]], [[2.0]]], [1, -1])
    solution = label_svm(data, [0, 0])
    assert solution.status == "infeasible"
    assert solution.certificate == pytest.approx([2 / 3, 1 / 3])


def test_a_zero_token_has_no_label_margin():
    data = AttentionData([[[1.0, 0.0]], [[0.0, 0.0]]], [1, -1])
    solution = label_svm(data, [0, 0])
    assert solution.status == "infeasible"
    assert solution.certificate.tolist() == [0.0, 1.0]


def test_random_problems_agree_with_a_conic_solver():
    rng = np.random.default_rng(0)
    solved = 0
    for n, d in [(1, 1), (3, 2), (8, 8), (6, 40), (30, 12)] * 4:
        data = AttentionData(rng.standard_normal((n, 2, d)), rng.choice([-1.0, 1.0], n))
        selected = rng.integers(0, 2, n)
        solution = label_svm(data, selected)
        rows = data.labels[:, np.newaxis] * data.tokens[np.arange(n), selected]
        assert solution.feasible == plain_svm.feasible(rows, np.ones(n))
        if solution.feasible:
            solved += 1
            expected = plain_svm.smallest(rows, np.ones(n))
            assert np.linalg.norm(solution.v - expected) < 1e-6 * np.linalg.norm(expected)
            assert solution.margins == pytest.approx(rows @ solution.v, rel=1e-9)
            assert max(solution.gap, solution.kkt) < 1e-9
    assert solved >= 8


def test_a_batch_has_one_constraint_per_input():
    rng = np.random.default_rng(1)
    data = AttentionData(rng.standard_normal((5, 3, 2, 4)), rng.choice([-1.0, 1.0], (5, 3)))
    solution = label_svm(data, np.zeros((5, 3), dtype=int))
    assert solution.v.shape == (5, 4)
    assert solution.margins.shape == solution.dual.shape == solution.support.shape == (5, 3)
    assert solution.left.shape == (5, 1, 4)


@pytest.mark.parametrize(
    ("change", "error", "names"),
    [
        ({"data": "file.npz"}, TypeError, "data"),
        ({"selected": ["0", "1"]}, TypeError, "selected"),
        ({"selected": [0, 9]}, ValueError, "selected"),
        ({"solver": "liblinear"}, ValueError, "solver"),
    ],
)
def test_bad_arguments_are_named(change, error, names):
    tokens = np.random.default_rng(0).standard_normal((2, 3, 4))
    good = {"data": AttentionData(tokens, [1, 1]), "selected": [0, 1]}
    with pytest.raises(error, match=f"^{names}: "):
        label_svm(**{**good, **change})


@pytest.mark.parametrize("p", [1.1, 1.75, 3.0, 10.0])
def test_one_input_has_the_smallest_vector_of_its_norm_in_closed_form(p):
    """Hölder: v = sign(x) |x|^(q-1) / ‖x‖_q^q, of l_p norm 1 / ‖x‖_q with q = p / (p - 1)."""
    x, q = np.array([0.3, -2.0, 1.1, 0.0]), p / (p - 1)
    solution = label_svm(AttentionData([[-x]], [-1]), [0], norm=p)
    size = np.sum(np.abs(x) ** q)
    np.testing.assert_allclose(solution.v, np.sign(x) * np.abs(x) ** (q - 1) / size, atol=1e-10)
    assert solution.norm == pytest.approx(size ** (-1 / q), rel=1e-10)


@pytest.mark.parametrize(
    ("norm", "dual_order"), [("max", 1), ("l1", np.inf), (1.75, 7 / 3), (3, 1.5)]
)
def test_a_head_in_any_norm_is_certified_by_its_dual(norm, dual_order):
    """Σλ / N*(Σ λ_i Y_i x_i) is at most the norm of every head with margins of 1."""
    rng = np.random.default_rng(0)
    data = AttentionData(rng.standard_normal((20, 4, 2, 9)), rng.choice([-1, 1], (20, 4)))
    solution = label_svm(data, np.ones((20, 4), dtype=int), norm=norm)
    rows = data.labels[..., np.newaxis] * data.tokens[:, :, 1]
    assert (np.einsum("bnd,bd->bn", rows, solution.v) >= 1 - 1e-9).all()
    order = {"max": np.inf, "l1": 1}.get(norm, norm)
    np.testing.assert_allclose(np.linalg.norm(solution.v, order, axis=1), solution.norm, rtol=1e-9)
    duals = np.linalg.norm(np.einsum("bn,bnd->bd", solution.dual, rows), dual_order, axis=1)
    lower = solution.dual.sum(axis=1) / duals
    assert (solution.dual >= 0).all()
    np.testing.assert_allclose(lower, solution.norm, rtol=1e-8)


def test_of_a_vector_the_spectral_and_nuclear_norm_are_euclidean():
    data = AttentionData([[[0.0, 2.0]], [[1.0, -2.0]]], [1, -1])
    for norm in ("spec", "nuc"):
        np.testing.assert_array_equal(label_svm(data, [0, 0], norm=norm).v, [0.0, 0.5])
