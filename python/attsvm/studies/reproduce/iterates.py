"""Directions of SVM solutions."""

from __future__ import annotations

from attsvm._arrays import Float64Array
from attsvm.svm import SVMSolution


def direction_of(solution: SVMSolution) -> Float64Array:
    """Return W, p or v of a solution, or raise ValueError if it is infeasible."""
    direction = {"W": solution.W, "p": solution.p, "v": solution.v}[solution.variable]
    if direction is None:
        raise ValueError("solution: expected a feasible one, got status 'infeasible'")
    return direction
