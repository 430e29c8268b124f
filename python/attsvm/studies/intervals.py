"""Estimates from independent runs, with their confidence intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Estimate", "mean", "proportion"]


@dataclass(frozen=True)
class Estimate:
    """A number measured on a sample, and its confidence interval.

    Attributes
    ----------
    value : float
        The estimate; NaN if the sample is empty.
    low, high : float
        Ends of the confidence interval; NaN for a sample of less than two.
    size : int
        Size of the sample.
    """

    value: float
    low: float
    high: float
    size: int


def proportion(successes: npt.NDArray[np.bool_], *, level: float = 0.95) -> Estimate:
    """Compute the proportion of True, with Wilson's score interval.

    Parameters
    ----------
    successes : ndarray of bool, shape (size,)
        Independent trials of one probability; at least one.
    level : float, default 0.95
        Confidence level, between 0 and 1.

    Returns
    -------
    Estimate
        Within [0, 1]; the interval has positive length even where all trials agree.

    Raises
    ------
    ValueError
        There is no trial.
    """
    from scipy import stats

    size, count = successes.size, int(np.count_nonzero(successes))
    if size == 0:
        raise ValueError("successes: expected at least one trial, got none")
    if size == 1:
        return Estimate(float(count), math.nan, math.nan, 1)
    ends = stats.binomtest(count, size).proportion_ci(level, method="wilson")
    return Estimate(count / size, float(ends.low), float(ends.high), size)


def mean(
    values: npt.NDArray[np.float64], *, bounds: tuple[float, float], level: float = 0.95
) -> Estimate:
    """Compute the mean, with Student's t interval clipped to the range of the quantity.

    Parameters
    ----------
    values : ndarray, shape (size,)
        Independent draws of one quantity; may be empty.
    bounds : tuple of float
        Smallest and largest value the quantity can take.
    level : float, default 0.95
        Confidence level, between 0 and 1.

    Returns
    -------
    Estimate
        All NaN for an empty sample; the interval is NaN for a single value.
    """
    from scipy import stats

    size = values.size
    centre = float(values.mean()) if size else math.nan
    if size < 2:
        return Estimate(centre, math.nan, math.nan, size)
    half = float(stats.t.ppf((1 + level) / 2, size - 1) * stats.sem(values))
    return Estimate(centre, max(centre - half, bounds[0]), min(centre + half, bounds[1]), size)
