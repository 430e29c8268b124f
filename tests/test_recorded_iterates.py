"""What `train` records besides: attention, parameters, and what a function makes of the run."""

from __future__ import annotations

import numpy as np
import pytest

import attsvm

RECORD = [0, 3, 17, 40]


def until(step, data, **options):
    """Return the run that ends at this step."""
    return attsvm.train(data, steps=step, record_every=[step], **options)


def along_steps(runs, value):
    values = [np.asarray(value(run)) for run in runs]
    return np.stack(values, axis=runs[0].selected.ndim - 1)


@pytest.mark.parametrize("batch", [None, 3, 20])
@pytest.mark.parametrize(
    ("parameter", "names"),
    [
        ("W", ["W"]),
        ("p", ["p"]),
        ("KQ", ["W", "K", "Q"]),
        ("diagonal KQ", ["W", "k", "q"]),
        ("W+p", ["W", "p"]),
        (("v", "W"), ["v", "W"]),
    ],
)
def test_records_are_the_ends_of_shorter_runs(parameter, names, batch):
    """Wide tokens, so that W and p are trained in coordinates of their spans."""
    data = attsvm.datasets.unit_sphere(2, 3, 30, batch=batch, rng=0)
    options = {"parameter": parameter, "rng": 1, "rule": "adam" if batch == 3 else "ngd"}
    run = attsvm.train(
        data, steps=50, record_every=[*RECORD, 50], record=["attention", *names], **options
    )
    plain = attsvm.train(data, steps=50, record_every=[*RECORD, 50], **options)
    assert run.history.keys() == plain.history.keys() | {"attention", "log_attention", *names}
    np.testing.assert_array_equal(run.direction, plain.direction)
    for name, series in plain.history.items():
        np.testing.assert_array_equal(run.history[name], series)
    shorter = [until(step, data, **options) for step in RECORD] + [run]
    for name in ("attention", "log_attention"):
        expected = along_steps(shorter, lambda one, name=name: getattr(one, name))
        np.testing.assert_allclose(run.history[name], expected, rtol=1e-9, atol=1e-12)
    for name in names:
        get = (lambda one: one.W) if name == "W" else (lambda one, name=name: one.parameters[name])
        expected = along_steps(shorter, get)
        np.testing.assert_allclose(run.history[name], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("batch", [None, 4])
def test_functions_see_the_run_up_to_their_step(batch):
    data = attsvm.datasets.unit_sphere(3, 4, 5, batch=batch, rng=2)
    seen = []

    def length(run):
        seen.append(run)
        return np.linalg.norm(run.W, axis=(-2, -1))

    def first_attention(run):
        return run.attention[..., 0, :]

    def one_number(run):
        return run.steps

    run = attsvm.train(
        data, steps=20, record_every=5, record=(length, first_attention, one_number, "W")
    )
    np.testing.assert_allclose(run.history["length"], run.history["norm"], rtol=1e-14)
    assert run.history["first_attention"].shape == (*run.history["norm"].shape, 4)
    np.testing.assert_array_equal(run.history["one_number"], run.history["step"])
    np.testing.assert_array_equal([one.steps for one in seen], run.history["step"])
    for r, one in enumerate(seen):
        np.testing.assert_array_equal(one.history["loss"], run.history["loss"][..., : r + 1])
        np.testing.assert_array_equal(one.W, run.history["W"][..., r, :, :])
        np.testing.assert_array_equal(one.history["W"][..., -1, :, :], one.W)
        np.testing.assert_array_equal(one.selected, np.argmax(one.attention, axis=-1))


def test_recording_takes_next_tokens():
    data = attsvm.datasets.next_token(n=6, T=4, K=5, d=5, rng=0)
    run = attsvm.train(data, steps=10, record_every=2, record="W")
    assert run.history["W"].shape == (6, 5, 5)
    np.testing.assert_array_equal(run.history["W"][-1], run.W)


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ("K", "record: expected one of 'attention', 'W', got 'K'"),
        (["W", "W"], "record: expected functions with different names"),
        ([lambda run: 0, lambda run: 1], "record: expected functions with different names"),
        ([3], "record: expected"),
        (lambda run: None, "^record: <lambda>: expected an array, got NoneType$"),
        (lambda run: {"a": [[1], [1, 2]]}, "^record: a: expected an array, got 1 to 2 entries"),
    ],
)
def test_what_cannot_be_recorded(record, text):
    data = attsvm.datasets.unit_sphere(2, 3, 4, rng=0)
    with pytest.raises((TypeError, ValueError), match=text):
        attsvm.train(data, steps=2, record=record)


def test_a_function_may_not_have_the_name_of_a_series():
    def loss(run):
        return 0.0

    with pytest.raises(ValueError, match="record: expected no name of the history, got 'loss'"):
        attsvm.train(attsvm.datasets.unit_sphere(2, 3, 4, rng=0), steps=2, record=loss)


def test_summaries_say_what_was_done():
    data = attsvm.datasets.unit_sphere(3, 4, 5, batch=6, rng=3)
    run = attsvm.train(data, parameter="KQ", lr={"K": 0.1, "Q": 0.2}, steps=200, rng=0)
    outcomes = attsvm.classify(data, run)
    lines = dict(line.split(": ", 1) for line in run.summary(outcomes).splitlines())
    assert lines["training"] == "KQ, 200 steps of ngd, lr 0.1 and 0.2, logistic loss, 6 problems"
    low, high = map(float, lines["norm of KQ"].split(" to "))
    assert low == pytest.approx(run.history["norm"][:, -1].min(), rel=1e-5)
    assert high == pytest.approx(run.history["norm"][:, -1].max(), rel=1e-5)
    counts = [(outcomes == kind).sum() for kind in ("global", "local", "neither")]
    expected = zip(counts, ("global", "local", "neither"), strict=True)
    assert lines["outcome"] == ", ".join(f"{count} {kind}" for count, kind in expected if count)
