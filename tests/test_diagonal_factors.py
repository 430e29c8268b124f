"""Training k and q of W = diag(k ∘ q): gradients, what gradient flow preserves, and the limit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

import attsvm
from attsvm.functional import loss_and_grad

DIAGONAL = "diagonal KQ"


@pytest.mark.parametrize("batch", [None, 3, 40])
def test_gradients_follow_from_that_of_w(batch):
    data = attsvm.datasets.unit_sphere(4, 5, 6, batch=batch, rng=0)
    lead = () if batch is None else (batch,)
    k, q = np.random.default_rng(1).standard_normal((2, *lead, 6))
    loss, gradient = loss_and_grad(data, {"k": k, "q": q})
    of_w, by_w = loss_and_grad(data, {"W": (k * q)[..., np.newaxis] * np.eye(6)})
    g = np.diagonal(by_w["W"], axis1=-2, axis2=-1)
    np.testing.assert_allclose(loss, of_w, rtol=1e-14)
    np.testing.assert_allclose(gradient["k"], g * q, rtol=1e-12, atol=1e-17)
    np.testing.assert_allclose(gradient["q"], g * k, rtol=1e-12, atol=1e-17)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_is_the_recursion_of_its_gradients(threads):
    data = attsvm.datasets.unit_sphere(4, 5, 6, rng=2)
    k, q = (np.random.default_rng(3).uniform(-0.4, 0.4, 6) for _ in range(2))
    q = q[::-1]
    run = attsvm.train(
        data,
        parameter=DIAGONAL,
        init={"k": k, "q": q},
        lr={"k": 0.1, "q": 0.2},
        steps=50,
        num_threads=threads,
    )
    for _ in range(50):
        gradient = loss_and_grad(data, {"k": k, "q": q})[1]
        k = k - 0.1 * gradient["k"] / np.linalg.norm(gradient["k"])
        q = q - 0.2 * gradient["q"] / np.linalg.norm(gradient["q"])
    np.testing.assert_allclose(run.parameters["k"], k, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(run.parameters["q"], q, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(run.W, np.diag(k * q), rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(run.left.T @ run.right, run.W)
    assert run.K is None
    assert run.history["norm"][-1] == pytest.approx(np.linalg.norm(run.W))


def test_problems_of_a_batch_run_as_alone():
    data = attsvm.datasets.unit_sphere(4, 5, 6, batch=20, rng=4)
    together = attsvm.train(data, parameter=DIAGONAL, init="unbalanced", steps=100)
    for b in (0, 7, 19):
        alone = attsvm.train(data.problem(b), parameter=DIAGONAL, init="unbalanced", steps=100)
        np.testing.assert_allclose(together.W[b], alone.W, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("parameter", "start"), [("KQ", np.eye(6)), (DIAGONAL, np.ones(6))])
def test_an_unbalanced_start(parameter, start):
    run = attsvm.train(
        attsvm.datasets.unit_sphere(3, 4, 6, rng=0), parameter=parameter, init="unbalanced", steps=0
    )
    first, second = run.parameters.values()
    np.testing.assert_array_equal(first, start)
    assert not second.any()
    assert not run.W.any()


def test_gradient_flow_preserves_the_difference_of_squares():
    data = attsvm.datasets.unit_sphere(4, 5, 6, rng=5)
    start = attsvm.train(data, parameter=DIAGONAL, init="balanced", steps=0, rng=6).parameters
    np.testing.assert_array_equal(start["k"], start["q"])
    drift = {}
    for lr in (1e-2, 1e-3):
        run = attsvm.train(
            data,
            parameter=DIAGONAL,
            rule="gd",
            lr=lr,
            steps=int(20 / lr),
            init={"k": start["k"], "q": 0.5 * start["q"]},
        )
        change = run.parameters["k"] ** 2 - run.parameters["q"] ** 2 - 0.75 * start["k"] ** 2
        drift[lr] = np.abs(change).max()
    assert drift[1e-3] < 0.2 * drift[1e-2] < 1e-2


def svm_of_diagonals(data, selected):
    """Return the w of least Σ|w_j| with Σ_j w_j (x_iα - x_it)_j z_ij >= 1, by a linear program."""
    rows = np.concatenate(
        [
            (x[a] - np.delete(x, a, axis=0)) * z
            for x, z, a in zip(data.tokens, data.queries, selected, strict=True)
        ]
    )
    both = np.hstack([-rows, rows])
    solved = linprog(np.ones(both.shape[1]), A_ub=both, b_ub=-np.ones(len(rows)))
    assert solved.status == 0
    return rows, np.subtract(*np.split(solved.x, 2))


def test_an_unbalanced_start_leads_to_the_l1_svm_and_a_balanced_one_keeps_its_signs():
    """Sheen et al., 2024, theorem for diagonal weights: min |w|_1 of w = k ∘ q."""
    data = attsvm.datasets.unit_sphere(2, 3, 8, rng=0)
    ratios = {}
    for init in ("unbalanced", "balanced"):
        rule = attsvm.StepRule(decay=0.5)
        run = attsvm.train(
            data,
            parameter=DIAGONAL,
            rule=rule,
            lr=0.1,
            steps=20_000,
            init=init,
            rng=1,
            loss="exponential",
        )
        w = np.diag(run.W)
        rows, best = svm_of_diagonals(data, run.selected)
        ratios[init] = (rows @ w).min() / np.abs(w).sum() * np.abs(best).sum()
        if init == "balanced":
            assert (w >= 0).all()
    assert ratios["unbalanced"] > 0.95 > ratios["balanced"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"init": np.ones(6)}, "init: expected a dict with 'k' and 'q'"),
        ({"init": {"k": np.ones(6)}}, "init: expected the keys 'k' and 'q'"),
        ({"init": {"k": np.ones(5), "q": np.ones(6)}}, r"init\['k'\]: expected shape \(d,\)"),
        ({"init": "zero"}, "init: expected one of 'uniform', 'balanced', 'unbalanced'"),
        ({"inner": 3}, "inner: expected None"),
        ({"lr": {"K": 1.0, "Q": 1.0}}, "lr: expected the keys 'k' and 'q'"),
    ],
)
def test_errors(options, text):
    data = attsvm.datasets.unit_sphere(3, 4, 6, rng=0)
    with pytest.raises((TypeError, ValueError), match=text):
        attsvm.train(data, parameter=DIAGONAL, **options)
