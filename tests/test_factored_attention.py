"""W = K Q' trained by its factors: gradients, 300-digit truth, and what the factors mean for W."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import attsvm
from attsvm.functional import loss_and_grad

FIXTURE = np.load(Path(__file__).parent / "data" / "reference_factored.npz")
DATASETS = {"square-data0": 0, "square-data1": 1, "narrow-data2": 2}


@pytest.mark.parametrize("run", DATASETS)
def test_factors_agree_with_300_digits_after_500_normalised_steps(run, local_convergence):
    data = local_convergence.problem(DATASETS[run])
    start, end = FIXTURE[f"{run}:start"], FIXTURE[f"{run}:end"]
    init = {"K": start[0], "Q": start[1]}
    got = attsvm.train(data, parameter="KQ", init=init, steps=500, lr=0.05)
    for factor, truth in ((got.K, end[0]), (got.Q, end[1])):
        assert np.linalg.norm(factor - truth) < 1e-10 * np.linalg.norm(truth)


@pytest.mark.parametrize("loss", ["logistic", "exponential", "correlation"])
@pytest.mark.parametrize("inner", [1, 3, 12])
@pytest.mark.parametrize("batch", [None, 3])
def test_gradients_of_the_factors_follow_from_that_of_w(loss, inner, batch):
    """dK = G Q and dQ = G'K, with G the gradient in W, which is tested against mpmath."""
    data = attsvm.datasets.unit_sphere(4, 5, 7, batch=batch, rng=0)
    lead = () if batch is None else (batch,)
    rng = np.random.default_rng(1)
    K, Q = rng.standard_normal((2, *lead, 7, inner))
    value, gradients = loss_and_grad(data, {"K": K, "Q": Q}, loss=loss)
    W = K @ np.swapaxes(Q, -1, -2)
    expected_value, expected = loss_and_grad(data, {"W": W}, loss=loss)
    G = expected["W"]
    np.testing.assert_allclose(value, expected_value, rtol=1e-14)
    np.testing.assert_allclose(gradients["K"], G @ Q, rtol=0, atol=1e-14 * np.abs(G @ Q).max())
    to_Q = np.swapaxes(G, -1, -2) @ K
    np.testing.assert_allclose(gradients["Q"], to_Q, rtol=0, atol=1e-14 * np.abs(to_Q).max())


def test_each_factor_moves_by_its_own_rate():
    data = attsvm.datasets.unit_sphere(4, 5, 7, rng=2)
    rng = np.random.default_rng(3)
    init = {"K": rng.standard_normal((7, 4)), "Q": rng.standard_normal((7, 4))}
    run = attsvm.train(data, parameter="KQ", init=init, steps=1, lr={"K": 0.3, "Q": 0.02})
    assert np.linalg.norm(run.K - init["K"]) == pytest.approx(0.3, rel=1e-12)
    assert np.linalg.norm(run.Q - init["Q"]) == pytest.approx(0.02, rel=1e-12)


def test_rank_never_exceeds_the_inner_size():
    data = attsvm.datasets.unit_sphere(5, 6, 9, rng=4)
    run = attsvm.train(data, parameter="KQ", inner=2, steps=500, rng=0)
    assert run.K.shape == run.Q.shape == (9, 2)
    np.testing.assert_allclose(run.W, run.K @ run.Q.T, rtol=1e-14)
    singular = np.linalg.svd(run.W, compute_uv=False)
    assert np.all(singular[2:] < 1e-13 * singular[0])


def test_balanced_factors_stay_balanced_under_small_gradient_steps():
    """K'K - Q'Q is conserved by gradient flow; its change is of second order in the step."""
    data = attsvm.datasets.unit_sphere(5, 6, 9, rng=5)
    init = attsvm.train(data, parameter="KQ", steps=0, rng=6)
    before = init.K.T @ init.K - init.Q.T @ init.Q
    change = []
    for lr in (0.01, 0.005):
        run = attsvm.train(
            data,
            parameter="KQ",
            rule="gd",
            lr=lr,
            steps=round(1 / lr),
            init={"K": init.K, "Q": init.Q},
        )
        assert np.linalg.norm(run.K - init.K) > 0.01
        change.append(np.linalg.norm(run.K.T @ run.K - run.Q.T @ run.Q - before))
    assert change[1] == pytest.approx(change[0] / 2, rel=0.05)


def test_history_is_of_the_product():
    data = attsvm.datasets.unit_sphere(5, 6, 9, rng=7)
    reference = np.random.default_rng(8).standard_normal((9, 9))
    run = attsvm.train(data, parameter="KQ", steps=100, rng=9, reference=reference)
    assert run.history["norm"][-1] == pytest.approx(np.linalg.norm(run.W), rel=1e-13)
    expected = attsvm.cosine(run.W, reference)
    assert run.history["cosine"][-1] == pytest.approx(expected, rel=1e-12)


def test_zero_factors_are_stationary():
    data = attsvm.datasets.unit_sphere(3, 4, 5, rng=10)
    zero = np.zeros((5, 2))
    run = attsvm.train(data, parameter="KQ", init={"K": zero, "Q": zero}, steps=5)
    np.testing.assert_array_equal(run.W, 0.0)
    assert np.all(run.history["log_grad_norm"] == -np.inf)


def test_a_balanced_start_has_one_matrix_for_both_factors():
    data = attsvm.datasets.unit_sphere(4, 5, 6, batch=3, rng=0)
    start = attsvm.train(data, parameter="KQ", init="balanced", inner=2, steps=0, rng=1)
    assert start.K.shape == (3, 6, 2)
    assert np.array_equal(start.K, start.Q)
    assert np.abs(start.K).max() <= 1 / np.sqrt(6)
    # Small plain steps stay nearly balanced, as gradient flow stays exactly.
    run = attsvm.train(
        data, parameter="KQ", rule="gd", init="balanced", inner=2, lr=1e-3, steps=2000, rng=1
    )
    gram = [np.swapaxes(factor, 1, 2) @ factor for factor in (run.K, run.Q)]
    assert np.abs(gram[0] - gram[1]).max() < 1e-3
    assert np.abs(run.K - run.Q).max() > 1e-2
    with pytest.raises(ValueError, match="init: expected one of 'uniform', got 'balanced'"):
        attsvm.train(data, parameter="W", init="balanced", steps=1)
