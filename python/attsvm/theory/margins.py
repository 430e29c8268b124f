"""Margins of any W or p: how far the selected tokens lead over the others."""

from __future__ import annotations

import numpy as np

from attsvm._validation import ArrayLike, IndexArray, first_index, position_text
from attsvm.data.attention_data import (
    AttentionData,
    as_data,
    as_selected,
    other_tokens,
    token_differences,
)
from attsvm.theory.matrices import Float64Array, Matrices, MatrixLike, matrices_on, queries_of

__all__ = ["margins", "margins_of"]


def margins(W: MatrixLike, data: AttentionData, selected: ArrayLike) -> Float64Array:
    """Margins (x_iα - x_it)' W z_i of the selected tokens α, or the same with p for W z_i.

    Parameters
    ----------
    W : array_like of shape ([B,] d, d) for W or ([B,] d) for p, Run or SVMSolution
    data : AttentionData
        With queries where W is a matrix.
    selected : array_like of int, shape ([B,] n)
        Tokens α.

    Returns
    -------
    ndarray of float64, shape ([B,] n, T)
        As `SVMSolution.margins`: inf at the selected token and at padding; NaN for the infeasible
        solutions of a batch.

    Raises
    ------
    TypeError, ValueError
        An argument is not what it must be; the message names it.

    References
    ----------
    P2: Tarzanagh, Li, Thrampoulidis, Oymak, "Transformers as Support Vector Machines", 2023, the
    constraints of the attention SVM.

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.AttentionData([[[1.0, 0.0], [0.0, 1.0]]], [1], queries=[[1.0, 0.0]])
    >>> attsvm.theory.margins([[3.0, 0.0], [1.0, 0.0]], data, [0])
    array([[inf,  2.]])
    """
    alpha = as_selected("selected", selected, as_data(data))
    matrices = matrices_on("W", W, data)
    of_tokens = margins_of(matrices, data, alpha)
    of_tokens[~matrices.exists] = np.nan
    of_tokens = of_tokens.reshape(data.valid.shape)
    of_tokens[~other_tokens(data, alpha)] = np.inf
    return of_tokens


def margins_of(
    matrices: Matrices,
    data: AttentionData,
    selected: IndexArray,
    differences: Float64Array | None = None,
) -> Float64Array:
    """Compute (x_iα - x_it)' W z_i of every token, 0 at those without a constraint: (B, n, T).

    `differences` are those of `token_differences` (B, n, T, d), made here if not given.

    Raises
    ------
    ValueError
        That of a token with a constraint is beyond float64.
    """
    if differences is None:
        differences = token_differences(data.batched(), selected.reshape(-1, data.n))
    constrained = other_tokens(data, selected).reshape(differences.shape[:3])
    with np.errstate(over="ignore", invalid="ignore"):
        directions = matrices.of_queries(queries_of(data, matrices))
        of_tokens: Float64Array = (differences @ directions[..., np.newaxis])[..., 0]
    beyond = constrained & ~np.isfinite(of_tokens)
    if beyond.any():
        where = first_index(beyond.reshape(data.valid.shape))
        raise ValueError(
            f"data: expected tokens and queries whose products with {matrices.variable} are "
            f"finite, got a margin beyond float64 at {position_text(where)}"
        )
    of_tokens[~constrained] = 0.0
    return of_tokens
