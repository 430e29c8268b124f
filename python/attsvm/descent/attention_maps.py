"""Objectives of attention logits as objectives of parameters, with gradients and Hessians.

Tokens X (n, T, k) and queries Z (n, r) may be coordinates in their spans. Logits are a = X W z, or
X K Q' z, or X p with the single query 1 and r = 1. The parameters are one flat array, as
`ball.minimise` takes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from attsvm._arrays import BoolArray, Float64Array
from attsvm.descent.ball import Evaluated, Objective
from attsvm.descent.log_excess import LogLoss, Slope


@dataclass(frozen=True, eq=False)
class Sequences:
    """Keys and queries of n inputs."""

    tokens: Float64Array  # (n, T, k)
    queries: Float64Array  # (n, r)
    valid: BoolArray  # (n, T)

    @property
    def shape(self) -> tuple[int, int]:
        """(k, r), of W."""
        return self.tokens.shape[2], self.queries.shape[1]

    def changes(self, W: Float64Array) -> Float64Array:
        """Compute X W z, shape (n, T)."""
        return self.along(self.queries @ W.T)

    def along(self, directions: Float64Array) -> Float64Array:
        """Compute inner products (n, T) of tokens with one direction of each input, (n, k)."""
        return np.asarray((self.tokens @ directions[:, :, np.newaxis])[:, :, 0])

    def logits(self, W: Float64Array) -> Float64Array:
        """Compute X W z, -inf at padding."""
        return np.where(self.valid, self.changes(W), -np.inf)

    def mixtures(self, weights: Float64Array) -> Float64Array:
        """Compute Σ_t weight_it x_it, shape (n, k)."""
        return np.asarray((weights[:, np.newaxis] @ self.tokens)[:, 0])

    def pullback(self, weights: Float64Array) -> Float64Array:
        """Compute Σ_it weight_it x_it z_i' (k, r), the gradient in W from one in the logits."""
        return np.asarray(self.mixtures(weights).T @ self.queries)

    def of_matrix(self, objective: Callable[[Float64Array], Slope]) -> Objective:
        """Return the objective as a function of W (k, r)."""

        def evaluate(x: Float64Array) -> Evaluated:
            logits = self.logits(x.reshape(self.shape))
            slope = objective(logits)

            def hessian(change: Float64Array) -> Float64Array:
                return self.pullback(
                    slope.hessian(self.changes(change.reshape(self.shape)))
                ).ravel()

            gradient = self.pullback(slope.gradient).ravel()
            return Evaluated(slope.value, gradient, hessian, self._largest(logits))

        return evaluate

    def of_factors(self, objective: Callable[[Float64Array], Slope], inner: int) -> Objective:
        """Return the objective as a function of K (k, m) and Q (r, m), concatenated."""

        def evaluate(x: Float64Array) -> Evaluated:
            K, Q = self.factors(x, inner)
            logits = self.logits(K @ Q.T)
            slope = objective(logits)
            G = self.pullback(slope.gradient)

            def hessian(change: Float64Array) -> Float64Array:
                dK, dQ = self.factors(change, inner)
                dG = self.pullback(slope.hessian(self.changes(dK @ Q.T + K @ dQ.T)))
                return np.concatenate([(dG @ Q + G @ dQ).ravel(), (dG.T @ K + G.T @ dK).ravel()])

            gradient = np.concatenate([(G @ Q).ravel(), (G.T @ K).ravel()])
            return Evaluated(slope.value, gradient, hessian, self._largest(logits))

        return evaluate

    def factors(self, x: Float64Array, inner: int) -> tuple[Float64Array, Float64Array]:
        """Return K and Q from the flat parameter."""
        k, r = self.shape
        return x[: k * inner].reshape(k, inner), x[k * inner :].reshape(r, inner)

    def of_value_and_prompt(self, objective: LogLoss, labels: Float64Array) -> Objective:
        """Return the objective as a function of the linear head v (k,) and p (k,), concatenated."""
        signs = labels[:, np.newaxis]
        k = self.tokens.shape[2]

        def evaluate(x: Float64Array) -> Evaluated:
            logits = np.where(self.valid, self.tokens @ x[k:], -np.inf)
            scores = signs * (self.tokens @ x[:k])
            slope = objective(logits, scores)

            def gathered(by_scores: Float64Array, by_logits: Float64Array) -> Float64Array:
                return np.concatenate(
                    [self.mixtures(signs * by_scores).sum(0), self.mixtures(by_logits).sum(0)]
                )

            def hessian(change: Float64Array) -> Float64Array:
                by_logits, by_scores = slope.hessian(
                    self.tokens @ change[k:], signs * (self.tokens @ change[:k])
                )
                return gathered(by_scores, by_logits)

            rounding = self._largest(logits) + float(np.abs(scores[self.valid]).max())
            gradient = gathered(slope.by_scores, slope.by_logits)
            return Evaluated(slope.value, gradient, hessian, rounding)

        return evaluate

    def _largest(self, logits: Float64Array) -> float:
        return float(np.abs(logits[self.valid]).max())
