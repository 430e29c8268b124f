"""Rates of growth or decay: powers of the step, or exponentials."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy

from attsvm._arrays import ArrayLike, Float64Array
from attsvm._display import Displayed
from attsvm._validation import (
    as_choice,
    as_float,
    as_float64_array,
    as_float_in,
    require_all,
    require_shape,
)


@dataclass(frozen=True)
class Rate(Displayed):
    """A law value = prefactor · step^exponent, or prefactor · e^(exponent · step).

    Attributes
    ----------
    kind : {"power", "exponential"}
        The law.
    exponent : float
        Negative for decay.
    low, high : float
        Ends of its confidence interval, under the assumptions that `fit_rate` states.
    log_prefactor : float
        Logarithm of the prefactor.
    r_squared : float
        Share of the variance of log(value) that the law explains, in [0, 1]; 1 where there is none.
    size : int
        Number of points fitted.
    """

    kind: str
    exponent: float
    low: float
    high: float
    log_prefactor: float
    r_squared: float
    size: int

    def at(self, steps: ArrayLike) -> Float64Array:
        """Evaluate the law at steps, positive ones where it is a power; same shape as `steps`."""
        s = as_float64_array("steps", steps, "(...)", ndim=range(65))
        if self.kind == "power":
            require_all("steps", s > 0, s, "positive steps of a power law")
        x = np.log(s) if self.kind == "power" else s
        value: Float64Array = np.exp(self.log_prefactor + self.exponent * x)
        return value

    def _facts(self) -> dict[str, str]:
        return {
            "law": self.kind,
            "exponent": f"{self.exponent:.4g} ({self.low:.4g} to {self.high:.4g})",
            "share of the variance": f"{self.r_squared:.6g}",
            "points": str(self.size),
        }


def fit_rate(
    steps: ArrayLike,
    values: ArrayLike,
    *,
    kind: Literal["power", "exponential"] = "power",
    window: tuple[float, float] | None = None,
    level: float = 0.95,
) -> Rate:
    """Fit a rate by least squares: log(values) on log(steps), or on steps if exponential.

    The interval is Student's. It contains the true exponent with probability `level` if log(values)
    scatter about a line with independent normal errors of one variance. Values along one run of
    descent do not: they lie on a smooth curve, and errors of neighbours are correlated. There the
    interval measures only how well one exponent describes the window; the variation between
    problems is measured by fitting several runs. The interval shrinks with the number of records,
    so record evenly in the regressor: on `attsvm.log_schedule` for a power.

    Parameters
    ----------
    steps : array_like, shape (R,)
        Positive for a power. They need not be integers: a law in t^(1/3) is exponential in it.
    values : array_like, shape (R,)
        Positive, such as distances, gaps or norms.
    kind : {"power", "exponential"}
        The law.
    window : pair of float, optional
        First and last step to fit, both included; by default all. Three different steps or more are
        in it.
    level : float
        Confidence level, between 0 and 1.

    Returns
    -------
    Rate

    Examples
    --------
    >>> import numpy as np
    >>> from attsvm import fit_rate
    >>> steps = np.array([10, 100, 1000, 10_000])
    >>> rate = fit_rate(steps, 3 / np.sqrt(steps))
    >>> print(f"{rate.exponent:.3f}, prefactor {np.exp(rate.log_prefactor):.3f}")
    -0.500, prefactor 3.000
    """
    as_choice("kind", kind, ("power", "exponential"))
    x = as_float64_array("steps", steps, "(R,)", ndim={1})
    y = as_float64_array("values", values, "(R,)", ndim={1})
    require_shape("values", y, "of steps", x.shape)
    as_float_in("level", level, 0, 1, ends="()")
    if window is not None:
        if np.shape(window) != (2,):
            raise TypeError(f"window: expected a pair of numbers, got {window!r}")
        first, last = (as_float("window", end) for end in window)
        inside = (first <= x) & (x <= last)
        x, y = x[inside], y[inside]
    require_all("values", y > 0, y, "positive numbers")
    if kind == "power":
        require_all("steps", x > 0, x, "positive numbers")
        x = np.log(x)
    if np.unique(x).size < 3:
        where = "" if window is None else f" in the window {window}"
        raise ValueError(f"steps: expected at least three{where}, got {np.unique(x).size}")
    return _line(kind, x, np.log(y), level)


def _line(kind: str, x: Float64Array, y: Float64Array, level: float) -> Rate:
    """Fit y on x by least squares, with the interval of the slope.

    The interval is from the residuals: 1 - r², as in `scipy.stats.linregress`, cancels for exact
    laws.
    """
    dx, dy = x - x.mean(), y - y.mean()
    unit = float(np.abs(dx).max())  # keeps the squares of steps in the range of float64
    dx = dx / unit
    spread = float(dx @ dx)
    slope = float(dx @ dy) / spread
    residual = dy - slope * dx
    unexplained, whole = float(residual @ residual), float(dy @ dy)
    freedom = x.size - 2
    half = float(scipy.special.stdtrit(freedom, (1 + level) / 2)) * math.sqrt(
        unexplained / freedom / spread
    )
    return Rate(
        kind=kind,
        exponent=slope / unit,
        low=(slope - half) / unit,
        high=(slope + half) / unit,
        log_prefactor=float(y.mean() - slope * (x.mean() / unit)),
        r_squared=max(0.0, 1.0 - unexplained / whole) if whole else 1.0,
        size=x.size,
    )
