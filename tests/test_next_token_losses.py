"""The losses of next-token prediction: the attention on the right tokens, and softmax heads."""

from __future__ import annotations

import mpmath
import numpy as np
import plain_loss
import pytest
from plain_attention import exact

import attsvm
from attsvm import AttentionData, StepRule
from attsvm.functional import loss_and_grad
from attsvm.heads import LinearScores, ReLU, Softmax


def random_problem(seed, n=4, T=5, d=4, K=5, batch=()):
    """Tokens of a vocabulary of K, and the head that counts those equal to the label."""
    rng = np.random.default_rng(seed)
    embeddings = rng.standard_normal((*batch, K, d)) / np.sqrt(d)
    ids = rng.integers(0, K, (*batch, n, T))
    right = np.take_along_axis(ids, rng.integers(0, T, (*batch, n, 1)), axis=-1)
    if batch:
        tokens = np.stack([e[i] for e, i in zip(embeddings, ids, strict=True)])
    else:
        tokens = embeddings[ids]
    data = AttentionData(tokens, np.ones((*batch, n)), queries=tokens[..., -1, :])
    scores = LinearScores((ids == right).astype(float))
    return data, scores, Softmax(embeddings, right[..., 0])


@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0, 3000.0])
@pytest.mark.parametrize("parameter", ["W", "p", "KQ"])
@pytest.mark.parametrize("loss", ["log", "cross_entropy", "squared"])
def test_loss_and_gradient_are_the_textbooks(loss, parameter, scale):
    """Also where the attention on the right tokens is far below the smallest float64."""
    data, scores, softmax = random_problem(1)
    head = scores if loss == "log" else softmax
    rng = np.random.default_rng(2)
    shapes = {"W": {"W": (4, 4)}, "p": {"p": (4,)}, "KQ": {"K": (4, 2), "Q": (4, 2)}}[parameter]
    at = {block: scale * rng.standard_normal(shape) for block, shape in shapes.items()}
    value, gradients = loss_and_grad(data, at, head=head, loss=loss)
    # Weights are down to e^-logit; a logit known to the unit of rounding moves them by that.
    W = at["K"] @ at["Q"].T if parameter == "KQ" else at[parameter]
    tolerance = 1e-12 + 1e-15 * np.linalg.norm(W) * np.abs(data.tokens).max() ** 2
    with mpmath.workdps(500):
        parameters = {block: exact(array) for block, array in at.items()}
        truth = plain_loss.loss(data, parameters, head, loss)
        assert float(value) == pytest.approx(float(truth), rel=tolerance)
        for block, gradient in gradients.items():
            slope = plain_loss.rounded(plain_loss.gradient(data, parameters, block, head, loss))
            assert np.linalg.norm(gradient - slope) <= tolerance * np.linalg.norm(slope)


@pytest.mark.parametrize("loss", ["log", "cross_entropy", "squared"])
@pytest.mark.parametrize("rule", ["ngd", "gd", "adam"])
def test_a_batch_is_trained_as_its_problems_are(loss, rule):
    B = 19
    data, scores, softmax = random_problem(3, batch=(B,))
    head = scores if loss == "log" else softmax
    together = attsvm.train(data, head=head, loss=loss, rule=rule, lr=0.05, steps=60)
    for b in (0, 9, 18):
        if loss == "log":
            own = LinearScores(scores.scores[b])
        else:
            own = Softmax(softmax.classes[b], softmax.targets[b])
        alone = attsvm.train(data.problem(b), head=own, loss=loss, rule=rule, lr=0.05, steps=60)
        np.testing.assert_allclose(together.W[b], alone.W, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(
            together.history["loss"][b], alone.history["loss"], rtol=1e-9, atol=1e-14
        )


def test_the_log_loss_keeps_its_gap_where_the_loss_rounds_to_zero():
    """One input, two tokens: the gap is log1p(e^-logit), the loss the same."""
    data = AttentionData([[[1.0, 0.0], [0.0, 1.0]]], [1], queries=[[1.0, 0.0]])
    head = LinearScores([[1.0, 0.0]])
    run = attsvm.train(data, head=head, loss="log", lr=1.0, steps=700, record_every=1)
    logits = np.sqrt(2.0) * run.history["step"]
    np.testing.assert_allclose(run.history["norm"], run.history["step"], rtol=1e-13)
    expected = np.log1p(np.exp(-logits))
    seen = logits < 700
    np.testing.assert_allclose(run.history["loss"][seen], expected[seen], rtol=1e-11)
    np.testing.assert_allclose(run.history["loss_gap"][seen], expected[seen], rtol=1e-11)


def test_polyak_steps_reach_the_infimum_of_the_log_loss():
    data = AttentionData([[[1.0, 0.0], [0.0, 1.0]]], [1], queries=[[1.0, 0.0]])
    head = LinearScores([[1.0, 0.0]])
    run = attsvm.train(data, head=head, loss="log", rule=StepRule("polyak"), steps=40)
    assert run.history["loss_gap"][-1] < 1e-7
    steps = np.diff(run.history["norm"])
    assert steps[-1] == pytest.approx(1 / np.sqrt(2) / 2, rel=1e-3)  # |W^mm| / factor


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "log", "head": LinearScores([[1.0, -1.0]])}, "head: expected token scores of 0"),
        ({"loss": "log", "head": LinearScores([[0.0, 0.0]])}, "head: expected a token of positive"),
        (
            {"loss": "log", "head": ReLU(np.ones((2, 2)))},
            "loss: expected another one where",
        ),
        ({"loss": "log", "parameter": ("v", "W")}, "loss: expected another one where"),
        ({"loss": "squared"}, "loss: expected another one without a Softmax head"),
        ({"head": Softmax(np.eye(2), [0])}, "loss: expected 'cross_entropy' or 'squared' with"),
        (
            {"loss": "squared", "head": Softmax(np.eye(3), [0])},
            "head: expected shape",
        ),
        (
            {"loss": "squared", "head": Softmax(np.eye(2), [0, 1])},
            "head: expected shape",
        ),
        (
            {"loss": "cross_entropy", "head": Softmax(np.eye(2), [0]), "rule": "polyak"},
            "rule: expected 'gd' or 'ngd'",
        ),
    ],
)
def test_losses_and_heads_that_do_not_fit_are_refused(settings, message):
    data = AttentionData([[[1.0, 0.0], [0.0, 1.0]]], [1], queries=[[1.0, 0.0]], value=[1.0, 0.0])
    with pytest.raises(ValueError, match=message):
        attsvm.train(data, steps=1, **settings)


def test_targets_are_classes():
    with pytest.raises(ValueError, match=r"targets: expected 0..1, got 2 at"):
        Softmax(np.eye(2), [2])
