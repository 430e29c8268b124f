"""Random tokens on the unit sphere."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from attsvm._arrays import FloatArray
from attsvm._validation import as_choice, as_positive_int
from attsvm.data.attention_data import AttentionData
from attsvm.datasets.drawing import draw_arrays


def unit_sphere(
    n: int,
    T: int,
    d: int,
    *,
    batch: int | None = None,
    attention: Literal["cross", "self"] = "cross",
    rng: int | np.random.Generator | None = None,
    dtype: npt.DTypeLike = np.float64,
) -> AttentionData:
    """Draw tokens, queries and value uniformly from the unit sphere, and labels by fair coins.

    The random data of the experiments of "Transformers as Support Vector Machines".

    Parameters
    ----------
    n, T, d : int
        Sequences, tokens of each, dimension.
    batch : int, optional
        Number B of independent problems; by default one problem without a batch axis.
    attention : {"cross", "self"}
        The queries z_i: drawn like the tokens, or the first token x_i1 of each sequence.
    rng : int or numpy.random.Generator, optional
        Seed or generator. Each problem is drawn from a child of its own (``rng.spawn``), so problem
        b is the same whatever the size of the batch, and the problem without a batch axis is
        problem 0. A generator gives new problems at each call.
    dtype : numpy.float64 or numpy.float32
        The draws are made in float64 and rounded to it.

    Returns
    -------
    AttentionData
        tokens ([B,] n, T, d), labels ([B,] n), queries ([B,] n, d), value ([B,] d).
    """
    n, T, d = as_positive_int("n", n), as_positive_int("T", T), as_positive_int("d", d)
    kind = as_choice("attention", attention, ("cross", "self"))

    signs = np.array([-1.0, 1.0])

    def draw(rng: np.random.Generator) -> dict[str, FloatArray]:
        value = rng.standard_normal(d)
        labels = signs[rng.integers(0, 2, size=n)]
        tokens = rng.standard_normal((n, T, d))
        queries = rng.standard_normal((n, d)) if kind == "cross" else tokens[:, 0]
        return {"tokens": tokens, "labels": labels, "queries": queries, "value": value}

    directions = ("tokens", "queries", "value")
    return AttentionData(
        **draw_arrays(draw, batch=batch, rng=rng, dtype=dtype, directions=directions)
    )
