"""Estimates from independent runs, with their confidence intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

__all__ = ["Estimate", "mean", "proportion"]


@dataclass(frozen=True)
class Estimate:
    """A number measured on a sample, and the interval that holds the true one.

    Attributes
    ----------
    value : float
        The estimate; NaN if the sample was empty.
    low, high : float
        Ends of the confidence interval; NaN where the sample is too small to have one.
    size : int
        Size of the sample.
    """

    value: float
    low: float
    high: float
    size: int


def proportion(successes: npt.NDArray[np.bool_], *, level: float = 0.95) -> Estimate:
    """Share of True, with Wilson's score interval.

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
        No trial at all.

    References
    ----------
    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of
    the American Statistical Association 22 (1927).
    """
    size = successes.size
    if size == 0:
        raise ValueError("successes: expected at least one trial, got none")
    count = int(np.count_nonzero(successes))
    z = float(special.ndtri((1 + level) / 2))
    share = count / size
    centre = (count + z**2 / 2) / (size + z**2)
    half = z / (size + z**2) * math.sqrt(size * share * (1 - share) + z**2 / 4)
    # The ends at 0 and 1 are exact: there centre and half width are the same number, rounded twice.
    low = 0.0 if count == 0 else centre - half
    high = 1.0 if count == size else centre + half
    return Estimate(share, low, high, size)


def mean(
    values: npt.NDArray[np.float64], *, bounds: tuple[float, float], level: float = 0.95
) -> Estimate:
    """Mean with Student's t interval, cut at the range the quantity can take.

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
    size = values.size
    if size == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    centre = float(values.mean())
    if size == 1:
        return Estimate(centre, math.nan, math.nan, 1)
    half = float(special.stdtrit(size - 1, (1 + level) / 2) * values.std(ddof=1)) / math.sqrt(size)
    return Estimate(centre, max(centre - half, bounds[0]), min(centre + half, bounds[1]), size)
