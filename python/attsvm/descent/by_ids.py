"""Training on next-token data by token ids: no embedding is read in a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attsvm import _core
from attsvm._validation import ArrayLike, IndexArray, as_float_array, require_shape
from attsvm.data import NextTokenData
from attsvm.descent.blocks import Blocks
from attsvm.descent.problem import Factored

__all__ = ["IdTable", "TrainedByIds", "descend_by_ids", "is_trained_by_ids"]

_SMALL = 2**16


@dataclass(frozen=True, eq=False)
class IdTable:
    """Where the logit of every token of every context stands: in a table over pairs of ids.

    A pair is a token x and a last token k; its logit is e_x' W e_k. With orthonormal embeddings the
    table holds the pairs that occur; otherwise all pairs of a token and a last token that occur.

    Attributes
    ----------
    data : NextTokenData
        A single problem.
    """

    data: NextTokenData

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
    def place(self) -> IndexArray:
        """The entry of each token, shape (n, T)."""
        return self._pairs[1]

    @cached_property
    def embeddings(self) -> NDArray[np.float64]:
        """e_x, (K, d) in float64."""
        return self.data.embeddings.astype(np.float64, copy=False)

    def logits_of(
        self, left: NDArray[np.float64], right: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """e_x' W e_k of every entry, W = left' right."""
        table = (self.embeddings @ left.T) @ (right @ self.embeddings[self.last].T)
        return np.ascontiguousarray(table.reshape(-1)[self._pairs[0]])

    def factors(
        self, coefficients: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(left, right) of W = Σ a_xk e_x e_k' = left' right, shapes (m, d) and (m, d)."""
        dense = np.zeros(self.data.K * self.last.size)
        dense[self._pairs[0]] = coefficients
        table = dense.reshape(self.data.K, self.last.size)
        return table.T @ self.embeddings, self.embeddings[self.last]

    @property
    def grams(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Inner products of tokens (K, K) and of last tokens (m, m); empty where orthonormal."""
        if self.data.orthonormal:
            return np.empty((0, 0)), np.empty((0, 0))
        of_last = self.embeddings[self.last]
        return self.embeddings @ self.embeddings.T, of_last @ of_last.T


@dataclass(frozen=True, eq=False)
class TrainedByIds:
    """W as the coefficients of its pairs, until it is asked for."""

    table: IdTable
    coefficients: NDArray[np.float64]

    @property
    def blocks(self) -> Blocks:
        """What was trained: W."""
        return Blocks("W")

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """(d, d)."""
        return (self.table.data.d, self.table.data.d)

    def dense(self) -> NDArray[np.float64]:
        """W (d, d)."""
        left, right = self.factors()
        product: NDArray[np.float64] = left.T @ right
        return product

    def factors(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(left, right) with W = left' right."""
        return self.table.factors(self.coefficients)


def is_trained_by_ids(data: NextTokenData, blocks: Blocks, loss: str, plain: bool) -> bool:
    """Whether descent by ids is possible and quicker than on looked-up tokens.

    `plain` says that no setting was given which descent by ids does not have: a head, a start, a
    ridge, a certificate, mini-batches, Adam, or a storage type.
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
    settings: Mapping[str, Any],
    *,
    steps: int,
    record: NDArray[np.int64],
    references: Mapping[str, ArrayLike | Factored],
    threads: int,
    report: Callable[[float], None],
) -> tuple[dict[str, Any], TrainedByIds]:
    """Run descent from W = 0; the core's answer, laid out as that of a batch of one, and W."""
    table = IdTable(data)
    named = [_reference(table, name, given) for name, given in references.items()]
    row_gram, column_gram = table.grams
    answer = _core.descend_by_ids(
        pair=table.place,
        is_right=np.ascontiguousarray(data.label_scores > 0, dtype=np.uint8),
        lengths=data.lengths,
        pairs=table.size,
        row_gram=row_gram,
        column_gram=column_gram,
        references=np.stack([logits for logits, _ in named])
        if named
        else np.empty((0, table.size)),
        reference_norms=np.array([norm for _, norm in named], dtype=np.float64),
        rule=settings["rule"],
        rates=settings["rates"],
        decays=settings["decays"],
        polyak_factor=settings["polyak_factor"],
        largest_step=settings["largest_step"],
        movement=settings["movement"],
        inertia=settings["inertia"],
        steps=steps,
        record=record,
        threads=threads,
        report=report,
    )
    names = ("loss", "loss_gap", "norm", "log_grad_norm", "max_attention")
    result: dict[str, Any] = {
        name: series[np.newaxis] for name, series in zip(names, answer["history"], strict=True)
    }
    result["cosine_gap"] = answer["cosine_gap"][np.newaxis]
    for name in ("attention", "log_attention", "selected"):
        result[name] = answer[name][np.newaxis]
    result["first"] = answer["coefficients"][np.newaxis, np.newaxis]
    return result, TrainedByIds(table, answer["coefficients"])


def _reference(
    table: IdTable, name: str, given: ArrayLike | Factored
) -> tuple[NDArray[np.float64], float]:
    """Logits of a direction at the table's pairs, and its norm."""
    argument = f"reference[{name!r}]" if name else "reference"
    d = table.data.d
    if isinstance(given, Factored):
        if given.left is None or given.right is None:
            raise ValueError(
                f"{argument}: expected a feasible solution, got one without a direction"
            )
        left, right = given.left, given.right
        require_shape(argument, right, "(s, d)", (left.shape[0], d))
    else:
        left = np.eye(d)
        right = as_float_array(argument, given, "(d, d)", ndim=2, dtype=np.float64)
        require_shape(argument, right, "(d, d)", (d, d))
    norm = float(np.linalg.norm(np.linalg.qr(right.T, mode="r") @ left))
    if norm == 0:
        raise ValueError(f"{argument}: expected a direction, got zero")
    return table.logits_of(left, right), norm
