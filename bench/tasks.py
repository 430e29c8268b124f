"""The tasks that contenders get: plain arrays, so that peers need nothing of attsvm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

BLOCKS = {"W": ("W",), "p": ("p",), "KQ": ("K", "Q")}
NGD_EPS = float(np.finfo(np.float64).eps)
"""The published code divides the gradient by its norm plus this; the peers do the same."""


def map_arrays(value: Any, function: Callable[[Array], Array]) -> Any:
    """Return the task, mapping or array with `function` applied to every array in it."""
    if isinstance(value, np.ndarray):
        return function(value)
    if isinstance(value, Mapping):
        return {name: map_arrays(entry, function) for name, entry in value.items()}
    if is_dataclass(value):
        changed = {f.name: map_arrays(getattr(value, f.name), function) for f in fields(value)}
        return replace(value, **changed)  # type: ignore[type-var]
    return value


class Batchable:
    """A task whose arrays may all carry a leading axis of independent problems."""

    tokens: Array

    @property
    def batched(self) -> bool:
        return self.tokens.ndim == 4

    def part(self, chosen: int | slice) -> Any:
        """Return one problem of a batch, or a smaller batch."""
        return map_arrays(self, lambda array: array[chosen])

    def problems(self) -> list[Any]:
        return [self.part(b) for b in range(len(self.tokens))] if self.batched else [self]


@dataclass(frozen=True, eq=False)
class Descent(Batchable):
    """Normalised gradient descent on the logistic loss with a fixed linear head."""

    tokens: Array  # ([B,] n, T, d)
    labels: Array  # ([B,] n)
    queries: Array  # ([B,] n, d)
    value: Array  # ([B,] d)
    # "W", "p" or "KQ": logits X W z, X p, X K Q' z; K and Q are normalised each by its own norm.
    parameter: str = "W"
    # Start of each block, ([B,] d, d) or ([B,] d); zero where it is not given.
    init: Mapping[str, Array] | None = None
    lr: float = 0.1
    threads: int = 2
    # Answer of a run: "parameter" for W (K Q' for "KQ") or p; "attention" for weights ([B,] n, T).
    output: str = "parameter"

    def scores(self) -> Array:
        """Compute the token scores Y_i v'x_it, ([B,] n, T): constant, as the head is fixed."""
        at_tokens = np.matmul(self.tokens, self.value[..., None, :, None])[..., 0]
        return at_tokens * self.labels[..., None]

    def starts(self) -> list[Array]:
        """Return a copy of the start of each block."""
        *lead, _, _, d = self.tokens.shape
        shape = (d,) if self.parameter == "p" else (d, self.queries.shape[-1])
        zero = np.zeros((*lead, *shape), dtype=self.tokens.dtype)
        return [np.array((self.init or {}).get(block, zero)) for block in BLOCKS[self.parameter]]

    def outcome(self, *blocks: Array) -> Array:
        """Compute the output from the trained blocks."""
        trained = blocks[0] @ blocks[1].swapaxes(-1, -2) if self.parameter == "KQ" else blocks[0]
        if self.output == "parameter":
            return trained
        prompt = self.parameter == "p"
        q = trained[..., None, :] if prompt else self.queries @ trained.swapaxes(-1, -2)
        logits = np.matmul(self.tokens, q[..., None])[..., 0]
        weights: Array = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return weights / weights.sum(axis=-1, keepdims=True)


@dataclass(frozen=True, eq=False)
class SVM(Batchable):
    """A hard-margin SVM: the W of least norm with (x_iα - x_it)' W z_i >= 1."""

    tokens: Array  # ([B,] n, T, d)
    queries: Array  # ([B,] n, d); or ([B,] n, 1), all 1: then W is a vector
    selected: Array  # ([B,] n)
    norm: str | float = "fro"  # "fro", "nuc", "spec", "max", "l1", or p of l_p
    gap: float = 1e-9  # relative duality gap to reach
    threads: int = 2

    def differences(self) -> tuple[Array, Array]:
        """Return x_iα - x_it, (m, d), and the input i of each, (m,), of a single problem."""
        others = np.arange(self.tokens.shape[1]) != self.selected[:, None]
        sample, token = np.nonzero(others)
        return self.tokens[sample, self.selected[sample]] - self.tokens[sample, token], sample

    def gram(self) -> Array:
        """Compute K of the dual max 1'λ - ½ λ'Kλ, λ >= 0: shape (m, m)."""
        differences, sample = self.differences()
        K: Array = differences @ differences.T
        K *= (self.queries @ self.queries.T)[np.ix_(sample, sample)]
        return K


@dataclass(frozen=True, eq=False)
class Figure(Batchable):
    """The local-convergence figure: W and (K,Q) trained, and four SVMs of each problem."""

    descent: Descent
    steps: int

    @property
    def tokens(self) -> Array:  # type: ignore[override]
        return self.descent.tokens


@dataclass(frozen=True)
class Read:
    """One read of `size` bytes by all threads."""

    size: int
    threads: int = 2


@dataclass(frozen=True)
class Products:
    """`flops` operations of float64 matrix products by all threads, at the highest rate known.

    `shape` (n, d) is that of the products Z W' and U'Z of a step, tried beside a large square.
    """

    flops: float
    shape: tuple[int, int]
    threads: int = 2
