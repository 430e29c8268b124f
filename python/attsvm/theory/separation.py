"""Separation of the selected tokens: margins of any W or p, and tests of them."""

from __future__ import annotations

import numpy as np

from attsvm._validation import (
    ArrayLike,
    BoolArray,
    Float64Array,
    IndexArray,
    as_choice,
    as_nonnegative_float,
    require_all,
    require_direction,
    require_shape,
)
from attsvm.data.attention_data import (
    AttentionData,
    as_data,
    as_selected,
    other_tokens,
    token_differences,
)
from attsvm.data.batch_axis import shape_of
from attsvm.descent import train
from attsvm.heads import LinearScores
from attsvm.svm import SVMSolution
from attsvm.theory.attention_parameter import (
    AttentionParameter,
    ParameterLike,
    as_parameter_of,
)
from attsvm.theory.token_scores import optimal_tokens


def margins(W: ParameterLike, data: AttentionData, selected: ArrayLike) -> Float64Array:
    """Compute the margins (x_iα - x_it)' W z_i of the selected tokens α, with p for W z_i if p.

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

    The local regularisation path is taken in this cone.

    Parameters
    ----------
    W : array_like of shape ([B,] d, d) for W or ([B,] d) for p, Run or SVMSolution
    data : AttentionData
        With queries where W is a matrix.
    selected : array_like of int, shape ([B,] n)
        Tokens α.
    epsilon : float
        0 or more.

    Returns
    -------
    bool, or ndarray of bool of shape (B,) for a batch
        True for W = 0, the apex; False for an infeasible solution.

    Raises
    ------
    TypeError, ValueError
        An argument is not what it must be; the message names it.

    References
    ----------
    P2: Tarzanagh, Li, Thrampoulidis, Oymak, "Transformers as Support Vector Machines", 2023, the
    theorem of the local regularisation path.

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
    answer: bool | BoolArray = parameter.answer(inside & parameter.exists)
    return answer


def first_step_separates(
    data: AttentionData,
    *,
    selected: ArrayLike | None = None,
    parameter: str = "W",
    loss: str = "logistic",
    head: LinearScores | None = None,
) -> bool | BoolArray:
    """Test whether -(x_iα - x_it)' ∇L(0) z_i > 0 for every input and every token t ≠ α.

    The first step of gradient descent from W = 0, of any size, then separates the tokens α. The
    theorem that follows from it for the optimal tokens, global convergence, also asks that this
    step is large enough: after a small one descent may still end at other tokens.

    Parameters
    ----------
    data : AttentionData
        With a `value`, and with queries for W.
    selected : array_like of int, shape ([B,] n), optional
        Tokens α; by default those of the highest score (`optimal_tokens`).
    parameter : {"W", "p"}
        Logits X W z or X p.
    loss, head
        As in `train`.

    Returns
    -------
    bool, or ndarray of bool of shape (B,) for a batch

    Raises
    ------
    TypeError, ValueError
        An argument is not what it must be; the message names it.

    References
    ----------
    P2: Tarzanagh, Li, Thrampoulidis, Oymak, "Transformers as Support Vector Machines", 2023, the
    global convergence after a first step that separates.

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


def nuclear_suboptimality(
    W: ParameterLike, data: AttentionData, selected: ArrayLike, solution: SVMSolution
) -> float | Float64Array:
    """Compute by how much the margin of W falls short of the largest one in the nuclear norm.

    It is 1 - ν γ, where γ = min (x_iα - x_it)' W z_i / |W|_* is the margin of the direction of W
    and ν the norm of the solution, so that 1 / ν is the largest margin that a direction has. The
    solutions of the nuclear-norm SVM may be many; this is 0 in the direction of each of them and of
    nothing else, below 1 where W separates the selected tokens, and does not depend on the size of
    W.

    For a value ε < 1, W scaled to margins of 1 meets all constraints and its norm is ν / (1 - ε),
    where a solution has ν. And with the multipliers λ of the solution, G = Σ λ_it (x_iα - x_it)
    z_i' and |G|_op = 1, it is 1 - <G, W> / |W|_* <= ε: the directions for which this is 0 are the
    face of the nuclear ball on which all solutions lie.

    Parameters
    ----------
    W : array_like of shape ([B,] d, d), Run or SVMSolution
        Of any size but zero.
    data : AttentionData
        With queries.
    selected : array_like of int, shape ([B,] n)
        Tokens α.
    solution : SVMSolution
        ``att_svm(data, selected, norm="nuc")``.

    Returns
    -------
    float, or ndarray of shape (B,) for a batch
        NaN where the SVM is infeasible. At a solution, rounding and the gap of `solution` may leave
        a small negative number. inf when no input has another token to be separated from: the
        solution is then W = 0, which has no direction.

    Raises
    ------
    TypeError
        `data` is not an `AttentionData`, `W` does not hold real numbers or `selected` integers.
    ValueError
        Shapes that do not fit, NaN or inf, a W that is zero, data without queries, or a `solution`
        that is not of these data and tokens.

    References
    ----------
    P2: Tarzanagh, Li, Thrampoulidis, Oymak, "Transformers as Support Vector Machines", 2023: the
    distance to the solution set of Att-SVM with the nuclear norm.

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.AttentionData([[[1.0, 0.0], [0.0, 1.0]]], [1], queries=[[1.0, 0.0]])
    >>> solution = attsvm.att_svm(data, [0], norm="nuc")
    >>> W = [[1.0, 0.0], [0.0, 0.0]]
    >>> round(attsvm.nuclear_suboptimality(W, data, [0], solution), 6)
    0.292893
    """
    alpha = as_selected("selected", selected, as_data(data))
    parameter = as_parameter_of("W", W, data)
    if parameter.variable != "W":
        raise ValueError("W: expected W, got p")
    unit = parameter.unit()
    norm = np.linalg.svd(unit.matrix.compact(), compute_uv=False).sum(axis=1)
    require_direction("W", ((norm > 0) | ~parameter.exists).reshape(data.labels.shape[:-1]))
    status = np.asarray(solution.status)
    require_shape("solution.status", status, *shape_of(data))
    other = other_tokens(data, alpha)
    if solution.margins is not None:
        expected = (np.isfinite(solution.margins) == other).all(axis=(-2, -1))
        if not expected[status == "optimal"].all():
            raise ValueError("solution: expected the SVM of `selected`")
    best = np.where(status == "optimal", solution.norm, np.nan).reshape(norm.shape)
    constrained = other.reshape(len(norm), -1)
    values = logit_differences(unit, data, alpha).reshape(constrained.shape)
    smallest = np.where(constrained, values, np.inf).min(axis=1)
    with np.errstate(invalid="ignore"):
        shortfall = np.where(constrained.any(axis=1), 1 - best * (smallest / norm), np.inf)
    answer: float | Float64Array = parameter.answer(shortfall)
    return answer
