"""Local optimality of the selected tokens: of one choice, of every choice, of those of a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from attsvm import _core
from attsvm._geometries import Norm as NormLike
from attsvm._validation import (
    ArrayLike,
    BoolArray,
    IndexArray,
    as_choice,
    as_positive_float,
    as_positive_int,
    require_shape,
)
from attsvm.data.attention_data import AttentionData, as_data, as_selected
from attsvm.data.batch_axis import require_one_problem, shape_of
from attsvm.descent import Run
from attsvm.svm import SVMSolution, att_svm, diagonal_svm, prompt_svm
from attsvm.svm.norms import as_svm_norm
from attsvm.theory.token_scores import scores

Classification: TypeAlias = Literal["global", "local", "neither"]

_NUMBERS_AT_ONCE = 2**22
_SVMS: dict[str, Callable[..., SVMSolution]] = {
    "W": att_svm,
    "p": prompt_svm,
    "diagonal KQ": diagonal_svm,
}


def support_tokens(
    data: AttentionData, solution: SVMSolution, *, tolerance: float = 1e-4
) -> BoolArray:
    """Return the support indices (SVM-neighbours): tokens with an active constraint.

    That is, (x_iα - x_it)' W z_i = 1 at the solution of the SVM of the selected tokens α.
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
    status = np.asarray(solution.status)
    require_shape("solution.status", status, *shape_of(data))
    feasible: BoolArray = status == "optimal"
    if not (feasible | (status == "infeasible")).all():
        raise ValueError(f"solution.status: expected optimal or infeasible, got {status}")
    if not feasible.any():
        return np.zeros(valid.shape, dtype=np.bool_)
    margins = np.asarray(solution.margins)
    require_shape("solution.margins", margins, *shape_of(data, "n", "T"))
    support: BoolArray = (margins < active) & valid & feasible[..., np.newaxis, np.newaxis]
    return support


def is_locally_optimal(
    data: AttentionData,
    selected: ArrayLike,
    solution: SVMSolution | None = None,
    *,
    parameter: str = "W",
    norm: NormLike = "fro",
    tolerance: float = 1e-4,
) -> bool | BoolArray:
    """Test whether the direction that selects `selected` is locally optimal.

    The choice α is locally optimal when every one of its support indices (`support_tokens`) scores
    strictly less than the selected token, γ_iα > γ_it for all inputs; other tokens may score more.
    It is so vacuously when there are no support indices, and never when the SVM is infeasible. It
    depends on the norm of the SVM: steepest descent in a norm comes to choices that are locally
    optimal in that norm, and often not in others.

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
        Which SVM is solved, where `solution` is not given.
    norm : {"fro", "max", "l1", "spec", "nuc", "cut"} or float
        Its norm, as in `att_svm`.
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
    as_choice("parameter", parameter, tuple(_SVMS))
    if solution is None:
        solution = _SVMS[parameter](data, alpha[..., 0], norm=norm)
    support = support_tokens(data, solution, tolerance=tolerance)
    feasible: BoolArray = np.asarray(solution.status) == "optimal"
    if feasible.any():
        at_selected = np.take_along_axis(np.asarray(solution.margins), alpha, axis=-1)
        if not np.isposinf(at_selected[feasible]).all():
            raise ValueError("solution: expected the SVM of `selected`")
    above = np.take_along_axis(gamma, alpha, axis=-1) > gamma
    locally_optimal: BoolArray = feasible & (above | ~support).all(axis=(-2, -1))
    return bool(locally_optimal) if data.batch is None else locally_optimal


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


def every_choice(
    data: AttentionData,
    *,
    parameter: str = "W",
    norm: NormLike = "fro",
    tolerance: float = 1e-4,
    limit: int = 10_000,
) -> Choices:
    """Solve the SVM of every choice of tokens, and test which choices are locally optimal.

    Parameters
    ----------
    data : AttentionData
        A single problem, with a `value`, and with queries for W.
    parameter : {"W", "p", "diagonal KQ"}
        `att_svm`, `prompt_svm` or `diagonal_svm`.
    norm : {"fro", "max", "l1", "spec", "nuc", "cut"} or float
        As in `att_svm`.
    tolerance : float
        As in `is_locally_optimal`.
    limit : int
        Most choices to solve. There are T**n, less where sequences are shorter.

    Returns
    -------
    Choices

    Raises
    ------
    TypeError, ValueError
        An argument is not what it must be, or there are more choices than `limit`.
    SolverError
        One of the SVMs could be neither solved nor shown infeasible.

    References
    ----------
    P2: Tarzanagh, Li, Thrampoulidis, Oymak, "Transformers as Support Vector Machines", 2023, the
    definition of locally optimal directions.

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
    as_choice("parameter", parameter, tuple(_SVMS))
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
        solution = _SVMS[parameter](copies, alpha, norm=norm)
        solutions.append(solution)
        locally_optimal.append(is_locally_optimal(copies, alpha, solution, tolerance=active))
    return Choices(selected, _joined(solutions), np.concatenate(locally_optimal))


def locally_optimal_choices(
    data: AttentionData,
    *,
    parameter: str = "W",
    norm: NormLike = "fro",
    tolerance: float = 1e-4,
    limit: int = 10_000,
) -> IndexArray:
    """Return all locally optimal choices of tokens of a small problem.

    Parameters, errors and references are those of `theory.every_choice`, which also gives the SVMs.

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


def _joined(solutions: list[SVMSolution]) -> SVMSolution:
    """Join batches of solutions, one after the other."""
    names = [field.name for field in fields(SVMSolution) if field.name != "variable"]
    joined = {name: np.concatenate([getattr(s, name) for s in solutions]) for name in names}
    return SVMSolution(variable=solutions[0].variable, **joined)


def classify(
    data: AttentionData,
    run: Run,
    *,
    norm: NormLike = "fro",
    solution: SVMSolution | None = None,
) -> Classification | npt.NDArray[np.str_]:
    """Classify the tokens selected by a run: globally optimal, locally optimal, or neither.

    "global"
        Every selected token has the highest score of its sequence.
    "local"
        Not global, but locally optimal (`is_locally_optimal`).
    "neither"
        Otherwise, which includes an infeasible SVM of the selected tokens.

    Parameters
    ----------
    data : AttentionData
        What was trained on, with a `value` unless v was trained.
    run : Run
        Its `selected` tokens are classified. Their SVM is `att_svm` for W and for K and Q,
        `diagonal_svm` for k and q, and `prompt_svm` for p and for W in X W p. Where v was trained
        as well, the scores are those of its final v.
    norm : {"fro", "max", "l1", "spec", "nuc", "cut"} or float
        The norm of that SVM, as in `att_svm`; local optimality depends on it.
    solution : SVMSolution, optional
        That SVM, if it is already solved. Otherwise it is solved here, unless all problems are
        global.

    Returns
    -------
    str, or ndarray of str of shape (B,) for a batch

    Raises
    ------
    TypeError, ValueError
        The run was not of these data, `solution` is not of the selected tokens, or `data` has no
        value.

    References
    ----------
    Tarzanagh, Li, Thrampoulidis, Oymak, "Transformers as Support Vector Machines", 2023: the
    percentages of global and local convergence.

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.AttentionData([[[-1.0], [0.0], [1.0]]], [1], value=[1.0])
    >>> attsvm.classify(data, attsvm.train(data, parameter="p", steps=100))
    'global'
    """
    selected = as_selected("run.selected", run.selected, as_data(data))
    if run.v is not None:
        data = data.with_value(run.v)
    as_svm_norm("norm", norm)
    gamma = scores(data)
    chosen = np.take_along_axis(gamma, selected[..., np.newaxis], axis=-1)[..., 0]
    is_global = (chosen == gamma.max(axis=-1)).all(axis=-1)
    if solution is None and not is_global.all():
        solution = _SVMS[_kind_of_svm(run)](data, selected, norm=norm)
    is_local = False if solution is None else is_locally_optimal(data, selected, solution)
    kinds = np.where(is_global, "global", np.where(is_local, "local", "neither"))
    return kinds.item() if data.batch is None else kinds


def _kind_of_svm(run: Run) -> str:
    """Return the key of the SVM of a run; X W p with a fixed p is X u with u = W p."""
    kind = _core.parameterisations[run.attention_parameter]
    if kind.diagonal:
        return "diagonal KQ"
    return "W" if kind.queries == "data" else "p"
