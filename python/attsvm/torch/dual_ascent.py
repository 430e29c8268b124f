"""Bounds of the largest margin of selected tokens, and soft margins, by ascent on the dual.

The tokens are those of the samples of a batch, which inputs share; nothing of the size of all
token differences is formed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from attsvm._arrays import BoolArray, Float64Array, IndexArray
from attsvm._linalg import LowRank
from attsvm.torch.layer import AttentionLayer

_CHECK_EVERY = 20


class Constraints:
    """(x_iα - x_it)' W z_i >= 1 of the inputs of a head, and their adjoint."""

    mask: BoolArray  # (n, T), the tokens that have a constraint
    selected: IndexArray  # (n,)
    sizes: Float64Array  # (n, T), |x_iα - x_it| |z_i|; 1 where that is 0 or no constraint is

    def __init__(self, layer: AttentionLayer, head: int) -> None:
        self.mask = layer.attended[head].copy()
        self.selected = layer.selected[head]
        self._rows = np.arange(len(self.selected))
        self.mask[self._rows, self.selected] = False
        used, sample = np.unique(layer.sample, return_inverse=True)
        self._keys = layer.keys[used]
        self._queries = layer.queries
        self._parts = [np.flatnonzero(sample == b) for b in range(len(used))]
        squares = np.empty(self.mask.shape)
        for X, part in zip(self._keys, self._parts, strict=True):
            gram, chosen = X @ X.T, self.selected[part]
            own = np.diag(gram)
            squares[part] = own[chosen, np.newaxis] + own - 2 * gram[chosen]
        length = np.linalg.norm(self._queries, axis=1, keepdims=True)
        sizes = np.sqrt(np.maximum(squares, 0.0)) * length
        self.sizes = np.where(self.mask & (sizes > 0), sizes, 1.0)
        (n, T), (B, _, d) = self.mask.shape, self._keys.shape
        self._grams: tuple[Float64Array, Float64Array] | None = None
        if T * (B * T + n) < 2 * d * (T + d):  # products of inner products are the shorter ones
            tokens = self._keys.reshape(-1, d)
            self._grams = tokens @ tokens.T, self._queries @ self._queries.T

    @property
    def count(self) -> int:
        """Number of constraints."""
        return int(self.mask.sum())

    def combined(self, dual: Float64Array) -> LowRank:
        """Compute W_λ = Σ λ_it (x_iα - x_it) z_i' in factors, of multipliers (n, T)."""
        left = np.empty((len(dual), self._keys.shape[-1]))
        for X, part, coefficients in self._by_sample(dual):
            left[part] = coefficients @ X
        n, d = left.shape
        if n <= d:
            return LowRank(left, self._queries)
        return LowRank.of_dense(left.T @ self._queries)

    def margins(self, W: LowRank) -> Float64Array:
        """Compute (x_iα - x_it)' W z_i, shape (n, T); inf where there is no constraint."""
        directions = W.of_rows(self._queries)
        values = np.empty(self.mask.shape)
        for X, part in zip(self._keys, self._parts, strict=True):
            values[part] = directions[part] @ X.T
        return self._differences(values)

    def margins_of(self, dual: Float64Array) -> Float64Array:
        """Compute the margins of W_λ."""
        if self._grams is None:
            return self.margins(self.combined(dual))
        tokens, queries = self._grams
        B, T, _ = self._keys.shape
        of_tokens = np.empty((len(dual), B * T))  # x_t' Σ_τ c_iτ x_τ
        for b, (_, part, coefficients) in enumerate(self._by_sample(dual)):
            of_tokens[part] = coefficients @ tokens[b * T : (b + 1) * T]
        values = np.empty(self.mask.shape)
        for b, part in enumerate(self._parts):
            values[part] = queries[part] @ of_tokens[:, b * T : (b + 1) * T]
        return self._differences(values)

    def _by_sample(self, dual: Float64Array) -> Iterator[tuple[Float64Array, Any, Float64Array]]:
        """Yield tokens, inputs, and the coefficients of tokens in Σ_t λ_it (x_iα - x_it)."""
        coefficients = -dual
        coefficients[self._rows, self.selected] += dual.sum(axis=1)
        for X, part in zip(self._keys, self._parts, strict=True):
            yield X, part, coefficients[part]

    def _differences(self, values: Float64Array) -> Float64Array:
        margins = values[self._rows, self.selected][:, np.newaxis] - values
        return np.where(self.mask, margins, np.inf)


@dataclass(frozen=True, eq=False)
class Multipliers:
    """λ >= 0 of the constraints of a head, and what they prove of the smallest W."""

    dual: Float64Array  # (n, T)
    widest: Float64Array  # those of the same ascent whose W_λ has the largest relative margin
    # The smallest |W|_F with margins of 1 is between these: Σλ / |W_λ|_F, and |W_λ|_F of `widest`
    # over its smallest margin, inf if that is not positive. Of a soft margin, the square roots of
    # twice the dual and the primal objective.
    lower: float
    upper: float

    @property
    def gap(self) -> float:
        """1 - lower / upper."""
        return 1.0 - self.lower / self.upper


def ascend(
    constraints: Constraints,
    start: Float64Array,
    *,
    steps: int,
    tolerance: float,
    C: float = np.inf,
) -> Multipliers:
    """Maximise Σ λ - ½|W_λ|² - Σ λ² / (2 C) over λ >= 0 by accelerated gradient steps.

    With C = inf it is the dual of the Frobenius SVM, otherwise that of the soft margin, in which a
    constraint may be violated by ξ at the cost of ½ C ξ². The start are multipliers (n, T), of any
    scale. The ascent ends after `steps`, none for the bounds of the start, or where the relative
    distance of both bounds is at most `tolerance`.
    """
    sizes = constraints.sizes if np.isinf(C) else np.sqrt(constraints.sizes**2 + 1 / C)
    inverse = np.where(constraints.mask, 1.0 / sizes, 0.0)

    def products(scaled: Float64Array) -> Float64Array:
        dual = scaled * inverse
        return np.where(constraints.mask, constraints.margins_of(dual) + dual / C, 0.0)

    def bounds(scaled: Float64Array) -> Multipliers:
        dual = scaled * inverse
        margins = constraints.margins_of(dual)
        finite = np.where(constraints.mask, margins, 0.0)
        square, total = max(float(np.sum(dual * finite)), 0.0), float(dual.sum())
        if np.isinf(C):
            least, size = float(margins.min()), square**0.5
            lower = total / size if size > 0 else 0.0
            return Multipliers(dual, dual, lower, size / least if least > 0 else np.inf)
        slack = np.where(constraints.mask, np.maximum(1.0 - finite, 0.0), 0.0)
        upper = square + C * float(np.sum(slack**2))
        lower = 2 * total - square - float(np.sum(dual**2)) / C
        return Multipliers(dual, dual, max(lower, 0.0) ** 0.5, upper**0.5)

    scaled = np.where(constraints.mask, start, 0.0) * sizes
    curvature = float(np.sum(scaled * products(scaled) * inverse))
    if curvature > 0:  # the best multiple of the start
        scaled = scaled * (float(np.sum(scaled * inverse)) / curvature)
    best = bounds(scaled)
    done, lipschitz = 0, _largest_eigenvalue(products, inverse) if steps else 1.0
    last, ahead, momentum = scaled, scaled, 1.0
    while done < steps and best.gap > tolerance:
        for _ in range(min(_CHECK_EVERY, steps - done)):
            gradient = np.where(constraints.mask, 1.0 - products(ahead), 0.0) * inverse
            new = np.maximum(ahead + gradient / lipschitz, 0.0)
            if float(np.sum((ahead - new) * (new - last))) > 0:
                momentum = 1.0
            following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            ahead = new + (momentum - 1) / following * (new - last)
            last, momentum = new, following
            done += 1
        found = bounds(last)
        if found.lower < 0.5 * best.lower:  # the steps were too long
            lipschitz, momentum = 2 * lipschitz, 1.0
            last = ahead = best.dual * sizes
            continue
        best = Multipliers(
            dual=found.dual if found.lower >= best.lower else best.dual,
            widest=found.dual if found.upper <= best.upper else best.widest,
            lower=max(found.lower, best.lower),
            upper=min(found.upper, best.upper),
        )
    return best


def _largest_eigenvalue(
    products: Callable[[Float64Array], Float64Array], inverse: Float64Array
) -> float:
    """Estimate the largest eigenvalue of the scaled map from a few powers, from above."""
    vector = np.where(inverse > 0, 1.0, 0.0)
    size = 1.0
    for _ in range(12):
        vector = vector / np.linalg.norm(vector)
        vector = products(vector) * inverse
        size = float(np.linalg.norm(vector))
    return 1.2 * size
