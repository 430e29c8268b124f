"""Distance of a direction to the solution set of the nuclear-norm machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attsvm._validation import ArrayLike, as_float_array, require_shape
from attsvm.data.attention_data import AttentionData, as_data, as_selected, other_tokens
from attsvm.svm.constraints import Float64Array
from attsvm.theory.margins import margins

if TYPE_CHECKING:
    from attsvm.svm import SVMSolution

__all__ = ["nuclear_suboptimality"]


def nuclear_suboptimality(
    W: ArrayLike, data: AttentionData, selected: ArrayLike, solution: SVMSolution
) -> float | Float64Array:
    """How much smaller the margin of a direction is than the largest one: 0 at every solution.

    1 - ν γ, where γ = min (x_iα - x_it)' W z_i / |W|_* is the margin of the direction and ν the
    norm of the solution, so that 1 / ν is the largest margin that a direction has. The solutions of
    the nuclear-norm machine may be many; this is 0 in the direction of each of them and of nothing
    else, below 1 where W separates the selected tokens, and does not depend on the size of W.

    For a value ε < 1, W scaled to margins of 1 meets all constraints and its norm is ν / (1 - ε),
    where a solution has ν. And with the multipliers λ of the solution, G = Σ λ_it (x_iα - x_it)
    z_i' and |G|_op = 1, it is 1 - <G, W> / |W|_* <= ε: the directions for which this is 0 are the
    face of the nuclear ball on which all solutions lie.

    Parameters
    ----------
    W : array_like, shape ([B,] d, d)
        Directions, of any size.
    data : AttentionData
        With queries.
    selected : array_like of int, shape ([B,] n)
        Tokens α.
    solution : SVMSolution
        ``att_svm(data, selected, norm="nuc")``.

    Returns
    -------
    float, or ndarray of shape (B,) for a batch
        NaN where the machine is infeasible. At a solution, rounding and the gap of `solution` may
        leave a small negative number. inf when no input has another token to be separated from: the
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
    if data.queries is None:
        raise ValueError("queries: needed for the attention SVM, got data without queries")
    lead = () if data.batch is None else (data.batch,)
    text = "(d, d)" if data.batch is None else "(B, d, d)"
    matrices = as_float_array("W", W, text, ndim=len(lead) + 2, dtype=np.float64)
    require_shape("W", matrices, text, (*lead, data.d, data.d))
    norm = np.linalg.norm(matrices, "nuc", axis=(-2, -1))
    if not np.all(norm > 0):
        raise ValueError("W: expected matrices other than zero, got zero")
    status = np.asarray(solution.status)
    require_shape("solution.status", status, "()" if data.batch is None else "(B,)", lead)
    best = np.where(status == "optimal", np.asarray(solution.norm), np.nan)

    other = other_tokens(data, alpha)
    if solution.margins is not None:
        expected = np.isfinite(solution.margins) == other
        if not expected.all(axis=(-2, -1))[np.isfinite(best)].all():
            raise ValueError("solution: expected the support vector machine of `selected`")
    smallest = margins(matrices, data, alpha).min(axis=(-2, -1))
    with np.errstate(invalid="ignore"):
        shortfall = np.where(other.any(axis=(-2, -1)), 1 - best * (smallest / norm), np.inf)
    return float(shortfall) if data.batch is None else shortfall
