"""Confidence intervals of the tables of studies."""

from __future__ import annotations

import math
import statistics
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from attsvm.studies.intervals import mean, median, proportion


@given(size=st.integers(2, 2000), share=st.floats(0, 1), level=st.floats(0.5, 0.999))
def test_wilson_interval_is_where_the_score_test_does_not_reject(size, share, level):
    count = round(share * size)
    estimate = proportion(np.arange(size) < count, level=level)
    assert estimate.value == count / size
    assert estimate.size == size
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
    z = stats.norm.ppf((1 + level) / 2)
    for end in (estimate.low, estimate.high):
        score = math.sqrt(size) * abs(estimate.value - end)
        assert score == pytest.approx(z * math.sqrt(end * (1 - end)), abs=1e-9)


def test_wilson_interval_of_agreeing_trials_reaches_the_end_and_has_a_length():
    z = stats.norm.ppf(0.975)
    none, every = proportion(np.zeros(300, bool)), proportion(np.ones(300, bool))
    assert (none.low, every.high) == (0.0, 1.0)
    assert none.high == pytest.approx(z**2 / (300 + z**2), rel=1e-12)
    assert every.low == pytest.approx(300 / (300 + z**2), rel=1e-12)


def test_one_trial_has_no_interval():
    one = proportion(np.array([True]))
    assert (one.value, one.size) == (1.0, 1)
    assert math.isnan(one.low)
    assert math.isnan(one.high)


def test_share_of_no_trials_is_refused():
    with pytest.raises(ValueError, match=r"successes: .* got none"):
        proportion(np.zeros(0, bool))


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=50), st.floats(0.5, 0.999))
def test_mean_interval_is_students(values, level):
    estimate = mean(np.array(values), bounds=(-math.inf, math.inf), level=level)
    assert estimate.value == pytest.approx(np.mean(values), abs=1e-15)
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values)
    assert estimate.high - estimate.value == pytest.approx(half, rel=1e-9, abs=1e-12)
    assert estimate.value - estimate.low == pytest.approx(half, rel=1e-9, abs=1e-12)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=60), st.sampled_from([0.9, 0.95, 0.99]))
def test_median_interval_is_the_narrowest_pair_of_order_statistics_that_covers(values, level):
    """P(x_(k) <= m <= x_(n+1-k)) = 1 - 2 P(Bin(n, 1/2) < k), whatever the distribution is."""
    estimate, x, n = median(np.array(values), level=level), sorted(values), len(values)
    assert (estimate.value, estimate.size) == (statistics.median(values), n)

    def missed(k: int) -> Fraction:
        return Fraction(2 * sum(math.comb(n, j) for j in range(k)), 2**n)

    covering = [k for k in range(1, n // 2 + 1) if missed(k) < 1 - Fraction(str(level))]
    if covering:
        assert (estimate.low, estimate.high) == (x[covering[-1] - 1], x[n - covering[-1]])
    else:
        assert math.isnan(estimate.low)
        assert math.isnan(estimate.high)


def test_one_value_has_no_interval_of_the_median_and_none_has_no_median():
    one, none = median(np.array([0.5])), median(np.zeros(0))
    assert (one.value, one.size, none.size) == (0.5, 1, 0)
    assert math.isnan(one.low)
    assert math.isnan(none.value)


def test_mean_interval_is_cut_at_the_range_of_the_quantity():
    estimate = mean(np.array([0.9, 1.0, 1.0]), bounds=(-1.0, 1.0))
    assert estimate.low < estimate.value < estimate.high == 1.0


def test_one_value_has_no_interval_and_none_has_no_mean():
    one, none = (mean(np.array(v, dtype=float), bounds=(-1.0, 1.0)) for v in ([0.5], []))
    assert one.value == 0.5
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert math.isnan(none.value)
    assert none.size == 0
