"""Every step rule agrees with 150-digit arithmetic, and obeys its laws.

The fixture is made by tests/reference/make_reference_rules.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linprog

from attsvm import AttentionData, StepRule, datasets, train
from attsvm._geometries import as_geometry

REFERENCE = np.load(Path(__file__).parent / "data" / "reference_rules.npz")
RUNS = json.loads(REFERENCE["runs"].item())


def rule_of(name):
    settings, lr, record = RUNS[name]
    return StepRule(**settings), lr, record


def published(data, which):
    return AttentionData(
        data.tokens[which], data.labels[which], queries=data.queries[which], value=data.value[which]
    )


@pytest.mark.parametrize("name", RUNS)
def test_W_agrees_with_150_digits(local_convergence, name):
    rule, lr, record = rule_of(name)
    data = published(local_convergence, 0)
    for steps, expected in zip(record, REFERENCE[f"{name}:W"], strict=True):
        W = train(data, rule=rule, lr=lr, steps=steps).W
        error = np.linalg.norm(W - expected) / np.linalg.norm(expected)
        assert error < 1e-12, (steps, error)
    history = train(data, rule=rule, lr=lr, steps=record[-1], record_every=record).history
    np.testing.assert_allclose(
        history["log_grad_norm"], REFERENCE[f"{name}:log_grad_norm"], rtol=0, atol=1e-10
    )


def test_the_margin_of_sign_descent_grows_by_its_rate_over_the_norm_of_the_svm(local_convergence):
    """At η / N*: no method in the max norm is faster, and sign descent is as fast."""
    data = published(local_convergence, 0)
    run = train(data, rule="sign", lr=0.01, steps=20000, record_every=[15000, 20000], certify=True)
    rows = np.array(
        [
            np.outer(data.tokens[i, a] - data.tokens[i, t], data.queries[i]).ravel()
            for i, a in enumerate(run.selected)
            for t in range(data.T)
            if t != a
        ]
    )
    m, k = rows.shape
    bound = np.hstack([np.vstack([np.eye(k), -np.eye(k)]), -np.ones((2 * k, 1))])
    program = linprog(
        np.append(np.zeros(k), 1.0),
        A_ub=np.vstack([np.hstack([-rows, np.zeros((m, 1))]), bound]),
        b_ub=np.append(-np.ones(m), np.zeros(2 * k)),
        bounds=(None, None),
    )
    growth = (run.history["margin"][1] - run.history["margin"][0]) / 5000
    assert growth == pytest.approx(0.01 / program.fun, rel=1e-3)


@pytest.mark.parametrize("second", [0.999, 0.99])
def test_the_margin_of_adam_grows_no_faster_than_its_memory_fades(local_convergence, second):
    """By ½ log(1/β2) per step, where its rate would allow more."""
    data = published(local_convergence, 0)
    rule = StepRule("adam", betas=(0.9, second), epsilon=0.0)
    run = train(data, rule=rule, lr=0.01, steps=20000, record_every=[10000, 20000], certify=True)
    growth = (run.history["margin"][1] - run.history["margin"][0]) / 10000
    limit = 0.5 * np.log(1 / second)
    assert growth == pytest.approx(limit, rel=0.1)
    assert growth < limit
    assert run.speed_limit_share == pytest.approx(growth / limit, rel=0.02)


def test_slow_adam_is_not_held_back_by_its_memory(local_convergence):
    data = published(local_convergence, 0)
    rule = StepRule("adam", betas=(0.9, 0.9), epsilon=0.0)
    run = train(data, rule=rule, lr=0.01, steps=5000)
    assert run.speed_limit_share < 0.5
    assert train(data, rule="sign", steps=1).speed_limit_share is None


def test_the_share_of_the_speed_limit_is_not_known_without_gradients():
    alone = train(datasets.unit_sphere(2, 1, 3, rng=0), rule="adam", steps=5)  # one token each
    assert np.isnan(alone.speed_limit_share)


def test_adam_goes_on_where_squares_of_gradients_underflow(local_convergence):
    rule = StepRule("adam", betas=(0.9, 0.9), epsilon=0.0)
    run = train(
        published(local_convergence, slice(4)),
        rule=rule,
        lr=0.01,
        steps=40000,
        record_every=[20000, 30000, 40000],
    )
    assert np.all(run.history["log_grad_norm"][:, 1] < -500)
    growth = np.diff(run.history["norm"], axis=1)
    np.testing.assert_allclose(growth[:, 1], growth[:, 0], rtol=0.05)


@pytest.mark.parametrize(
    ("rule", "norm"),
    [("sign", "max"), ("spectral", "spec"), ("coordinate", "l1"), ("ngd", "fro"), ("lion", "max")],
)
def test_weight_decay_keeps_the_norm_below_its_inverse(local_convergence, rule, norm):
    data, decay = published(local_convergence, 0), 0.5
    for steps in (10, 300, 5000):
        W = train(data, rule=StepRule(rule, weight_decay=decay, decay=0.5), steps=steps).W
        assert as_geometry("norm", norm).norm(W) * decay <= 1 + 1e-12
    assert as_geometry("norm", norm).norm(W) * decay > 0.9


def test_an_entry_that_is_only_rounding_has_sign_0():
    """The same tokens in another order, with opposite labels: what they add to W cancels."""
    rng = np.random.default_rng(3)
    tokens = rng.standard_normal((5, 4))
    data = AttentionData(
        np.stack([tokens, tokens[rng.permutation(5)]]),
        [1.0, -1.0],
        queries=[[0.3, 1.0, 0.0, 0.7], [0.3, -1.0, 0.0, 0.1]],
        value=rng.standard_normal(4),
    )
    for rule in ("sign", "lion", StepRule("adam", epsilon=0.0)):
        W = train(data, rule=rule, loss="correlation", steps=1).W
        np.testing.assert_array_equal(W[:, [0, 2]], 0.0)
        np.testing.assert_allclose(np.abs(W[:, [1, 3]]), 0.1)


@pytest.mark.parametrize("rule", ["sign", "coordinate", "spectral", "muon", "adam", "mirror"])
def test_rules_do_not_depend_on_the_number_of_threads(rule):
    data = datasets.unit_sphere(40, 30, 60, rng=0)
    norm = 3.0 if rule == "mirror" else None
    for parameter in ("W", "KQ"):
        settings = {"parameter": parameter, "rule": StepRule(rule, norm=norm), "steps": 8, "rng": 1}
        one, two = (train(data, num_threads=k, **settings) for k in (1, 2))
        assert np.array_equal(one.W, two.W)


@pytest.mark.parametrize("rule", ["ngd", "sign", "mirror", StepRule("adam", epsilon=0.0)])
@pytest.mark.parametrize("parameter", ["W", "p"])
def test_steps_do_not_depend_on_the_size_of_tokens(rule, parameter):
    """Where gradients, rates, or squares of gradients come near the bounds of float64."""
    data = datasets.unit_sphere(3, 4, 5, batch=2, rng=0)
    settings = {"parameter": parameter, "rule": rule, "loss": "correlation", "steps": 30}
    expected = train(data, lr=0.05, **settings).direction
    for power in (-460, -430, -300, 250, 340, 430, 500):
        size = 2.0**power
        other = AttentionData(
            data.tokens * size, data.labels, queries=data.queries, value=data.value
        )
        run = train(other, lr=0.05 / size, **settings)
        np.testing.assert_allclose(run.direction * size, expected, rtol=1e-9, atol=1e-12)
