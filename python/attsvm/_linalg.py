"""Vectors in coordinates of their own span: what methods that turn with them can be reduced to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attsvm import _core
from attsvm.threads import thread_count

__all__ = ["in_own_span"]


def in_own_span(
    vectors: NDArray[np.float64], *, num_threads: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Coordinates of vectors in an orthonormal basis of a space that holds them.

    Inner products stay what they are. Gradient descent, normalised or with Polyak steps, and the
    support vector machines in the Frobenius and nuclear norm commute with rotations, so that they
    run on coordinates as they run on the vectors, in dimension min(m, d).

    Parameters
    ----------
    vectors : ndarray, shape (B, m, d)
        B sets of m vectors.
    num_threads : int, optional
        The results are the same for any number.

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
