"""Training W and p of the logits X W p together: gradients, digits, coordinates of what moves."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

import attsvm
from attsvm import StepRule
from attsvm.datasets import signal_noise, unit_sphere
from attsvm.functional import loss_and_grad


def draw(d, m, lead=(), seed=0):
    rng = np.random.default_rng(seed)
    return {"W": rng.uniform(-0.6, 0.6, (*lead, d, m)), "p": rng.uniform(-0.6, 0.6, (*lead, m))}


@pytest.mark.parametrize("batch", [None, 3, 20])
def test_gradients_follow_from_that_of_the_prompt(batch):
    """With u = W p, dW = g p' and dp = W'g where g is the gradient in u."""
    data = unit_sphere(4, 5, 6, batch=batch, rng=0)
    at = draw(6, 3, () if batch is None else (batch,))
    loss, gradients = loss_and_grad(data, at)
    u = np.einsum("...dm,...m->...d", at["W"], at["p"])
    of_u, by_u = loss_and_grad(data, {"p": u})
    np.testing.assert_allclose(loss, of_u, rtol=1e-14)
    dW = by_u["p"][..., np.newaxis] * at["p"][..., np.newaxis, :]
    np.testing.assert_allclose(gradients["W"], dW, rtol=1e-11, atol=1e-16)
    dp = np.einsum("...dm,...d->...m", at["W"], by_u["p"])
    np.testing.assert_allclose(gradients["p"], dp, rtol=1e-11, atol=1e-16)


def high_precision_run(data, start, rule, lr, steps):
    """Descend in 120 digits; return W and p."""
    mp = mpmath.mp.clone()
    mp.dps = 120
    X = [[mp.matrix(token.tolist()) for token in tokens] for tokens in data.tokens]
    Y, v = data.labels.tolist(), mp.matrix(data.value.tolist())
    W, p = mp.matrix(start["W"].tolist()), mp.matrix(start["p"].tolist())

    def dot(a, b):
        return mp.fsum(x * y for x, y in zip(a, b, strict=True))

    for _ in range(steps):
        u, g = W * p, mp.matrix(data.d, 1)
        for tokens, y in zip(X, Y, strict=True):
            weights = [mp.exp(dot(x, u)) for x in tokens]
            weights = [w / mp.fsum(weights) for w in weights]
            scores = [y * dot(x, v) for x in tokens]
            margin = dot(weights, scores)
            slope = -1 / (1 + mp.exp(margin)) / len(X)
            for x, w, score in zip(tokens, weights, scores, strict=True):
                g += slope * w * (score - margin) * x
        steps_of = {"W": g * p.T, "p": W.T * g}
        if rule == "ngd":
            steps_of = {k: G / mp.sqrt(dot(G, G)) for k, G in steps_of.items()}
        W, p = W - lr * steps_of["W"], p - lr * steps_of["p"]
    return np.array(W.tolist(), dtype=float), np.array(p.T.tolist()[0], dtype=float)


@pytest.mark.parametrize(("rule", "lr"), [("gd", 0.5), ("ngd", 0.05)])
def test_training_agrees_with_120_digits(rule, lr):
    data, start = unit_sphere(2, 3, 4, rng=1), draw(4, 3, seed=1)
    W, p = high_precision_run(data, start, rule, lr, 150)
    run = attsvm.train(data, parameter="W+p", rule=rule, lr=lr, steps=150, init=start)
    np.testing.assert_allclose(run.W, W, rtol=0, atol=1e-12 * np.abs(W).max())
    np.testing.assert_allclose(run.p, p, rtol=0, atol=1e-12 * np.abs(p).max())
    np.testing.assert_allclose(run.direction, W @ p, rtol=0, atol=1e-12 * np.abs(W @ p).max())
    assert run.history["norm"][-1] == pytest.approx(np.linalg.norm(W @ p), rel=1e-12)


RULES = [
    "gd",
    "spectral",
    StepRule("gd", ema=0.5),
    StepRule("ngd", decay=0.7, momentum=0.5, batch_size=2),
]


@pytest.mark.parametrize("parameter", ["W+p", ("v", "W+p")])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: getattr(rule, "kind", rule))
def test_coordinates_of_what_moves_are_exact(rule, parameter, monkeypatch):
    """Tokens span 15 of 60 dimensions, so that W is trained as 32 × 16 or 60 × 16 numbers."""
    data = signal_noise(3, 5, 60, signal=4.0, label_noise=0.3, batch=2, rng=0)
    start = draw(60, 40, (2,))
    options = {"rule": rule, "lr": 0.05, "rng": 1, "init": start, "record": ("W", "p", "Wp")}
    options |= {"parameter": parameter, "reference": attsvm.prompt_svm(data, np.zeros((2, 3), int))}
    run = attsvm.train(data, steps=60, record_every=20, **options)
    monkeypatch.setattr("attsvm.descent.problem._reduction_pays", lambda *_: False)
    plain = attsvm.train(data, steps=60, record_every=20, **options)
    assert run.trained.coordinates.inner_basis.shape == (2, 16, 40)
    assert plain.trained.coordinates.inner_basis is None
    for name, series in plain.history.items():
        np.testing.assert_allclose(run.history[name], series, rtol=1e-9, atol=1e-11)
    for name, block in plain.parameters.items():
        np.testing.assert_allclose(run.parameters[name], block, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(run.left.swapaxes(1, 2) @ run.right, run.direction[..., np.newaxis])


def test_the_start_is_a_drawn_matrix_and_no_prompt():
    data = signal_noise(3, 4, 50, rng=0)
    run = attsvm.train(data, parameter=("p", "W"), steps=0, rng=1)
    assert run.parameter == "W+p"
    assert not run.p.any()
    assert 0.95 / np.sqrt(50) < np.abs(run.W).max() <= 1 / np.sqrt(50)
    start = attsvm.train(data, parameter="W+p", steps=0, init="unbalanced")
    np.testing.assert_array_equal(start.W, np.eye(50))
    with pytest.raises(ValueError, match="init: expected one of 'uniform', 'unbalanced'"):
        attsvm.train(data, parameter="W+p", init="balanced")


def test_flow_preserves_the_difference_of_products():
    data = unit_sphere(3, 4, 5, rng=0)
    start = draw(5, 4)
    run = attsvm.train(data, parameter="W+p", rule="flow", lr=0.1, steps=30, init=start)

    def balance(W, p):
        return W.T @ W - np.outer(p, p)

    change = balance(run.W, run.p) - balance(**start)
    size = np.sum(run.W**2) + np.sum(run.p**2)
    assert run.history["balance_drift"][-1] < 1e-7
    assert np.linalg.norm(change) / size == pytest.approx(
        run.history["balance_drift"][-1], rel=1e-2
    )


def test_it_converges_to_the_svm_of_the_prompt():
    """Of all W and p with one W p, |W|² + |p|² is at least 2|W p|: the norm is that of W p."""
    data = unit_sphere(4, 4, 12, batch=20, rng=2)
    rule = StepRule("ngd", decay=0.7)
    run = attsvm.train(data, parameter="W+p", rule=rule, lr=0.5, steps=4000, rng=0, record="Wp")
    svm = attsvm.prompt_svm(data, run.selected)
    assert svm.feasible.all()
    assert np.median(attsvm.cosine(run.direction, svm.p, axis=-1)) > 0.995
    ratio = attsvm.margin_ratio(data, run, run.selected, "fro")
    assert np.median(ratio) > 0.95
    along = attsvm.margin_ratios(data, run, "fro")["fro"]
    np.testing.assert_allclose(along[:, -1], ratio, rtol=1e-12)
    assert set(attsvm.classify(data, run)) <= {"global", "local"}
