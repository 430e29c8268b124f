"""Directions of SVM solutions, and paths of small parameters step by step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attsvm.descent import Run
from attsvm.svm import SVMSolution


def direction_of(solution: SVMSolution) -> NDArray[np.float64]:
    """Return W, p or v of a solution, or raise ValueError if it is infeasible."""
    direction = {"W": solution.W, "p": solution.p, "v": solution.v}[solution.variable]
    if direction is None:
        raise ValueError("solution: expected a feasible one, got status 'infeasible'")
    return direction


def axes_of(*shape: int, block: str = "axis") -> dict[str, NDArray[np.float64]]:
    """Return unit vectors or matrices: references of `attsvm.train` with which `path_of` works.

    The shape is (d,) of p or v, (d, d) of W; the block is ``"v"`` for a trained head.
    """
    size = int(np.prod(shape))
    units = np.eye(size).reshape(size, *shape)
    return {f"{block}:{k}": unit for k, unit in enumerate(units)}


def path_of(run: Run, *shape: int, block: str = "axis") -> NDArray[np.float64]:
    """Return the recorded iterates ([B,] R, *shape) of a run with the references `axes_of`."""
    norm = run.history["norm:v" if block == "v" else "norm"]
    cosines = [run.history[f"cosine:{block}:{k}"] for k in range(int(np.prod(shape)))]
    entries = norm[..., np.newaxis] * np.stack(cosines, axis=-1)
    return np.asarray(entries.reshape(*norm.shape, *shape))
