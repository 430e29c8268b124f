"""Logarithms of what is left of a loss, as functions of the attention logits, to second order.

At norm R the loss is about exp(-R margin) above its infimum: far below the rounding of the loss
itself. Its logarithm is about -R margin, and that, its gradient and its curvature are of ordinary
size. They are computed here without subtracting numbers near each other: softmax weights relative
to the heaviest token that moves anything, token scores relative to the best token's.

Every objective takes logits (n, T), -inf at padding, and gives a `Slope`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from attsvm import _core
from attsvm._arrays import BoolArray, Float64Array, IndexArray
from attsvm._softmax import log_softmax, logsumexp, softmax
from attsvm.heads import Head


@dataclass(frozen=True, eq=False)
class Slope:
    """Value, gradient (n, T) and Hessian-vector product (n, T) -> (n, T) in the logits."""

    value: float
    gradient: Float64Array
    hessian: Callable[[Float64Array], Float64Array]


@dataclass(frozen=True, eq=False)
class ScoreSlope:
    """The same in the logits and the token scores together."""

    value: float
    by_logits: Float64Array
    by_scores: Float64Array
    hessian: Callable[[Float64Array, Float64Array], tuple[Float64Array, Float64Array]]


class LogExcess:
    """log[(1/n) Σ_i l(Σ_t s_it γ_it) - inf], the infimum being every input on its best token.

    Input i falls short of its best margin b_i by x_i = Σ_t s_it D_it, with D_it = b_i - γ_it >= 0,
    and log x_i is a difference of two log-sum-exps. Inputs whose tokens all have one score have
    no excess and take no part. The log loss is that of scores over the best one of their input, but
    for a constant; where an input's margin is small beside its best, log x_i is replaced by the log
    of the margin, a difference of log-sum-exps as well.

    The scores γ and the `valid` tokens are (n, T). Labels are in γ, which for "log" is at least 0,
    and above 0 for one token of every input; the loss is one with an excess.
    """

    best: IndexArray  # (n,): the (first) best token of each input
    moved: BoolArray  # (n, T): tokens whose weight adds to the excess
    infimum: float  # of the mean loss
    constant: bool  # whether no input has anything to gain: the log-excess is -inf everywhere

    def __init__(self, scores: Float64Array, valid: BoolArray, loss: str) -> None:
        offered = np.where(valid, scores, -np.inf)
        self.best = np.argmax(offered, axis=1)
        self._margin = offered.max(axis=1)
        self._loss = _core.losses[loss]
        self.infimum = float(np.mean(self._loss.value(self._margin)))
        if self._loss.margins == "attention":
            scores = scores / self._margin[:, np.newaxis]
            self._margin = np.ones_like(self._margin)
        self._short = np.where(valid, self._margin[:, np.newaxis] - scores, 0.0)
        self.moved = self._short > 0
        self._moves = self.moved.any(axis=1)
        with np.errstate(divide="ignore"):
            self._log_short = np.log(self._short)
            self._log_scores = np.log(np.where(valid & (scores > 0), scores, 0.0))
        self.constant = not self._moves.any()

    def __call__(self, logits: Float64Array) -> Slope:
        """Compute value, gradient and curvature at `logits`; the problem is not `constant`."""
        n = len(logits)
        short, rows = self._short[self._moves], self._moves
        log_weight, weight, top = _softmax(logits[rows])
        y = logsumexp(log_weight + self._log_short[rows], axis=1)
        x = np.exp(y)
        with np.errstate(under="ignore"):
            share = np.exp(log_weight + self._log_short[rows] - y[:, np.newaxis])
        # d log x / da = s (D/x - 1) as it stands where D = 0 or x is small beside D, which is
        # where the best token is the heaviest; with D and x relative to the heaviest token's D
        # otherwise, where x is not small but s (D - x) of that token is.
        of_top = _at(short, top)
        wrong = of_top > 0
        relative = short - of_top
        deviation = relative - np.sum(weight * relative, axis=1, keepdims=True)
        safe = np.where(wrong, x[:, np.newaxis], 1.0)
        G = np.where(wrong, weight * deviation / safe, share - weight)

        log_share = np.zeros_like(y)
        if self._loss.margins == "attention":
            log_scores = log_weight + self._log_scores[rows]
            log_share = logsumexp(log_scores, axis=1)  # of the margin: the excess is its negative
        log_excess, rate, bend = self._loss.log_excess(self._margin[rows], y, log_share)
        if self._loss.margins == "attention":
            # Where the heaviest token scores 0 the margin may be tiny: its logarithm counts.
            none = np.isneginf(_at(self._log_scores[rows], top))[:, 0]
            by_share = none & (x > 0.5)
            slope = 1 / np.where(by_share, log_share, -1.0)
            rate = np.where(by_share, slope, rate)
            bend = np.where(by_share, -(slope**2), bend)
            with np.errstate(under="ignore"):
                right = np.exp(log_scores - log_share[:, np.newaxis])
            G = np.where(by_share[:, np.newaxis], right - weight, G)
        value = float(logsumexp(log_excess))
        part = np.exp(log_excess - value)
        pull = (part * rate)[:, np.newaxis]
        gradient = np.zeros_like(logits)
        gradient[rows] = pull * G
        own = (part * (bend + rate**2))[:, np.newaxis]

        def hessian(change: Float64Array) -> Float64Array:
            w = change[rows]
            w = w - _at(w, top)
            along = np.sum(G * w, axis=1, keepdims=True)
            mean = np.sum(weight * w, axis=1, keepdims=True)
            change_of_G = (w - mean - along) * G - along * weight
            result: Float64Array = -np.sum(pull * along) * gradient
            result[rows] += pull * change_of_G + own * along * G
            return result

        return Slope(value - float(np.log(n)), gradient, hessian)


class MarginLoss:
    """log Σ_i Σ_t exp(-(a_i,best - a_it)) over the tokens t other than the best.

    Convex in the logits: where the best tokens can be told apart it has one minimiser on a ball,
    near which the minimiser of the loss on a large ball lies. `others` (n, T) are the tokens that
    count, the `best` one of each input (n,) not among them.
    """

    def __init__(self, best: IndexArray, others: BoolArray) -> None:
        self._best = best[:, np.newaxis]
        self._others = others

    def __call__(self, logits: Float64Array) -> Slope:
        """Compute value, gradient and curvature at `logits`."""
        others, best = self._others, self._best
        below = np.where(others, logits, -np.inf) - _at(logits, best)
        value = float(logsumexp(below))
        share = np.exp(below - value)

        def with_best(moved: Float64Array) -> Float64Array:
            result = moved.copy()
            np.put_along_axis(result, best, -moved.sum(axis=1, keepdims=True), axis=1)
            return result

        def hessian(change: Float64Array) -> Float64Array:
            relative = change - _at(change, best)
            return with_best(share * (relative - np.sum(share * relative)))

        return Slope(value, with_best(share), hessian)


class LogLoss:
    """log[(1/n) Σ_i l(Σ_t s_it γ_it)] of a positive loss, the scores γ being variables too."""

    def __init__(self, loss: str) -> None:
        self._loss = _core.losses[loss]

    def __call__(self, logits: Float64Array, scores: Float64Array) -> ScoreSlope:
        """Compute value, gradients and curvature at `logits` and `scores`, both (n, T)."""
        _, weight, top = _softmax(logits)
        relative = scores - _at(scores, top)
        mean_relative = np.sum(weight * relative, axis=1, keepdims=True)
        margin = (_at(scores, top) + mean_relative)[:, 0]
        c = weight * (relative - mean_relative)  # dm/da

        value, pull, own = _of_margins(self._loss, margin)
        by_logits, by_scores = pull * c, pull * weight

        def hessian(w: Float64Array, omega: Float64Array) -> tuple[Float64Array, Float64Array]:
            w = w - _at(w, top)
            along = np.sum(c * w, axis=1, keepdims=True)
            mean_w = np.sum(weight * w, axis=1, keepdims=True)
            mean_omega = np.sum(weight * omega, axis=1, keepdims=True)
            step = along + mean_omega  # change of m
            total = np.sum(pull * step)
            change_of_c = (w - mean_w) * c + weight * (omega - mean_omega - along)
            change_of_weight = weight * (w - mean_w)
            return (
                pull * change_of_c + own * step * c - by_logits * total,
                pull * change_of_weight + own * step * weight - by_scores * total,
            )

        return ScoreSlope(value, by_logits, by_scores, hessian)


class LogLossOfMixture:
    """log[(1/n) Σ_i l(Y_i h(o_i))] with o_i = Σ_t s_it x_it, a smooth head h and a positive loss l.

    Tokens are (n, T, d), labels (n,).
    """

    def __init__(self, tokens: Float64Array, labels: Float64Array, head: Head, loss: str) -> None:
        self._tokens, self._labels = tokens, labels
        self._head, self._loss = head, _core.losses[loss]

    def __call__(self, logits: Float64Array) -> Slope:
        """Compute value, gradient and curvature at `logits`."""
        _, weight, top = _softmax(logits)
        first = np.take_along_axis(self._tokens, top[:, :, np.newaxis], axis=1)
        apart = self._tokens - first  # from the heaviest token, beside which nothing cancels

        def mixed(weights: Float64Array) -> Float64Array:
            return np.asarray((weights[:, np.newaxis] @ apart)[:, 0])

        def along_tokens(directions: Float64Array) -> Float64Array:
            return np.asarray((apart @ directions[:, :, np.newaxis])[:, :, 0])

        mixture = first[:, 0] + mixed(weight)
        signs = self._labels[:, np.newaxis]
        relative = along_tokens(signs * self._head.gradient(mixture))
        c = weight * (relative - np.sum(weight * relative, axis=1, keepdims=True))  # dm/da

        margin = self._labels * self._head.prediction(mixture)
        value, pull, own = _of_margins(self._loss, margin)
        gradient = pull * c

        def hessian(change: Float64Array) -> Float64Array:
            w = change - _at(change, top)
            mean = np.sum(weight * w, axis=1, keepdims=True)
            along = np.sum(c * w, axis=1, keepdims=True)  # change of m
            moved = mixed(weight * (w - mean))
            omega = along_tokens(signs * self._head.curvature(mixture, moved))
            mean_omega = np.sum(weight * omega, axis=1, keepdims=True)
            change_of_c = (w - mean) * c + weight * (omega - mean_omega - along)
            total = np.sum(pull * along)
            return np.asarray(pull * change_of_c + own * along * c - gradient * total)

        return Slope(value, gradient, hessian)


def _of_margins(loss: _core.Loss, margin: Float64Array) -> tuple[float, Float64Array, Float64Array]:
    """Compute log[(1/n) Σ_i l(m_i)], and the shares (n, 1) of its first and second derivatives."""
    log_value, rate, second = loss.log_value(margin)
    value = float(logsumexp(log_value))
    part = np.exp(log_value - value)[:, np.newaxis]
    mean = value - float(np.log(len(margin)))
    return mean, part * rate[:, np.newaxis], part * second[:, np.newaxis]


def _softmax(logits: Float64Array) -> tuple[Float64Array, Float64Array, IndexArray]:
    """Return log-weights, weights, and the index (n, 1) of the heaviest token."""
    top = np.argmax(logits, axis=1)[:, np.newaxis]
    with np.errstate(under="ignore"):
        return log_softmax(logits, 1), softmax(logits, 1), top


def _at(values: Float64Array, index: IndexArray) -> Float64Array:
    """Return the value (n, 1) at one index (n, 1) of each row, as np.take_along_axis but faster."""
    return np.asarray(values[np.arange(len(values))[:, np.newaxis], index])
