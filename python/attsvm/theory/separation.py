"""Separation of the selected tokens: margins of any W or p, and tests of them."""

from __future__ import annotations

import numpy as np

from attsvm._arrays import ArrayLike, BoolArray, Float64Array, IndexArray
from attsvm._validation import as_choice, as_nonnegative_float, require_all
from attsvm.data.attention_data import (
    AttentionData,
    as_data,
    as_selected,
    other_tokens,
    token_differences,
)
from attsvm.descent import train
from attsvm.heads import LinearScores
from attsvm.theory.attention_parameter import AttentionParameter, ParameterLike, as_parameter_of
from attsvm.theory.token_scores import optimal_tokens
from attsvm.threads import takes_threads


def margins(W: ParameterLike, data: AttentionData, selected: ArrayLike) -> Float64Array:
    """Compute the margins (x_iα - x_it)' W z_i of the selected tokens α, with p for W z_i if p.

    They are what the attention SVM of "Transformers as Support Vector Machines" constrains.

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

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.AttentionData([[[1.0, 0.0], [0.0, 1.0]]], [1], queries=[[1.0, 0.0]])
    >>> attsvm.theory.margins([[3.0, 0.0], [1.0, 0.0]], data, [0])
    array([[inf,  2.]])
    """
    alpha = as_selected("selected", selected, as_data(data))
    parameter = as_parameter_of("W", W, data)
    values = logit_differences(parameter, data, alpha)
    values[~parameter.exists] = np.nan
    values = values.reshape(data.valid.shape)
    values[~other_tokens(data, alpha)] = np.inf
    return values


def logit_differences(
    parameter: AttentionParameter,
    data: AttentionData,
    selected: IndexArray,
    differences: Float64Array | None = None,
) -> Float64Array:
    """Compute (x_iα - x_it)' W z_i of every token, (B, n, T); 0 at those without a constraint.

    `differences` are those of `token_differences`, (B, n, T, d), computed if not given. One beyond
    float64 is a `ValueError`.
    """
    if differences is None:
        differences = token_differences(data.batched(), selected.reshape(-1, data.n))
    constrained = other_tokens(data, selected).reshape(differences.shape[:3])
    with np.errstate(over="ignore", invalid="ignore"):
        directions = parameter.matrix.of_rows(parameter.queries(data))
        values: Float64Array = (differences @ directions[..., np.newaxis])[..., 0]
    finite = (np.isfinite(values) | ~constrained).reshape(data.valid.shape)
    expected = f"tokens and queries whose products with {parameter.variable} are finite"
    require_all("data", finite, finite, expected, "a margin beyond float64")
    values[~constrained] = 0.0
    return values


def in_separation_cone(
    W: ParameterLike, data: AttentionData, selected: ArrayLike, epsilon: float
) -> bool | BoolArray:
    """Test whether (x_iα - x_it)' W z_i >= ε |W|_F for all inputs i and tokens t ≠ α.

    The local regularisation path of "Transformers as Support Vector Machines" is taken in this
    cone.

    Parameters
    ----------
    W, data, selected
        As of `theory.margins`.
    epsilon : float
        0 or more.

    Returns
    -------
    bool, or ndarray of bool of shape (B,) for a batch
        True for W = 0, the apex; False for an infeasible solution.

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.AttentionData([[[1.0, 0.0], [0.0, 1.0]]], [1], queries=[[1.0, 0.0]])
    >>> attsvm.in_separation_cone([[5.0, 0.0], [-4.0, 0.0]], data, [0], epsilon=1.0)
    True
    """
    least = as_nonnegative_float("epsilon", epsilon)
    alpha = as_selected("selected", selected, as_data(data))
    parameter = as_parameter_of("W", W, data)
    values = logit_differences(parameter.unit(), data, alpha)
    enough = (values >= least) | ~other_tokens(data, alpha).reshape(values.shape)
    inside: BoolArray = enough.all(axis=(1, 2)) | (parameter.matrix.norm() == 0)
    return parameter.answer(inside & parameter.exists)


@takes_threads
def first_step_separates(
    data: AttentionData,
    *,
    selected: ArrayLike | None = None,
    parameter: str = "W",
    loss: str = "logistic",
    head: LinearScores | None = None,
    num_threads: int | None = None,
) -> bool | BoolArray:
    """Test whether -(x_iα - x_it)' ∇L(0) z_i > 0 for every input and every token t ≠ α.

    The first step of gradient descent from W = 0, of any size, then separates the tokens α. The
    theorem of "Transformers as Support Vector Machines" that follows from it for the optimal
    tokens, global convergence, also asks that this step is large enough: after a small one descent
    may still end at other tokens.

    Parameters
    ----------
    data : AttentionData
        With a `value`, and with queries for W.
    selected : array_like of int, shape ([B,] n), optional
        Tokens α; by default those of the highest score (`optimal_tokens`).
    parameter : {"W", "p"}
        Logits X W z or X p.
    loss, head, num_threads
        As in `train`.

    Returns
    -------
    bool, or ndarray of bool of shape (B,) for a batch

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.AttentionData(
    ...     [[[1.0, 0.0], [0.0, 1.0]]], [1], queries=[[1.0, 0.0]], value=[1.0, 0.0]
    ... )
    >>> attsvm.first_step_separates(data)
    True
    """
    as_choice("parameter", parameter, ("W", "p"))
    if selected is None:
        alpha = optimal_tokens(data)
    else:
        alpha = as_selected("selected", selected, as_data(data))
    step = train(data, parameter=parameter, rule="gd", lr=1.0, steps=1, loss=loss, head=head)
    separates = (margins(step, data, alpha) > 0).all(axis=(-2, -1))
    return bool(separates) if data.batch is None else np.asarray(separates)
