"""Run.evaluate and train(test=): margins, loss and accuracy on other inputs."""

from __future__ import annotations

import numpy as np
import pytest

import attsvm
from attsvm.datasets import gaussian_classes, signal_noise, unit_sphere


def reference(data, logits, value):
    """Return margins, loss and attention of one problem by the plain formulas."""
    margins, attention = [], np.zeros(logits.shape)
    tokens = data.tokens_per_input
    for i, length in enumerate(data.lengths):
        weights = np.exp(logits[i, :length] - logits[i, :length].max())
        attention[i, :length] = weights / weights.sum()
        margins.append(data.labels[i] * (attention[i] @ (tokens[i] @ value)))
    margins = np.array(margins)
    return margins, np.log(1 + np.exp(-margins)).mean(), attention


def logits_of(run, data, b, prompt=None):
    """Return X W z, X p or X W p of problem b, from the blocks."""
    blocks = {name: x if b is None else x[b] for name, x in run.parameters.items()}
    tokens = data.tokens_per_input
    if "p" in blocks:
        return tokens @ (blocks["W"] @ blocks["p"] if "W" in blocks else blocks["p"])
    W = run.W if b is None else run.W[b]
    if prompt is not None:
        return tokens @ (W @ prompt)
    return np.einsum("ntd,de,ne->nt", tokens, W, data.queries)


PARAMETERS = ["W", "p", "KQ", "diagonal KQ", "Wp", "W+p", ("v", "W"), ("v", "W+p")]


@pytest.mark.parametrize("d", [4, 30])
@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("parameter", PARAMETERS, ids=str)
def test_evaluation_is_that_of_the_plain_formulas(parameter, batch, d):
    """With d = 30 training is in coordinates of spans in which the test tokens do not lie."""
    data = unit_sphere(2, 3, d, batch=batch, rng=0)
    test = unit_sphere(7, 5, d, rng=1)
    start = None
    if parameter in ("W", "p"):  # with a part outside the spans
        start = np.random.default_rng(2).standard_normal((d, d) if parameter == "W" else d)
    prompt = np.arange(1.0, d + 1) if parameter == "Wp" else None
    run = attsvm.train(data, parameter=parameter, steps=60, init=start, prompt=prompt, rng=3)
    evaluation = run.evaluate(test)
    for b in [None] if batch is None else range(batch):
        at = (lambda x: x) if b is None else (lambda x, b=b: x[b])
        value = test.value if run.v is None else at(run.v)
        margins, loss, attention = reference(test, logits_of(run, test, b, prompt), value)
        np.testing.assert_allclose(at(evaluation.margins), margins, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(at(evaluation.attention), attention, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(at(evaluation.loss), loss, rtol=1e-12)
        assert at(evaluation.accuracy) == (margins > 0).mean()
    np.testing.assert_allclose(np.exp(evaluation.log_attention), evaluation.attention)


@pytest.mark.parametrize("batch", [None, 3])
def test_on_the_training_data_it_is_what_the_run_has(batch):
    data = unit_sphere(4, 5, 6, batch=batch, rng=0)
    for parameter in ("W", "KQ", "v+p"):
        run = attsvm.train(data, parameter=parameter, steps=50, rng=1)
        evaluation = run.evaluate(data)
        np.testing.assert_allclose(evaluation.loss, run.history["loss"][..., -1], rtol=1e-13)
        np.testing.assert_allclose(evaluation.attention, run.attention, rtol=1e-12, atol=1e-14)


def test_padding_and_shared_sequences():
    rng = np.random.default_rng(0)
    tokens, value = rng.standard_normal((3, 4, 5)), rng.standard_normal(5)
    run = attsvm.train(unit_sphere(3, 4, 5, rng=1), steps=30)
    padded = attsvm.AttentionData(
        tokens, [1, -1, 1], queries=tokens[:, 0], value=value, lengths=[4, 1, 2]
    )
    shared = attsvm.AttentionData.per_position(tokens, [1, -1, 1], value=value)
    for data in (padded, shared):
        evaluation = run.evaluate(data)
        expected = reference(data, logits_of(run, data, None), value)
        np.testing.assert_allclose(evaluation.margins, expected[0], rtol=1e-12)
        np.testing.assert_allclose(evaluation.attention, expected[2], rtol=1e-12)
        assert (evaluation.log_attention[~data.valid] == -np.inf).all()


@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize("parameter", ["p", "W+p", "v+W+p"])
def test_a_test_is_evaluated_at_every_record(parameter, batch):
    data = signal_noise(6, 4, 40, signal=3.0, label_noise=0.34, batch=batch, rng=0)
    test = signal_noise(50, 4, 40, signal=3.0, rng=1)
    options = {"parameter": parameter, "rule": "gd", "rng": 2}
    run = attsvm.train(data, steps=30, record_every=[0, 7, 30], test=test, **options)
    for r, step in enumerate((0, 7, 30)):
        end = attsvm.train(data, steps=step, **options)
        of_test, of_data = end.evaluate(test), end.evaluate(data)
        # What is reduced, and so the last digits, depends on the number of steps.
        np.testing.assert_allclose(run.history["test_loss"][..., r], of_test.loss, rtol=1e-12)
        np.testing.assert_array_equal(run.history["test_accuracy"][..., r], of_test.accuracy)
        np.testing.assert_array_equal(run.history["accuracy"][..., r], of_data.accuracy)


def test_a_function_may_record_several_arrays():
    def both(run):
        return {"steps": run.steps, "attention of token 0": run.attention[:, 0]}

    run = attsvm.train(unit_sphere(3, 4, 5, rng=0), steps=20, record_every=10, record=both)
    np.testing.assert_array_equal(run.history["steps"], [0, 10, 20])
    assert run.history["attention of token 0"].shape == (3, 3)
    assert "both" not in run.history


def accuracy(run):
    return 0.0


def of_test_loss(run):
    return {"test_loss": 0.0}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"test": signal_noise(5, 4, 6, rng=0)}, "test: expected tokens of dimension 5, got 6"),
        (
            {"test": unit_sphere(5, 4, 5, batch=2, rng=0)},
            "test: expected one problem, got a batch of 2",
        ),
        ({"test": gaussian_classes(5, 4, 5, rng=0)}, "value: .*, got test without a value"),
        ({"test": signal_noise(5, 4, 5, rng=0)}, "queries: .*, got test without queries"),
        (
            {"test": unit_sphere(3, 4, 5, rng=0), "head": attsvm.heads.LinearScores(np.eye(3, 4))},
            "test: expected none where the head is a table of scores",
        ),
        (
            {"record": lambda run: {f"after {run.steps}": 0.0}},
            "record: expected 'after 0' at every step",
        ),
        (
            {"record": lambda run: {"grows": np.zeros(run.steps + 1)}},
            "record: expected 'grows' at every step in one shape",
        ),
        (
            {"test": unit_sphere(5, 4, 5, rng=0), "head": attsvm.heads.ReLU(np.eye(5))},
            "test: expected none where the head is not linear",
        ),
        (
            {"test": unit_sphere(5, 4, 5, rng=0), "record": accuracy},
            "record: expected functions with different names",
        ),
        (
            {"test": unit_sphere(5, 4, 5, rng=0), "record": of_test_loss},
            "record: expected no name of the history, got 'test_loss'",
        ),
    ],
)
def test_what_cannot_be_evaluated(options, text):
    with pytest.raises(ValueError, match=text):
        attsvm.train(unit_sphere(3, 4, 5, rng=0), steps=2, **options)


def test_float32_data_are_evaluated_in_float64():
    data = unit_sphere(6, 8, 40, rng=0, dtype="float32")
    run = attsvm.train(data, steps=5)
    doubled = attsvm.AttentionData(
        data.tokens.astype(float), data.labels, queries=data.queries, value=data.value.astype(float)
    )
    expected = reference(doubled, logits_of(run, doubled, None), doubled.value)
    np.testing.assert_allclose(run.evaluate(data).margins, expected[0], rtol=1e-13)
    np.testing.assert_allclose(run.evaluate(data).loss, run.history["loss"][-1], rtol=1e-14)


def test_only_attention_data_are_evaluated():
    with pytest.raises(TypeError, match="test: expected AttentionData, got int"):
        attsvm.train(unit_sphere(3, 4, 5, rng=0), steps=2, test=3)
    run = attsvm.train(unit_sphere(3, 4, 5, rng=0), steps=2)
    with pytest.raises(TypeError, match="data: expected AttentionData, got ndarray"):
        run.evaluate(np.zeros((3, 4, 5)))
    words = attsvm.datasets.next_token(n=6, T=4, K=5, d=5, rng=0)
    with pytest.raises(ValueError, match="data: expected none where the head is not linear"):
        attsvm.train(words, steps=2).evaluate(unit_sphere(3, 4, 5, rng=0))
    with pytest.raises(ValueError, match="test: expected None for next-token data"):
        attsvm.train(words, steps=2, test=unit_sphere(3, 4, 5, rng=0))
