"""Where a run went: to the global direction, to a local one, or to neither."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from attsvm._validation import ArrayLike, as_choice
from attsvm.data.attention_data import AttentionData, as_data, as_selected
from attsvm.svm import SVMSolution, att_svm, prompt_svm
from attsvm.theory.local_optimality import is_locally_optimal
from attsvm.theory.token_scores import scores

if TYPE_CHECKING:
    from attsvm.descent import Run

__all__ = ["Classification", "classify"]

Classification: TypeAlias = Literal["global", "local", "neither"]

_MACHINES: dict[str, Callable[[AttentionData, ArrayLike], SVMSolution]] = {
    "W": att_svm,
    "p": prompt_svm,
}


def classify(
    data: AttentionData, run: Run, *, solution: SVMSolution | None = None
) -> Classification | npt.NDArray[np.str_]:
    """Whether the tokens selected by a run are globally optimal, locally optimal, or neither.

    "global"
        Every selected token has the highest score of its sequence.
    "local"
        Not global, but locally optimal (`is_locally_optimal`).
    "neither"
        Otherwise, which includes an infeasible support vector machine of the selected tokens.

    Parameters
    ----------
    data : AttentionData
        What was trained on, with a `value`.
    run : Run
        Its `selected` tokens are classified; its `parameter` says which support vector machine is
        theirs: "W" `att_svm`, "p" `prompt_svm`.
    solution : SVMSolution, optional
        That support vector machine, if it is already solved. Otherwise it is solved here, unless
        all problems are global.

    Returns
    -------
    str, or ndarray of str of shape (B,) for a batch

    Raises
    ------
    TypeError, ValueError
        The run was not of these data or of another parameter, `solution` is not of the selected
        tokens, or `data` has no value.

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
    machine = _MACHINES[as_choice("run.parameter", run.parameter, _MACHINES)]
    selected = as_selected("run.selected", run.selected, as_data(data))
    gamma = scores(data)
    chosen = np.take_along_axis(gamma, selected[..., np.newaxis], axis=-1)[..., 0]
    is_global = (chosen == gamma.max(axis=-1)).all(axis=-1)
    if solution is None and not is_global.all():
        solution = machine(data, selected)
    is_local = False if solution is None else is_locally_optimal(data, selected, solution)
    kinds = np.where(is_global, "global", np.where(is_local, "local", "neither"))
    return kinds.item() if data.batch is None else kinds
