"""Rank and effective rank of W."""

from __future__ import annotations

import numpy as np

from attsvm._arrays import Float64Array
from attsvm._validation import as_positive_float
from attsvm.svm import SVMSolution
from attsvm.theory.attention_parameter import AttentionParameter, ParameterLike, as_parameter
from attsvm.threads import takes_threads


@takes_threads
def rank(
    W: ParameterLike, *, rtol: float = 1e-5, num_threads: int | None = None
) -> int | Float64Array | None:
    """Count the singular values of W above `rtol` times the largest.

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

    Examples
    --------
    >>> from attsvm import rank
    >>> rank([[1.0, 1.0], [1.0, 1.0 + 1e-9]])
    1
    """
    least = as_positive_float("rtol", rtol)
    parameter = _existing(W)
    if parameter is None:
        return None
    values = _singular_values(parameter)
    ranks = np.sum(values > least, axis=1).astype(np.float64)
    ranks[~parameter.exists] = np.nan
    return ranks if parameter.batched else int(ranks[0])


@takes_threads
def effective_rank(
    W: ParameterLike, *, num_threads: int | None = None
) -> float | Float64Array | None:
    """Compute the effective rank exp(-Σ p_k ln p_k), p_k = σ_k / Σ σ of the singular values σ of W.

    It lies between 1 and the rank, which it is when all non-zero singular values are equal, and
    needs no tolerance.

    W is that of `rank`.

    Returns
    -------
    float, or ndarray of float64 of shape (B,) for a batch
        0 for W = 0. An infeasible solution has None, in a batch NaN.

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
    parameter = _existing(W)
    if parameter is None:
        return None
    values = _singular_values(parameter)
    some = values.any(axis=1)
    share = values / np.where(some, values.sum(axis=1), 1.0)[:, np.newaxis]
    entropy = -np.sum(share * np.log(np.where(share > 0, share, 1.0)), axis=1)
    ranks = np.where(some, np.exp(entropy), 0.0)
    ranks[~parameter.exists] = np.nan
    return parameter.answer(ranks)


def _existing(W: ParameterLike) -> AttentionParameter | None:
    """Check and read W; None for a single infeasible SVM."""
    return None if isinstance(W, SVMSolution) and W.feasible is False else as_parameter("W", W)


def _singular_values(parameter: AttentionParameter) -> Float64Array:
    """Compute the singular values (B, k), largest first, over the largest."""
    values = np.linalg.svd(parameter.matrix.compact(), compute_uv=False)
    return np.asarray(values / np.where(values[:, :1] > 0, values[:, :1], 1.0), dtype=np.float64)
