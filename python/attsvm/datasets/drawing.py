"""Random problems, each drawn from a separate random stream."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from attsvm._arrays import FloatArray
from attsvm._validation import as_float_dtype, as_generator, as_positive_int, number_text


def draw_arrays(
    draw: Callable[[np.random.Generator], dict[str, npt.NDArray[Any]]],
    *,
    batch: int | None,
    rng: int | np.random.Generator | None,
    dtype: npt.DTypeLike,
    directions: Collection[str] = (),
    scales: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, npt.NDArray[Any]]:
    """Draw the arrays of one problem, or of a batch of them, each from its own child of `rng`.

    Problem b gets the b-th child, so it is the same whatever the size of the batch, and a single
    problem is problem 0 of a batch from the same seed. A generator makes new children at each call.
    `draw` draws the arrays of one problem, by their names: integers, or float64, which are rounded
    to `dtype`. Those named in `directions` are vectors (..., d), divided by their Euclidean norms.
    Numbers that `dtype` cannot hold are blamed on the arguments of the caller in `scales`.
    """
    real = as_float_dtype("dtype", dtype)
    count = 1 if batch is None else as_positive_int("batch", batch)
    with np.errstate(over="ignore"):
        problems = [draw(child) for child in as_generator("rng", rng).spawn(count)]
    arrays = {name: np.stack([problem[name] for problem in problems]) for name in problems[0]}
    for name in directions:
        arrays[name] = unit_rows(arrays[name])
    for name, array in arrays.items():
        if array.dtype.kind == "f":
            with np.errstate(over="ignore", under="ignore"):
                arrays[name] = array.astype(real, copy=False)
            if not (np.isfinite(arrays[name]) & ((arrays[name] != 0) | (array == 0))).all():
                given = ", ".join(f"{argument}={number_text(x)}" for argument, x in scales.items())
                wanted = f"numbers of {name} that {real} holds"
                raise ValueError(f"{', '.join(scales)}: expected {wanted}, got {given}")
    return {name: array[0] if batch is None else array for name, array in arrays.items()}


def unit_rows(vectors: FloatArray) -> FloatArray:
    """Divide each of the vectors (..., d) by its Euclidean norm."""
    norms: FloatArray = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / norms
