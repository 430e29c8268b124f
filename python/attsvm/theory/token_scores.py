"""Token scores, the margins that tokens contribute, and the tokens of highest score."""

from __future__ import annotations

import numpy as np

from attsvm import _core
from attsvm._arrays import Float64Array, IndexArray
from attsvm._validation import require_all
from attsvm.data.attention_data import AttentionData, as_data
from attsvm.threads import takes_threads, thread_count


@takes_threads
def scores(data: AttentionData, *, num_threads: int | None = None) -> Float64Array:
    """Compute the token scores γ_it = Y_i v'x_it of "Max-Margin Token Selection".

    Parameters
    ----------
    data : AttentionData
        With a `value` v.

    Returns
    -------
    ndarray of float64, shape ([B,] n, T)
        -inf at padding.

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.AttentionData([[[1.0, 0.0], [0.0, 2.0]]], [-1], value=[1.0, 1.0])
    >>> attsvm.scores(data)
    array([[-1., -2.]])
    """
    problems = as_data(data).batched()
    if problems.value is None:
        raise ValueError("data: expected a value, which the token scores need; got None")
    gamma = _core.token_scores(
        tokens=problems.tokens,
        labels=problems.labels.astype(np.float64, copy=False),
        value=problems.value.astype(np.float64, copy=False),
        lengths=problems.lengths,
        sequence=data.sequence_index,
        threads=thread_count(None),
    ).reshape(data.valid.shape)
    expected = "tokens and a value whose products are finite"
    require_all("data", np.isfinite(gamma), gamma, expected, "the score {}")
    gamma[~data.valid] = -np.inf
    return gamma


@takes_threads
def optimal_tokens(data: AttentionData, *, num_threads: int | None = None) -> IndexArray:
    """Return the tokens opt_i = argmax_t γ_it of highest score, the first of equals.

    Parameters are those of `scores`.

    Returns
    -------
    ndarray of int64, shape ([B,] n)

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.AttentionData([[[1.0, 0.0], [0.0, 2.0]]], [-1], value=[1.0, 1.0])
    >>> attsvm.optimal_tokens(data)
    array([0])
    """
    return np.asarray(np.argmax(scores(data), axis=-1).astype(np.int64, copy=False))
