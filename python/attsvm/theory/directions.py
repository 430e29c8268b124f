"""Directions: how far two parameters point the same way."""

from __future__ import annotations

from typing import TypeAlias, overload

import numpy as np
import numpy.typing as npt

from attsvm._validation import (
    ArrayLike,
    as_float_array,
    first_index,
    position_text,
    require_shape,
)

__all__ = ["cosine", "cosine_gap", "directional_distance"]

Float64Array: TypeAlias = "npt.NDArray[np.float64]"


@overload
def cosine(A: ArrayLike, B: ArrayLike, *, axis: None = None) -> float: ...
@overload
def cosine(A: ArrayLike, B: ArrayLike, *, axis: int | tuple[int, ...]) -> Float64Array: ...
def cosine(
    A: ArrayLike, B: ArrayLike, *, axis: int | tuple[int, ...] | None = None
) -> float | Float64Array:
    """Cosine <A, B> / (|A| |B|) of the angle between two vectors or matrices, or stacks of them.

    Computed from the distance of the unit vectors, so it lies in [-1, 1] and is 1 exactly for
    multiples of one direction whose unit vectors round alike. Where it is close to 1, `cosine_gap`
    says how close.

    Parameters
    ----------
    A, B : array_like
        Real, finite, of equal shape. Norms neither overflow nor underflow.
    axis : int or tuple of int, optional
        The axes that span one direction, as in NumPy: -1 for vectors (B, d), (-2, -1) for matrices
        (B, d, d). By default all of them: one vector or one matrix.

    Returns
    -------
    float, or ndarray of float64 over the other axes when `axis` is given

    Raises
    ------
    TypeError
        Not numbers.
    ValueError
        Shapes differ, NaN or inf, an axis that is not there, or a zero vector, which has no
        direction.

    Examples
    --------
    >>> from attsvm import cosine
    >>> cosine([1.0, 0.0], [-3.0, 0.0])
    -1.0
    """
    near, far = _half_squared_distances(A, B, axis)
    return _result(np.where(near <= far, 1 - near, far - 1), axis)


@overload
def cosine_gap(A: ArrayLike, B: ArrayLike, *, axis: None = None) -> float: ...
@overload
def cosine_gap(A: ArrayLike, B: ArrayLike, *, axis: int | tuple[int, ...]) -> Float64Array: ...
def cosine_gap(
    A: ArrayLike, B: ArrayLike, *, axis: int | tuple[int, ...] | None = None
) -> float | Float64Array:
    """1 - cosine = ½|A/|A| - B/|B||², without the cancellation of that difference.

    Gaps far below the rounding unit of 1 are kept: two directions an angle θ apart give θ²/2, down
    to about 1e-32.

    Parameters, results and errors are those of `cosine`.

    Examples
    --------
    >>> from attsvm.theory import cosine_gap
    >>> cosine_gap([1.0, 0.0], [1.0, 2.0**-40]) == 2.0**-81
    True
    """
    near, far = _half_squared_distances(A, B, axis)
    return _result(np.where(near <= far, near, 2 - far), axis)


@overload
def directional_distance(A: ArrayLike, B: ArrayLike, *, axis: None = None) -> float: ...
@overload
def directional_distance(
    A: ArrayLike, B: ArrayLike, *, axis: int | tuple[int, ...]
) -> Float64Array: ...
def directional_distance(
    A: ArrayLike, B: ArrayLike, *, axis: int | tuple[int, ...] | None = None
) -> float | Float64Array:
    """Distance |A/|A| - B/|B|| of two directions, from 0 to 2.

    Parameters, results and errors are those of `cosine`.

    Examples
    --------
    >>> from attsvm import directional_distance
    >>> directional_distance([1.0, 0.0], [-3.0, 0.0])
    2.0
    """
    near, _ = _half_squared_distances(A, B, axis)
    return _result(np.sqrt(2 * near), axis)


def _half_squared_distances(
    A: ArrayLike, B: ArrayLike, axis: int | tuple[int, ...] | None
) -> tuple[Float64Array, Float64Array]:
    """½|a - b|² and ½|a + b|² of the unit vectors a and b."""
    first, second = _read("A", A), _read("B", B)
    require_shape("B", second, "of A", first.shape)
    a, b = _unit("A", first, axis), _unit("B", second, axis)
    return np.square(a - b).sum(axis=axis) / 2, np.square(a + b).sum(axis=axis) / 2


def _read(name: str, value: ArrayLike) -> Float64Array:
    return as_float_array(name, value, "of one axis or more", ndim=range(1, 65), dtype=np.float64)


def _unit(name: str, array: Float64Array, axis: int | tuple[int, ...] | None) -> Float64Array:
    largest = np.abs(array).max(axis=axis, keepdims=True)
    zero = largest == 0
    if zero.any():
        at = f" at {position_text(first_index(zero))}" if zero.size > 1 else ""
        raise ValueError(f"{name}: expected a non-zero vector or matrix, got zero{at}")
    scaled = array / largest
    unit: Float64Array = scaled / np.sqrt(np.square(scaled).sum(axis=axis, keepdims=True))
    return unit


def _result(values: Float64Array, axis: int | tuple[int, ...] | None) -> float | Float64Array:
    return float(values) if axis is None else values
