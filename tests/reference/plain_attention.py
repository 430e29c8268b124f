"""Attention, its loss and its gradient by the textbook formulas, in arithmetic of any precision.

This is the truth that attsvm is tested against. Nothing here is clever: softmax is exp over a sum
of exps, its derivative is ``s * (g - <s, g>)``, the gradient is a sum of outer products, and the
precision of mpmath (``mpmath.workdps``) is set so high that the cancellation in those formulas does
not matter. Arrays are NumPy arrays of ``mpmath.mpf``.
"""

from __future__ import annotations

from dataclasses import dataclass

import mpmath
import numpy as np
from numpy.typing import NDArray

MpArray = NDArray[np.object_]

_mpf = np.frompyfunc(mpmath.mpf, 1, 1)
_exp = np.frompyfunc(mpmath.exp, 1, 1)
_log = np.frompyfunc(mpmath.log, 1, 1)


def exact(array: NDArray[np.floating]) -> MpArray:
    """Carry floating-point numbers over to mpf without rounding."""
    return _mpf(np.asarray(array, dtype=np.float64))


def log(array: MpArray) -> MpArray:
    """Take the natural logarithm of every entry."""
    return _log(array)


def norm(array: MpArray) -> mpmath.mpf:
    """Euclidean (Frobenius) norm."""
    return mpmath.sqrt((array * array).sum())


LOSSES = {
    "logistic": (lambda x: mpmath.log(1 + mpmath.exp(-x)), lambda x: -1 / (1 + mpmath.exp(x))),
    "exponential": (lambda x: mpmath.exp(-x), lambda x: -mpmath.exp(-x)),
    "correlation": (lambda x: -x, lambda x: mpmath.mpf(-1)),
    "log": (lambda x: -mpmath.log(x), lambda x: -1 / x),
    "cross_entropy": (lambda x: -x, lambda x: mpmath.mpf(-1)),
    "squared": (lambda x: mpmath.expm1(x) ** 2, lambda x: 2 * mpmath.expm1(x) * mpmath.exp(x)),
}
"""Each loss l(x) with its derivative l'(x), at the label times the prediction."""


@dataclass(frozen=True)
class Problem:
    """Tokens X (n, T, d), labels Y (n,), value v (d,), queries Z (n, d) or None, lengths (n,)."""

    tokens: MpArray
    labels: MpArray
    value: MpArray
    queries: MpArray | None
    lengths: tuple[int, ...]

    @classmethod
    def of(
        cls,
        tokens: NDArray[np.floating],
        labels: NDArray[np.floating],
        value: NDArray[np.floating],
        queries: NDArray[np.floating] | None = None,
        lengths: NDArray[np.integer] | None = None,
    ) -> Problem:
        """Carry a problem given in floating-point numbers over to mpf without rounding."""
        n, T, _ = tokens.shape
        return cls(
            exact(tokens),
            exact(labels),
            exact(value),
            None if queries is None else exact(queries),
            (T,) * n if lengths is None else tuple(int(length) for length in lengths),
        )


def attention(problem: Problem, parameter: MpArray) -> list[MpArray]:
    """Softmax attention of every input over its valid tokens.

    The parameter is p (d,) with logits X_i p, or W (d, d) with logits X_i W z_i.
    """
    weights = []
    for i, length in enumerate(problem.lengths):
        direction = parameter if parameter.ndim == 1 else parameter @ problem.queries[i]
        e = _exp(problem.tokens[i, :length] @ direction)
        weights.append(e / e.sum())
    return weights


def loss_value(problem: Problem, parameter: MpArray, loss: str) -> mpmath.mpf:
    """Mean loss of the linear head, (1/n) sum_i l(Y_i <v, X_i' s_i>)."""
    function, _ = LOSSES[loss]
    total = mpmath.mpf(0)
    for i, s in enumerate(attention(problem, parameter)):
        total += function(s @ _token_scores(problem, i))
    return total / len(problem.lengths)


def least_loss(problem: Problem, loss: str) -> mpmath.mpf:
    """Infimum of the loss over all parameters: every input attends to its best token only."""
    function, _ = LOSSES[loss]
    n = len(problem.lengths)
    return sum(function(max(_token_scores(problem, i))) for i in range(n)) / n


def gradient(problem: Problem, parameter: MpArray, loss: str) -> MpArray:
    """Gradient of the loss in p (d,) or W (d, d)."""
    _, derivative = LOSSES[loss]
    n = len(problem.lengths)
    total = 0 * parameter
    for i, s in enumerate(attention(problem, parameter)):
        gamma = _token_scores(problem, i)
        prediction = s @ gamma
        c = derivative(prediction) / n * s * (gamma - prediction)
        u = c @ problem.tokens[i, : problem.lengths[i]]
        total = total + (u if parameter.ndim == 1 else np.outer(u, problem.queries[i]))
    return total


def numerical_gradient(problem: Problem, parameter: MpArray, loss: str) -> MpArray:
    """Differentiate the loss by central differences, to about two thirds of the working digits."""
    h = mpmath.mpf(10) ** (-mpmath.mp.dps // 3)
    result = 0 * parameter
    for index in np.ndindex(parameter.shape):
        step = 0 * parameter
        step[index] = h
        rise = loss_value(problem, parameter + step, loss)
        fall = loss_value(problem, parameter - step, loss)
        result[index] = (rise - fall) / (2 * h)
    return result


def next_parameter(
    problem: Problem, parameter: MpArray, *, loss: str, rule: str, lr: float
) -> MpArray:
    """Take one step: gd ``lr g``, ngd ``lr g/|g|``, polyak ``(L - inf L) g / (2|g|^2)``."""
    g = gradient(problem, parameter, loss)
    if rule == "gd":
        return parameter - mpmath.mpf(lr) * g
    if rule == "ngd":
        return parameter - mpmath.mpf(lr) / norm(g) * g
    if rule == "polyak":
        gap = loss_value(problem, parameter, loss) - least_loss(problem, loss)
        return parameter - gap / (2 * norm(g) ** 2) * g
    raise ValueError(f"rule: expected 'gd', 'ngd' or 'polyak', got {rule!r}")


def _token_scores(problem: Problem, i: int) -> MpArray:
    return problem.labels[i] * (problem.tokens[i, : problem.lengths[i]] @ problem.value)
