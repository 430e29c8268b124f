"""A lower bound of the cosine with the SVM, certified without solving it."""

from __future__ import annotations

import numpy as np

from attsvm.data.attention_data import AttentionData, as_data
from attsvm.data.checks import (
    ArrayLike,
    BoolArray,
    as_float_array,
    as_selected,
    first_index,
    position_text,
    require_shape,
)
from attsvm.svm import SVMSolution
from attsvm.theory.margins import leads, margins_of, token_differences
from attsvm.theory.matrices import Float64Array, Matrices, MatrixLike, matrices_on, queries_of

__all__ = ["certified_cosine", "certified_cosine_gap"]


def certified_cosine(
    W: MatrixLike, data: AttentionData, selected: ArrayLike, dual: ArrayLike | SVMSolution
) -> float | Float64Array:
    """Lower bound of cosine(W, W^mm) from the margins of W and any multipliers λ >= 0.

    With m the smallest margin of W, W / m meets the constraints of the SVM of the selected tokens;
    with W_λ = Σ λ_it (x_iα - x_it) z_i', D = Σ λ_it / |W_λ|_F is at most |W^mm|_F. So where m > 0,
    the SVM is feasible and

        cosine(W, W^mm) >= m D / |W|_F.

    Without solving the SVM, this says how near W is to its direction. The multipliers of the SVM
    itself give the largest bound, that of D = |W^mm|_F.

    Parameters
    ----------
    W : array_like of shape ([B,] d, d) for W or ([B,] d) for p, Run or SVMSolution
    data : AttentionData
        With queries where W is a matrix.
    selected : array_like of int, shape ([B,] n)
        Tokens α.
    dual : array_like of shape ([B,] n, T), or SVMSolution
        λ, of any scale. What it has at the selected tokens and at padding is not used.

    Returns
    -------
    float, or ndarray of float64 of shape (B,) for a batch
        -1, the bound that always holds, where there is no certificate: m <= 0, λ = 0, an infeasible
        SVM, or no constraints at all. Otherwise from 0 to 1, correct to the rounding of the
        margins, for which see `certified_cosine_gap`.

    Raises
    ------
    TypeError, ValueError
        An argument is not what it must be; the message names it.

    References
    ----------
    Weak duality for the attention SVM of P2: Tarzanagh, Li, Thrampoulidis, Oymak, "Transformers as
    Support Vector Machines", 2023.

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.AttentionData([[[1.0, 0.0], [0.0, 1.0]]], [1], queries=[[1.0, 0.0]])
    >>> attsvm.certified_cosine([[1.0, 0.0], [-1.0, 1.0]], data, [0], [[0.0, 1.0]])
    0.816496580927726
    """
    gap = certified_cosine_gap(W, data, selected, dual)
    return 1.0 - gap


def certified_cosine_gap(
    W: MatrixLike, data: AttentionData, selected: ArrayLike, dual: ArrayLike | SVMSolution
) -> float | Float64Array:
    """Upper bound 1 - m D / |W|_F of 1 - cosine(W, W^mm), without the cancellation.

    It is computed as a sum of terms that are not negative,

        (1 - cosine(W, W_λ)) + Σ λ_it (m_it - m) / (|W|_F |W_λ|_F)

    with the margins m_it of W and the smallest of them, m: the first is small where W is made of
    the constraints that λ marks, the second where these are the ones of smallest margin.

    Parameters, errors and references are those of `certified_cosine`.

    Returns
    -------
    float, or ndarray of float64 of shape (B,) for a batch
        2 where there is no certificate, otherwise from 0 to 1. Its error is that of the margins
        m_it, the unit of rounding times |x_iα - x_it| |z_i| |W^mm|_F.

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.AttentionData([[[1.0, 0.0], [0.0, 1.0]]], [1], queries=[[1.0, 0.0]])
    >>> solution = attsvm.att_svm(data, [0])
    >>> attsvm.theory.certified_cosine_gap(solution, data, [0], solution) < 1e-15
    True
    """
    alpha = as_selected("selected", selected, as_data(data))
    given = matrices_on("W", W, data)
    weights = _multipliers(dual, data, leads(data, alpha))
    unit, differences = given.unit(), token_differences(data, alpha)
    of_tokens = margins_of(unit, data, alpha, differences)
    constrained = leads(data, alpha).reshape(of_tokens.shape)
    smallest = np.where(constrained, of_tokens, np.inf).min(axis=(1, 2))
    sums = (weights[..., np.newaxis, :] @ differences)[..., 0, :]
    combined = Matrices(given.variable, sums, queries_of(data, given), given.exists, given.batched)
    sizes = combined.norms()
    certified = (smallest > 0) & (smallest < np.inf) & (sizes > 0)
    least = np.where(certified, smallest, 0.0)[:, np.newaxis, np.newaxis]
    slack = np.sum(weights * (of_tokens - least), axis=(1, 2))
    gaps = unit.cosine_gaps(combined) + slack / np.where(certified, sizes, 1.0)
    gaps = np.where(certified, np.minimum(gaps, 1.0), 2.0)
    return gaps if given.batched else float(gaps[0])


def _multipliers(
    dual: ArrayLike | SVMSolution,
    data: AttentionData,
    constrained: BoolArray,
) -> Float64Array:
    """λ (B, n, T) over its largest entry; zero where there is no constraint or no certificate."""
    shape = (data.batch or 1, data.n, data.T)
    text = "(n, T)" if data.batch is None else "(B, n, T)"
    if isinstance(dual, SVMSolution):
        if dual.dual is None:
            return np.zeros(shape)
        require_shape("dual.dual", dual.dual, text, data.valid.shape)
        feasible = np.asarray(dual.feasible)[..., np.newaxis, np.newaxis]
        dual = np.where(feasible, dual.dual, 0.0)
    given = as_float_array("dual", dual, text, ndim=data.valid.ndim, dtype=np.float64)
    require_shape("dual", given, text, data.valid.shape)
    given = np.where(constrained, given, 0.0)
    negative = given < 0
    if negative.any():
        where = first_index(negative)
        raise ValueError(
            f"dual: expected multipliers of 0 or more, got {given[where]:g} at "
            f"{position_text(where)}"
        )
    weights = given.reshape(shape)
    largest = weights.max(axis=(1, 2), keepdims=True)
    return weights / np.where(largest > 0, largest, 1.0)
