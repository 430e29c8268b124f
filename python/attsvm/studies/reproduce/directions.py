"""Directions of support vector machines that a figure knows to be feasible."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attsvm.svm import SVMSolution

__all__ = ["direction_of"]


def direction_of(solution: SVMSolution) -> NDArray[np.float64]:
    """W, p or v of a feasible solution.

    Raises
    ------
    ValueError
        It is infeasible.
    """
    direction = {"W": solution.W, "p": solution.p, "v": solution.v}[solution.variable]
    if direction is None:
        raise ValueError("solution: expected a feasible one, got status 'infeasible'")
    return direction
