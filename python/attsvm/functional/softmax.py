"""softmax and log_softmax with SciPy's signatures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attsvm import _softmax as kernel
from attsvm._arrays import ArrayLike
from attsvm._softmax import Axis
from attsvm._validation import as_axis, read_array


def softmax(x: ArrayLike, axis: int | tuple[int, ...] | None = None) -> Any:
    """Compute exp(x) / Σ exp(x), as `scipy.special.softmax`.

    Parameters
    ----------
    x : array_like
        Real or complex, of any shape, or with ``__dlpack__``. float16, float32 and longer types
        are kept (float16 is summed in float32); integers, unsigned ones too, become float64.
    axis : int or tuple of int, optional
        The sum goes over these axes, by default over all.

    Returns
    -------
    ndarray, or a scalar for a scalar
        Of the shape of `x`. -inf has the weight 0; NaN, +inf, or -inf throughout make NaN, as
        in SciPy.

    Raises
    ------
    TypeError
        `x` does not hold numbers, or is a masked array.
    ValueError
        There is nothing to sum over (a sum over an empty axis), or `axis` is not there.

    Examples
    --------
    >>> import numpy as np
    >>> from attsvm.functional import softmax
    >>> softmax([0.0, np.log(3.0), -np.inf]).round(12)
    array([0.25, 0.75, 0.  ])
    """
    return _over(kernel.softmax, x, axis)


def log_softmax(x: ArrayLike, axis: int | tuple[int, ...] | None = None) -> Any:
    """Compute the logarithm of softmax, as `scipy.special.log_softmax`, exact also near 0.

    Parameters and errors are those of `softmax`.

    Returns
    -------
    ndarray, or a scalar for a scalar
        Of the shape of `x`. +inf among numbers makes them -inf and itself NaN, as in SciPy.

    Notes
    -----
    The logarithm of a weight near 1 is taken from what the other weights sum to: where SciPy's
    ends at 0 this goes on to the smallest number there is.

    Examples
    --------
    >>> from attsvm.functional import log_softmax
    >>> -log_softmax([0.0, -100.0])
    array([3.72007598e-44, 1.00000000e+02])
    """
    return _over(kernel.log_softmax, x, axis)


def _over(function: Callable[[NDArray[Any], Axis], Any], x: ArrayLike, axis: Axis) -> Any:
    """Compute `function` of `x`, an array of real or complex numbers, over `axis`."""
    array = read_array("x", x)
    if array.dtype.kind in "iu":
        array = array.astype(np.float64)
    if array.dtype.kind not in "fc":
        raise TypeError(f"x: expected numbers, got an array of dtype {array.dtype}")
    over = as_axis("axis", axis, array.ndim)
    try:
        return function(array, over)
    except ValueError as error:  # of a sum over nothing
        raise ValueError(f"x: expected numbers to sum over, got shape {array.shape}") from error
