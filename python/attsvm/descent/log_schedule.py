"""Steps to record, evenly spaced on a logarithmic axis."""

from __future__ import annotations

import numpy as np

from attsvm._arrays import IndexArray
from attsvm._validation import as_positive_int


def log_schedule(steps: int, *, per_decade: int = 10) -> IndexArray:
    """Return steps from 1 to `steps`, evenly spaced in their logarithm, for `train` to record.

    Parameters
    ----------
    steps : int
        The last one.
    per_decade : int
        Records for each factor of ten; the first decades have fewer where steps would coincide.
        1 gives the powers of ten, and `steps`.

    Returns
    -------
    ndarray of int64, shape (R,)
        Increasing; 1, every power of ten up to `steps`, and `steps` are among them.

    Examples
    --------
    >>> from attsvm import log_schedule
    >>> log_schedule(2000, per_decade=2).tolist()
    [1, 3, 10, 32, 100, 316, 1000, 2000]
    """
    steps = counted(as_positive_int("steps", steps))
    per_decade = as_positive_int("per_decade", per_decade)
    decades = len(str(steps))
    exponents = np.arange(decades * per_decade) / per_decade
    spaced = np.rint(10.0**exponents).astype(np.int64)
    return np.append(np.unique(spaced[spaced < steps]), np.int64(steps))


def counted(steps: int) -> int:
    """Return `steps` if float64, which counts them in schedules and progress, tells them apart."""
    if steps > 2**53:
        raise ValueError(f"steps: expected at most 2**53, got {steps}")
    return steps
