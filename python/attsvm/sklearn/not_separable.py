"""What the estimators do about data that no hard margin separates."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["NotSeparableWarning", "as_penalty", "fallback_penalty", "solver_of_slack", "warn_not_separable"]

_FALLBACK = 10.0
_MOST_WITH_GRAM = 1500


class NotSeparableWarning(UserWarning):
    """No hard margin exists; the estimator has the soft margin that its documentation names."""


def as_penalty(value: Any) -> float:
    """The parameter C as a float above 0, inf for a hard margin."""
    wanted = f"C: expected a positive number or inf, got {value!r}"
    if isinstance(value, bool | np.bool_ | str | bytes):
        raise TypeError(wanted)
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(wanted) from error
    if not number > 0:
        raise ValueError(wanted)
    return number


def fallback_penalty(rows: NDArray[np.float64]) -> float:
    """10 over the mean square of the rows (r, d)."""
    size = float(np.mean(np.sum(np.square(rows), axis=-1)))
    return _FALLBACK / size if size > 0 else _FALLBACK


def solver_of_slack(constraints: int) -> str:
    """The solver for constraints with slack, of which most are active.

    Slack makes the Gram matrix well-conditioned: where it is small enough to be formed, a few
    exchanges on it take a fraction of the time of the methods that enter constraints one by one.
    """
    return "osqp" if constraints <= _MOST_WITH_GRAM else "auto"


def warn_not_separable(what: str, penalty: float) -> None:
    """Say that the fallback took the place of the hard margin; to be called from `fit`."""
    warnings.warn(
        f"{what} cannot be separated: no hard margin exists, and the soft margin of "
        f"C = {penalty:.3g} takes its place; set C to choose another",
        NotSeparableWarning,
        stacklevel=3,
    )
