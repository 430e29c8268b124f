"""Descent agrees with 150-digit arithmetic, and goes on long after softmax has rounded to 1.

The fixture is made by tests/reference/make_reference_descent.py.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import attsvm
from attsvm import AttentionData, datasets

REFERENCE = np.load(Path(__file__).parent / "data" / "reference_descent.npz")
RUNS = json.loads(REFERENCE["runs"].item())


def problem(data, which, *, parameter="W", lengths=None, dtype=np.float64):
    """Published data sets `which`, without their queries for p; float32 holds them exactly."""
    return AttentionData(
        data.tokens[which].astype(dtype),
        data.labels[which],
        queries=data.queries[which] if parameter == "W" else None,
        value=data.value[which],
        lengths=lengths,
    )


def train_as_recorded(data, name, steps, record_every=None):
    run = RUNS[name]
    return attsvm.train(
        problem(data, run["dataset"], parameter=run["parameter"], lengths=run["lengths"]),
        parameter=run["parameter"],
        rule=run["rule"],
        lr=None if run["rule"] == "polyak" else run["lr"],
        loss=run["loss"],
        init=None if run["init"] is None else REFERENCE[f"{name}:init"],
        steps=steps,
        record_every=record_every,
    )


def relative_error(actual, expected):
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("name", RUNS)
def test_parameter_agrees_with_150_digits(local_convergence, name):
    for steps, expected in zip(RUNS[name]["record"], REFERENCE[f"{name}:parameter"], strict=True):
        assert (
            relative_error(train_as_recorded(local_convergence, name, steps).direction, expected)
            < 1e-12
        )


@pytest.mark.parametrize("parameter", ["W", "p"])
def test_a_batch_of_fifty_agrees_with_150_digits(local_convergence, parameter):
    run = attsvm.train(
        problem(local_convergence, slice(None), parameter=parameter),
        parameter=parameter,
        steps=2000,
        record_every=[100, 500, 1000, 2000],
    )
    for dataset in range(4):
        name = f"{parameter}-data{dataset}"
        expected = REFERENCE[f"{name}:parameter"][-1]
        assert relative_error(run.direction[dataset], expected) < 1e-12
        for key in ("loss_gap", "log_grad_norm"):
            recorded, reference = run.history[key][dataset], REFERENCE[f"{name}:{key}"]
            assert recorded == pytest.approx(reference, rel=1e-10, abs=0)


@pytest.mark.parametrize("name", RUNS)
def test_recorded_history_agrees_with_150_digits(local_convergence, name):
    record = RUNS[name]["record"]
    history = train_as_recorded(local_convergence, name, record[-1], record).history
    at = np.isin(history["step"], record)
    gap, log_norm = REFERENCE[f"{name}:loss_gap"], REFERENCE[f"{name}:log_grad_norm"]
    assert history["loss_gap"][at] == pytest.approx(gap, rel=1e-10, abs=0)
    assert history["log_grad_norm"][at] == pytest.approx(log_norm, rel=0, abs=1e-11)
    assert history["grad_norm"][at] == pytest.approx(np.exp(log_norm), rel=1e-11, abs=0)


@pytest.mark.parametrize("name", RUNS)
def test_attention_agrees_with_150_digits(local_convergence, name):
    """A weight's logarithm is a sum of logits: its error is in proportion to the largest."""
    run = train_as_recorded(local_convergence, name, RUNS[name]["record"][-1])
    expected = REFERENCE[f"{name}:log_attention"]
    valid = np.isfinite(expected)
    assert np.array_equal(np.isfinite(run.log_attention), valid)
    error = np.abs(run.log_attention[valid] - expected[valid])
    assert error.max() < 1e-13 * np.abs(expected[valid]).max() + 1e-13
    assert np.array_equal(run.selected, expected.argmax(axis=-1))
    assert run.attention == pytest.approx(np.exp(expected), rel=1e-11, abs=0)


@pytest.fixture(scope="module")
def hundred_thousand_steps(local_convergence):
    """Data set 0 with W for 1e5 steps, and the SVM of the tokens it selects."""
    data = local_convergence.problem(0)
    selected = attsvm.train(data, steps=10_000).selected
    solution = attsvm.att_svm(data, selected)
    steps = [10_000, 70_000, 100_000]
    run = attsvm.train(data, steps=steps[-1], record_every=steps, reference=solution.W)
    assert np.array_equal(run.selected, selected)
    return run, solution


def test_hundred_thousand_steps_end_in_the_svm_direction(hundred_thousand_steps):
    run, solution = hundred_thousand_steps
    assert run.history["step"][-1] == 100_000
    assert run.history["cosine_gap"][-1] < 1e-6
    unit, target = (A / np.linalg.norm(A) for A in (run.W, solution.W))
    final = ((unit - target) ** 2).sum() / 2
    assert run.history["cosine_gap"][-1] == pytest.approx(final, rel=1e-6)


def test_cosine_gap_falls_like_one_over_steps_squared(hundred_thousand_steps):
    """The iterate is the SVM direction times its norm plus a bounded part: 1 - cos ~ c / t^2."""
    history = hundred_thousand_steps[0].history
    log_steps, log_gaps = np.log(history["step"]), np.log(history["cosine_gap"])
    overall = (log_gaps[-1] - log_gaps[0]) / (log_steps[-1] - log_steps[0])
    last = (log_gaps[-1] - log_gaps[-2]) / (log_steps[-1] - log_steps[-2])
    assert overall == pytest.approx(-2, abs=0.1)
    assert last == pytest.approx(-2, abs=0.01)


def test_nothing_recorded_in_hundred_thousand_steps_is_lost(hundred_thousand_steps):
    run, _ = hundred_thousand_steps
    for key in ("norm", "log_grad_norm", "max_attention", "cosine", "cosine_gap"):
        assert np.isfinite(run.history[key]).all(), key
    assert np.isfinite(run.log_attention).all()
    assert run.history["log_grad_norm"][-1] < -3000
    assert run.history["norm"][-1] > 9000


def assert_same_bits(runs):
    first, *others = runs
    for other in others:
        assert np.array_equal(first.direction, other.direction)
        assert np.array_equal(first.log_attention, other.log_attention)
        assert first.history.keys() == other.history.keys()
        for key, values in first.history.items():
            assert np.array_equal(values, other.history[key]), key


@pytest.mark.parametrize("problems", [2, 4, 50])
@pytest.mark.parametrize("parameter", ["W", "p"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_batch_has_the_same_bits_for_any_number_of_threads(
    local_convergence, problems, parameter, dtype
):
    data = problem(local_convergence, slice(problems), parameter=parameter, dtype=dtype)
    assert_same_bits(
        attsvm.train(data, parameter=parameter, steps=300, record_every=50, num_threads=num_threads)
        for num_threads in (1, 2, 3)
    )


@pytest.mark.parametrize("parameter", ["W", "p"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_one_problem_has_the_same_bits_for_any_number_of_threads(parameter, dtype):
    n, T, d = 64, 16, 48
    rng = np.random.default_rng(64)
    data = AttentionData(
        (rng.standard_normal((n, T, d)) / np.sqrt(d)).astype(dtype),
        rng.choice([-1.0, 1.0], n),
        queries=rng.standard_normal((n, d)) / np.sqrt(d),
        value=rng.standard_normal(d),
        lengths=rng.integers(1, T + 1, n),
    )
    assert_same_bits(
        attsvm.train(data, parameter=parameter, steps=100, record_every=10, num_threads=num_threads)
        for num_threads in (1, 2, 3)
    )


@pytest.mark.parametrize("parameter", ["W", "p"])
@pytest.mark.parametrize("dataset", range(4))
def test_float32_tokens_are_trained_like_the_same_numbers_in_float64(
    local_convergence, parameter, dataset
):
    """Tokens of the published data are float32 numbers, and the arithmetic is float64."""
    single, double = (
        attsvm.train(
            problem(local_convergence, dataset, parameter=parameter, dtype=dtype),
            parameter=parameter,
            steps=2000,
        )
        for dtype in (np.float32, np.float64)
    )
    assert relative_error(single.direction, double.direction) < 1e-12
    assert np.array_equal(single.selected, double.selected)


@pytest.mark.parametrize("parameter", ["W", "p"])
def test_rounding_the_tokens_to_float32_moves_the_iterate_by_no_more_than_that(parameter):
    data = datasets.unit_sphere(6, 8, 10, rng=2)
    single, double = (
        attsvm.train(data, parameter=parameter, steps=200, dtype=dtype)
        for dtype in (np.float32, np.float64)
    )
    error = relative_error(single.direction, double.direction)
    assert 0 < error < 1e-5
