"""The set of tokens that attention selects, where it does not settle on a single one."""

from __future__ import annotations

import numpy as np

from attsvm._arrays import BoolArray, Float64Array, IndexArray
from attsvm._validation import as_float, number_text, require_all
from attsvm.data.attention_data import AttentionData
from attsvm.data.attention_weights import AttendedLike, AttentionWeights, as_attention_weights


def selected_sets(attention: AttendedLike, *, threshold: float = 1e-3) -> BoolArray:
    """Return the selected sets O_i = {t : s_it > threshold} of softmax weights s.

    Parameters
    ----------
    attention : array_like of shape ([B,] n, T), or Run
        Softmax weights, 0 at padding.
    threshold : float
        At least 0 and below the largest weight of every input.

    Returns
    -------
    ndarray of bool, shape ([B,] n, T)
        At least one token of every input is True.

    Examples
    --------
    >>> from attsvm import selected_sets
    >>> selected_sets([[0.6, 0.4, 0.0]])
    array([[ True,  True, False]])
    """
    return sets_of(as_attention_weights("attention", attention), threshold)


def sets_of(weights: AttentionWeights, threshold: float) -> BoolArray:
    """Return `selected_sets` of checked weights."""
    least = as_float("threshold", threshold)
    if not 0 <= least < 1:
        raise ValueError(f"threshold: expected a number of 0 or more and below 1, got {threshold}")
    return above(weights.attention, least, "input")


def above(weights: Float64Array, least: float, unit: str) -> BoolArray:
    """Return which weights are above the threshold: some in every `unit`, else `ValueError`."""
    some: BoolArray = weights > least
    got = f"{number_text(least)} and the largest weight {{}}"
    wanted, largest = f"a weight above it in every {unit}", weights.max(axis=-1)
    require_all("threshold", np.asarray(some.any(axis=-1)), largest, wanted, got)
    return some


def representatives(data: AttentionData, weights: AttentionWeights) -> IndexArray:
    """Return the token of largest weight of every input, first of equals: ([B,] n)."""
    logs = np.where(data.valid, weights.log_attention, -np.inf)
    return np.asarray(np.argmax(logs, axis=-1).astype(np.int64, copy=False))
