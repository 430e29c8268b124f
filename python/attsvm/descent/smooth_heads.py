"""Heads other than linear ones with their derivatives, for methods of second order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attsvm._validation import require_shape
from attsvm.descent.log_excess import SmoothHead
from attsvm.heads import Penalised, ReLU

__all__ = ["smooth_head"]


def smooth_head(head: ReLU | Penalised, dimension: int) -> SmoothHead:
    """The derivatives of `head` on mixtures of `dimension` coordinates.

    Raises
    ------
    ValueError
        The head is of another shape, or that of a batch.
    """
    if isinstance(head, ReLU):
        require_shape("head", head.hidden, "(d, m)", (dimension, head.hidden.shape[-1]))
        return _Network(head.hidden.astype(np.float64), head.weights.astype(np.float64))
    require_shape("head", head.value, "(d,)", (dimension,))
    return _Penalised(head.value.astype(np.float64), head.penalty)


class _Network:
    """w' max(V'o, 0): linear but for its kinks."""

    def __init__(self, hidden: NDArray[np.float64], weights: NDArray[np.float64]) -> None:
        self._hidden, self._weights = hidden, weights

    def value(self, mixture: NDArray[np.float64]) -> NDArray[np.float64]:
        result: NDArray[np.float64] = np.maximum(mixture @ self._hidden, 0.0) @ self._weights
        return result

    def gradient(self, mixture: NDArray[np.float64]) -> NDArray[np.float64]:
        active = mixture @ self._hidden > 0
        result: NDArray[np.float64] = (active * self._weights) @ self._hidden.T
        return result

    def curvature(
        self, mixture: NDArray[np.float64], change: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return np.zeros_like(change)


class _Penalised:
    """v'o - λ|o|²."""

    def __init__(self, vector: NDArray[np.float64], penalty: float) -> None:
        self._vector, self._penalty = vector, penalty

    def value(self, mixture: NDArray[np.float64]) -> NDArray[np.float64]:
        square = np.sum(mixture**2, axis=1)
        result: NDArray[np.float64] = mixture @ self._vector - self._penalty * square
        return result

    def gradient(self, mixture: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._vector - 2.0 * self._penalty * mixture

    def curvature(
        self, mixture: NDArray[np.float64], change: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return -2.0 * self._penalty * change
