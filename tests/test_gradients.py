"""Loss and gradient are those of the textbook formulas, and obey the symmetries of attention."""

from __future__ import annotations

import mpmath
import numpy as np
import plain_attention
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attsvm
from attsvm import AttentionData
from attsvm.functional import loss_and_grad

LOSSES = ("logistic", "exponential", "correlation")
PARAMETERS = ("W", "p")


def random_problem(rng, *, n=3, T=4, d=3, batch=None, ragged=False):
    """Gaussian tokens, queries and value; lengths 1..T when ragged, with at least one of T."""
    lead = () if batch is None else (batch,)
    lengths = None
    if ragged:
        lengths = rng.integers(1, T + 1, (*lead, n))
        lengths[..., 0] = T
    return AttentionData(
        rng.standard_normal((*lead, n, T, d)),
        rng.choice([-1.0, 1.0], (*lead, n)),
        queries=rng.standard_normal((*lead, n, d)),
        value=rng.standard_normal((*lead, d)),
        lengths=lengths,
    )


def random_parameter(rng, parameter, data, scale=1.0):
    lead = () if data.batch is None else (data.batch,)
    shape = (data.d, data.d) if parameter == "W" else (data.d,)
    return scale * rng.standard_normal((*lead, *shape))


def gradient(data, parameter, at, loss="logistic"):
    return loss_and_grad(data, {parameter: at}, loss=loss)[1][parameter]


def altered(data, **changes):
    fields = ("tokens", "labels", "queries", "value", "lengths")
    arrays = {field: getattr(data, field) for field in fields} | changes
    return AttentionData(arrays.pop("tokens"), arrays.pop("labels"), **arrays)


def relative_error(actual, expected):
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


def exact_problem(data):
    return plain_attention.Problem.of(
        data.tokens, data.labels, data.value, data.queries, data.lengths
    )


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("parameter", PARAMETERS)
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
def test_gradient_is_the_derivative_of_the_plain_loss(loss, parameter, ragged, scale):
    """Central differences of the loss in 300 digits; scale 30 has attention of 1 - 1e-50."""
    rng = np.random.default_rng([LOSSES.index(loss), PARAMETERS.index(parameter), ragged])
    data = random_problem(rng, ragged=ragged)
    at = random_parameter(rng, parameter, data, scale)
    value, gradients = loss_and_grad(data, {parameter: at}, loss=loss)
    assert gradients.keys() == {parameter}
    with mpmath.workdps(300):
        problem, point = exact_problem(data), plain_attention.exact(at)
        expected = plain_attention.numerical_gradient(problem, point, loss).astype(np.float64)
        expected_value = float(plain_attention.loss_value(problem, point, loss))
    assert relative_error(gradients[parameter], expected) < 1e-12
    assert value == pytest.approx(expected_value, rel=1e-12, abs=0)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("parameter", PARAMETERS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_gradient_is_the_plain_formula_on_a_larger_problem(loss, parameter, dtype):
    """Float32 problems too: their numbers are exact in float64, which the arithmetic is in."""
    rng = np.random.default_rng(7)
    data = random_problem(rng, n=9, T=13, d=11, ragged=True)
    data = altered(data, tokens=data.tokens.astype(dtype))
    at = random_parameter(rng, parameter, data)
    with mpmath.workdps(100):
        point = plain_attention.exact(at)
        expected = plain_attention.gradient(exact_problem(data), point, loss).astype(np.float64)
    assert relative_error(gradient(data, parameter, at, loss), expected) < 1e-12


@pytest.mark.parametrize("rule", ["gd", "ngd", "polyak"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("parameter", PARAMETERS)
def test_one_step_is_the_rule_applied_to_the_gradient(rule, loss, parameter):
    rng = np.random.default_rng(3)
    data = random_problem(rng, ragged=True)
    at = random_parameter(rng, parameter, data)
    lr = 0.1
    run = attsvm.train(
        data,
        parameter=parameter,
        rule=rule,
        lr=None if rule == "polyak" else lr,
        loss=loss,
        init=at,
        steps=1,
        record_every=1,
    )
    g = gradient(data, parameter, at, loss)
    length = {
        "gd": lr,
        "ngd": lr / np.linalg.norm(g),
        "polyak": run.history["loss_gap"][0] / (2 * np.linalg.norm(g) ** 2),
    }[rule]
    assert run.direction == pytest.approx(at - length * g, rel=1e-13, abs=1e-13)
    assert run.history["grad_norm"][0] == pytest.approx(np.linalg.norm(g), rel=1e-13)


# Symmetries, for problems of every small shape

problems = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "n": st.integers(1, 4),
        "T": st.integers(1, 5),
        "d": st.integers(1, 4),
        "ragged": st.booleans(),
        "parameter": st.sampled_from(PARAMETERS),
        "loss": st.sampled_from(LOSSES),
    }
)
few = settings(max_examples=50, deadline=None)


def drawn(draw):
    """Random problem and parameter of the shape that was drawn."""
    rng = np.random.default_rng(draw["seed"])
    shape = {key: draw[key] for key in ("n", "T", "d", "ragged")}
    data = random_problem(rng, **shape)
    return rng, data, random_parameter(rng, draw["parameter"], data)


def assert_close(actual, expected, data):
    """Equal to 1e-13 of the largest gradient the data could have (the true one may vanish)."""
    rows = np.linalg.norm(data.tokens, axis=-1).max(axis=-1)
    scores = np.abs(data.tokens @ data.value).max(axis=-1)
    scale = 1 + (rows * scores * np.exp(scores) * np.linalg.norm(data.queries, axis=-1)).max()
    assert np.abs(actual - expected).max() < 1e-13 * scale


@few
@given(problems)
def test_gradient_does_not_depend_on_the_order_of_the_tokens(draw):
    rng, data, at = drawn(draw)
    order = np.argsort(np.where(data.valid, rng.random((data.n, data.T)), 2), axis=1)
    tokens = np.take_along_axis(data.tokens, order[..., np.newaxis], axis=1)
    expected, actual = (
        gradient(each, draw["parameter"], at, draw["loss"])
        for each in (data, altered(data, tokens=tokens))
    )
    assert_close(actual, expected, data)


@few
@given(problems)
def test_attention_moves_with_the_tokens(draw):
    rng, data, at = drawn(draw)
    order = np.argsort(np.where(data.valid, rng.random((data.n, data.T)), 2), axis=1)
    tokens = np.take_along_axis(data.tokens, order[..., np.newaxis], axis=1)
    plain, permuted = (
        attsvm.train(each, parameter=draw["parameter"], init=at, steps=0).attention
        for each in (data, altered(data, tokens=tokens))
    )
    assert permuted == pytest.approx(np.take_along_axis(plain, order, axis=1), rel=1e-12, abs=1e-15)


@few
@given(problems)
def test_moving_all_tokens_of_a_sequence_leaves_the_gradient(draw):
    """Softmax ignores a common shift of the logits; the shift is across v, so no score moves."""
    rng, data, at = drawn(draw)
    shift = rng.standard_normal((data.n, 1, data.d))
    unit = data.value / np.linalg.norm(data.value)
    shift -= (shift @ unit)[..., np.newaxis] * unit
    expected, actual = (
        gradient(each, draw["parameter"], at, draw["loss"])
        for each in (data, altered(data, tokens=data.tokens + shift))
    )
    assert_close(actual, expected, altered(data, tokens=np.abs(data.tokens) + np.abs(shift)))


@few
@given(problems)
def test_padding_has_no_influence(draw):
    rng, data, at = drawn(draw)
    rubbish = 1e6 * rng.standard_normal(data.tokens.shape)
    other = altered(data, tokens=np.where(data.valid[..., np.newaxis], data.tokens, rubbish))
    loss, grad = loss_and_grad(data, {draw["parameter"]: at}, loss=draw["loss"])
    loss_other, grad_other = loss_and_grad(other, {draw["parameter"]: at}, loss=draw["loss"])
    assert loss == loss_other
    assert np.array_equal(grad[draw["parameter"]], grad_other[draw["parameter"]])


@few
@given(problems, st.integers(1, 9))
def test_gradient_of_a_batch_is_that_of_its_problems(draw, batch):
    rng = np.random.default_rng(draw["seed"])
    shape = {key: draw[key] for key in ("n", "T", "d", "ragged")}
    data = random_problem(rng, batch=batch, **shape)
    at = random_parameter(rng, draw["parameter"], data)
    losses, gradients = loss_and_grad(data, {draw["parameter"]: at}, loss=draw["loss"])
    for b, one in enumerate(data.problems()):
        loss, grad = loss_and_grad(one, {draw["parameter"]: at[b]}, loss=draw["loss"])
        assert losses[b] == pytest.approx(loss, rel=1e-13)
        assert_close(gradients[draw["parameter"]][b], grad[draw["parameter"]], one)


@few
@given(problems, st.integers(1, 20), st.sampled_from(["gd", "ngd"]))
def test_training_a_batch_is_training_its_problems(draw, batch, rule):
    rng = np.random.default_rng(draw["seed"])
    shape = {key: draw[key] for key in ("n", "T", "d", "ragged")}
    data = random_problem(rng, batch=batch, **shape)
    init = random_parameter(rng, draw["parameter"], data)
    options = {"parameter": draw["parameter"], "loss": draw["loss"], "rule": rule, "steps": 10}
    together = attsvm.train(data, init=init, **options)
    for b, one in enumerate(data.problems()):
        alone = attsvm.train(one, init=init[b], **options)
        assert relative_error(together.direction[b], alone.direction) < 1e-12
        for key in ("loss", "norm", "max_attention"):
            assert together.history[key][b] == pytest.approx(alone.history[key], rel=1e-12)


@few
@given(problems)
def test_flipping_labels_and_value_together_changes_nothing(draw):
    _, data, at = drawn(draw)
    flipped = altered(data, labels=-data.labels, value=-data.value)
    expected, actual = (
        gradient(each, draw["parameter"], at, draw["loss"]) for each in (data, flipped)
    )
    assert np.array_equal(actual, expected)


@few
@given(problems)
def test_gradient_turns_with_the_tokens(draw):
    """Rotating tokens, value and parameter by R rotates the gradient by R."""
    rng, data, at = drawn(draw)
    R, _ = np.linalg.qr(rng.standard_normal((data.d, data.d)))
    turned = altered(data, tokens=data.tokens @ R.T, value=R @ data.value)
    expected = R @ gradient(data, draw["parameter"], at, draw["loss"])
    assert_close(gradient(turned, draw["parameter"], R @ at, draw["loss"]), expected, data)


@few
@given(problems)
def test_gradient_in_w_lies_in_the_spans_of_tokens_and_queries(draw):
    _, data, _ = drawn(draw)
    W = random_parameter(np.random.default_rng(draw["seed"]), "W", data)
    grad = gradient(data, "W", W, draw["loss"])
    across_tokens = np.eye(data.d) - projection(data.tokens[data.valid])
    across_queries = np.eye(data.d) - projection(data.queries)
    assert_close(across_tokens @ grad, 0 * grad, data)
    assert_close(grad @ across_queries, 0 * grad, data)


def projection(rows):
    """Orthogonal projection on the span of the rows."""
    return np.linalg.pinv(rows) @ rows


@few
@given(problems)
def test_normalised_steps_never_outgrow_their_number_and_everything_recorded_is_finite(draw):
    _, data, at = drawn(draw)
    steps, lr = 40, 0.25
    run = attsvm.train(
        data,
        parameter=draw["parameter"],
        loss=draw["loss"],
        init=at,
        lr=lr,
        steps=steps,
        record_every=1,
    )
    history = run.history
    assert history["step"].tolist() == list(range(steps + 1))
    assert history["norm"][0] == pytest.approx(np.linalg.norm(at), rel=1e-13)
    assert (np.abs(np.diff(history["norm"])) <= lr * (1 + 1e-12)).all()
    for key in ("loss", "loss_gap", "norm", "grad_norm", "max_attention"):
        assert np.isfinite(history[key]).all(), key
    assert (history["loss_gap"] >= 0).all()
    assert (history["max_attention"] <= 1).all()
    assert np.isfinite(run.direction).all()
    assert run.attention.sum(axis=-1) == pytest.approx(np.ones(data.n), abs=1e-13)


@few
@given(problems)
def test_small_gd_steps_never_raise_the_loss(draw):
    _, data, at = drawn(draw)
    run = attsvm.train(
        data,
        parameter=draw["parameter"],
        loss=draw["loss"],
        rule="gd",
        lr=1e-5,
        init=at,
        steps=20,
        record_every=1,
    )
    loss = run.history["loss"]
    assert (np.diff(loss) <= 1e-15 * np.abs(loss[1:])).all()
