"""Every choice of tokens of a small problem, each with its SVM."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

from attsvm._validation import (
    BoolArray,
    IndexArray,
    as_choice,
    as_positive_float,
    as_positive_int,
)
from attsvm.data.attention_data import AttentionData, as_data
from attsvm.svm import SVMSolution, att_svm, prompt_svm
from attsvm.theory.local_optimality import is_locally_optimal

__all__ = ["Choices", "every_choice", "locally_optimal_choices"]

_NUMBERS_AT_ONCE = 2**22


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
    norm: str = "fro",
    tolerance: float = 1e-4,
    limit: int = 10_000,
) -> Choices:
    """Solve the SVM of every choice of tokens, and say which choices are locally optimal.

    Parameters
    ----------
    data : AttentionData
        A single problem, with a `value`, and with queries for W.
    parameter : {"W", "p"}
        `att_svm` or `prompt_svm`.
    norm : {"fro"}
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
    if as_data(data).batch is not None:
        raise ValueError(
            "data: expected a single problem, got a batch, whose problems are data.problems()"
        )
    machine = as_choice("parameter", parameter, ("W", "p"))
    as_choice("norm", norm, ("fro",))
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
        copies = data.batched().repeated(len(alpha))
        solution = (
            att_svm(copies, alpha, norm=norm) if machine == "W" else prompt_svm(copies, alpha)
        )
        solutions.append(solution)
        locally_optimal.append(is_locally_optimal(copies, alpha, solution, tolerance=active))
    return Choices(selected, _joined(solutions), np.concatenate(locally_optimal))


def locally_optimal_choices(
    data: AttentionData,
    *,
    parameter: str = "W",
    norm: str = "fro",
    tolerance: float = 1e-4,
    limit: int = 10_000,
) -> IndexArray:
    """All locally optimal choices of tokens of a small problem.

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
    """Batches one after the other."""
    names = [field.name for field in fields(SVMSolution) if field.name != "variable"]
    joined = {name: np.concatenate([getattr(s, name) for s in solutions]) for name in names}
    return SVMSolution(variable=solutions[0].variable, **joined)
