"""Constraints as plain vectors, in as few coordinates as they need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack

from attsvm.svm.constraints import Constraints, Float64Array

__all__ = ["RowCoordinates", "coordinate_count", "row_coordinates"]

_MOST_NUMBERS = 2**25


@dataclass(frozen=True, eq=False)
class RowCoordinates:
    """Vectors with the inner products of the A_r, and the matrices they stand for.

    Attributes
    ----------
    rows : ndarray, shape (m, D)
        One vector a_r for each constraint, <a_r, a_s> = <A_r, A_s>.
    left_basis, right_basis : ndarray, shapes (k, d) and (l, e), or None
        Orthonormal rows with A_r = left_basis' M_r right_basis, where a_r lists the k x l entries
        of M_r; None when the a_r come from the Gram matrix.
    """

    rows: Float64Array
    left_basis: Float64Array | None
    right_basis: Float64Array | None

    def factors(self, w: Float64Array) -> tuple[Float64Array, Float64Array] | None:
        """(left, right) of W = left' right for a vector w in these coordinates.

        None when the coordinates come from the Gram matrix, where W is known by its multipliers.
        """
        if self.left_basis is None or self.right_basis is None:
            return None
        entries = w.reshape(len(self.left_basis), len(self.right_basis))
        return entries.T @ self.left_basis, self.right_basis


def coordinate_count(constraints: Constraints) -> int:
    """Dimension of the space between the span of the differences and that of the queries."""
    m, d = constraints.differences.shape
    s, e = constraints.queries.shape
    return int(min(m, d) * min(s, e))


def row_coordinates(constraints: Constraints) -> RowCoordinates:
    """Coordinates of the constraints in orthonormal bases of their differences and queries.

    W lies in the span of the A_r, between the span of the differences and that of the queries, so
    min(m, d) x min(s, e) coordinates carry everything, exactly. Where these are more than the
    constraints, and more than 2**25 numbers in all, the rows come from a pivoted Cholesky factor of
    the Gram matrix instead, which resolves linear dependence to about 1e-8 only.
    """
    m, coordinates = constraints.m, coordinate_count(constraints)
    if coordinates > m and m * coordinates > _MOST_NUMBERS:
        factor, pivots, rank, _ = lapack.dpstrf(constraints.gram(), lower=1)
        rows = np.empty((m, rank))
        rows[pivots - 1] = np.tril(factor)[:, :rank]
        return RowCoordinates(rows, None, None)
    left, left_basis = _in_own_span(constraints.differences)
    right, right_basis = _in_own_span(constraints.queries)
    rows = (left[:, :, np.newaxis] * right[constraints.query][:, np.newaxis, :]).reshape(m, -1)
    return RowCoordinates(rows, left_basis, right_basis)


def _in_own_span(vectors: Float64Array) -> tuple[Float64Array, Float64Array]:
    """(coordinates, basis) with vectors = coordinates @ basis and orthonormal rows of the basis."""
    count, dimension = vectors.shape
    if dimension <= count:
        return vectors, np.eye(dimension)
    basis, triangle = np.linalg.qr(vectors.T)
    return triangle.T, basis.T
