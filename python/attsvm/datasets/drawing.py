"""How random problems are drawn: each from a random stream of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from attsvm._validation import FloatArray, as_float_dtype, as_generator, as_positive_int
from attsvm.data.attention_data import AttentionData

__all__ = ["draw_arrays", "draw_problems", "unit_rows"]


def draw_problems(
    draw: Callable[[np.random.Generator], dict[str, FloatArray]],
    *,
    batch: int | None,
    rng: int | np.random.Generator | None,
    dtype: npt.DTypeLike,
) -> AttentionData:
    """One problem, or a batch of them, each drawn from its own child of `rng`.

    Problem b gets the b-th child, so it is the same whatever the size of the batch, and a single
    problem is problem 0 of a batch from the same seed. A generator makes new children at each call.

    Parameters
    ----------
    draw : callable
        Gives the arrays of one problem in float64, by the names of `AttentionData`.
    batch : int or None
        Number of problems; None for one without a batch axis.
    rng : None, int or numpy.random.Generator
    dtype : numpy.float64 or numpy.float32
        What the float64 draws are rounded to.
    """
    return AttentionData(**draw_arrays(draw, batch=batch, rng=rng, dtype=dtype))


def draw_arrays(
    draw: Callable[[np.random.Generator], dict[str, npt.NDArray[Any]]],
    *,
    batch: int | None,
    rng: int | np.random.Generator | None,
    dtype: npt.DTypeLike,
) -> dict[str, npt.NDArray[Any]]:
    """The arrays of one problem or of a batch, as `draw_problems` draws them; ids stay integers."""
    real = as_float_dtype("dtype", dtype)
    count = 1 if batch is None else as_positive_int("batch", batch)
    problems = [draw(child) for child in as_generator("rng", rng).spawn(count)]
    arrays = {name: np.stack([problem[name] for problem in problems]) for name in problems[0]}
    return {
        name: (array[0] if batch is None else array).astype(
            real if array.dtype.kind == "f" else array.dtype, copy=False
        )
        for name, array in arrays.items()
    }


def unit_rows(vectors: FloatArray) -> FloatArray:
    """`vectors`, shape (..., d), each divided by its Euclidean norm."""
    norms: FloatArray = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / norms
