"""Selected ids of a context, and the preferences they express instead of the labels."""

from __future__ import annotations

import numpy as np

from attsvm._arrays import Float64Array, IndexArray
from attsvm._validation import as_float
from attsvm.data.attention_weights import AttendedLike, as_attention_weights
from attsvm.data.next_token_data import NextTokenData
from attsvm.data.token_priorities import Preferences
from attsvm.svm.selected_sets import above


def attention_preferences(
    data: NextTokenData, attention: AttendedLike, threshold: float, ignored: float
) -> Preferences:
    """Rank every selected id before every other id of its context.

    The one of largest weight stands for all of them, with which it is tied.
    """
    least, most_ignored = as_float("threshold", threshold), as_float("ignored", ignored)
    if not 0 <= most_ignored <= least < 1:
        raise ValueError(
            f"ignored: expected 0 <= ignored <= threshold < 1, got {ignored} and {threshold}"
        )
    weights = id_weights(data, as_attention_weights("attention", attention, data).attention)
    selected = above(weights, least, "context")
    first = weights.argmax(axis=-1)[..., np.newaxis]
    top: IndexArray = np.take_along_axis(data.contexts, first, axis=-1)[..., 0]
    out = (weights > most_ignored) & ~selected
    below = data.valid & ~out & (data.contexts != top[..., np.newaxis])
    return Preferences(top, below, below & selected)


def id_weights(data: NextTokenData, weights: Float64Array) -> Float64Array:
    """Sum the weight of the id at each place over all places of the context that have it.

    Shape ([B,] n, T), 0 at padding.
    """
    contexts = data.contexts.reshape(-1, data.T)
    order = np.argsort(contexts, axis=1, kind="stable")
    ids = np.take_along_axis(contexts, order, axis=1)
    valid = data.valid.reshape(contexts.shape)
    sorted_weights = np.take_along_axis(
        np.where(valid, weights.reshape(contexts.shape), 0.0), order, axis=1
    )
    new = np.ones(ids.shape, dtype=np.bool_)
    new[:, 1:] = ids[:, 1:] != ids[:, :-1]
    runs = np.cumsum(new.ravel()) - 1
    totals = np.bincount(runs, weights=sorted_weights.ravel())[runs].reshape(ids.shape)
    result = np.empty(ids.shape)
    np.put_along_axis(result, order, totals, axis=1)
    return np.where(valid, result, 0.0).reshape(data.contexts.shape)
