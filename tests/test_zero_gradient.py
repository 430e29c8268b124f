"""A gradient that is only the rounding of its own terms is zero, and the iterate stays."""

from __future__ import annotations

import numpy as np
import pytest

import attsvm


def conflicting(rng, embeddings):
    """Return two equal contexts, labelled once with each of their tokens."""
    E = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return attsvm.NextTokenData(E, [[5, 0], [5, 0]], [5, 0], last=[2, 2])


@pytest.mark.parametrize("rule", ["ngd", "gd", "adam"])
@pytest.mark.parametrize("kind", ["orthonormal", "random"])
def test_conflicting_labels_at_zero(kind, rule):
    rng = np.random.default_rng(0)
    data = conflicting(rng, np.eye(6) if kind == "orthonormal" else rng.normal(size=(6, 8)))
    run = attsvm.train(data, steps=50, lr=0.01, rule=rule, record_every=1)
    assert not run.W.any()
    assert np.isneginf(run.history["log_grad_norm"]).all()


@pytest.mark.parametrize("parameter", ["W", "p", "KQ"])
def test_opposite_labels_at_any_start(parameter):
    rng = np.random.default_rng(1)
    X, z = rng.normal(size=(1, 4, 5)), rng.normal(size=(1, 5))
    data = attsvm.AttentionData(
        np.concatenate([X, X]), [1, -1], queries=np.concatenate([z, z]), value=rng.normal(size=5)
    )
    init = {"p": rng.normal(size=5), "W": rng.normal(size=(5, 5)), "KQ": "uniform"}[parameter]
    runs = [
        attsvm.train(
            data, parameter=parameter, loss="correlation", init=init, steps=steps, lr=0.01, rng=0
        )
        for steps in (0, 100)
    ]
    assert (runs[0].direction == runs[1].direction).all()
    assert runs[1].history["grad_norm"].max() == 0


def test_equal_tokens_with_different_scores():
    rng = np.random.default_rng(2)
    x = rng.normal(size=5)
    data = attsvm.AttentionData(np.tile(x, (1, 4, 1)), [1], queries=rng.normal(size=(1, 5)))
    head = attsvm.heads.LinearScores(rng.normal(size=(1, 4)))
    assert not attsvm.train(data, head=head, steps=10).W.any()


def test_a_small_gradient_above_the_bound_moves():
    """The second input's gradient is that of the first but for 1e-12 of it."""
    rng = np.random.default_rng(3)
    X, z, v = rng.normal(size=(1, 4, 5)), rng.normal(size=(1, 5)), rng.normal(size=5)
    data = attsvm.AttentionData(
        np.concatenate([X, X]),
        [1, -1],
        queries=np.concatenate([z, z * (1 + 1e-12)]),
        value=v,
    )
    run = attsvm.train(data, loss="correlation", steps=1, lr=0.1)
    assert np.linalg.norm(run.W) == pytest.approx(0.1)
