"""The penalty C of slack, for estimators whose hard margin is C = inf."""

from __future__ import annotations

from typing import Any

import numpy as np

from attsvm._arrays import Float64Array
from attsvm.svm import SolverError

_FALLBACK = 10.0
SMALLEST_PENALTY = 1e-280


def as_penalty(value: Any) -> float:
    """Return the parameter C as a float whose 1/√C can be squared, inf for a hard margin."""
    wanted = f"C: expected a number of at least {SMALLEST_PENALTY}, or inf, got {value!r}"
    if isinstance(value, bool | np.bool_ | str | bytes):
        raise TypeError(wanted)
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(wanted) from error
    if not number >= SMALLEST_PENALTY:
        raise ValueError(wanted)
    return number


def fallback_penalty(rows: Float64Array, weights: Float64Array | None = None) -> float:
    """Return 10 over the mean square of the rows (r, d), weighted if there are weights (r,)."""
    size = float(np.average(np.sum(np.square(rows), axis=-1), weights=weights))
    return _FALLBACK / size if size > 0 else _FALLBACK


def beyond_float64(margins: str) -> SolverError:
    """Return the error where only the sum of the parts of a solution has these margins."""
    return SolverError(f"no weights in float64 have the margins of {margins}")


def too_hard(C: float) -> SolverError:
    """Return the error where slack, which separates everything, is too dear for float64."""
    return SolverError(
        f"C = {C}: slack this dear is below the rounding of float64; take a smaller C, or inf "
        "for hard margins"
    )
