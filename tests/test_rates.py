"""fit_rate: exponents and their intervals; log_schedule: where to record for them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import attsvm
from attsvm import fit_rate, log_schedule, train


@given(
    exponent=st.floats(-5, 5),
    prefactor=st.floats(1e-3, 1e3),
    steps=st.lists(st.integers(1, 10**6), min_size=3, max_size=30, unique=True),
)
def test_a_power_is_found_exactly(exponent, prefactor, steps):
    t = np.array(sorted(steps), dtype=float)
    rate = fit_rate(t, prefactor * t**exponent)
    # Rounding of log(value), about 1e-14, is seen through the spread of log(t).
    reach = 1e-12 / np.ptp(np.log(t))
    assert rate.exponent == pytest.approx(exponent, abs=reach)
    assert rate.low <= rate.exponent <= rate.high
    assert 0 <= rate.r_squared <= 1
    assert rate.size == len(steps)
    np.testing.assert_allclose(rate.at(t), prefactor * t**exponent, rtol=1e-10)


@given(slope=st.floats(-0.01, 0.01), log_prefactor=st.floats(-20, 20), size=st.integers(3, 200))
def test_an_exponential_is_found_exactly(slope, log_prefactor, size):
    t = np.arange(size) * 100.0
    values = np.exp(log_prefactor + slope * t)
    rate = fit_rate(t, values, kind="exponential")
    assert rate.exponent == pytest.approx(slope, abs=1e-14)
    assert rate.log_prefactor == pytest.approx(log_prefactor, abs=1e-11)
    np.testing.assert_allclose(rate.at(t), values, rtol=1e-10)


@given(
    noise=st.lists(st.floats(-1, 1), min_size=3, max_size=40),
    scale=st.floats(1e-50, 1e50),
    level=st.floats(0.5, 0.999),
)
def test_it_is_scipys_regression_of_the_logarithms(noise, scale, level):
    t = np.arange(1, len(noise) + 1)
    values = scale * t**-0.7 * np.exp(noise)
    rate = fit_rate(t, values, level=level)
    line = stats.linregress(np.log(t), np.log(values))
    residual = np.log(values) - line.intercept - line.slope * np.log(t)
    variance = residual @ residual / (t.size - 2)
    half = stats.t.ppf((1 + level) / 2, t.size - 2) * np.sqrt(variance / t.size / np.log(t).var())
    assert rate.exponent == pytest.approx(line.slope, abs=1e-10)
    assert rate.log_prefactor == pytest.approx(line.intercept, abs=1e-10)
    assert (rate.high - rate.low) / 2 == pytest.approx(half, rel=1e-5, abs=1e-10)
    assert rate.r_squared == pytest.approx(line.rvalue**2, abs=1e-9)
    # Units do not matter.
    assert fit_rate(1000 * t, values, level=level).exponent == pytest.approx(
        rate.exponent, abs=1e-10
    )


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_the_interval_covers_as_often_as_it_says_where_its_assumption_holds(level):
    """Seed fixed; a true level is rejected with probability 1e-4."""
    rng = np.random.default_rng(1)
    t = log_schedule(10_000, per_decade=4)
    trials = [
        fit_rate(t, 3 * t**-0.5 * np.exp(0.2 * rng.standard_normal(t.size)), level=level)
        for _ in range(1000)
    ]
    covered = sum(rate.low <= -0.5 <= rate.high for rate in trials)
    assert stats.binomtest(covered, len(trials), level).pvalue > 1e-4


def test_a_window_fits_what_is_in_it_and_includes_its_ends():
    t = np.array([1, 10, 100, 1000, 10_000, 100_000])
    values = np.where(t < 100, 1.0, 100.0 / t)
    rate = fit_rate(t, values, window=(100, 10_000))
    assert rate.size == 3
    assert rate.exponent == pytest.approx(-1, abs=1e-14)
    assert fit_rate(t, values).exponent > -0.9


def test_what_lies_outside_the_window_may_be_zero():
    assert fit_rate([0, 1, 2, 4], [0, 2, 4, 8], window=(1, 4)).exponent == pytest.approx(1)


def test_a_constant_is_explained_entirely():
    rate = fit_rate([1, 2, 3, 4], [2.0, 2.0, 2.0, 2.0])
    assert (rate.exponent, rate.low, rate.high, rate.r_squared) == (0, 0, 0, 1)


def test_the_distance_of_normalised_descent_falls_faster_than_the_root():
    """Paper 3 proves the power -1/2."""
    data = attsvm.datasets.near_orthogonal(4, 4, 40, rng=0)
    solution = attsvm.att_svm(data, attsvm.optimal_tokens(data))
    run = train(data, steps=3000, record_every=log_schedule(3000), reference=solution)
    apart = np.sqrt(2 * run.history["cosine_gap"])
    assert fit_rate(run.history["step"], apart, window=(100, 3000)).high < -0.5


@given(steps=st.integers(1, 10**7), per_decade=st.integers(1, 50))
def test_a_schedule_increases_to_the_last_step_through_the_powers_of_ten(steps, per_decade):
    schedule = log_schedule(steps, per_decade=per_decade)
    assert schedule.dtype == np.int64
    assert (np.diff(schedule) > 0).all()
    assert (schedule[0], schedule[-1]) == (1, steps)
    assert {10**k for k in range(8) if 10**k <= steps} <= set(schedule.tolist())
    assert schedule.size <= per_decade * (math.log10(steps) + 1) + 2


def test_steps_of_a_schedule_are_evenly_spaced_where_they_are_many():
    schedule = log_schedule(100_000, per_decade=8)
    ratios = schedule[1:] / schedule[:-1]
    np.testing.assert_allclose(ratios[schedule[:-1] > 1000], 10 ** (1 / 8), rtol=1e-3)


def test_train_records_a_schedule():
    data = attsvm.datasets.unit_sphere(3, 3, 4, rng=0)
    run = train(data, steps=50, record_every=log_schedule(50, per_decade=3))
    assert run.history["step"].tolist() == [1, 2, 5, 10, 22, 46, 50]


@pytest.mark.parametrize(
    ("steps", "values", "settings", "error", "message"),
    [
        ([1, 2, 3], [1, 2], {}, ValueError, "values: expected shape of steps"),
        ([[1, 2, 3]], [[1, 2, 3]], {}, ValueError, "steps: expected shape"),
        ([1, 2, 3], [1, np.nan, 3], {}, ValueError, "values: expected finite"),
        ([1, 2, 3], [1, 0, 3], {}, ValueError, "values: expected positive numbers, got 0"),
        ([0, 2, 3], [1, 2, 3], {}, ValueError, "steps: expected positive numbers, got 0"),
        ([1, 2], [1, 2], {}, ValueError, "steps: expected at least three, got 2"),
        ([], [], {}, ValueError, "steps: expected"),
        ([2, 2, 2, 3], [1, 2, 3, 4], {}, ValueError, "steps: expected at least three, got 2"),
        ([1, 2, 3], [1, 2, 3], {"window": (2, 3)}, ValueError, "in the window"),
        ([1, 2, 3], [1, 2, 3], {"window": ("a", 3)}, TypeError, "window: expected"),
        ([1, 2, 3], [1, 2, 3], {"window": 3}, TypeError, "window: expected a pair"),
        ([1, 2, 3], [1, 2, 3], {"kind": "linear"}, ValueError, "kind: expected one of"),
        (
            [1, 2, 3],
            [1, 2, 3],
            {"level": 1.0},
            ValueError,
            "level: expected a number in \\(0, 1\\)",
        ),
        ("abc", [1, 2, 3], {}, TypeError, "steps: expected"),
    ],
)
def test_bad_input_to_fit_rate(steps, values, settings, error, message):
    with pytest.raises(error, match=message):
        fit_rate(steps, values, **settings)


@pytest.mark.parametrize(
    ("steps", "per_decade", "error", "message"),
    [
        (0, 10, ValueError, "steps: expected a positive integer"),
        (10.0, 10, TypeError, "steps: expected a positive integer"),
        (10, 0, ValueError, "per_decade: expected a positive integer"),
        (10, True, TypeError, "per_decade: expected a positive integer"),
    ],
)
def test_bad_input_to_log_schedule(steps, per_decade, error, message):
    with pytest.raises(error, match=message):
        log_schedule(steps, per_decade=per_decade)
