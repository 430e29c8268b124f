"""Softmax and its logarithm on arrays, as every part of the package computes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Axis = int | tuple[int, ...] | None


def softmax(logits: NDArray[Any], axis: Axis) -> Any:
    """Compute exp(a) / Σ exp(a) over `axis`; float16 is summed in float32."""
    work = _work(logits)
    weights = np.exp(work - np.max(work, axis=axis, keepdims=True))
    return _stored(weights / np.sum(weights, axis=axis, keepdims=True), logits)


def log_softmax(logits: NDArray[Any], axis: Axis) -> Any:
    """Compute a - log Σ exp(a) over `axis`; float16 is summed in float32.

    A weight near 1 has its logarithm from what the other weights sum to.
    """
    work = _work(logits)
    largest = np.max(work, axis=axis, keepdims=True)
    below = work - np.where(np.isfinite(largest), largest, 0)
    top = below == 0
    with np.errstate(under="ignore"):
        others = np.sum(np.where(top, 0, np.exp(below)), axis=axis, keepdims=True)
    equals = np.sum(top, axis=axis, keepdims=True) - np.int8(1)
    with np.errstate(divide="ignore"):
        result: NDArray[Any] = below - np.log1p(others + equals.astype(below.dtype))
    return _stored(result, logits)


def _work(logits: NDArray[Any]) -> NDArray[Any]:
    return logits.astype(np.float32) if logits.dtype == np.float16 else logits


def _stored(result: Any, logits: NDArray[Any]) -> Any:
    return result.astype(np.float16)[()] if logits.dtype == np.float16 else result[()]
