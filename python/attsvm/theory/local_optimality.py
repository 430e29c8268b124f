"""Local optimality of a choice of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attsvm._validation import ArrayLike, BoolArray, as_positive_float, require_shape
from attsvm.data.attention_data import AttentionData, as_data, as_selected
from attsvm.theory.token_scores import scores

if TYPE_CHECKING:
    from attsvm.svm import SVMSolution

__all__ = ["is_locally_optimal", "support_tokens"]


def support_tokens(
    data: AttentionData, solution: SVMSolution, *, tolerance: float = 1e-4
) -> BoolArray:
    """Support indices (SVM-neighbours): tokens with an active constraint.

    That is, (x_iα - x_it)' W z_i = 1 at the support vector machine of the selected tokens α.
    `SVMSolution.support` is the same with the tolerance of the solver, 1e-6; that of the papers'
    experiments is 1e-4.

    Parameters
    ----------
    data : AttentionData
    solution : SVMSolution
        From `att_svm` or `prompt_svm`, with the margin 1 required of every input.
    tolerance : float
        A constraint is active when its margin is below 1 + `tolerance`.

    Returns
    -------
    ndarray of bool, shape ([B,] n, T)
        False at the selected tokens, at padding, and where the SVM is infeasible.

    Raises
    ------
    TypeError
        `data` is not an `AttentionData`.
    ValueError
        `solution` is not of these data, or `tolerance` is not positive.

    References
    ----------
    Tarzanagh, Li, Zhang, Oymak, "Max-Margin Token Selection in Attention Mechanism", 2023, and
    Tarzanagh, Li, Thrampoulidis, Oymak, "Transformers as Support Vector Machines", 2023: the
    definition of support indices.

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.AttentionData([[[2.0], [1.0], [-1.0]]], [1])
    >>> attsvm.support_tokens(data, attsvm.prompt_svm(data, [0]))
    array([[False,  True, False]])
    """
    valid = as_data(data).valid
    active = 1 + as_positive_float("tolerance", tolerance)
    text = "()" if data.batch is None else "(B,)"
    status = np.asarray(solution.status)
    require_shape("solution.status", status, text, valid.shape[:-2])
    feasible: BoolArray = status == "optimal"
    if not (feasible | (status == "infeasible")).all():
        raise ValueError(f"solution.status: expected optimal or infeasible, got {status}")
    if not feasible.any():
        return np.zeros(valid.shape, dtype=np.bool_)
    margins = np.asarray(solution.margins)
    text = "(n, T)" if data.batch is None else "(B, n, T)"
    require_shape("solution.margins", margins, text, valid.shape)
    support: BoolArray = (margins < active) & valid & feasible[..., np.newaxis, np.newaxis]
    return support


def is_locally_optimal(
    data: AttentionData,
    selected: ArrayLike,
    solution: SVMSolution,
    *,
    tolerance: float = 1e-4,
) -> bool | BoolArray:
    """Whether the direction that selects `selected` is locally optimal.

    The choice α is locally optimal when every one of its support indices (`support_tokens`) scores
    strictly less than the selected token, γ_iα > γ_it for all inputs; other tokens may score more.
    It is so vacuously when there are no support indices, and never when the support vector machine
    is infeasible.

    Parameters
    ----------
    data : AttentionData
        With a `value`.
    selected : array_like of int, shape ([B,] n)
        Tokens α.
    solution : SVMSolution
        The support vector machine of these tokens, from `att_svm` or `prompt_svm` with the margin 1
        required of every input.
    tolerance : float
        A constraint is active when its margin is below 1 + `tolerance`.

    Returns
    -------
    bool, or ndarray of bool of shape (B,) for a batch

    Raises
    ------
    TypeError
        `data` is not an `AttentionData`, or `selected` does not hold integers.
    ValueError
        `selected` does not fit the data, `solution` is not of these data and tokens, `tolerance`
        is not positive, or `data` has no value.

    References
    ----------
    Tarzanagh, Li, Zhang, Oymak, "Max-Margin Token Selection in Attention Mechanism", 2023, and
    Tarzanagh, Li, Thrampoulidis, Oymak, "Transformers as Support Vector Machines", 2023: the
    definitions of support indices and of locally optimal directions.

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.AttentionData([[[-1.0], [0.0], [1.0]]], [1], value=[1.0])
    >>> [attsvm.is_locally_optimal(data, [t], attsvm.prompt_svm(data, [t])) for t in range(3)]
    [False, False, True]
    """
    alpha = as_selected("selected", selected, as_data(data))[..., np.newaxis]
    gamma = scores(data)
    support = support_tokens(data, solution, tolerance=tolerance)
    feasible: BoolArray = np.asarray(solution.status) == "optimal"
    if feasible.any():
        own = np.take_along_axis(np.asarray(solution.margins), alpha, axis=-1)
        if not np.isposinf(own[feasible]).all():
            raise ValueError("solution: expected the support vector machine of `selected`")
    above = np.take_along_axis(gamma, alpha, axis=-1) > gamma
    locally_optimal: BoolArray = feasible & (above | ~support).all(axis=(-2, -1))
    return bool(locally_optimal) if data.batch is None else locally_optimal
