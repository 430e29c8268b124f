"""Softmax weights as a caller passes them: an array, or an object with them, as a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np

from attsvm._arrays import ArrayLike, Float64Array, FloatArray
from attsvm._validation import as_float64_array, require_all, require_nonnegative, require_shape
from attsvm.data.attention_data import AttentionData
from attsvm.data.batch_axis import as_float64
from attsvm.data.next_token_data import NextTokenData

_OFF_ONE = 1e-4  # sums of many float32 weights are off by less


@runtime_checkable
class Attends(Protocol):
    """An object with softmax weights and their logarithms, as a `Run`."""

    @property
    def attention(self) -> FloatArray:
        """([B,] n, T)."""

    @property
    def log_attention(self) -> FloatArray:
        """([B,] n, T), exact also where the weights underflow."""


AttendedLike: TypeAlias = "ArrayLike | Attends"


@dataclass(frozen=True, eq=False)
class AttentionWeights:
    """Softmax weights s_it and their logarithms, ([B,] n, T) float64; 0 and -inf at padding."""

    attention: Float64Array
    log_attention: Float64Array


def as_attention_weights(
    name: str, value: AttendedLike, data: AttentionData | NextTokenData | None = None
) -> AttentionWeights:
    """Check softmax weights, of the inputs of `data` where it is given; its padding is not read.

    No weight is negative, and those of an input sum to 1 within 1e-4.
    """
    weights = value.attention if isinstance(value, Attends) else value
    if data is None:
        text = "(n, T) or (B, n, T)"
        attention = as_float64_array(name, weights, text, ndim=(2, 3))
    else:
        attention = np.where(data.valid, as_float64(data, name, weights, "n", "T"), 0.0)
    require_nonnegative(name, attention, "weights")
    total = attention.sum(axis=-1)
    summing = np.abs(total - 1) <= _OFF_ONE
    require_all(name, summing, total, "weights that sum to 1", "the sum {}")
    if isinstance(value, Attends):
        logs = np.asarray(value.log_attention, dtype=np.float64)
        text = "(n, T)" if attention.ndim == 2 else "(B, n, T)"
        require_shape(f"{name}.log_attention", logs, text, attention.shape)
    else:
        with np.errstate(divide="ignore"):
            logs = np.log(attention)
    return AttentionWeights(attention, np.where(attention > 0, logs, -np.inf))
