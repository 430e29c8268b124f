"""What a contender is asked to do: plain arrays, so that peers need nothing of attsvm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["NGD_EPS", "Descent", "Figure", "Machine", "Products", "Read"]

Array = NDArray[Any]

NGD_EPS = float(np.finfo(np.float64).eps)
"""The published code divides the gradient by its norm plus this; the peers do the same."""


@dataclass(frozen=True, eq=False)
class Descent:
    """Normalised gradient descent on the logistic loss with a fixed linear head.

    Every array may carry a leading axis of independent problems.

    Attributes
    ----------
    tokens, labels, queries, value : ndarray
        Shapes ([B,] n, T, d), ([B,] n), ([B,] n, d), ([B,] d).
    parameter : {"W", "p", "KQ"}
        Logits X W z, X p, X K Q' z. K and Q are normalised each by its own norm.
    init : dict of ndarray
        Start of each block, ([B,] d, d) or ([B,] d); zero where it is not given.
    lr : float
    threads : int
    output : {"parameter", "attention"}
        What a run leaves: W (K Q' for "KQ") or p, or the softmax weights ([B,] n, T).
    """

    tokens: Array
    labels: Array
    queries: Array
    value: Array
    parameter: str = "W"
    init: Mapping[str, Array] | None = None
    lr: float = 0.1
    threads: int = 2
    output: str = "parameter"

    @property
    def batched(self) -> bool:
        return self.tokens.ndim == 4

    def scores(self) -> Array:
        """Token scores Y_i v'x_it, ([B,] n, T): constant, as the head is fixed."""
        at_tokens = np.matmul(self.tokens, self.value[..., None, :, None])[..., 0]
        return at_tokens * self.labels[..., None]

    def start(self, block: str) -> Array:
        """Start of a block: a copy."""
        if self.init is not None and block in self.init:
            return np.array(self.init[block])
        d = self.tokens.shape[-1]
        shape = (d,) if block == "p" else (d, self.queries.shape[-1])
        return np.zeros((*self.tokens.shape[:-3], *shape), dtype=self.tokens.dtype)

    def outcome(self, *blocks: Array) -> Array:
        """What `output` asks for, from the trained blocks."""
        trained = blocks[0] @ blocks[1].swapaxes(-1, -2) if self.parameter == "KQ" else blocks[0]
        if self.output == "parameter":
            return trained
        prompt = self.parameter == "p"
        q = trained[..., None, :] if prompt else self.queries @ trained.swapaxes(-1, -2)
        logits = np.matmul(self.tokens, q[..., None])[..., 0]
        weights: Array = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return weights / weights.sum(axis=-1, keepdims=True)

    def part(self, chosen: int | slice) -> Descent:
        """One problem of a batch by itself, or a batch of some of them."""
        return replace(
            self,
            tokens=self.tokens[chosen],
            labels=self.labels[chosen],
            queries=self.queries[chosen],
            value=self.value[chosen],
            init={name: block[chosen] for name, block in (self.init or {}).items()},
        )

    def problems(self) -> list[Descent]:
        """Each problem by itself."""
        return [self.part(b) for b in range(len(self.tokens))] if self.batched else [self]


@dataclass(frozen=True, eq=False)
class Machine:
    """A support vector machine: the smallest W with (x_iα - x_it)' W z_i >= 1.

    Attributes
    ----------
    tokens, queries, selected : ndarray
        Shapes ([B,] n, T, d), ([B,] n, d), ([B,] n).
    norm : {"fro", "nuc"}
    gap : float
        Relative duality gap that is asked for.
    threads : int
    """

    tokens: Array
    queries: Array
    selected: Array
    norm: str = "fro"
    gap: float = 1e-9
    threads: int = 2

    @property
    def batched(self) -> bool:
        return self.tokens.ndim == 4

    def part(self, chosen: int | slice) -> Machine:
        """One problem of a batch by itself, or a batch of some of them."""
        return replace(
            self,
            tokens=self.tokens[chosen],
            queries=self.queries[chosen],
            selected=self.selected[chosen],
        )

    def problems(self) -> list[Machine]:
        """Each problem by itself."""
        return [self.part(b) for b in range(len(self.tokens))] if self.batched else [self]

    def differences(self) -> tuple[Array, Array]:
        """x_iα - x_it, (m, d), and the input i of each, (m,), of a single problem."""
        n, T, _ = self.tokens.shape
        others = np.ones((n, T), dtype=bool)
        others[np.arange(n), self.selected] = False
        sample, token = np.nonzero(others)
        return self.tokens[sample, self.selected[sample]] - self.tokens[sample, token], sample

    def gram(self) -> Array:
        """K of the dual max 1'λ - ½ λ'Kλ, λ >= 0: shape (m, m)."""
        differences, sample = self.differences()
        K = differences @ differences.T
        K *= (self.queries @ self.queries.T)[np.ix_(sample, sample)]
        return K


@dataclass(frozen=True, eq=False)
class Figure:
    """The local-convergence figure: W and (K,Q) trained, and four machines of each problem."""

    descent: Descent
    steps: int


@dataclass(frozen=True)
class Read:
    """One read of `size` bytes by all threads."""

    size: int
    threads: int = 2


@dataclass(frozen=True)
class Products:
    """`flops` operations of float64 matrix products by all threads, at the best rate there is.

    `shape` (n, d) is that of the products Z W' and U'Z of a step, tried beside a large square.
    """

    flops: float
    shape: tuple[int, int]
    threads: int = 2


def settled(task: Any) -> Any:
    """The task with its arrays in memory of NumPy's own, as a user's would be."""

    def fresh(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return np.array(value, order="C")
        if isinstance(value, Mapping):
            return {name: fresh(entry) for name, entry in value.items()}
        return settled(value) if isinstance(value, Descent) else value

    return replace(task, **{f.name: fresh(getattr(task, f.name)) for f in fields(task)})
