"""Paths of small parameters, step by step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attsvm.descent import Run

__all__ = ["axes_of", "path_of"]


def axes_of(*shape: int, block: str = "axis") -> dict[str, NDArray[np.float64]]:
    """Unit vectors or matrices, as references of `attsvm.train` with which `path_of` finds a path.

    Parameters
    ----------
    shape : int
        (d,) of p or v, (d, d) of W.
    block : str
        ``"v"`` for a trained head.
    """
    size = int(np.prod(shape))
    units = np.eye(size).reshape(size, *shape)
    return {f"{block}:{k}": unit for k, unit in enumerate(units)}


def path_of(run: Run, *shape: int, block: str = "axis") -> NDArray[np.float64]:
    """Recorded iterates ([B,] R, *shape) of a run with the references `axes_of`."""
    norm = run.history["norm:v" if block == "v" else "norm"]
    cosines = [run.history[f"cosine:{block}:{k}"] for k in range(int(np.prod(shape)))]
    entries = norm[..., np.newaxis] * np.stack(cosines, axis=-1)
    path: NDArray[np.float64] = entries.reshape(*norm.shape, *shape)
    return path
