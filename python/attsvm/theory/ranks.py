"""Rank and effective rank of W."""

from __future__ import annotations

import numpy as np

from attsvm._validation import BoolArray, as_positive_float
from attsvm.svm import SVMSolution
from attsvm.theory.matrices import Float64Array, MatrixLike, matrices_of

__all__ = ["effective_rank", "rank"]


def rank(W: MatrixLike, *, rtol: float = 1e-5) -> int | Float64Array | None:
    """Number of singular values of W above `rtol` times the largest.

    An infeasible SVM has no W and so no rank: it must not enter an average as a number.

    Parameters
    ----------
    W : array_like of shape ([B,] d, e), Run or SVMSolution
        Runs and solutions are taken by their factors, without forming W.
    rtol : float
        Relative tolerance.

    Returns
    -------
    int, or ndarray of float64 of shape (B,) for a batch
        0 for W = 0. An infeasible solution has None, in a batch NaN.

    Raises
    ------
    TypeError, ValueError
        `W` is not a finite matrix or a stack of them, or `rtol` is not positive.

    References
    ----------
    P2: Tarzanagh, Li, Thrampoulidis, Oymak, "Transformers as Support Vector Machines", 2023, the
    rank of SVM solutions.

    Examples
    --------
    >>> from attsvm import rank
    >>> rank([[1.0, 1.0], [1.0, 1.0 + 1e-9]])
    1
    """
    least = as_positive_float("rtol", rtol)
    if _single_infeasible(W):
        return None
    values, exists, batched = _singular_values(W)
    ranks = np.sum(values > least * values[:, :1], axis=1).astype(np.float64)
    ranks[~exists] = np.nan
    return ranks if batched else int(ranks[0])


def effective_rank(W: MatrixLike) -> float | Float64Array | None:
    """Effective rank exp(-Σ p_k ln p_k) with p_k = σ_k / Σ σ of the singular values σ of W.

    It lies between 1 and the rank, which it is when all non-zero singular values are equal, and
    needs no tolerance.

    Parameters
    ----------
    W : array_like of shape ([B,] d, e), Run or SVMSolution
        As in `rank`.

    Returns
    -------
    float, or ndarray of float64 of shape (B,) for a batch
        0 for W = 0. An infeasible solution has None, in a batch NaN.

    Raises
    ------
    TypeError, ValueError
        `W` is not a finite matrix or a stack of them.

    References
    ----------
    Roy, Vetterli, "The effective rank: a measure of effective dimensionality", 15th European Signal
    Processing Conference, 2007.

    Examples
    --------
    >>> from attsvm import effective_rank
    >>> effective_rank([[2.0, 0.0], [0.0, 2.0]])
    2.0
    """
    if _single_infeasible(W):
        return None
    values, exists, batched = _singular_values(W)
    share = values / np.where(exists & values.any(axis=1), values.sum(axis=1), 1.0)[:, np.newaxis]
    entropy = -np.sum(share * np.log(np.where(share > 0, share, 1.0)), axis=1)
    ranks = np.where(values.any(axis=1), np.exp(entropy), 0.0)
    ranks[~exists] = np.nan
    return ranks if batched else float(ranks[0])


def _single_infeasible(W: MatrixLike) -> bool:
    return isinstance(W, SVMSolution) and W.feasible is False


def _singular_values(
    W: MatrixLike,
) -> tuple[Float64Array, BoolArray, bool]:
    """Singular values (B, k), largest first, over the largest entry; which exist; whether B."""
    matrices = matrices_of("W", W)
    compact = matrices.compact()
    largest = np.abs(compact).max(axis=(1, 2), keepdims=True)
    unit = compact / np.where(largest > 0, largest, 1.0)
    values = np.asarray(np.linalg.svd(unit, compute_uv=False), dtype=np.float64)
    return values, matrices.exists, matrices.batched
