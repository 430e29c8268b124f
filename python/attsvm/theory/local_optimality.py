"""Local optimality of the selected tokens: of one choice, and of every choice."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from attsvm._arrays import ArrayLike, BoolArray, Float64Array, IndexArray
from attsvm._geometries import Norm as NormLike
from attsvm._validation import (
    as_choice,
    as_instance,
    as_positive_float,
    as_positive_int,
    require_shape,
)
from attsvm.data.attention_data import AttentionData, as_data, as_selected
from attsvm.data.batch_axis import require_one_problem, shape_of
from attsvm.svm.solution import SVMSolution, joined
from attsvm.theory.attention_parameter import require_in_norm
from attsvm.theory.svm_of_training import SVMS
from attsvm.theory.token_scores import scores
from attsvm.threads import takes_threads

_NUMBERS_AT_ONCE = 2**22


def support_tokens(
    data: AttentionData, solution: SVMSolution, *, tolerance: float = 1e-4
) -> BoolArray:
    """Return the support indices (SVM-neighbours): tokens with an active constraint.

    That is, (x_iα - x_it)' W z_i = 1 at the solution of the SVM of the selected tokens α, as in
    "Transformers as Support Vector Machines" and "Max-Margin Token Selection".
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

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.AttentionData([[[2.0], [1.0], [-1.0]]], [1])
    >>> attsvm.support_tokens(data, attsvm.prompt_svm(data, [0]))
    array([[False,  True, False]])
    """
    valid = as_data(data).valid
    active = 1 + as_positive_float("tolerance", tolerance)
    status = np.asarray(as_instance("solution", solution, SVMSolution).status)
    require_shape("solution.status", status, *shape_of(data))
    feasible: BoolArray = status == "optimal"
    if not (feasible | (status == "infeasible")).all():
        raise ValueError(f"solution.status: expected optimal or infeasible, got {status}")
    if solution.margins is None or solution.left is None:
        proof = np.asarray(solution.certificate)
        require_shape("solution.certificate", proof, *shape_of(data, "n", "T"))
        return np.zeros(valid.shape, dtype=np.bool_)
    require_shape("solution.margins", solution.margins, *shape_of(data, "n", "T"))
    if (d := solution.left.shape[-1]) != data.d:
        raise ValueError(f"solution: expected one of tokens of dimension {data.d}, got {d}")
    return np.asarray((solution.margins < active) & valid & feasible[..., None, None])


@takes_threads
def is_locally_optimal(
    data: AttentionData,
    selected: ArrayLike,
    solution: SVMSolution | None = None,
    *,
    parameter: str = "W",
    norm: NormLike = "fro",
    tolerance: float = 1e-4,
    num_threads: int | None = None,
) -> bool | BoolArray:
    """Test whether the direction that selects `selected` is locally optimal.

    The choice α is locally optimal when every one of its support indices (`support_tokens`) scores
    strictly less than the selected token, γ_iα > γ_it for all inputs; other tokens may score more.
    It is so vacuously when there are no support indices, and never when the SVM is infeasible. It
    depends on the norm of the SVM: steepest descent in a norm comes to choices that are locally
    optimal in that norm, and often not in others. The definition is that of "Transformers as
    Support Vector Machines".

    Parameters
    ----------
    data : AttentionData
        With a `value`.
    selected : array_like of int, shape ([B,] n)
        Tokens α.
    solution : SVMSolution, optional
        The SVM of these tokens, from `att_svm` or `prompt_svm` with the margin 1 required of every
        input. It is solved if not given. Where it has many solutions, the answer is that for the
        one which is given, or found.
    parameter : {"W", "p", "diagonal KQ"}
        Which SVM is solved, where `solution` is not given: `att_svm`, `prompt_svm` or
        `diagonal_svm`.
    norm : {"fro", "max", "l1", "spec", "nuc", "cut"} or float
        Its norm, as in `att_svm`; beside `solution` left out, or the norm of that.
    tolerance : float
        A constraint is active when its margin is below 1 + `tolerance`.

    Returns
    -------
    bool, or ndarray of bool of shape (B,) for a batch

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.AttentionData([[[-1.0], [0.0], [1.0]]], [1], value=[1.0])
    >>> [attsvm.is_locally_optimal(data, [t], attsvm.prompt_svm(data, [t])) for t in range(3)]
    [False, False, True]
    """
    chosen = as_selected("selected", selected, as_data(data))
    gamma = scores(data)
    as_choice("parameter", parameter, tuple(SVMS))
    if solution is None:
        solution = SVMS[parameter](data, chosen, norm=norm)
    elif norm != "fro":
        require_in_norm(solution, norm)
    inputs = locally_optimal_inputs(data, chosen, gamma, solution, tolerance=tolerance)
    locally_optimal = np.asarray(inputs.all(axis=-1))
    return bool(locally_optimal) if data.batch is None else locally_optimal


def locally_optimal_inputs(
    data: AttentionData,
    selected: IndexArray,
    gamma: Float64Array,
    solution: SVMSolution,
    *,
    tolerance: float = 1e-4,
) -> BoolArray:
    """Find the inputs ([B,] n) whose selected token scores more than all its support indices.

    None where the SVM is infeasible. `gamma` are the scores of the tokens ([B,] n, T).
    """
    alpha = selected[..., np.newaxis]
    support = support_tokens(data, solution, tolerance=tolerance)
    feasible: BoolArray = np.asarray(solution.status) == "optimal"
    if feasible.any():
        at_selected = np.take_along_axis(np.asarray(solution.margins), alpha, axis=-1)
        if not np.isposinf(at_selected[feasible]).all():
            raise ValueError("solution: expected the SVM of `selected`")
    above = np.take_along_axis(gamma, alpha, axis=-1) > gamma
    return np.asarray(feasible[..., np.newaxis] & (above | ~support).all(axis=-1))


@dataclass(frozen=True, eq=False)
class Choices:
    """All C choices of one token per input of a problem, in lexicographic order.

    Attributes
    ----------
    selected : ndarray of int64, shape (C, n)
    solution : SVMSolution
        Their SVMs, as a batch of C.
    locally_optimal : ndarray of bool, shape (C,)
        False for infeasible choices.
    """

    selected: IndexArray
    solution: SVMSolution
    locally_optimal: BoolArray


@takes_threads
def every_choice(
    data: AttentionData,
    *,
    parameter: str = "W",
    norm: NormLike = "fro",
    tolerance: float = 1e-4,
    limit: int = 10_000,
    num_threads: int | None = None,
) -> Choices:
    """Solve the SVM of every choice of tokens, and test which choices are locally optimal.

    Parameters
    ----------
    data : AttentionData
        A single problem, with a `value`, and with queries for W.
    parameter, norm, tolerance
        As of `is_locally_optimal`.
    limit : int
        Most choices to solve, else a `ValueError`. There are T**n, less where sequences are
        shorter.

    Returns
    -------
    Choices

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.AttentionData([[[-1.0], [0.0], [1.0]]], [1], value=[1.0])
    >>> choices = attsvm.theory.every_choice(data, parameter="p")
    >>> choices.solution.status
    array(['optimal', 'infeasible', 'optimal'], dtype='<U10')
    >>> choices.locally_optimal
    array([False, False,  True])
    """
    require_one_problem(as_data(data))
    as_choice("parameter", parameter, tuple(SVMS))
    active = as_positive_float("tolerance", tolerance)
    count, most = math.prod(data.lengths.tolist()), as_positive_int("limit", limit)
    if count > most:
        raise ValueError(f"limit: expected at least the number of choices {count}, got {most}")
    selected = np.stack(np.unravel_index(np.arange(count), data.lengths.tolist()), axis=1)
    selected = selected.astype(np.int64, copy=False)
    at_once = max(1, _NUMBERS_AT_ONCE // (data.n * data.T * data.d))
    solutions, locally_optimal = [], []
    for start in range(0, count, at_once):
        alpha = selected[start : start + at_once]
        copies = data.repeated(len(alpha))
        solution = SVMS[parameter](copies, alpha, norm=norm)
        solutions.append(solution)
        locally_optimal.append(is_locally_optimal(copies, alpha, solution, tolerance=active))
    return Choices(selected, joined(solutions), np.concatenate(locally_optimal))


@takes_threads
def locally_optimal_choices(
    data: AttentionData,
    *,
    parameter: str = "W",
    norm: NormLike = "fro",
    tolerance: float = 1e-4,
    limit: int = 10_000,
    num_threads: int | None = None,
) -> IndexArray:
    """Return all locally optimal choices of tokens of a small problem.

    Parameters and errors are those of `theory.every_choice`, which also gives the SVMs.

    Returns
    -------
    ndarray of int64, shape (C, n)
        In lexicographic order.

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.AttentionData([[[-1.0], [0.0], [1.0]]], [1], value=[1.0])
    >>> attsvm.locally_optimal_choices(data, parameter="p")
    array([[2]])
    """
    choices = every_choice(data, parameter=parameter, norm=norm, tolerance=tolerance, limit=limit)
    return choices.selected[choices.locally_optimal]
