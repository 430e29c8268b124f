"""Training that records the attention to chosen tokens beside the history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from attsvm.data import AttentionData
from attsvm.descent import train


def train_recording_attention(
    data: AttentionData,
    tokens: NDArray[np.int64],
    marks: Sequence[int] | NDArray[np.int64],
    *,
    init: NDArray[np.float64] | None = None,
    **settings: Any,
) -> dict[str, NDArray[Any]]:
    """Train W from mark to mark, each time from the end of the last one.

    Only for rules whose step depends on nothing but where it starts: no momentum, no decaying rate,
    no mini-batches.

    Parameters
    ----------
    data : AttentionData
        A batch of B problems.
    tokens : ndarray of int64, shape (B, n)
        One of each input.
    marks : increasing sequence of int, length R
        Steps to record, from 1.
    init : ndarray, shape (B, d, d), optional
        Zero by default.
    **settings
        Of `attsvm.train`.

    Returns
    -------
    dict of ndarray
        `Run.history` at the marks, and ``"log_miss"`` (B, R, n), the logarithm of 1 less the
        attention to the tokens, exact also where that rounds to 1.
    """
    parts: list[dict[str, NDArray[Any]]] = []
    misses: list[NDArray[np.float64]] = []
    chosen = np.arange(data.T) == tokens[..., np.newaxis]
    before = 0
    for mark in map(int, marks):
        steps = mark - before
        run = train(data, init=init, steps=steps, record_every=[steps], **settings)
        parts.append(run.history)
        others = np.where(chosen, -np.inf, run.log_attention)
        misses.append(np.asarray(special.logsumexp(others, axis=-1)))
        init, before = run.W, mark
    record = {key: np.concatenate([part[key] for part in parts], axis=-1) for key in parts[0]}
    return record | {"step": np.array(marks, dtype=np.int64), "log_miss": np.stack(misses, axis=1)}
