"""Linear algebra shared by all subpackages: norms, directions, low-rank matrices, spans."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attsvm import _core
from attsvm._arrays import Float64Array
from attsvm.threads import thread_count

Axes = int | tuple[int, ...] | None


def euclidean_norm(
    array: Float64Array, axis: Axes = None, *, keepdims: bool = False
) -> Float64Array:
    """Compute Euclidean (Frobenius) norms over `axis`, without overflow or underflow of squares.

    A norm beyond float64 is inf. Where no square leaves float64 it is the root of their sum.
    """
    scale = _power_of_two(array, axis)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        sums = np.square(array / scale).sum(axis=axis, keepdims=True)
        norms: Float64Array = scale * np.sqrt(sums)
    return norms if keepdims else norms.squeeze(axis)


def half_squared_distances(
    A: Float64Array, B: Float64Array, axis: Axes = None
) -> tuple[Float64Array, Float64Array]:
    """Compute ½|a - b|² and ½|a + b|² of the unit vectors a and b of A and B.

    They are 1 - cosine and 1 + cosine. The smaller of the two has all its digits. The arrays are of
    one shape and zero nowhere; `axis` are the axes of one vector or matrix.
    """
    a, b = (_unit(array, axis) for array in (A, B))
    return np.square(a - b).sum(axis=axis) / 2, np.square(a + b).sum(axis=axis) / 2


@dataclass(frozen=True, eq=False)
class LowRank:
    """Matrices W = left' right (..., d, e), one or several on leading axes, kept as factors."""

    left: Float64Array  # (..., s, d)
    # (..., s, e), or None for the identity, where W = left' has no factors; see `of_dense`.
    right: Float64Array | None

    @classmethod
    def of_dense(cls, W: Float64Array) -> LowRank:
        """Take matrices (..., d, e) without factors, as a view."""
        return cls(np.swapaxes(W, -1, -2), None)

    @property
    def shape(self) -> tuple[int, ...]:
        """(..., d, e)."""
        columns = self.left.shape[-2] if self.right is None else self.right.shape[-1]
        return (*self.left.shape[:-2], self.left.shape[-1], columns)

    def dense(self) -> Float64Array:
        """Form W, shape (..., d, e)."""
        left = np.swapaxes(self.left, -1, -2)
        return left if self.right is None else left @ self.right

    def of_rows(self, vectors: Float64Array) -> Float64Array:
        """Compute W z of vectors z in rows, (..., n, e) to (..., n, d)."""
        if self.right is not None:
            vectors = vectors @ np.swapaxes(self.right, -1, -2)
        return vectors @ self.left

    def compact(self) -> Float64Array:
        """Return a matrix (..., k, d) with the singular values of W, k at most s and e."""
        return self.left if self.right is None else _triangle(self.right) @ self.left

    def norm(self) -> Float64Array:
        """Compute |W|_F, shape (...,), without forming W where it has factors."""
        return euclidean_norm(self.compact(), (-2, -1))

    def unit(self) -> LowRank:
        """Return W / |W|_F; zero stays zero."""
        left = self.left / _power_of_two(self.left, (-2, -1))
        norms = LowRank(left, self.right).norm()[..., np.newaxis, np.newaxis]
        return LowRank(left / np.where(norms > 0, norms, 1.0), self.right)

    def inner(self, other: LowRank) -> Float64Array:
        """Compute <W, V> = Σ_jk W_jk V_jk with V = `other`, shape (...,)."""
        first, second = _in_one_basis(self, other)
        return np.asarray((first * second).sum(axis=(-2, -1)))

    def cosine_gap(self, other: LowRank) -> Float64Array:
        """Compute 1 - cosine(W, V) with V = `other`, shape (...,); 1 where either is zero.

        It is ½|W/|W| - V/|V||², which does not cancel. No matrix is formed where both have factors.
        """
        first, second = _in_one_basis(self, other)
        axes = (-2, -1)
        some = np.any(first, axis=axes, keepdims=True) & np.any(second, axis=axes, keepdims=True)
        near, far = half_squared_distances(
            np.where(some, first, 1.0), np.where(some, second, 1.0), axes
        )
        return np.where(some[..., 0, 0], np.where(near <= far, near, 2 - far), 1.0)


def with_equal_rows(factors: Sequence[Float64Array]) -> list[Float64Array]:
    """Append rows of zero, of NaN to what is NaN, to stacks (B, s, d) up to the largest s."""
    most = max(factor.shape[1] for factor in factors)
    rows = (np.where(np.isnan(factor[:, :1]), np.nan, 0.0) for factor in factors)
    return [
        np.concatenate([factor, row.repeat(most - factor.shape[1], axis=1)], axis=1)
        for factor, row in zip(factors, rows, strict=True)
    ]


def in_own_span(
    vectors: Float64Array, *, num_threads: int | None = None
) -> tuple[Float64Array, Float64Array | None]:
    """Compute coordinates of vectors (B, m, d) in an orthonormal basis of a space that holds them.

    Inner products stay what they are. Gradient descent, normalised or with Polyak steps, and the
    SVMs in the Frobenius and nuclear norm commute with rotations, so that they run on coordinates
    as they run on the vectors, in dimension min(m, d).

    Returns
    -------
    coordinates : ndarray, shape (B, m, min(m, d))
        Lower triangular when m < d: vector j lies in the span of the first j + 1 basis vectors.
    basis : ndarray, shape (B, m, d), or None
        Orthonormal rows, with vectors = coordinates @ basis. None when m >= d, where the vectors
        are their own coordinates.
    """
    _, m, d = vectors.shape
    if m >= d:
        return vectors, None
    return _core.row_bases(rows=np.ascontiguousarray(vectors), threads=thread_count(num_threads))


def own_coordinates(vectors: Float64Array, *, num_threads: int | None = None) -> Float64Array:
    """Compute the coordinates of `in_own_span`, (B, m, d) to (B, m, min(m, d)), without the basis.

    They are the same bits, in about half of the time.
    """
    _, m, d = vectors.shape
    if m >= d:
        return vectors
    rows = np.ascontiguousarray(vectors)
    return _core.row_coordinates(rows=rows, threads=thread_count(num_threads))


def _power_of_two(array: Float64Array, axis: Axes) -> Float64Array:
    """Return powers of two near the largest entries over `axis`, which is kept; 1 for zero."""
    largest = np.abs(array).max(axis=axis, keepdims=True, initial=0.0)
    _, exponent = np.frexp(np.where(largest > 0, largest, 1.0))
    return np.asarray(np.ldexp(1.0, exponent - 1))


def _unit(array: Float64Array, axis: Axes) -> Float64Array:
    scaled = array / _power_of_two(array, axis)
    return np.asarray(scaled / np.sqrt(np.square(scaled).sum(axis=axis, keepdims=True)))


def _triangle(rows: Float64Array) -> Float64Array:
    """Return R (..., min(s, d), s) of rows' = Q R with orthonormal columns of Q."""
    *lead, s, d = rows.shape
    coordinates = own_coordinates(rows.reshape(math.prod(lead), s, d))
    return np.swapaxes(coordinates.reshape(*lead, s, min(s, d)), -1, -2)


def _in_one_basis(first: LowRank, second: LowRank) -> tuple[Float64Array, Float64Array]:
    """Return both W' in one orthonormal basis of the rows of their right factors.

    Differences of the matrices stay as large as they are.
    """
    if first.right is None or second.right is None:
        return np.swapaxes(first.dense(), -1, -2), np.swapaxes(second.dense(), -1, -2)
    s = first.right.shape[-2]
    triangle = _triangle(np.concatenate([first.right, second.right], axis=-2))
    return triangle[..., :s] @ first.left, triangle[..., s:] @ second.left
