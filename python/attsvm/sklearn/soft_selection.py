"""Soft margins of the SVMs on tokens: hard margins of tokens with more coordinates.

Every token t but the selected gets a separate coordinate, -1 / (√C |z_i|). With W_it the row of
W that belongs to it, this adds W_it' z_i / (√C |z_i|) to the margin of t. Of all rows that add ξ_it
the smallest is √C ξ_it z_i' / |z_i|: then |W|² is that of the first d rows, and C Σ ξ_it². For p,
put 1 for |z_i|.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attsvm._arrays import Float64Array, IndexArray
from attsvm.data.attention_data import AttentionData, other_tokens
from attsvm.svm import SVMSolution


def with_slack(
    data: AttentionData, selected: IndexArray, C: float, parameter: str
) -> AttentionData:
    """Return data (n, T, d + m) whose hard margin is the soft margin of `data`, m constraints."""
    n, T, d = data.tokens.shape
    sample, token = np.nonzero(other_tokens(data, selected))
    width = d + sample.size
    size = np.ones(n)
    queries = None
    if parameter == "W":
        assert data.queries is not None
        size = np.linalg.norm(data.queries, axis=1)
        if not size.all():
            where = int(np.argmin(size))
            raise ValueError(f"queries: expected no zero vector, got one at [{where}]")
        queries = np.zeros((n, width))
        queries[:, :d] = data.queries
    tokens = np.zeros((n, T, width))
    tokens[..., :d] = data.tokens
    tokens[sample, token, np.arange(d, width)] = -1.0 / (np.sqrt(C) * size[sample])
    return AttentionData(tokens, data.labels, queries=queries, lengths=data.lengths)


def without_slack(solution: SVMSolution, d: int) -> Float64Array:
    """Return W (d, d) or p (d,) of the first d coordinates."""
    left, right = solution.left, solution.right
    assert left is not None
    assert right is not None
    part: Float64Array = left[:, :d].T @ right[:, :d]
    return part[:, 0] if solution.variable == "p" else part


def constraint_rows(data: AttentionData, selected: IndexArray, parameter: str) -> Float64Array:
    """Compute (x_iα - x_it) |z_i| of every constraint, (m, d); without |z_i| for p."""
    sample, token = np.nonzero(other_tokens(data, selected))
    rows: NDArray[Any] = data.tokens[sample, selected[sample]] - data.tokens[sample, token]
    if parameter == "W":
        assert data.queries is not None
        rows = rows * np.linalg.norm(data.queries, axis=1)[sample, np.newaxis]
    return rows
