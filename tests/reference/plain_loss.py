"""The mean loss of attention with any parameters and head, and its gradient by differences.

Every formula is the textbook's, in mpmath arithmetic; the gradient is a central difference of the
loss with so many digits that its error (about the step squared) is far below a float64's rounding.
It knows nothing of how derivatives are taken elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import mpmath
import numpy as np
from numpy.typing import NDArray
from plain_attention import LOSSES, MpArray, exact

from attsvm import AttentionData
from attsvm.heads import LinearScores, Penalised, ReLU, Softmax

DIGITS = 90
_STEP = mpmath.mpf(10) ** -30

Parameters = Mapping[str, MpArray]


def prediction(head: object, value: MpArray | None, i: int, o: MpArray, s: MpArray) -> mpmath.mpf:
    """h(o), or of a head given by its token scores their average."""
    if isinstance(head, LinearScores):
        return (s * exact(head.scores[i, : len(s)])).sum()
    if isinstance(head, ReLU):
        hidden = exact(head.hidden).T @ o
        return sum(w * max(h, 0) for w, h in zip(exact(head.weights), hidden, strict=True))
    if isinstance(head, Softmax):
        weights = np.array([mpmath.exp(a) for a in exact(head.classes) @ o])
        return mpmath.log(weights[head.targets[i]] / weights.sum())
    if isinstance(head, Penalised):
        return exact(head.value) @ o - mpmath.mpf(head.penalty) * (o @ o)
    return value @ o


def query_direction(parameters: Parameters, data: AttentionData, i: int) -> MpArray:
    if "K" in parameters:
        return parameters["K"] @ (parameters["Q"].T @ exact(data.queries[i]))
    if "W" in parameters:
        return parameters["W"] @ parameters.get(
            "p", exact(data.queries[i]) if data.queries is not None else None
        )
    return parameters["p"]


def loss(
    data: AttentionData, parameters: Parameters, head: object = None, name: str = "logistic"
) -> mpmath.mpf:
    """Mean over inputs of l(Y_i h(o_i))."""
    value = parameters.get("v")
    if value is None and data.value is not None:
        value = exact(data.value)
    total = mpmath.mpf(0)
    for i in range(data.n):
        X = exact(data.own_tokens[i, : data.lengths[i]])
        logits = X @ query_direction(parameters, data, i)
        weights = np.array([mpmath.exp(a) for a in logits])
        s = weights / weights.sum()
        h = prediction(head, value, i, s @ X, s)
        label = 1 if isinstance(head, LinearScores | Softmax) else int(data.labels[i])
        total += LOSSES[name][0](label * h)
    return total / data.n


def gradient(
    data: AttentionData,
    parameters: Parameters,
    block: str,
    head: object = None,
    name: str = "logistic",
) -> MpArray:
    """Derivative of the loss in every entry of one block."""

    def shifted(place: tuple[int, ...], by: mpmath.mpf) -> mpmath.mpf:
        moved = parameters[block].copy()
        moved[place] += by
        return loss(data, {**parameters, block: moved}, head, name)

    result = np.empty_like(parameters[block])
    for place in np.ndindex(result.shape):
        result[place] = (shifted(place, _STEP) - shifted(place, -_STEP)) / (2 * _STEP)
    return result


def normalised_descent(
    data: AttentionData,
    parameters: Parameters,
    rate: float,
    steps: int,
    blocks: tuple[str, ...],
    gradient_of: Callable[..., MpArray] = gradient,
) -> dict[str, MpArray]:
    """All `blocks` moved at the same time by steps of length `rate`."""
    at = dict(parameters)
    for _ in range(steps):
        slopes = {block: gradient_of(data, at, block) for block in blocks}
        for block, slope in slopes.items():
            size = mpmath.sqrt((slope * slope).sum())
            at[block] = at[block] - mpmath.mpf(rate) / size * slope
    return at


def rounded(array: MpArray) -> NDArray[np.float64]:
    return np.asarray(array, dtype=np.float64)
