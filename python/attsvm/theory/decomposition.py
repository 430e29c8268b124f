"""A trained W as the sum of a finite part and a multiple of the SVM solution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

from attsvm._arrays import ArrayLike, Float64Array
from attsvm._display import Displayed, ends_text
from attsvm._linalg import LowRank
from attsvm._validation import as_instance, require_direction, require_shape
from attsvm.data.attention_data import AttentionData, as_data, require_queries
from attsvm.data.attention_weights import AttendedLike, AttentionWeights
from attsvm.data.batch_axis import as_float64, shape_of
from attsvm.data.next_token_data import NextTokenData
from attsvm.descent import Run
from attsvm.svm import SVMSolution, general_svm, graph_svm
from attsvm.theory.attention_parameter import as_parameter_of, require_margins_of
from attsvm.theory.automaton import logits_of_ids
from attsvm.theory.finite_part import finite_part
from attsvm.theory.separation import logit_differences
from attsvm.threads import takes_threads


@dataclass(frozen=True, eq=False, repr=False)
class Decomposition(Displayed):
    """A matrix beside W^fin + R W^mm, to which descent converges.

    Fields that an infeasible SVM does not have are None, and in a batch NaN.

    Attributes
    ----------
    finite : ndarray, shape ([B,] d, d)
        W^fin.
    direction : ndarray, shape ([B,] d, d), or None
        W^mm, not normalised; 0 where every token is selected.
    radius : float or ndarray of shape (B,), or None
        R of least squares, <W^mm, W - W^fin> / |W^mm|²; 0 where W^mm is 0.
    W : ndarray, shape ([B,] d, d), or None
        W^fin + R W^mm.
    cosine_gap : float or ndarray of shape (B,), or None
        1 - cosine of the matrix with it, without cancellation; 1 where it is 0.
    """

    finite: Float64Array
    direction: Float64Array | None
    radius: Any
    W: Float64Array | None
    cosine_gap: Any

    @property
    def cosine(self) -> Any:
        """Cosine of the matrix with W^fin + R W^mm."""
        return None if self.cosine_gap is None else 1.0 - self.cosine_gap

    def _facts(self) -> dict[str, str]:
        if self.cosine_gap is None:
            return {"SVM": "infeasible"}
        problems = {"problems": str(len(self.radius))} if np.ndim(self.radius) else {}
        return {
            **problems,
            "radius R": ends_text(self.radius, ".6g"),
            "1 - cosine": ends_text(self.cosine_gap, ".1e"),
        }

    def __repr__(self) -> str:
        if self.cosine_gap is None:
            return "Decomposition(infeasible)"
        if isinstance(self.radius, float):
            return f"Decomposition(radius={self.radius:.6g}, cosine_gap={self.cosine_gap:.1e})"
        return f"Decomposition(of {len(self.radius)})"


@takes_threads
def decompose(
    W: ArrayLike | Run,
    data: AttentionData | NextTokenData,
    solution: SVMSolution | None = None,
    *,
    attention: AttendedLike | None = None,
    finite: ArrayLike | None = None,
    threshold: float = 1e-3,
    num_threads: int | None = None,
) -> Decomposition:
    """Fit W^fin + R W^mm to a trained W, the limit of descent with several selected tokens.

    By "Transformers as Support Vector Machines"; for next-token prediction W^mm is the Graph-SVM
    and W^fin the finite part of its components ("Mechanics of Next Token Prediction").

    Parameters
    ----------
    W : array_like of shape ([B,] d, d), or Run
        Trained W, not zero; of a run W or K Q'.
    data : AttentionData or NextTokenData
        Training data, with queries.
    solution : SVMSolution, optional
        W^mm, by default `general_svm` of the attention, or `graph_svm`.
    attention : array_like of shape ([B,] n, T), or Run, optional
        Softmax weights that the selected sets and W^fin are taken from, by default those of W. Not
        for next-token data.
    finite : array_like of shape ([B,] d, d), optional
        W^fin, by default `finite_part` of the attention, or of next-token data.
    threshold : float
        Tokens with a larger weight are selected. Not for next-token data.

    Returns
    -------
    Decomposition

    Examples
    --------
    >>> import numpy as np
    >>> import attsvm
    >>> tokens = [[[1.0, 1.0], [1.0, -1.0], [0.0, 0.0]]]
    >>> data = attsvm.AttentionData(tokens, [1], queries=[[1.0, 0.0]])
    >>> parts = attsvm.decompose([[20.0, 0.0], [1.0, 0.0]], data)
    >>> np.round(parts.finite, 12)
    array([[0., 0.],
           [1., 0.]])
    >>> round(parts.radius, 12)
    20.0
    """
    if not isinstance(data, NextTokenData):
        require_queries(as_data(data), "the logits X W z")
    elif attention is not None:
        raise TypeError("attention: expected None for next-token data, whose labels say it")
    if isinstance(W, Run) and W.W is None:
        raise ValueError("W: expected a run of W or of K and Q, got one of p")
    trained: Any = W.W if isinstance(W, Run) else W
    matrix = as_float64(data, "W", trained, "d", "d")
    require_direction("W", matrix.any(axis=(-2, -1)))
    if not isinstance(data, NextTokenData) and attention is None:
        attention = W if isinstance(W, Run) else _attention(matrix, data)
    if finite is None:
        W_fin = finite_part(data, attention, threshold=threshold)
    else:
        W_fin = as_float64(data, "finite", finite, "d", "d")
    given = solution is not None
    if isinstance(data, NextTokenData):
        solution = graph_svm(data) if solution is None else solution
    elif solution is None:
        assert attention is not None
        solution = general_svm(data, attention, threshold=threshold)
    if as_instance("solution", solution, SVMSolution).feasible is False:
        return Decomposition(W_fin, None, None, None, None)
    W_mm = solution.W
    if W_mm is None:
        raise ValueError(f"solution: expected one with W, got one with {solution.variable}")
    require_shape("solution.W", W_mm, *shape_of(data, "d", "d"))
    if given:
        known = np.where(np.isfinite(W_mm), W_mm, 0.0)
        require_margins_of("data", solution, _logits("solution.W", known, data), data.valid)

    axes = (-2, -1)
    size = np.square(W_mm).sum(axis=axes)
    radius = np.sum(W_mm * (matrix - W_fin), axis=axes) / np.where(size == 0, 1.0, size)
    fitted = W_fin + radius[..., np.newaxis, np.newaxis] * W_mm
    gap = LowRank.of_dense(matrix).cosine_gap(LowRank.of_dense(fitted))
    gap = np.where(solution.feasible, gap, np.nan)
    if data.batch is None:
        return Decomposition(W_fin, W_mm, float(radius), fitted, float(gap))
    return Decomposition(W_fin, W_mm, radius, fitted, gap)


def _attention(W: Float64Array, data: AttentionData) -> AttentionWeights:
    """Compute the softmax weights of the logits X W z."""
    logs = scipy.special.log_softmax(_logits("W", W, data), axis=-1)
    return AttentionWeights(np.exp(logs), logs)


def _logits(name: str, W: Float64Array, data: AttentionData | NextTokenData) -> Float64Array:
    """Compute X W z, of inputs less those of their first tokens, -inf at padding."""
    if isinstance(data, NextTokenData):
        of_problems = zip(data.problems(), W.reshape(-1, data.d, data.d), strict=True)
        logits = np.stack([logits_of_ids(problem, each, name) for problem, each in of_problems])
        return logits.reshape(data.valid.shape)
    first = np.zeros(data.labels.shape, dtype=np.int64)
    behind = logit_differences(as_parameter_of(name, W, data), data, first)
    return np.where(data.valid, -behind.reshape(data.valid.shape), -np.inf)
