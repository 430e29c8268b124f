"""Vectors in coordinates of their own span: what methods that turn with them can be reduced to."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

__all__ = ["in_own_span"]

_LARGE = 2**20


def in_own_span(
    vectors: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Coordinates of vectors in an orthonormal basis of a space that holds them.

    Inner products stay what they are. Gradient descent, normalised or with Polyak steps, and the
    support vector machines in the Frobenius and nuclear norm commute with rotations, so that they
    run on coordinates as they run on the vectors, in dimension min(m, d).

    Parameters
    ----------
    vectors : ndarray, shape (B, m, d)
        B sets of m vectors.

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
    columns = np.swapaxes(vectors, 1, 2)
    if m * d < _LARGE:
        basis, triangle = np.linalg.qr(columns)
    else:  # SciPy's factorisation is several times faster, but takes one matrix at a time
        pairs = [scipy.linalg.qr(one, mode="economic", check_finite=False) for one in columns]
        basis = np.stack([pair[0] for pair in pairs])
        triangle = np.stack([pair[1] for pair in pairs])
    return np.ascontiguousarray(np.swapaxes(triangle, 1, 2)), np.swapaxes(basis, 1, 2)
