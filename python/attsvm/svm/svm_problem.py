"""SVM problems as arrays: one builder for each problem of the papers, always with a batch axis."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from attsvm import _core
from attsvm._arrays import ArrayLike, BoolArray, Float64Array, FloatArray, IndexArray
from attsvm.data.attention_data import AttentionData, require_queries


class SvmProblem(NamedTuple):
    """B problems of one shape: the smallest W with d_it' W z_i >= b_it, or = b_it.

    d_it is the selected token of input i less its token t, for the valid tokens t other than it.
    An input without a selected token has the tokens themselves for d_it.
    """

    tokens: FloatArray  # (B, n, T, d); with `token_ids`, rows (B or 1, K, d) which these name
    queries: Float64Array  # z_i (B, n, e); with `query_ids`, rows (B or 1, K, e) which these name
    selected: IndexArray  # (B, n): -1 for inputs without a selected token
    lengths: IndexArray  # (B, n): number of valid tokens
    rhs: Float64Array  # b_it (B, n, T)
    equality: BoolArray  # (B, n, T): where equality is required, False where nothing is
    token_ids: IndexArray | None = None  # (B, n, T)
    query_ids: IndexArray | None = None  # (B, n)

    @property
    def constrained(self) -> BoolArray:
        """Which tokens have a constraint, shape (B, n, T)."""
        token = np.arange(self.rhs.shape[2])
        return np.asarray(
            (token < self.lengths[..., np.newaxis]) & (token != self.selected[..., np.newaxis])
        )

    def core(self) -> _core.Svms:
        """Return the problems as the core takes them, contiguous in memory."""
        arrays: Any = (None if x is None else np.ascontiguousarray(x) for x in self)
        return _core.Svms(*arrays)

    def gathered(self) -> SvmProblem:
        """Return the same problems without ids: every token, in float64, in its place."""
        tokens, queries = self.tokens.astype(np.float64, copy=False), self.queries
        if self.token_ids is not None and self.query_ids is not None:
            table = np.arange(len(self.rhs))[:, np.newaxis] % len(tokens)
            tokens = tokens[table[..., np.newaxis], self.token_ids]
            queries = queries[table, self.query_ids]
        return self._replace(tokens=tokens, queries=queries, token_ids=None, query_ids=None)

    def differences(self) -> FloatArray:
        """Return d_it, shape (B, n, T, d), of a problem without ids."""
        place = np.maximum(self.selected, 0)[..., np.newaxis, np.newaxis]
        from_selected = np.take_along_axis(self.tokens, place, axis=2) - self.tokens
        one: BoolArray = self.selected[..., np.newaxis, np.newaxis] >= 0
        return np.where(one, from_selected, self.tokens)

    def problem(self, b: int) -> SvmProblem:
        """Return problem `b` as a batch of one."""
        return self.problems([b])

    def problems(self, places: ArrayLike) -> SvmProblem:
        """Return the problems at these places of the batch."""
        B = len(self.rhs)
        fields = self._asdict().items()
        return self._replace(**{k: x if x is None or len(x) < B else x[places] for k, x in fields})


def attention_problem(data: AttentionData, selected: IndexArray) -> SvmProblem:
    """Return (x_i,selected - x_it)' W z_i >= 1 for all valid t other than the selected token."""
    queries = require_queries(data, "the attention SVM")
    queries = queries.reshape(-1, *queries.shape[-2:])
    return _selection(data, selected, queries.astype(np.float64, copy=False))


def general_problem(data: AttentionData, chosen: IndexArray, sets: BoolArray) -> SvmProblem:
    """Return (x_i,chosen - x_it)' W z_i = 0 for the t of the selected set, >= 1 for the others."""
    problem = attention_problem(data, chosen)
    in_set = sets.reshape(problem.rhs.shape)
    equality = in_set & problem.constrained
    return problem._replace(rhs=np.where(in_set, 0.0, 1.0), equality=equality)


def prompt_problem(data: AttentionData, selected: IndexArray, required: BoolArray) -> SvmProblem:
    """Return (x_i,selected - x_it)' p >= 1, or >= 0 in the inputs that are not `required`."""
    required = required.reshape(-1, data.n, 1)
    problem = _selection(data, selected, np.ones(required.shape))
    return problem._replace(rhs=np.repeat(required, data.T, axis=2).astype(np.float64))


def label_problem(data: AttentionData, selected: IndexArray) -> SvmProblem:
    """Return Y_i v' x_i,selected >= 1 for every input."""
    place = selected.reshape(-1, data.n, 1, 1)
    chosen = np.take_along_axis(_tokens(data), place, axis=2)[:, :, 0]
    labels = data.labels.reshape(-1, data.n).astype(np.float64)
    rows = labels[..., np.newaxis] * chosen
    return row_problem(rows, np.ones(labels.shape), np.zeros(labels.shape, dtype=np.bool_))


def diagonal_problem(data: AttentionData, selected: IndexArray) -> SvmProblem:
    """Return Σ_j w_j (x_i,selected - x_it)_j z_ij >= 1, the attention SVM of W = diag(w)."""
    queries = require_queries(data, "the SVM of diagonal W").reshape(-1, data.n, 1, data.d)
    problem = _selection(data, selected, np.ones((*queries.shape[:2], 1)))
    return problem._replace(tokens=problem.tokens.astype(np.float64) * queries)


def _tokens(data: AttentionData) -> FloatArray:
    tokens = data.tokens_per_input
    return tokens.reshape(-1, *tokens.shape[-3:])


def _selection(data: AttentionData, selected: IndexArray, queries: Float64Array) -> SvmProblem:
    """Return (x_i,selected - x_it)' W z_i >= 1."""
    tokens = _tokens(data)
    B, n, T, _ = tokens.shape
    return SvmProblem(
        tokens=tokens,
        queries=queries,
        selected=selected.reshape(B, n),
        lengths=data.lengths.reshape(B, n),
        rhs=np.ones((B, n, T)),
        equality=np.zeros((B, n, T), dtype=np.bool_),
    )


def row_problem(
    rows: FloatArray, rhs: Float64Array, equality: BoolArray, queries: Float64Array | None = None
) -> SvmProblem:
    """Return rows_r' W z_r >= b_r (or = b_r), one constraint an input; without queries z_r = 1.

    The rows are (B, m, d), right sides and equalities (B, m), queries (B, m, e).
    """
    ones = np.ones(rhs.shape, dtype=np.int64)
    return SvmProblem(
        tokens=rows[:, :, np.newaxis],
        queries=np.ones((*rhs.shape, 1)) if queries is None else queries,
        selected=-ones,
        lengths=ones,
        rhs=rhs[..., np.newaxis],
        equality=equality[..., np.newaxis],
    )
