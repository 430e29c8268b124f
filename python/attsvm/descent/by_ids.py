"""Training on next-token data by token ids: no embedding is read in a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attsvm import _core
from attsvm._arrays import Float64Array, IndexArray
from attsvm._linalg import LowRank, in_own_span
from attsvm._validation import as_float64_array, require_direction, require_shape
from attsvm.data import NextTokenData
from attsvm.descent.blocks import Blocks
from attsvm.descent.problem import Basis, Coordinates, Parameter, Trained
from attsvm.descent.references import Factored, Reference, factors_of, name_in_call

_SMALL = 2**16


@dataclass(frozen=True, eq=False)
class IdTable:
    """Where the logit of every token of every context stands: in a table over pairs of ids.

    A pair is a token x and a last token k; its logit is e_x' W e_k. With orthonormal embeddings the
    table holds the pairs that occur; otherwise all pairs of a token and a last token that occur.
    """

    data: NextTokenData  # a single problem
    embeddings: Float64Array  # e_x (K, d), not in the caller's memory: W is made of them

    @classmethod
    def of(cls, data: NextTokenData) -> IdTable:
        """Copy the embeddings."""
        return cls(data, data.embeddings.astype(np.float64))

    @cached_property
    def last(self) -> IndexArray:
        """The m ids that are a last token, ascending."""
        return np.unique(self.data.last)

    @cached_property
    def _pairs(self) -> tuple[IndexArray, IndexArray]:
        """Numbers x m + (place of k in `last`) of the entries, and the entry of each token."""
        data, m = self.data, self.last.size
        column = np.searchsorted(self.last, data.last)[:, np.newaxis]
        number = np.where(
            data.valid, data.contexts * m + column, data.contexts[0, 0] * m + column[0]
        )
        if not data.orthonormal:
            return np.arange(data.K * m), np.ascontiguousarray(number)
        entries, where = np.unique(number, return_inverse=True)
        return entries, np.ascontiguousarray(where.reshape(number.shape).astype(np.int64))

    @property
    def size(self) -> int:
        """Number of entries."""
        return self._pairs[0].size

    @property
    def coordinate_count(self) -> int:
        """Number of coordinates of what pairs can make."""
        if self.data.orthonormal:
            return self.size
        (rows, _), (columns, _) = self._coordinates
        return int(rows.shape[1] * columns.shape[1])

    @property
    def place(self) -> IndexArray:
        """The entry of each token, shape (n, T)."""
        return self._pairs[1]

    def factors(self, coefficients: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Return (left, right) of W = Σ a_xk e_x e_k' = left' right, shapes (m, d) and (m, d)."""
        dense = np.zeros(self.data.K * self.last.size)
        dense[self._pairs[0]] = coefficients
        table = dense.reshape(self.data.K, self.last.size)
        return table.T @ self.embeddings, self.embeddings[self.last]

    @cached_property
    def _coordinates(self) -> list[tuple[Float64Array, Float64Array | None]]:
        """Tokens (K, r) and last tokens (m, c) in orthonormal coordinates, and the bases."""
        spans = [in_own_span(e[np.newaxis]) for e in (self.embeddings, self.embeddings[self.last])]
        return [(X[0], None if basis is None else basis[0]) for X, basis in spans]

    def to_core(self) -> _core.Embeddings:
        """Return coordinates and inner products of tokens and of last tokens."""
        nothing = np.empty((0, 0))
        if self.data.orthonormal:
            return _core.Embeddings(
                rows=nothing, columns=nothing, row_gram=nothing, column_gram=nothing
            )
        (rows, _), (columns, _) = self._coordinates
        of_last = self.embeddings[self.last]
        return _core.Embeddings(
            rows=np.ascontiguousarray(rows),
            columns=np.ascontiguousarray(columns),
            row_gram=self.embeddings @ self.embeddings.T,
            column_gram=of_last @ of_last.T,
        )

    def split(self, W: LowRank) -> tuple[Float64Array, LowRank]:
        """Return coordinates (flat) of the part of W that pairs can make, and the rest of it."""
        assert W.right is not None
        if self.data.orthonormal:
            of_last = self.embeddings[self.last]
            table = (self.embeddings @ W.left.T) @ (W.right @ of_last.T)
            inside = table.reshape(-1)[self._pairs[0]]
            left, right = self.factors(inside)
        else:
            (_, rows), (_, columns) = self._coordinates
            left = W.left if rows is None else W.left @ rows.T
            right = W.right if columns is None else W.right @ columns.T
            coordinates = left.T @ right
            inside = coordinates.reshape(-1)
            left = coordinates.T if rows is None else coordinates.T @ rows
            right = np.eye(coordinates.shape[1]) if columns is None else columns
        rest = LowRank(np.concatenate([W.left, -left]), np.concatenate([W.right, right]))
        return inside, rest


@dataclass(frozen=True, eq=False)
class TrainedByIds:
    """W of a batch of one as the coefficients of its pairs, until it is asked for."""

    table: IdTable
    coefficients: Float64Array

    def __reduce__(self) -> tuple[type[Trained], tuple[Any, ...]]:
        """Return what a pickle holds: the factors of W, and no contexts."""
        left, right = self.factors()
        basis = Basis(right, 1, formed=True)
        shape = self.parameter_shape
        coordinates = Coordinates(self.blocks, batch=None, dimensions=shape, of_queries=basis)
        return Trained, (coordinates, Parameter([left], None, np.zeros(1)), None, "not linear")

    @property
    def blocks(self) -> Blocks:
        """What was trained: W."""
        return Blocks("W")

    @property
    def parameter_shape(self) -> tuple[int, int]:
        """(d, d)."""
        return (self.table.data.d, self.table.data.d)

    def dense(self) -> Float64Array:
        """Form W (1, d, d)."""
        left, right = self.table.factors(self.coefficients)
        product: Float64Array = left.T @ right
        return product[np.newaxis]

    def by_block(self) -> dict[str, Float64Array]:
        """Return W (1, d, d) by its name."""
        return {"W": self.dense()}

    def factors(self) -> tuple[Float64Array, Float64Array]:
        """Return (left, right) with W = left' right, shapes (1, m, d) and (1, m, d)."""
        left, right = self.table.factors(self.coefficients)
        return left[np.newaxis], right[np.newaxis]

    def answer(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array with a batch axis as the caller gets it, without."""
        result: NDArray[Any] = array[0]
        return result


def is_trained_by_ids(data: NextTokenData, blocks: Blocks, loss: str, plain: bool) -> bool:
    """Return whether descent by ids is possible and quicker than on looked-up tokens.

    `plain` says that no setting was given which descent by ids does not have: a head, a start, a
    ridge, a certificate, mini-batches, steps that are not along gradients, or a storage type.
    """
    if not plain or data.batch is not None or loss != "log" or blocks != Blocks("W"):
        return False
    numbers = data.n * data.T * data.d
    if numbers <= _SMALL:
        return False
    m = np.unique(data.last).size
    return data.orthonormal or data.K * m * (data.K + m) < 2 * numbers


def descend_by_ids(
    data: NextTokenData,
    rule: _core.StepRule,
    *,
    steps: int,
    record: IndexArray,
    references: Mapping[str, Reference],
    threads: int,
    report: Callable[[float], None] | None,
) -> tuple[dict[str, Any], TrainedByIds]:
    """Run descent from W = 0; return the core's answer, laid out as that of a batch of one, and W.

    Directions are compared in orthonormal coordinates, as descent on looked-up tokens does it.
    """
    table = IdTable.of(data)
    size = table.coordinate_count
    inside, outside = np.empty((len(references), size)), np.empty(len(references))
    for r, (name, given) in enumerate(references.items()):
        W = _reference(name_in_call(name), given, data.d).unit()
        inside[r], rest = table.split(W)
        outside[r] = rest.norm()
    answer = _core.descend_by_ids(
        pair=table.place,
        is_right=np.ascontiguousarray(data.label_scores > 0, dtype=np.uint8),
        lengths=data.lengths,
        pairs=table.size,
        embeddings=table.to_core(),
        references=inside,
        references_outside=outside,
        rule=rule,
        steps=steps,
        record=record,
        threads=threads,
        report=report,
    )
    result: dict[str, Any] = {"series": answer["series"]}
    result["cosine_gap"] = answer["cosine_gap"][np.newaxis]
    for name, array in answer.items():
        if name in ("attention", "log_attention", "selected"):
            result[name] = np.asarray(array)[np.newaxis]
    result["blocks"] = [answer["coefficients"][np.newaxis, np.newaxis]]
    return result, TrainedByIds(table, answer["coefficients"])


def _reference(argument: str, given: Reference, d: int) -> LowRank:
    """Return a direction as factors; `ValueError` for zero or another shape."""
    if isinstance(given, Factored):
        left, right = factors_of(argument, given)
        require_shape(argument, left, "(s, d)", (left.shape[0], d))
    else:
        left, right = np.eye(d), as_float64_array(argument, given, "(d, d)", ndim=2)
    require_shape(argument, right, "(s, d)", (left.shape[0], d))
    W = LowRank(left, right)
    require_direction(argument, W.norm() > 0)
    return W
