"""Gradient flow: its integration against another method's, and what it keeps."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from attsvm import AttentionData, StepRule, datasets, train
from attsvm.functional import loss_and_grad


@pytest.mark.parametrize("loss", ["logistic", "exponential"])
@pytest.mark.parametrize("parameter", ["W", "KQ", ("v", "W")], ids=str)
def test_flow_is_that_of_another_method(parameter, loss):
    """DOP853 of SciPy, order 8, on the same right side."""
    data = datasets.unit_sphere(3, 4, 5, rng=0)
    rng = np.random.default_rng(1)
    shapes = {"W": (5, 5)} if parameter != "KQ" else {"K": (5, 3), "Q": (5, 3)}
    if parameter == ("v", "W"):
        shapes["v"] = (5,)
    init = {name: 0.3 * rng.standard_normal(shape) for name, shape in shapes.items()}
    names = list(init)
    cuts = np.cumsum([init[name].size for name in names])[:-1]

    def blocks(y):
        parts = np.split(y, cuts)
        return {n: part.reshape(init[n].shape) for n, part in zip(names, parts, strict=True)}

    def slope(_, y):
        _, gradient = loss_and_grad(data, blocks(y), loss=loss)
        g = np.concatenate([gradient[name].ravel() for name in names])
        return -g / np.linalg.norm(g)

    start = np.concatenate([init[name].ravel() for name in names])
    y = solve_ivp(slope, (0, 6), start, method="DOP853", rtol=1e-12, atol=1e-13).y[:, -1]
    expected = blocks(y)
    run = train(data, parameter=parameter, rule="flow", lr=0.75, steps=8, init=init, loss=loss)
    got = {"W": run.W, "K": run.K, "Q": run.Q, "v": run.v}
    for name in names:
        np.testing.assert_allclose(got[name], expected[name], atol=1e-8)


def test_flow_keeps_the_balance_of_keys_and_queries(local_convergence):
    """K'K - Q'Q, over arc lengths after which the loss is 1e-30 and below."""
    for init in ("balanced", "uniform"):
        run = train(
            local_convergence,
            parameter="KQ",
            rule="flow",
            lr=2.0,
            steps=20,
            init=init,
            rng=0,
            record_every=5,
        )
        assert run.history["log_grad_norm"][:, -1].max() < -40
        assert run.history["balance_drift"][:, 1:].max() < 1e-8
        assert np.array_equal(run.history["balance_drift"][:, 0], np.zeros(50))
    K, Q = run.K, run.Q
    assert np.isfinite(K).all()
    assert np.isfinite(Q).all()


def test_balanced_flow_has_the_nuclear_norm_of_its_factors(local_convergence):
    """‖K Q'‖_* = (|K|² + |Q|²) / 2, where K'K = Q'Q."""
    run = train(
        local_convergence.problem(0),
        parameter="KQ",
        rule="flow",
        lr=10.0,
        steps=2,
        init="balanced",
        rng=0,
    )
    nuclear = np.linalg.svd(run.W, compute_uv=False).sum()
    assert nuclear == pytest.approx((np.sum(run.K**2) + np.sum(run.Q**2)) / 2, rel=1e-8)


def test_flow_on_W_goes_where_short_normalised_steps_go():
    data = datasets.unit_sphere(3, 4, 6, rng=1)
    flow = train(data, rule="flow", lr=1.0, steps=5)
    far = [
        np.linalg.norm(train(data, lr=5.0 / steps, steps=steps).W - flow.W)
        for steps in (1000, 2000)
    ]
    assert far[1] < 0.01
    assert far[1] == pytest.approx(far[0] / 2, rel=0.05)  # Euler's method, of first order


def test_lengths_add_up():
    data = datasets.unit_sphere(3, 4, 6, rng=2)
    once = train(data, rule="flow", lr=8.0, steps=1)
    often = train(data, rule="flow", lr=0.5, steps=16)
    np.testing.assert_allclose(once.W, often.W, atol=1e-8)
    tight = train(data, rule=StepRule("flow", tolerance=1e-13), lr=8.0, steps=1)
    np.testing.assert_allclose(once.W, tight.W, atol=1e-8)


def test_a_batch_flows_as_its_problems_do(local_convergence):
    together = train(local_convergence, rule="flow", lr=5.0, steps=4)
    for b in (0, 17, 49):
        alone = train(local_convergence.problem(b), rule="flow", lr=5.0, steps=4)
        np.testing.assert_allclose(together.W[b], alone.W, atol=1e-7)


def test_flow_stays_where_the_gradient_is_zero():
    data = datasets.unit_sphere(2, 1, 3, rng=0)  # one token each
    assert not train(data, rule="flow", steps=3).W.any()


@pytest.mark.parametrize(
    ("parameter", "ridge"), [("W", 0.05), ("p", 0.05), ("KQ", 0.05), ("KQ", 0.005), ("W+p", 0.005)]
)
def test_flow_ends_at_a_minimum(parameter, ridge):
    """Of the loss with a ridge: its path is of finite length. A large one leads K and Q to 0."""
    data = datasets.unit_sphere(3, 4, 5, batch=2, rng=0)
    settings = {"parameter": parameter, "rule": "flow", "ridge": ridge, "lr": 1.0, "rng": 0}
    run = train(data, steps=200, **settings)
    for b in range(2):
        at = {name: x[b] for name, x in run.parameters.items()}
        _, slopes = loss_and_grad(data.problem(b), at)
        for name, slope in slopes.items():
            np.testing.assert_allclose(slope, -2 * ridge * at[name], atol=1e-8)


def test_flow_that_turns_too_fast_is_refused():
    """Two inputs conflict over p_1, which has a minimum; p_2 goes on, with a slope that falls."""
    tokens = [[[2.0, 0], [0, 0]], [[1.0, 0], [0, 0]], [[0, 1.0], [0, 0]]]
    data = AttentionData(tokens, [1, -1, 1], value=[1.0, 1.0])
    run = train(data, parameter="p", rule="flow", lr=1.0, steps=8)
    assert run.p[0] < 0.6
    assert run.p[1] > 7.8
    with pytest.raises(FloatingPointError, match=r"train: gradient flow turns too fast .* of lr"):
        train(data, parameter="p", rule="flow", lr=1.0, steps=40)


def test_flow_refuses_what_it_does_not_have():
    for settings in ({"momentum": 0.5}, {"weight_decay": 0.1}, {"batch_size": 2}, {"norm": "max"}):
        (name,) = settings
        with pytest.raises(ValueError, match=f"{name}: expected no value for kind='flow'"):
            StepRule("flow", **settings)
    data = datasets.unit_sphere(2, 3, 4, rng=0)
    with pytest.raises(ValueError, match="lr: expected one rate for all blocks"):
        train(data, parameter="KQ", rule="flow", lr={"K": 1.0, "Q": 2.0})
