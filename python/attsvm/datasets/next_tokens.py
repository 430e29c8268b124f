"""Random contexts with a next token, and embeddings of a vocabulary."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from attsvm._arrays import FloatArray, IndexArray
from attsvm._validation import as_choice, as_positive_int
from attsvm.data.next_token_data import NextTokenData
from attsvm.data.token_priorities import label_preferences, token_priorities
from attsvm.datasets.drawing import draw_arrays, unit_rows

EMBEDDINGS: tuple[Literal["random", "orthonormal", "equicorrelated"], ...] = (
    "random",
    "orthonormal",
    "equicorrelated",
)
_CORRELATION = 0.5
_TRIED_AT_ONCE = 16
_MOST_TRIED = 20_000


def next_token(
    n: int,
    T: int,
    K: int,
    d: int,
    *,
    kind: Literal["any", "acyclic", "cyclic"] = "any",
    embedding: Literal["random", "orthonormal", "equicorrelated"] = "random",
    batch: int | None = None,
    rng: int | np.random.Generator | None = None,
    dtype: npt.DTypeLike = np.float64,
) -> NextTokenData:
    """Draw random next-token problems, as in "Mechanics of Next Token Prediction".

    The T ids of a context are drawn without replacement (where T > K: all K in random order, then
    T - K more draws), its label uniformly from them. Whole problems are drawn again until their
    token-priority graphs are of this `kind`, at most 20,000 times.

    Parameters
    ----------
    n, T, K, d : int
        Contexts, tokens of each, size of the vocabulary, dimension.
    kind : {"any", "acyclic", "cyclic"}
        Acyclic: no two tokens have priority over each other, whatever the last token. Cyclic: some
        have.
    embedding : {"random", "orthonormal", "equicorrelated"}
        Uniform on the unit sphere; orthonormal; or of unit norm with inner products 1/2. The last
        two take d >= K, and are turned at random.
    batch, rng, dtype
        As of `unit_sphere`; `dtype` is that of the embeddings.

    Returns
    -------
    NextTokenData
        embeddings ([B,] K, d), contexts ([B,] n, T), labels ([B,] n).

    Examples
    --------
    >>> next_token(4, 6, 8, 8, kind="acyclic", rng=0)
    NextTokenData(K=8, d=8, n=4, T=6, dtype=float64)
    """
    n, T, K, d = (
        as_positive_int(name, size) for name, size in (("n", n), ("T", T), ("K", K), ("d", d))
    )
    wanted = as_choice("kind", kind, ("any", "acyclic", "cyclic"))
    table = as_choice("embedding", embedding, EMBEDDINGS)
    if table != "random" and d < K:
        raise ValueError(f"d: expected at least K = {K} for {table} embeddings, got {d}")

    def draw(rng: np.random.Generator) -> dict[str, npt.NDArray[np.floating] | IndexArray]:
        token_rng, context_rng = rng.spawn(2)
        contexts, labels = _draw_contexts(context_rng, n, T, K, wanted)
        return {
            "embeddings": draw_embeddings(token_rng, K, d, table),
            "contexts": contexts,
            "labels": labels,
        }

    return NextTokenData(**draw_arrays(draw, batch=batch, rng=rng, dtype=dtype))


def draw_embeddings(rng: np.random.Generator, K: int, d: int, kind: str) -> FloatArray:
    """Draw embeddings (K, d) of unit norm, of one of `EMBEDDINGS`."""
    if kind == "random":
        return unit_rows(rng.standard_normal((K, d)))
    basis, triangle = np.linalg.qr(rng.standard_normal((d, K)))
    rows: FloatArray = (basis * np.sign(np.diagonal(triangle))).T
    if kind == "orthonormal":
        return np.ascontiguousarray(rows)
    gram = (1 - _CORRELATION) * np.eye(K) + _CORRELATION
    return unit_rows(np.linalg.cholesky(gram) @ rows)


def _draw_contexts(
    rng: np.random.Generator, n: int, T: int, K: int, kind: str
) -> tuple[IndexArray, IndexArray]:
    """Draw contexts (n, T) and labels (n,) of a problem of this kind."""
    tried = 0
    while tried < _MOST_TRIED:
        count = 1 if kind == "any" else _TRIED_AT_ONCE
        order = np.argsort(rng.random((count, n, K)), axis=-1)[..., : min(T, K)]
        more = rng.integers(0, K, size=(count, n, max(T - K, 0)))
        contexts = np.concatenate([order, more], axis=-1).astype(np.int64)
        where = rng.integers(0, T, size=(count, n, 1))
        labels = np.take_along_axis(contexts, where, axis=-1)[..., 0]
        right = np.ones(count, dtype=np.bool_)
        if kind != "any":
            drawn = NextTokenData(np.ones((K, 1)), contexts, labels)
            graphs = token_priorities(drawn, label_preferences(drawn))
            cyclic = np.zeros(count, dtype=np.bool_)
            cyclic[graphs.graph_of_component[graphs.sizes > 1] // K] = True
            right = cyclic if kind == "cyclic" else ~cyclic
        if right.any():
            first = int(right.argmax())
            return contexts[first], labels[first]
        tried += count
    raise ValueError(
        f"kind: expected one that random contexts are, got {kind!r}, which none of {tried} drawn "
        f"problems with n={n}, T={T}, K={K} is"
    )
