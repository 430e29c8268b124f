"""Heads other than the fixed linear one: loss and gradient, training, engines, what they refuse."""

from __future__ import annotations

import copy
import pickle
import re

import mpmath
import numpy as np
import plain_loss
import pytest
from plain_attention import exact
from random_problems import random_problem

import attsvm
from attsvm import AttentionData, StepRule
from attsvm.functional import loss_and_grad
from attsvm.heads import LinearScores, Penalised, ReLU, Softmax

LOSSES = ("logistic", "exponential", "correlation")


def random_head(kind, seed, d=3, batch=()):
    rng = np.random.default_rng(seed)
    if kind == "relu":
        return ReLU(rng.standard_normal((*batch, d, 5)), rng.standard_normal((*batch, 5)))
    return Penalised(rng.standard_normal((*batch, d)), 0.7)


@pytest.mark.parametrize("kind", ["relu", "penalised"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("parameter", ["W", "p", "KQ"])
def test_loss_and_gradient_are_the_textbooks(kind, loss, parameter):
    data = random_problem(1)
    head = random_head(kind, 2)
    rng = np.random.default_rng(3)
    shapes = {"W": {"W": (3, 3)}, "p": {"p": (3,)}, "KQ": {"K": (3, 2), "Q": (3, 2)}}
    at = {block: rng.standard_normal(shape) for block, shape in shapes[parameter].items()}
    value, gradients = loss_and_grad(data, at, head=head, loss=loss)
    with mpmath.workdps(plain_loss.DIGITS):
        parameters = {block: exact(array) for block, array in at.items()}
        assert float(value) == pytest.approx(
            float(plain_loss.loss(data, parameters, head, loss)), rel=1e-14
        )
        for block, gradient in gradients.items():
            truth = plain_loss.rounded(plain_loss.gradient(data, parameters, block, head, loss))
            assert np.linalg.norm(gradient - truth) < 1e-13 * np.linalg.norm(truth)


def test_a_hidden_unit_at_zero_has_slope_zero():
    data = AttentionData([[[0.0, 1.0], [0.0, -1.0]]], [1], queries=[[1.0, 0.0]])
    head = ReLU([[1.0], [0.0]])  # the unit sees only the first coordinate, which is 0
    value, gradients = loss_and_grad(data, {"W": np.eye(2)}, head=head)
    assert value == np.log(2.0)
    assert not gradients["W"].any()


@pytest.mark.parametrize("kind", ["relu", "penalised"])
@pytest.mark.parametrize("parameter", ["W", "p", "KQ"])
def test_a_batch_is_trained_as_its_problems_are(kind, parameter):
    """33 problems: full packs, a pack that is not full, and heads of their own."""
    B = 33
    data = random_problem(4, n=4, T=5, d=6, batch=(B,))
    head = random_head(kind, 5, d=6, batch=(B,))
    settings = {"parameter": parameter, "steps": 60, "init": "uniform", "rng": 1}
    if parameter == "KQ":
        rng = np.random.default_rng(6)
        settings["init"] = {name: rng.standard_normal((B, 6, 6)) for name in "KQ"}
    else:
        rng = np.random.default_rng(7)
        shape = (B, 6, 6) if parameter == "W" else (B, 6)
        settings["init"] = rng.standard_normal(shape)
    together = attsvm.train(data, head=head, **settings)
    for b in (0, 7, 31, 32):
        of_problem = {name: getattr(head, name) for name in head.__dataclass_fields__}
        own = type(head)(*(x[b] if isinstance(x, np.ndarray) else x for x in of_problem.values()))
        init = settings["init"]
        init = {k: x[b] for k, x in init.items()} if parameter == "KQ" else init[b]
        alone = attsvm.train(data.problem(b), head=own, **(settings | {"init": init}))
        np.testing.assert_allclose(together.direction[b], alone.direction, rtol=0, atol=1e-9)
        np.testing.assert_allclose(together.history["loss"][b], alone.history["loss"], rtol=1e-9)


@pytest.mark.parametrize("kind", ["relu", "penalised"])
def test_one_head_serves_a_batch_and_threads_change_no_bit(kind):
    data = random_problem(8, n=40, T=30, d=40, batch=(2,))
    head = random_head(kind, 9, d=40)
    one = attsvm.train(data, head=head, steps=20, num_threads=1)
    for threads in (2, 3):
        other = attsvm.train(data, head=head, steps=20, num_threads=threads)
        assert np.array_equal(one.W, other.W)
        assert all(np.array_equal(one.history[k], other.history[k]) for k in one.history)


@pytest.mark.parametrize("kind", ["relu", "penalised"])
@pytest.mark.parametrize("parameter", ["W", "p"])
def test_more_dimensions_than_tokens_change_nothing(kind, parameter):
    """A rotation into many dimensions, trained in the span of the tokens."""
    rng = np.random.default_rng(10)
    small = random_problem(11, n=2, T=3, d=4)
    head = random_head(kind, 12, d=4)
    wide = 60
    basis = np.linalg.qr(rng.standard_normal((wide, 4)))[0].T
    data = AttentionData(
        small.tokens @ basis, small.labels, queries=small.queries @ basis, lengths=small.lengths
    )
    turned = (
        ReLU(basis.T @ head.hidden, head.weights)
        if kind == "relu"
        else Penalised(head.value @ basis, head.penalty)
    )
    steps = 500
    run = attsvm.train(data, parameter=parameter, head=turned, steps=steps)
    plain = attsvm.train(small, parameter=parameter, head=head, steps=steps)
    assert run.trained.coordinates.token_basis is not None
    np.testing.assert_allclose(run.history["loss"], plain.history["loss"], rtol=1e-9)
    np.testing.assert_allclose(run.attention, plain.attention, atol=1e-9)


def test_a_nonlinear_head_has_no_known_infimum():
    data = random_problem(13)
    assert "loss_gap" not in attsvm.train(data, head=random_head("relu", 1), steps=5).history
    with pytest.raises(ValueError, match="rule: expected 'gd' or 'ngd'"):
        attsvm.train(data, head=random_head("relu", 1), steps=5, rule="polyak")


def sparsemax(scores):
    """Euclidean projection on the simplex."""
    ordered = np.sort(scores)[::-1]
    excess = (np.cumsum(ordered) - 1) / np.arange(1, scores.size + 1)
    count = np.flatnonzero(ordered > excess)[-1]
    return np.maximum(scores - excess[count], 0.0)


@pytest.mark.parametrize("penalty", [0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0])
def test_e22_attention_with_a_penalty_is_sparsemax(penalty):
    """One input of ten orthonormal tokens: the limit is sparsemax(scores / 2 lambda)."""
    B, d = 20, 10
    rng = np.random.default_rng(round(1000 * penalty))
    values = rng.standard_normal((B, d))
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    tokens = np.broadcast_to(np.eye(d), (B, 1, d, d))
    data = AttentionData(tokens, np.ones((B, 1)), queries=np.broadcast_to(np.eye(d)[0], (B, 1, d)))
    rates, W = (0.1, 0.01, 0.001), None
    for rate in rates:
        run = attsvm.train(data, head=Penalised(values, penalty), lr=rate, steps=6000, init=W)
        W = run.W
    expected = np.stack([sparsemax(v / (2 * penalty)) for v in values])
    got = run.attention[:, 0]
    assert np.abs(got - expected).max() < 0.01
    same = ((got > 1e-3) == (expected > 1e-3)).all(axis=1)
    assert same.mean() >= 0.95


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ReLU([1.0, 2.0]), ValueError, r"hidden: expected shape \(d, m\)"),
        (lambda: ReLU([[np.nan]]), ValueError, "hidden: expected finite"),
        (lambda: ReLU([[1.0, 2.0]], [1.0]), ValueError, r"weights: expected shape \(m,\)"),
        (lambda: Penalised([1.0], -1.0), ValueError, "penalty: expected a number >= 0"),
        (lambda: Penalised([1.0], "2"), TypeError, "penalty: expected a number >= 0"),
        (lambda: Penalised(2.0, 1.0), ValueError, "value: expected shape"),
    ],
)
def test_heads_refuse_what_they_cannot_use(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_training_refuses_heads_that_do_not_fit():
    data = random_problem(14)
    for head in (ReLU(np.ones((4, 2))), Penalised(np.ones(4), 1.0), ReLU(np.ones((2, 3, 2)))):
        with pytest.raises(ValueError, match="head: expected shape"):
            attsvm.train(data, head=head, steps=1)
    with pytest.raises(ValueError, match="head: expected None where v is trained"):
        attsvm.train(
            data, parameter=("v", "W"), head=LinearScores(np.ones(data.valid.shape)), steps=1
        )


@pytest.mark.parametrize(
    "head",
    [LinearScores(np.ones((2, 3))), random_head("relu", 0), Softmax(np.eye(3), [0, 1])],
    ids=lambda head: type(head).__name__,
)
@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda head: pickle.loads(pickle.dumps(head))]
)
def test_copies_of_a_head_are_as_fixed_as_it_is(head, again):
    """A right class beyond the classes, written into a copy, would be read beyond the array."""
    copied = again(head)
    for name, array in vars(head).items():
        np.testing.assert_array_equal(getattr(copied, name), array)
        assert not getattr(copied, name).flags.writeable


def no_scores(**_: object) -> None:
    raise AssertionError("the tokens are read to score them alone")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("settings", [{"parameter": "W"}, {"parameter": "p", "rule": "polyak"}])
def test_the_scores_of_a_fixed_head_take_no_read_of_their_own(settings, dtype, monkeypatch):
    """Training computes them with its first products, bit for bit as they are by themselves."""
    data = random_problem(4, n=30, T=20, d=33).with_value(np.linspace(-1, 1, 33))
    rounded = AttentionData(
        *(np.asarray(x, dtype=dtype).astype(np.float64) for x in (data.tokens, data.labels)),
        queries=data.queries,
        value=data.value,
        lengths=data.lengths,
    )
    table = LinearScores(np.where(data.valid, attsvm.scores(rounded), 0.0))
    given = attsvm.train(data, head=table, steps=40, dtype=dtype, **settings)
    monkeypatch.setattr(attsvm._core, "token_scores", no_scores)
    for threads in (1, 2):
        run = attsvm.train(data, steps=40, dtype=dtype, num_threads=threads, **settings)
        np.testing.assert_array_equal(run.direction, given.direction)
        for name, series in given.history.items():
            np.testing.assert_array_equal(run.history[name], series)


@pytest.mark.parametrize("batch", [1, 7, 9])
@pytest.mark.parametrize("settings", [{}, {"rule": StepRule("gd", batch_size=1)}])
def test_scores_that_a_loss_cannot_bear_are_refused_at_the_first_step(batch, settings):
    """In packs and alone; with mini-batches, where no step has seen all inputs, before them."""
    data = random_problem(5, n=3, T=4, d=3, batch=(batch,))
    value = np.ones((batch, 3))
    value[-1] = 1e4
    largest = np.abs(attsvm.scores(data.with_value(value)))[data.valid].max()
    message = f"value: expected token scores up to 300 with the logistic loss, got {largest:g}"
    steps = 2**53
    with pytest.raises(ValueError, match=re.escape(message)):
        attsvm.train(
            data.with_value(value).subset(np.arange(batch) == batch - 1),
            steps=steps,
            record_every=[steps],
            **settings,
        )
    with pytest.raises(ValueError, match=re.escape(message)):
        attsvm.train(data.with_value(value), steps=3, record_every=[3], **settings)
    with pytest.raises(ValueError, match=re.escape(message)):
        loss_and_grad(data.with_value(value), {"p": np.zeros((batch, 3))})
