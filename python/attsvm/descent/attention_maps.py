"""From parameters to attention logits and back, with the curvature of the way there.

Tokens X (n, T, k) and queries Z (n, r) may be coordinates in their spans. Logits are a = X W z, or
X K Q' z, or X p with the single query 1 and r = 1. Every map makes of an objective of the logits
one of the flat parameter, as `ball.minimise` wants it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attsvm.descent.ball import Evaluated, Objective
from attsvm.descent.log_excess import LogLoss, Slope

__all__ = ["Sequences"]


@dataclass(frozen=True, eq=False)
class Sequences:
    """Keys and queries of n inputs.

    Attributes
    ----------
    tokens : ndarray, shape (n, T, k)
    queries : ndarray, shape (n, r)
    valid : ndarray of bool, shape (n, T)
    """

    tokens: NDArray[np.float64]
    queries: NDArray[np.float64]
    valid: NDArray[np.bool_]

    @property
    def shape(self) -> tuple[int, int]:
        """(k, r), of W."""
        return self.tokens.shape[2], self.queries.shape[1]

    def changes(self, W: NDArray[np.float64]) -> NDArray[np.float64]:
        """X W z, shape (n, T)."""
        return self.along(self.queries @ W.T)

    def along(self, directions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Inner products (n, T) of the tokens with one direction of each input, (n, k)."""
        result: NDArray[np.float64] = (self.tokens @ directions[:, :, np.newaxis])[:, :, 0]
        return result

    def logits(self, W: NDArray[np.float64]) -> NDArray[np.float64]:
        """X W z, -inf at padding."""
        return np.where(self.valid, self.changes(W), -np.inf)

    def mixtures(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Σ_t weight_it x_it, shape (n, k)."""
        result: NDArray[np.float64] = (weights[:, np.newaxis] @ self.tokens)[:, 0]
        return result

    def pullback(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Σ_it weight_it x_it z_i', shape (k, r): the gradient by W of one by the logits."""
        result: NDArray[np.float64] = self.mixtures(weights).T @ self.queries
        return result

    def of_matrix(self, objective: Callable[[NDArray[np.float64]], Slope]) -> Objective:
        """As a function of W (k, r)."""

        def evaluate(x: NDArray[np.float64]) -> Evaluated:
            logits = self.logits(x.reshape(self.shape))
            slope = objective(logits)

            def hessian(change: NDArray[np.float64]) -> NDArray[np.float64]:
                return self.pullback(
                    slope.hessian(self.changes(change.reshape(self.shape)))
                ).ravel()

            gradient = self.pullback(slope.gradient).ravel()
            return Evaluated(slope.value, gradient, hessian, self._largest(logits))

        return evaluate

    def of_factors(
        self, objective: Callable[[NDArray[np.float64]], Slope], inner: int
    ) -> Objective:
        """As a function of K (k, m) and Q (r, m), one behind the other."""

        def evaluate(x: NDArray[np.float64]) -> Evaluated:
            K, Q = self.factors(x, inner)
            logits = self.logits(K @ Q.T)
            slope = objective(logits)
            G = self.pullback(slope.gradient)

            def hessian(change: NDArray[np.float64]) -> NDArray[np.float64]:
                dK, dQ = self.factors(change, inner)
                dG = self.pullback(slope.hessian(self.changes(dK @ Q.T + K @ dQ.T)))
                return np.concatenate([(dG @ Q + G @ dQ).ravel(), (dG.T @ K + G.T @ dK).ravel()])

            gradient = np.concatenate([(G @ Q).ravel(), (G.T @ K).ravel()])
            return Evaluated(slope.value, gradient, hessian, self._largest(logits))

        return evaluate

    def factors(
        self, x: NDArray[np.float64], inner: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """K and Q from the flat parameter."""
        k, r = self.shape
        return x[: k * inner].reshape(k, inner), x[k * inner :].reshape(r, inner)

    def of_value_and_prompt(self, objective: LogLoss, labels: NDArray[np.float64]) -> Objective:
        """As a function of the value head v (k,) and of p (k,), one behind the other."""
        signs = labels[:, np.newaxis]
        k = self.tokens.shape[2]

        def evaluate(x: NDArray[np.float64]) -> Evaluated:
            logits = np.where(self.valid, self.tokens @ x[k:], -np.inf)
            scores = signs * (self.tokens @ x[:k])
            slope = objective(logits, scores)

            def gathered(
                by_scores: NDArray[np.float64], by_logits: NDArray[np.float64]
            ) -> NDArray[np.float64]:
                return np.concatenate(
                    [self.mixtures(signs * by_scores).sum(0), self.mixtures(by_logits).sum(0)]
                )

            def hessian(change: NDArray[np.float64]) -> NDArray[np.float64]:
                by_logits, by_scores = slope.hessian(
                    self.tokens @ change[k:], signs * (self.tokens @ change[:k])
                )
                return gathered(by_scores, by_logits)

            rounding = self._largest(logits) + float(np.abs(scores[self.valid]).max())
            gradient = gathered(slope.by_scores, slope.by_logits)
            return Evaluated(slope.value, gradient, hessian, rounding)

        return evaluate

    def _largest(self, logits: NDArray[np.float64]) -> float:
        return float(np.abs(logits[self.valid]).max())
