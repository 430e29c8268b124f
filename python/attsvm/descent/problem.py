"""Data as the core takes it: always a batch, query directions q = V'z, and a head."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from attsvm import _core
from attsvm._linalg import LowRank, euclidean_norm, in_own_span
from attsvm._validation import (
    ArrayLike,
    as_float_array,
    as_float_dtype,
    require_direction,
    require_shape,
)
from attsvm.data import AttentionData
from attsvm.data.attention_data import require_queries
from attsvm.descent.blocks import Blocks
from attsvm.descent.references import Factored, Reference, factors_of
from attsvm.heads import CoreHead, Head, fixed_head, require_loss_of_head, trained_head

__all__ = ["CoreProblem", "Parameter"]

_OF_MATRIX = (1, 2)


@dataclass(frozen=True, eq=False)
class Parameter:
    """Matrices W (B, d, e) in the coordinates of the core, and what lies outside them.

    Attributes
    ----------
    first : ndarray, shape (B, r, k)
        V = W', the part inside the spans of tokens and queries. For W = K Q', the factor K'
        (B, m, d).
    second : ndarray, shape (B, e, m)
        The factor Q, of size 0 where W is not factored.
    rest : ndarray, shape (B, d, e), or None
        The part outside; None where it is zero.
    outside : ndarray, shape (B,)
        Its norm.
    """

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    rest: NDArray[np.float64] | None
    outside: NDArray[np.float64]

    def to_core(self) -> _core.Parameters:
        """Return what the core starts from."""
        return _core.Parameters(first=self.first, second=self.second, outside=self.outside)


@dataclass(frozen=True, eq=False)
class CoreProblem:
    """Arrays of one call of the core: tokens (B, s, T, k), queries (B, n, r), and a head.

    The parameter is V (B, r, k): V = W' for logits X W z, and the single row p' for logits X p,
    whose queries are all the number 1. With a fixed p the logits X W p have queries |p|, and W
    counts along p alone. Where it pays, tokens and queries stand in coordinates of their spans:
    k = sT < d and r = n < e. Not so for W = K Q', where what of a random start lies outside the
    spans is part of W and changes; with a ridge, which pulls at it; with Adam's steps, which depend
    on the coordinates; and for tokens where v is trained, whose start need not lie in their span.
    """

    blocks: Blocks
    batched: bool
    dimensions: tuple[int, int]
    tokens: NDArray[Any]
    queries: NDArray[np.float64]
    head: CoreHead
    lengths: NDArray[np.int64]
    sequence: NDArray[np.int64]
    token_basis: NDArray[np.float64] | None = None
    query_basis: NDArray[np.float64] | None = None

    @classmethod
    def of(
        cls,
        data: AttentionData,
        blocks: Blocks,
        head: Head | None,
        loss: str,
        *,
        prompt: ArrayLike | None = None,
        value: Any = None,
        reduced: bool = True,
        dtype: DTypeLike | None,
        threads: int,
        passes: int,
    ) -> CoreProblem:
        """Check that `data` has what `blocks` and `head` need, and lay it out.

        `prompt` is the fixed p of "Wp", `value` the start of a trained v. `reduced` says whether
        descent is the same in other orthonormal coordinates; `passes` is how often the tokens will
        be read: what a reduction must pay for.
        """
        batched = data.batch is not None
        stored = data.tokens
        if dtype is not None:
            storage = as_float_dtype("dtype", dtype)
            stored = as_float_array("dtype", stored, "tokens", ndim={3, 4}, dtype=storage)
        tokens = np.ascontiguousarray(_batch(stored, batched))
        lengths = np.ascontiguousarray(_batch(data.lengths, batched))
        queries = _queries(data, blocks.attention, prompt)
        if blocks.head:
            require_loss_of_head(loss, head, trained=True)
            if head is not None:
                raise ValueError(
                    f"head: expected None where v is trained, got {type(head).__name__}"
                )
            core_head = trained_head("init['v']", value, data)
        else:
            core_head = fixed_head(data, head, loss, tokens, lengths, threads)
        problem = cls(
            blocks,
            batched,
            (data.d, queries.shape[2]),
            tokens,
            queries,
            core_head,
            lengths,
            data.sequence_index,
        )
        return problem._reduced(passes, threads) if reduced else problem

    def _reduced(self, passes: int, threads: int) -> CoreProblem:
        """With tokens and queries in coordinates of their spans, where that is exact and pays."""
        if self.blocks.attention == "KQ":
            return self
        problem = self
        B, s, T, d = self.tokens.shape
        if not self.blocks.head and _reduction_pays(s * T, d, passes):
            flat = self.tokens.reshape(B, s * T, d).astype(np.float64, copy=False)
            coordinates, basis = in_own_span(flat, num_threads=threads)
            problem = replace(
                problem,
                tokens=coordinates.reshape(B, s, T, -1),
                head=self.head if basis is None else self.head.in_basis(basis),
                token_basis=basis,
            )
        if self.blocks.attention == "Wp":
            length = np.linalg.norm(self.queries[:, :1], axis=2, keepdims=True)
            problem = replace(
                problem,
                queries=np.ascontiguousarray(
                    np.broadcast_to(length, (B, self.queries.shape[1], 1))
                ),
                query_basis=self.queries[:, :1] / length,
            )
        elif self.blocks.attention == "W" and self.queries.shape[1] < self.queries.shape[2]:
            # Cheap, and V would be (d, d) without.
            queries, basis = in_own_span(self.queries, num_threads=threads)
            problem = replace(problem, queries=queries, query_basis=basis)
        return problem

    def to_core(self) -> _core.Problem:
        """Return the arrays as the core takes them."""
        return _core.Problem(
            tokens=self.tokens,
            queries=self.queries,
            lengths=self.lengths,
            sequence=self.sequence,
            head=self.head.to_core(),
        )

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """Shape of W (also where it is K Q') or p as the caller knows it."""
        one = self.dimensions[:1] if self.blocks.attention == "p" else self.dimensions
        return (self.tokens.shape[0], *one) if self.batched else one

    def zero(self) -> Parameter:
        """W = 0 or p = 0, without forming it."""
        B = self.tokens.shape[0]
        V = np.zeros((B, self.queries.shape[2], self.tokens.shape[3]))
        return Parameter(V, _nothing(B), None, np.zeros(B))

    def as_parameter(self, name: str, value: Reference) -> Parameter:
        """Check W or p as given by the caller, and split it.

        One array given with a batch serves all of its problems.
        """
        if isinstance(value, Factored):
            return self._split_factored(name, value)
        shape = self.parameter_shape
        text = "(d,)" if self.blocks.attention == "p" else "(d, d)"
        array = as_float_array(
            name, value, f"{text} or (B, {text[1:]}", ndim={len(shape), len(shape) - self.batched}
        )
        one = shape[1:] if self.batched else shape
        require_shape(name, array, text, shape if array.ndim == len(shape) else one)
        B = self.tokens.shape[0]
        W = np.broadcast_to(array, (B, *one)).reshape(B, *self.dimensions).astype(np.float64)
        inside = W
        if self.token_basis is not None:
            inside = self.token_basis @ inside
        if self.query_basis is not None:
            inside = inside @ np.swapaxes(self.query_basis, 1, 2)
        V = np.ascontiguousarray(np.swapaxes(inside, 1, 2))
        if self.token_basis is None and self.query_basis is None:
            return Parameter(V, _nothing(B), None, np.zeros(B))
        rest = W - self._lift(V)
        return Parameter(V, _nothing(B), rest, euclidean_norm(rest, _OF_MATRIX))

    def as_factors(self, name: str, K: ArrayLike, Q: ArrayLike) -> Parameter:
        """Check the factors of W = K Q', K ([B,] d, m) and Q ([B,] d, m), with any m >= 1.

        Factors given without the batch axis serve all problems.
        """
        B = self.tokens.shape[0]
        factors = []
        for letter, value, size in (("K", K, self.dimensions[0]), ("Q", Q, self.dimensions[1])):
            array = as_float_array(
                f"{name}[{letter!r}]", value, "(d, m) or (B, d, m)", ndim={2, 2 + self.batched}
            )
            shape = (*((B,) if array.ndim == 3 else ()), size, array.shape[-1])
            require_shape(f"{name}[{letter!r}]", array, "(d, m)", shape)
            factors.append(np.broadcast_to(array, (B, size, array.shape[-1])))
        if factors[0].shape[2] != factors[1].shape[2]:
            raise ValueError(
                f"{name}: expected K and Q with one inner size m, got {factors[0].shape[2]} and "
                f"{factors[1].shape[2]}"
            )
        first = np.array(np.swapaxes(factors[0], 1, 2), dtype=np.float64, order="C")
        second = np.array(factors[1], dtype=np.float64, order="C")
        return Parameter(first, second, None, np.zeros(B))

    def as_caller_parameter(
        self, V: NDArray[np.float64], rest: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        """W or p from V (B, r, k) and the part outside the spans."""
        W = self._lift(V) if rest is None else self._lift(V) + rest
        return np.ascontiguousarray(W).reshape(self.parameter_shape)

    def factors(self, trained: Parameter) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(left, right) of W = left' right, shapes ([B,] s, d) and ([B,] s, e)."""
        if trained.second.size:
            left, right = trained.first, np.swapaxes(trained.second, 1, 2)
        else:
            B, r, _ = trained.first.shape
            left = trained.first
            if self.token_basis is not None:
                left = left @ self.token_basis
            right = np.broadcast_to(np.eye(r), (B, r, r))
            if self.query_basis is not None:
                right = self.query_basis
        return (left, right) if self.batched else (left[0], right[0])

    def _lift(self, V: NDArray[np.float64]) -> NDArray[np.float64]:
        W = np.swapaxes(V, 1, 2)
        if self.token_basis is not None:
            W = np.swapaxes(self.token_basis, 1, 2) @ W
        return W if self.query_basis is None else W @ self.query_basis

    def _split_factored(self, name: str, value: Factored) -> Parameter:
        given = factors_of(name, value)
        B = self.tokens.shape[0]
        left, right = (_batch(part, self.batched) for part in given)
        d, e = self.dimensions
        if left.shape[::2] != (B, d) or right.shape[::2] != (B, e):
            raise ValueError(
                f"{name}: expected a solution of this problem's shape {self.parameter_shape}, "
                f"got factors of shapes {given[0].shape} and {given[1].shape}"
            )
        left_inside, left_rest = _project(left, self.token_basis)
        right_inside, right_rest = _project(right, self.query_basis)
        V = np.ascontiguousarray(np.swapaxes(right_inside, 1, 2) @ left_inside)
        # left' right = (inside + rest)' right, and the three parts that are not inside/inside are
        # orthogonal to it and, taken as two, to each other.
        outside = np.hypot(
            LowRank(left_rest, right).norm(), LowRank(left_inside, right_rest).norm()
        )
        return Parameter(V, _nothing(B), None, outside)


def _queries(data: AttentionData, attention: str, prompt: ArrayLike | None) -> NDArray[np.float64]:
    """Queries (B, n, e): those of the data, the number 1 for logits X p, p for logits X W p."""
    B = data.batch or 1
    if attention == "Wp":
        if prompt is None:
            raise ValueError("prompt: needed to train W in the logits X W p, got None")
        batched = data.batch is not None
        text = "(d,) or (B, d)" if batched else "(d,)"
        p = as_float_array("prompt", prompt, text, ndim={1, 1 + batched}, dtype=np.float64)
        require_shape("prompt", p, text, (*((B,) if p.ndim == 2 else ()), data.d))
        require_direction("prompt", p.any(axis=-1))
        each = np.broadcast_to(p, (B, data.d))[:, np.newaxis]
        return np.ascontiguousarray(np.broadcast_to(each, (B, data.n, data.d)))
    if prompt is not None:
        raise ValueError("prompt: expected None where logits are not X W p")
    if attention == "p":
        return np.ones((B, data.n, 1))
    queries = require_queries(data, "training W")
    return np.ascontiguousarray(_batch(queries, data.batch is not None), dtype=np.float64)


def _nothing(B: int) -> NDArray[np.float64]:
    """The second factor of a matrix that has none."""
    return np.empty((B, 0, 0))


def _reduction_pays(count: int, dimension: int, passes: int) -> bool:
    """Whether an orthonormal basis of `count` vectors costs less than the columns it saves."""
    return count < dimension and passes * (dimension - count) >= 2 * count * dimension


def _project(
    rows: NDArray[np.float64], basis: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates of the rows (B, s, d) in the basis, and what is left of the rows outside it."""
    if basis is None:
        return rows, np.zeros_like(rows)
    inside = rows @ np.swapaxes(basis, 1, 2)
    return inside, rows - inside @ basis


def _batch(array: NDArray[Any], batched: bool) -> NDArray[Any]:
    return array if batched else array[np.newaxis]
