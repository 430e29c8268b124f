"""Next-token data trained by ids goes where its looked-up tokens go."""

from __future__ import annotations

import numpy as np
import pytest

import attsvm
from attsvm import NextTokenData, StepRule
from attsvm.descent import by_ids

RULES = [
    StepRule("ngd"),
    StepRule("gd", momentum=0.5),
    StepRule("ngd", momentum=0.3, nesterov=True, decay=0.5),
    StepRule("polyak", factor=4.0, largest_step=2.0),
]


def corpus(embedding, seed=0, n=200, T=9, K=20, d=30):
    drawn = attsvm.datasets.next_token(n, T, K, d, embedding=embedding, rng=seed)
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, T + 1, n)
    labels = drawn.contexts[np.arange(n), rng.integers(0, lengths)]
    contexts = drawn.contexts.copy()
    contexts[:, 1] = contexts[:, 0]  # repeated tokens
    labels = np.where(labels == drawn.contexts[:, 1], contexts[:, 0], labels)
    return NextTokenData(drawn.embeddings, contexts, labels, lengths=lengths)


def trained_both_ways(data, monkeypatch, **settings):
    monkeypatch.setattr(by_ids, "_SMALL", 0)
    ids = attsvm.train(data, **settings)
    monkeypatch.setattr(by_ids, "_SMALL", 10**15)
    tokens = attsvm.train(data, **settings)
    assert type(ids.trained).__name__ == "TrainedByIds"
    assert type(tokens.trained).__name__ == "Trained"
    return ids, tokens


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("embedding", ["orthonormal", "random"])
def test_ids_go_where_tokens_go(embedding, rule, monkeypatch):
    data = corpus(embedding)
    rng = np.random.default_rng(1)
    reference = {"dense": rng.standard_normal((30, 30)), "svm": attsvm.graph_svm(data)}
    ids, tokens = trained_both_ways(data, monkeypatch, rule=rule, steps=200, reference=reference)
    size = np.abs(tokens.W).max()
    np.testing.assert_allclose(ids.W, tokens.W, rtol=0, atol=1e-10 * size)
    np.testing.assert_allclose(ids.left.T @ ids.right, tokens.W, rtol=0, atol=1e-10 * size)
    np.testing.assert_allclose(ids.log_attention, tokens.log_attention, rtol=1e-8, atol=1e-10)
    assert np.array_equal(ids.selected, tokens.selected)
    assert set(ids.history) == set(tokens.history)
    for key in tokens.history:
        np.testing.assert_allclose(ids.history[key], tokens.history[key], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("embedding", ["orthonormal", "random"])
def test_w_does_not_change_with_the_embeddings_of_the_caller(embedding, monkeypatch):
    monkeypatch.setattr(by_ids, "_SMALL", 0)
    drawn = corpus(embedding)
    table = drawn.embeddings.copy()
    data = NextTokenData(table, drawn.contexts, drawn.labels, lengths=drawn.lengths)
    run = attsvm.train(data, steps=20)
    table[:] = -1.0
    np.testing.assert_array_equal(run.W, attsvm.train(drawn, steps=20).W)
    assert type(run.trained).__name__ == "TrainedByIds"


@pytest.mark.parametrize("embedding", ["orthonormal", "random"])
def test_threads_change_no_bit(embedding, monkeypatch):
    monkeypatch.setattr(by_ids, "_SMALL", 0)
    data = corpus(embedding, n=4000)
    one = attsvm.train(data, steps=20, num_threads=1)
    for threads in (2, 3):
        other = attsvm.train(data, steps=20, num_threads=threads)
        assert np.array_equal(one.W, other.W)
        assert np.array_equal(one.history["loss"], other.history["loss"])


def test_ids_are_used_where_they_pay():
    large = corpus("orthonormal", n=2000)
    assert type(attsvm.train(large, steps=1).trained).__name__ == "TrainedByIds"
    for settings in (
        {"init": np.eye(30)},
        {"rule": "adam"},
        {"rule": StepRule(batch_size=7)},
        {"ridge": 1e-3},
        {"certify": True},
        {"parameter": "p"},
        {"loss": "cross_entropy"},
    ):
        assert type(attsvm.train(large, steps=1, **settings).trained).__name__ == "Trained"
    small = corpus("orthonormal", n=20)
    assert type(attsvm.train(small, steps=1).trained).__name__ == "Trained"


def test_the_dimension_does_not_matter(monkeypatch):
    """The same corpus with embeddings of 10 times the dimension: the same table of logits."""
    monkeypatch.setattr(by_ids, "_SMALL", 0)
    data = corpus("random")
    turn = np.linalg.qr(np.random.default_rng(2).standard_normal((300, 30)))[0].T
    wide = NextTokenData(data.embeddings @ turn, data.contexts, data.labels, lengths=data.lengths)
    narrow, long = attsvm.train(data, steps=100), attsvm.train(wide, steps=100)
    np.testing.assert_allclose(long.history["loss"], narrow.history["loss"], rtol=1e-10)
    assert long.trained.coefficients.shape == narrow.trained.coefficients.shape


def test_references_that_do_not_fit_are_refused(monkeypatch):
    monkeypatch.setattr(by_ids, "_SMALL", 0)
    data = corpus("orthonormal")
    with pytest.raises(ValueError, match="reference: expected a direction, got zero"):
        attsvm.train(data, steps=1, reference=np.zeros((30, 30)))
    with pytest.raises(ValueError, match=r"reference\['a'\]: expected shape"):
        attsvm.train(data, steps=1, reference={"a": np.zeros((30, 29))})
    unseen = NextTokenData(data.embeddings, [[0, 1], [1, 2]], [0, 5])
    with pytest.raises(ValueError, match="data: expected every label in its context"):
        attsvm.train(unseen, steps=1)


@pytest.mark.parametrize("embedding", ["orthonormal", "random"])
@pytest.mark.parametrize("apart", [1e-3, 1e-10, 0.0])
def test_gaps_far_below_rounding_have_their_digits(embedding, apart, monkeypatch):
    """A direction turned by the angle atan(apart) has 1 - cosine = apart²/2 to first order."""
    monkeypatch.setattr(by_ids, "_SMALL", 0)
    data = corpus(embedding, d=8, K=8)
    W = attsvm.train(data, steps=50).W
    across = np.random.default_rng(2).standard_normal(W.shape)
    across -= np.vdot(across, W) / np.vdot(W, W) * W
    turned = W + apart * np.linalg.norm(W) / np.linalg.norm(across) * across
    run = attsvm.train(data, steps=50, reference=turned)
    gap = run.history["cosine_gap"][-1]
    exact = 1 - 1 / np.sqrt(1 + apart**2) if apart == 1e-3 else apart**2 / 2
    assert gap == pytest.approx(exact, rel=1e-4, abs=1e-30)
