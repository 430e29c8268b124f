"""Cosine and distances of directions, and the cone around the direction of an SVM."""

from __future__ import annotations

from typing import overload

import numpy as np
import scipy

from attsvm._arrays import ArrayLike, BoolArray, Float64Array
from attsvm._linalg import half_squared_distances
from attsvm._validation import (
    as_axis,
    as_float64_array,
    as_float_in,
    as_instance,
    as_nonnegative_float,
    require_direction,
    require_shape,
)
from attsvm.svm import SVMSolution
from attsvm.theory.attention_parameter import ParameterLike, as_parameter, as_parameter_beside


@overload
def cosine(A: ArrayLike, B: ArrayLike, *, axis: None = None) -> float: ...
@overload
def cosine(A: ArrayLike, B: ArrayLike, *, axis: int | tuple[int, ...]) -> Float64Array: ...
def cosine(
    A: ArrayLike, B: ArrayLike, *, axis: int | tuple[int, ...] | None = None
) -> float | Float64Array:
    """Compute the cosine <A, B> / (|A| |B|) of two vectors or matrices, or stacks of them.

    Computed from the distance of the unit vectors, so it lies in [-1, 1] and is 1 exactly for
    multiples of one direction whose unit vectors round alike. Where it is close to 1, `cosine_gap`
    has the digits that are lost.

    Parameters
    ----------
    A, B : array_like
        Real, finite, of equal shape, and not zero, which has no direction. Norms neither overflow
        nor underflow.
    axis : int or tuple of int, optional
        The axes that span one direction, as in NumPy: -1 for vectors (B, d), (-2, -1) for matrices
        (B, d, d). By default all of them: one vector or one matrix.

    Returns
    -------
    float, or ndarray of float64 over the other axes when `axis` is given

    Examples
    --------
    >>> from attsvm import cosine
    >>> cosine([1.0, 0.0], [-3.0, 0.0])
    -1.0
    """
    return _result(cosines_and_gaps(A, B, axis)[0], axis)


@overload
def cosine_gap(A: ArrayLike, B: ArrayLike, *, axis: None = None) -> float: ...
@overload
def cosine_gap(A: ArrayLike, B: ArrayLike, *, axis: int | tuple[int, ...]) -> Float64Array: ...
def cosine_gap(
    A: ArrayLike, B: ArrayLike, *, axis: int | tuple[int, ...] | None = None
) -> float | Float64Array:
    """Compute 1 - cosine = ½|A/|A| - B/|B||², without the cancellation of that difference.

    Gaps far below the rounding unit of 1 are kept: two directions an angle θ apart give θ²/2, down
    to about 1e-32.

    Parameters and results are those of `cosine`.

    Examples
    --------
    >>> from attsvm.theory import cosine_gap
    >>> cosine_gap([1.0, 0.0], [1.0, 2.0**-40]) == 2.0**-81
    True
    """
    return _result(cosines_and_gaps(A, B, axis)[1], axis)


@overload
def directional_distance(A: ArrayLike, B: ArrayLike, *, axis: None = None) -> float: ...
@overload
def directional_distance(
    A: ArrayLike, B: ArrayLike, *, axis: int | tuple[int, ...]
) -> Float64Array: ...
def directional_distance(
    A: ArrayLike, B: ArrayLike, *, axis: int | tuple[int, ...] | None = None
) -> float | Float64Array:
    """Compute the distance |A/|A| - B/|B|| of two directions, from 0 to 2.

    Parameters and results are those of `cosine`.

    Examples
    --------
    >>> from attsvm import directional_distance
    >>> directional_distance([1.0, 0.0], [-3.0, 0.0])
    2.0
    """
    near, _ = half_squared_distances(*_directions(A, B, axis), axis)
    return _result(np.sqrt(2 * near), axis)


@overload
def bregman_distance(A: ArrayLike, B: ArrayLike, p: float, *, axis: None = None) -> float: ...
@overload
def bregman_distance(
    A: ArrayLike, B: ArrayLike, p: float, *, axis: int | tuple[int, ...]
) -> Float64Array: ...
def bregman_distance(
    A: ArrayLike, B: ArrayLike, p: float, *, axis: int | tuple[int, ...] | None = None
) -> float | Float64Array:
    """Compute the Bregman distance D(a, b) of two directions, of the potential ψ = |.|_p^p / p.

    D(a, b) = ψ(a) - ψ(b) - <∇ψ(b), a - b> with a = A/|A|_p and b = B/|B|_p. As both have norm 1, it
    is 1 - <∇ψ(b), a>, ∇ψ(b) = sign(b) |b|^(p-1): from 0, where the directions are the same, to 2.
    At p = 2 it is ½|a - b|² = `cosine_gap`; otherwise it is not symmetric. It is summed from the
    distances of the entries, none of which is negative, so that small ones keep their digits.
    Results are those of `cosine`.

    Parameters
    ----------
    A, B, axis
        As of `cosine`: a solution of the SVM, and what mirror descent trained, for example.
    p : float
        Larger than 1: that of the mirror descent, in which the norms are taken too.

    References
    ----------
    Julistiono, Tarzanagh, Azizan, "Optimizing Attention with Mirror Descent", 2025, the
    directional Bregman divergence of its experiments.

    Examples
    --------
    >>> from attsvm.theory import bregman_distance
    >>> bregman_distance([3.0, 0.0], [0.0, 1.0], 3)
    1.0
    >>> bregman_distance([1.0, 0.0], [1.0, 2.0**-40], 2) == 2.0**-81
    True
    """
    power = as_float_in("p", p, 1, np.inf, ends="()")
    a, b = (_unit_in_lp(array, power, axis) for array in _directions(A, B, axis))
    apart = a - b
    each = np.abs(a) ** power / power - np.sign(b) * np.abs(b) ** (power - 1) * a
    each += np.abs(b) ** power * (1 - 1 / power)
    # Close entries: the integral remainder of Taylor's formula, as a function of s = (a - b) / b.
    close = np.abs(apart) * max(2.0, 2 * (power - 1)) < np.abs(b)
    s = apart[close] / b[close]
    remainder = s**2 * scipy.special.hyp2f1(2 - power, 1, 3, -s) * (power - 1) / 2
    each[close] = np.abs(b[close]) ** power * remainder
    return _result(np.maximum(each, 0.0).sum(axis=axis), axis)


def in_cone(W: ParameterLike, solution: SVMSolution, mu: float, radius: float) -> bool | BoolArray:
    """Test whether W lies in the cone of local convergence: |W| >= R, cosine(W, W^mm) >= 1 - μ.

    Gradient descent that starts there, with μ small and R large enough, converges to the direction
    W^mm of a locally optimal choice of tokens, by theorems of "Transformers as Support Vector
    Machines" and "Max-Margin Token Selection".

    Parameters
    ----------
    W : array_like of shape ([B,] d, d) for W or ([B,] d) for p, Run or SVMSolution
    solution : SVMSolution
        W^mm or p^mm.
    mu : float
        From 0 to 2.
    radius : float
        R, 0 or more, in the Frobenius norm.

    Returns
    -------
    bool, or ndarray of bool of shape (B,) for a batch
        False for W = 0, and where the SVM is infeasible or its solution 0.

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.AttentionData([[[1.0, 0.0], [0.0, 1.0]]], [1], queries=[[1.0, 0.0]])
    >>> solution = attsvm.att_svm(data, [0])
    >>> attsvm.in_cone([[5.0, 0.0], [-4.0, 0.0]], solution, mu=0.01, radius=1.0)
    True
    """
    reach = as_float_in("mu", mu, 0, 2)
    least = as_nonnegative_float("radius", radius)
    if as_instance("solution", solution, SVMSolution).feasible is False:
        return False
    mm = as_parameter("solution", solution)
    parameter = as_parameter_beside("W", W, mm)
    norm = parameter.matrix.norm()
    inside = (norm >= least) & (norm > 0) & (mm.matrix.norm() > 0)
    inside &= parameter.matrix.cosine_gap(mm.matrix) <= reach
    return parameter.answer(inside)


def cosines_and_gaps(
    A: ArrayLike, B: ArrayLike, axis: int | tuple[int, ...] | None
) -> tuple[Float64Array, Float64Array]:
    """Compute both `cosine` and `cosine_gap`."""
    near, far = half_squared_distances(*_directions(A, B, axis), axis)
    return np.where(near <= far, 1 - near, far - 1), np.where(near <= far, near, 2 - far)


def _directions(
    A: ArrayLike, B: ArrayLike, axis: int | tuple[int, ...] | None
) -> tuple[Float64Array, Float64Array]:
    """Read A and B, of one shape and zero nowhere."""
    text = "of one axis or more"
    first, second = (
        as_float64_array(name, value, text, ndim=range(1, 65))
        for name, value in (("A", A), ("B", B))
    )
    require_shape("B", second, "of A", first.shape)
    as_axis("axis", axis, first.ndim)
    for name, array in (("A", first), ("B", second)):
        require_direction(name, array.any(axis=axis))
    return first, second


def _unit_in_lp(array: Float64Array, p: float, axis: int | tuple[int, ...] | None) -> Float64Array:
    """Divide by the l_p norm, without overflow or underflow of it."""
    scaled = array / np.abs(array).max(axis=axis, keepdims=True)
    norms = np.sum(np.abs(scaled) ** p, axis=axis, keepdims=True) ** (1 / p)
    return np.asarray(scaled / norms)


def _result(values: Float64Array, axis: int | tuple[int, ...] | None) -> float | Float64Array:
    return float(values) if axis is None else values
