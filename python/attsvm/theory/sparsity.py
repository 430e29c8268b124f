"""The soft number of tokens that attention spreads over."""

from __future__ import annotations

import numpy as np

from attsvm._arrays import Float64Array
from attsvm.data.attention_weights import AttendedLike, as_attention_weights


def sparsity(attention: AttendedLike) -> Float64Array:
    """Compute the soft number of attended tokens, |s|_1 / |s|_2² of the weights s of each input.

    It is k when k tokens share the weight equally: 1 for a single token, T for all of them. Along
    training it falls ("Max-Margin Token Selection in Attention Mechanism").

    Parameters
    ----------
    attention : array_like of shape ([B,] n, T), or Run
        Softmax weights, 0 at padding.

    Returns
    -------
    ndarray of float64, shape ([B,] n)
        From 1 to T.

    Examples
    --------
    >>> from attsvm import sparsity
    >>> sparsity([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    array([2., 1.])
    """
    s = as_attention_weights("attention", attention).attention
    soft_count: Float64Array = s.sum(axis=-1) / np.square(s).sum(axis=-1)
    return soft_count.clip(1.0, s.shape[-1])  # beyond it by the rounding of the weights only
