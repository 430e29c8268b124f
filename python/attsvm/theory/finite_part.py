"""The finite part W^fin, which has the ratios of the softmax weights inside the selected sets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.linalg import lstsq

from attsvm._validation import as_positive_float
from attsvm.data.attention_data import AttentionData, as_data, require_queries
from attsvm.data.attention_weights import AttendedLike, as_attention_weights
from attsvm.data.next_token_data import NextTokenData
from attsvm.svm import SolverError
from attsvm.svm.constraints import Constraints, general_constraints
from attsvm.svm.coordinates import row_coordinates
from attsvm.svm.selected_sets import representatives, sets_of
from attsvm.theory.composition import next_token_finite_part

__all__ = ["finite_part"]


def finite_part(
    data: AttentionData | NextTokenData,
    attention: AttendedLike | None = None,
    *,
    threshold: float = 1e-3,
    tolerance: float = 1e-6,
) -> npt.NDArray[np.float64]:
    """Compute W^fin, by which attention composes several tokens while W grows along the SVM.

    Of next-token data it is the minimiser of the next-token loss of the cyclic sub-dataset on the
    cyclic subspace (`attsvm.theory.cyclic_subset`, `attsvm.theory.cyclic_subspace`), found by
    Newton's method, and orthogonal to the solution of `graph_svm`.

    Of other data it is the smallest W with the ratios of the softmax weights s inside the selected
    sets: min |W|_F subject to (x_it - x_iτ)' W z_i = ln(s_it / s_iτ) for t, τ in O_i = {t : s_it >
    threshold}. It is orthogonal to the solution of `general_svm` for the same sets.

    Parameters
    ----------
    data : AttentionData or NextTokenData
        With queries. Contexts without their label have no part in it.
    attention : array_like of shape ([B,] n, T), or Run
        Softmax weights s; of a run their logarithms are used. Not for next-token data.
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
    TypeError
        `data` is neither, `attention` is not numbers, or missing, or given for next-token data.
    ValueError
        `data` has no queries, `attention` does not hold softmax weights of its tokens, an input has
        no weight above `threshold`, or no W has these ratios. Weights that come from some W always
        have one; the message gives the residual.
    SolverError
        Tokens and queries are too large or too small for float64, or Newton's method did not end.

    References
    ----------
    P2: Tarzanagh, Li, Thrampoulidis, Oymak, "Transformers as Support Vector Machines", 2023, the
    finite component beside the SVM of several selected tokens.
    P4: Li, Huang, Ildiz, Rawat, Oymak, "Mechanics of Next Token Prediction with Self-Attention",
    2024, the finite component of the global convergence theorem.

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
    if attention is None:
        raise TypeError("attention: needed for data that is not next-token data, got None")
    weights = as_attention_weights("attention", attention, as_data(data))
    sets = sets_of(weights, threshold)
    largest = as_positive_float("tolerance", tolerance)
    require_queries(data, "the finite part")
    chosen = representatives(data, weights)
    parts = np.zeros((data.batch or 1, data.d, data.d))
    several = sets.sum(axis=-1).reshape(len(parts), -1).max(axis=-1) > 1
    for b in np.flatnonzero(several):
        problem, at = (data, ()) if data.batch is None else (data.problem(int(b)), b)
        every = general_constraints(problem, chosen[at], sets[at])
        logs = weights.log_attention[at]
        lead = logs[np.arange(data.n), chosen[at]][:, np.newaxis] - logs
        inside = every.restricted(every.equality)
        parts[b], residual = _smallest(replace(inside, rhs=lead[inside.position]))
        if residual > largest:
            of_problem = "" if data.batch is None else f", for problem {b}"
            raise ValueError(
                f"attention: expected ratios of weights that some W has, got equations with the "
                f"residual {residual:.3g}, above {largest:g}{of_problem}"
            )
    return parts[0] if data.batch is None else parts


def _smallest(equations: Constraints) -> tuple[npt.NDArray[np.float64], float]:
    """Compute the smallest W of least squares of A(W) = b, and the largest residual.

    Equations of a trained W may be linearly dependent, up to the rounding of b.
    """
    zero = equations.zero_rows()
    contradiction = float(np.abs(equations.rhs[zero]).max(initial=0.0))
    solvable = equations.restricted(~zero)
    if not solvable.rhs.any():
        d, e = equations.differences.shape[1], equations.queries.shape[1]
        return np.zeros((d, e)), contradiction
    scaled = solvable.normalised()
    if not scaled.within_float64():
        raise SolverError("finite_part: equations of sizes beyond what float64 holds")
    coordinates = row_coordinates(scaled.unit)
    w = lstsq(coordinates.rows, scaled.unit.rhs)[0]
    factors = coordinates.factors(w)
    if factors is None:
        multipliers = lstsq(coordinates.rows.T, w)[0]
        factors = scaled.unit.token_sums(multipliers), scaled.unit.queries
    left, right = scaled.scale * factors[0], factors[1]
    missed = np.abs(solvable.values(left, right) - solvable.rhs).max()
    return left.T @ right, max(contradiction, float(missed))
