"""Estimates from independent runs, with their confidence intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy

from attsvm._arrays import BoolArray, Float64Array


@dataclass(frozen=True)
class Estimate:
    """A number measured on a sample, and its confidence interval."""

    value: float  # the estimate; NaN if the sample is empty
    low: float  # lower end of the confidence interval; NaN for a sample of less than two
    high: float  # upper end
    size: int  # size of the sample


def proportion(successes: BoolArray, *, level: float = 0.95) -> Estimate:
    """Compute the share of True in independent trials, with Wilson's score interval.

    It is within [0, 1], and has positive length even where all trials agree. No trial at all is a
    `ValueError`.
    """
    size, count = successes.size, int(np.count_nonzero(successes))
    if size == 0:
        raise ValueError("successes: expected at least one trial, got none")
    if size == 1:
        return Estimate(float(count), math.nan, math.nan, 1)
    z = float(scipy.special.ndtri((1 + level) / 2))
    share, spread = count / size, z * z / size
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / size + spread / (4 * size)) / (1 + spread)
    low, high = (0.0 if count == 0 else centre - half), (1.0 if count == size else centre + half)
    return Estimate(share, low, high, size)


def median(values: Float64Array, *, level: float = 0.95) -> Estimate:
    """Compute the median of independent draws, with the interval between two order statistics.

    It is [x_(k), x_(n+1-k)] with the largest k for which P(Bin(n, 1/2) < k) is less than half of
    1 - `level`: it covers the median of the population with this probability, whatever the
    distribution is (Conover, "Practical Nonparametric Statistics", 1999, section 3.2). At the level
    0.95 it does not exist for five draws or less; all is NaN for an empty sample.
    """
    ordered, size = np.sort(values), values.size
    centre = float(np.median(ordered)) if size else math.nan
    # P(Bin(n, 1/2) < k) rises with k and reaches 1/2 in the middle.
    below = scipy.special.bdtr(np.arange(size // 2 + 1) - 1, size, 0.5)
    k = int(np.searchsorted(below, (1 - level) / 2)) - 1
    if k < 1:
        return Estimate(centre, math.nan, math.nan, size)
    return Estimate(centre, float(ordered[k - 1]), float(ordered[size - k]), size)


def mean(values: Float64Array, *, bounds: tuple[float, float], level: float = 0.95) -> Estimate:
    """Compute the mean of independent draws, with Student's t interval.

    The interval is clipped to `bounds`, the smallest and largest value the quantity can take. All
    is NaN for an empty sample.
    """
    size = values.size
    centre = float(values.mean()) if size else math.nan
    if size < 2:
        return Estimate(centre, math.nan, math.nan, size)
    t = scipy.special.stdtrit(size - 1, (1 + level) / 2)
    half = float(t * values.std(ddof=1) / math.sqrt(size))
    return Estimate(centre, max(centre - half, bounds[0]), min(centre + half, bounds[1]), size)
