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
    below, log_total = _of_largest(work, axis)[1:]
    return _stored(below - log_total, logits)


def logsumexp(logits: NDArray[Any], axis: Axis = None, *, keepdims: bool = False) -> Any:
    """Compute log Σ exp(a) over an `axis` that is not empty, faster than SciPy."""
    largest, _, log_total = _of_largest(logits, axis)
    return (largest + log_total)[()] if keepdims else np.squeeze(largest + log_total, axis)[()]


def _of_largest(a: NDArray[Any], axis: Axis) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the largest b of `a` or 0 for an infinite one, a - b, and log Σ exp(a - b)."""
    largest = np.max(a, axis=axis, keepdims=True)
    largest = np.where(np.isfinite(largest), largest, 0)
    below = a - largest
    top = below == 0
    with np.errstate(under="ignore", divide="ignore"):
        others = np.sum(np.where(top, 0, np.exp(below)), axis=axis, keepdims=True)
        equals = np.sum(top, axis=axis, keepdims=True) - np.int8(1)
        return largest, below, np.log1p(others + equals.astype(below.dtype))


def _work(logits: NDArray[Any]) -> NDArray[Any]:
    return logits.astype(np.float32) if logits.dtype == np.float16 else logits


def _stored(result: Any, logits: NDArray[Any]) -> Any:
    return result.astype(np.float16)[()] if logits.dtype == np.float16 else result[()]
