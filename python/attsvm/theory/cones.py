"""Cones of W: around the direction of an SVM, and of those that separate the selected tokens."""

from __future__ import annotations

from attsvm._validation import ArrayLike, BoolArray, as_float
from attsvm.data.attention_data import AttentionData, as_data, as_selected, other_tokens
from attsvm.svm import SVMSolution
from attsvm.theory.margins import margins_of
from attsvm.theory.matrices import MatrixLike, matrices_beside, matrices_of, matrices_on

__all__ = ["in_cone", "in_separation_cone"]


def in_cone(W: MatrixLike, solution: SVMSolution, mu: float, radius: float) -> bool | BoolArray:
    """Whether W lies in the cone of local convergence, |W| >= R and cosine(W, W^mm) >= 1 - μ.

    Gradient descent that starts there, with μ small and R large enough, converges to the direction
    W^mm of a locally optimal choice of tokens.

    Parameters
    ----------
    W : array_like of shape ([B,] d, d) for W or ([B,] d) for p, Run or SVMSolution
    solution : SVMSolution
        W^mm or p^mm.
    mu : float
        From 0 to 2.
    radius : float
        R, 0 or more, in the Frobenius norm.

    Returns
    -------
    bool, or ndarray of bool of shape (B,) for a batch
        False for W = 0, and where the SVM is infeasible or its solution 0.

    Raises
    ------
    TypeError, ValueError
        An argument is not what it must be; the message names it.

    References
    ----------
    P1: Tarzanagh, Li, Zhang, Oymak, "Max-Margin Token Selection in Attention Mechanism", 2023, and
    P2: Tarzanagh, Li, Thrampoulidis, Oymak, "Transformers as Support Vector Machines", 2023: the
    cones of the theorems of local convergence.

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.AttentionData([[[1.0, 0.0], [0.0, 1.0]]], [1], queries=[[1.0, 0.0]])
    >>> solution = attsvm.att_svm(data, [0])
    >>> attsvm.in_cone([[5.0, 0.0], [-4.0, 0.0]], solution, mu=0.01, radius=1.0)
    True
    """
    reach = as_float("mu", mu)
    if not 0 <= reach <= 2:
        raise ValueError(f"mu: expected a number from 0 to 2, got {mu!r}")
    least = _as_nonnegative("radius", radius)
    if solution.feasible is False:
        return False
    mm = matrices_of("solution", solution)
    given = matrices_beside("W", W, mm)
    norms = given.norms()
    inside: BoolArray = (norms >= least) & (norms > 0) & (mm.norms() > 0)
    inside &= given.cosine_gaps(mm) <= reach
    return inside if given.batched else bool(inside[0])


def in_separation_cone(
    W: MatrixLike, data: AttentionData, selected: ArrayLike, epsilon: float
) -> bool | BoolArray:
    """Whether W separates the selected tokens: (x_iα - x_it)' W z_i >= ε |W|_F for all i, t ≠ α.

    The cone in which the local regularisation path is taken.

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
    least = _as_nonnegative("epsilon", epsilon)
    alpha = as_selected("selected", selected, as_data(data))
    given = matrices_on("W", W, data)
    of_unit = margins_of(given.unit(), data, alpha)
    enough = (of_unit >= least) | ~other_tokens(data, alpha).reshape(of_unit.shape)
    apex = given.norms() == 0
    inside: BoolArray = (enough.all(axis=(1, 2)) | apex) & given.exists
    return inside if given.batched else bool(inside[0])


def _as_nonnegative(name: str, value: float) -> float:
    number = as_float(name, value)
    if number < 0:
        raise ValueError(f"{name}: expected a number of 0 or more, got {value!r}")
    return number
