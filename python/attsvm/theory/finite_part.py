"""The finite part W^fin, which has the ratios of the softmax weights inside the selected sets."""

from __future__ import annotations

import numpy as np
import scipy

from attsvm._arrays import Float64Array
from attsvm._linalg import euclidean_norm, in_own_span
from attsvm._validation import as_instance, as_positive_float, number_text
from attsvm.data.attention_data import (
    AttentionData,
    other_tokens,
    require_queries,
    token_differences,
)
from attsvm.data.attention_weights import AttendedLike, as_attention_weights
from attsvm.data.next_token_data import NextTokenData
from attsvm.svm import SolverError
from attsvm.svm.selected_sets import representatives, sets_of
from attsvm.theory.composition import next_token_finite_part
from attsvm.threads import takes_threads

_MOST_NUMBERS = 2**25
_SMALLEST = 1e-290


@takes_threads
def finite_part(
    data: AttentionData | NextTokenData,
    attention: AttendedLike | None = None,
    *,
    threshold: float = 1e-3,
    tolerance: float = 1e-6,
    num_threads: int | None = None,
) -> Float64Array:
    """Compute W^fin, by which attention composes several tokens while W grows along the SVM.

    Of next-token data it is the minimiser of the next-token loss of the cyclic sub-dataset on the
    cyclic subspace (`attsvm.theory.cyclic_subset`, `attsvm.theory.cyclic_subspace`), found by
    Newton's method, and orthogonal to the solution of `graph_svm` ("Mechanics of Next Token
    Prediction with Self-Attention", global convergence).

    Of other data it is the smallest W with the ratios of the softmax weights s inside the selected
    sets: min |W|_F subject to (x_it - x_iτ)' W z_i = ln(s_it / s_iτ) for t, τ in O_i = {t : s_it >
    threshold}. It is orthogonal to the solution of `general_svm` for the same sets ("Transformers
    as Support Vector Machines", several selected tokens).

    Parameters
    ----------
    data : AttentionData or NextTokenData
        With queries. Contexts without their label have no part in it.
    attention : array_like of shape ([B,] n, T), or Run
        Softmax weights s; of a run their logarithms are used. Not for next-token data. It is a
        `ValueError` if no W has their ratios; the message gives the residual. Weights that come
        from some W always have one.
    threshold : float
        At least 0 and below 1. Not for next-token data.
    tolerance : float
        Largest residual of an equation, in units of the logits. Not for next-token data.

    Returns
    -------
    ndarray of float64, shape ([B,] d, d)
        Zero where every set, or component, is a single token.

    Raises
    ------
    SolverError
        Tokens and queries are too large or too small for float64, or Newton's method did not end.

    Examples
    --------
    >>> import numpy as np
    >>> import attsvm
    >>> tokens = [[[1.0, 1.0], [1.0, -1.0], [0.0, 0.0]]]
    >>> data = attsvm.AttentionData(tokens, [1], queries=[[1.0, 0.0]])
    >>> attsvm.finite_part(data, [[0.75, 0.25, 0.0]]) / np.log(3.0)
    array([[0. , 0. ],
           [0.5, 0. ]])

    Given last token 0, token 1 follows three times as often as token 2:

    >>> contexts = 4 * [[1, 2, 0]]
    >>> W = attsvm.finite_part(attsvm.NextTokenData(np.eye(3), contexts, [1, 1, 1, 2]))
    >>> np.round(np.exp(W[1, 0] - W[2, 0]), 12).item()
    3.0
    """
    if isinstance(data, NextTokenData):
        if attention is not None:
            raise TypeError("attention: expected None for next-token data, whose labels say it")
        solutions = np.stack([next_token_finite_part(problem) for problem in data.problems()])
        return solutions[0] if data.batch is None else solutions
    as_instance("data", data, AttentionData, NextTokenData)
    if attention is None:
        raise TypeError("attention: needed for data that is not next-token data, got None")
    weights = as_attention_weights("attention", attention, data)
    sets = sets_of(weights, threshold)
    largest = as_positive_float("tolerance", tolerance)
    queries = require_queries(data, "the finite part").reshape(-1, data.n, data.d)
    chosen = representatives(data, weights)
    others = (sets & other_tokens(data, chosen)).reshape(-1, data.n, data.T)
    differences = token_differences(data, chosen).reshape(*others.shape, data.d)
    logs = weights.log_attention.reshape(others.shape)
    parts = np.zeros((len(others), data.d, data.d))
    for b in np.flatnonzero(others.any(axis=(1, 2))):
        sample, token = np.nonzero(others[b])
        ratios = logs[b].max(axis=1)[sample] - logs[b, sample, token]
        z = queries[b, sample].astype(np.float64)
        parts[b], residual = _smallest(differences[b, sample, token], z, ratios)
        if residual > largest:
            of_problem = "" if data.batch is None else f", for problem {b}"
            raise ValueError(
                f"attention: expected ratios of weights that some W has, got equations with the "
                f"residual {residual:.3g}, above {number_text(largest)}{of_problem}"
            )
    return parts[0] if data.batch is None else parts


def _smallest(
    differences: Float64Array, queries: Float64Array, rhs: Float64Array
) -> tuple[Float64Array, float]:
    """Compute the smallest W of least squares of D_r' W z_r = b_r, and the largest residual.

    Equations of a trained W may be linearly dependent, up to the rounding of b. W has coordinates
    in the spans of the D_r (m, d) and of the z_r (m, e); where these are too many it is
    Σ λ_r D_r z_r'.
    """
    sizes = euclidean_norm(differences, -1), euclidean_norm(queries, -1)
    solvable = (sizes[0] > 0) & (sizes[1] > 0)
    contradiction = float(np.abs(rhs[~solvable]).max(initial=0.0))
    D, z, b = differences[solvable], queries[solvable], rhs[solvable]
    if not b.any():
        return np.zeros((differences.shape[1], queries.shape[1])), contradiction
    lengths = [size[solvable, np.newaxis] for size in sizes]
    with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
        row_norm = (lengths[0] * lengths[1])[:, 0]
        scaled = b / row_norm
        scale = np.abs(scaled).max()
        within = np.array([*row_norm, scale, *scale / row_norm])
        if not np.all((within > _SMALLEST) & (within < 1 / _SMALLEST)):
            raise SolverError("finite_part: equations of sizes beyond what float64 holds")
        left, left_basis = _in_span(D / lengths[0])
        right, right_basis = _in_span(z / lengths[1])
    m, k, e = len(b), left.shape[1], right.shape[1]
    if k * e <= max(m, _MOST_NUMBERS // m):
        rows = (left[:, :, np.newaxis] * right[:, np.newaxis, :]).reshape(m, k * e)
        W = scipy.linalg.lstsq(rows, scaled / scale)[0].reshape(k, e)
    else:
        multipliers = scipy.linalg.lstsq((left @ left.T) * (right @ right.T), scaled / scale)[0]
        W = (multipliers[:, np.newaxis] * left).T @ right
    W = left_basis.T @ (scale * W) @ right_basis
    missed = float(np.abs(np.einsum("rd,rd->r", D, z @ W.T) - b).max())
    return W, max(contradiction, missed)


def _in_span(vectors: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return (coordinates, basis) of vectors in their span, which has orthonormal rows."""
    coordinates, basis = in_own_span(vectors[np.newaxis])
    return coordinates[0], np.eye(vectors.shape[1]) if basis is None else basis[0]
