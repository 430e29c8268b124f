"""A lower bound of the cosine with the SVM, certified without solving it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from attsvm._arrays import ArrayLike, BoolArray, Float64Array
from attsvm._linalg import LowRank
from attsvm._validation import require_nonnegative, require_shape
from attsvm.data.attention_data import (
    AttentionData,
    as_data,
    as_selected,
    other_tokens,
    token_differences,
)
from attsvm.data.batch_axis import as_float64, shape_of
from attsvm.svm import SVMSolution
from attsvm.theory.attention_parameter import ParameterLike, as_parameter_of
from attsvm.theory.separation import logit_differences
from attsvm.threads import takes_threads


@takes_threads
def certified_cosine(
    W: ParameterLike,
    data: AttentionData,
    selected: ArrayLike,
    dual: ArrayLike | SVMSolution,
    *,
    num_threads: int | None = None,
) -> float | Float64Array:
    """Compute a lower bound of cosine(W, W^mm) from the margins of W and any multipliers λ >= 0.

    Let W_λ = Σ λ_it (x_iα - x_it) z_i', θ its angle with W, and D = Σ λ_it / |W_λ|_F. The solution
    has <W_λ, W^mm> >= Σ λ_it, so |W^mm|_F >= D. With m > 0 the smallest margin of W, W / m is
    feasible, and as W^mm is the feasible matrix nearest zero, |W^mm|_F <= |W|_F / m cos α with α
    the angle of W and W^mm. Together, cos α cos(α - θ) >= r = m D / |W|_F, which gives

        α <= (θ + arccos(2 r - cos θ)) / 2.

    Where W_λ itself separates the selected tokens, the same holds for it in place of W, and adding
    θ bounds α once more; the smaller bound counts. Without solving the SVM, this says how near W is
    to its direction. With the multipliers of the SVM itself, the bound is the cosine.

    Parameters
    ----------
    W, data, selected
        As of `theory.margins`.
    dual : array_like of shape ([B,] n, T), or SVMSolution
        λ, of any scale. What it has at the selected tokens and at padding is not used.

    Returns
    -------
    float, or ndarray of float64 of shape (B,) for a batch
        -1, the bound that always holds, where there is no certificate: neither W nor W_λ separates,
        λ = 0, an infeasible SVM, or no constraints at all. Otherwise correct to the rounding of the
        margins, for which see `certified_cosine_gap`.

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.AttentionData([[[1.0, 0.0], [0.0, 1.0]]], [1], queries=[[1.0, 0.0]])
    >>> attsvm.certified_cosine([[1.0, 0.0], [-1.0, 1.0]], data, [0], [[0.0, 1.0]])
    0.816496580927726
    """
    gap = certified_cosine_gap(W, data, selected, dual)
    return 1.0 - gap


@takes_threads
def certified_cosine_gap(
    W: ParameterLike,
    data: AttentionData,
    selected: ArrayLike,
    dual: ArrayLike | SVMSolution,
    *,
    num_threads: int | None = None,
) -> float | Float64Array:
    """Compute an upper bound of 1 - cosine(W, W^mm), `certified_cosine` without the cancellation.

    All is computed from terms that are not negative: 1 - cos θ, and with the margins m_it of W

        1 - (2 r - cos θ) = 1 - cos θ + 2 Σ λ_it (m_it - m) / (|W|_F |W_λ|_F),

    whose sum is small where the constraints that λ marks are those of smallest margin.

    Parameters are those of `certified_cosine`.

    Returns
    -------
    float, or ndarray of float64 of shape (B,) for a batch
        From 0 to 2, and 2 where there is no certificate. The sum is known up to the rounding of the
        margins m_it, the angle thus to about 1e-8.

    Examples
    --------
    >>> import attsvm
    >>> data = attsvm.AttentionData([[[1.0, 0.0], [0.0, 1.0]]], [1], queries=[[1.0, 0.0]])
    >>> solution = attsvm.att_svm(data, [0])
    >>> attsvm.theory.certified_cosine_gap(solution, data, [0], solution) < 1e-15
    True
    """
    alpha = as_selected("selected", selected, as_data(data))
    parameter = as_parameter_of("W", W, data)
    constrained = other_tokens(data, alpha)
    weights = scaled_multipliers(dual, data, constrained)
    differences = token_differences(data.batched(), alpha.reshape(-1, data.n))
    sums = (weights[..., np.newaxis, :] @ differences)[..., 0, :]
    queries = parameter.queries(data)
    combined = replace(parameter, matrix=LowRank(sums, queries))
    sizes = combined.matrix.norm()[:, np.newaxis, np.newaxis]
    shares = weights / np.where(sizes > 0, sizes, 1.0)
    unit, combined = parameter.unit(), combined.unit()
    apart = unit.matrix.cosine_gap(combined.matrix)
    constrained = constrained.reshape(weights.shape)
    margins = (
        np.where(constrained, logit_differences(each, data, alpha, differences), np.inf)
        for each in (unit, combined)
    )
    gap = certified_gap(apart, shares, *margins)
    exists = (sizes[:, 0, 0] > 0) & (unit.matrix.left != 0).any(axis=(1, 2))
    return parameter.answer(np.where(exists, gap, 2.0))


def certified_gap(
    apart: Float64Array, shares: Float64Array, margins: Float64Array, of_combined: Float64Array
) -> Float64Array:
    """Compute the bound of `certified_cosine_gap` of B directions from their margins, shape (B,).

    `apart` (B,) is 1 - cos θ of W and W_λ. `shares` are λ_it / |W_λ|_F, 0 where there is no
    constraint, and `margins` and `of_combined` those of W / |W|_F and of W_λ / |W_λ|_F, inf where
    there is none; shape (B, n, T).
    """
    (slack, separates), (combined_slack, combined_separates) = (
        _slack(each, shares) for each in (margins, of_combined)
    )
    theta = _angle(apart)
    of_unit = np.where(separates, (theta + _angle(apart + 2 * slack)) / 2, np.pi)
    by_combined = np.where(combined_separates, theta + _angle(2 * combined_slack) / 2, np.pi)
    angle = np.minimum(np.minimum(of_unit, by_combined), np.pi)
    return np.asarray(2 * np.sin(angle / 2) ** 2)


def _slack(margins: Float64Array, shares: Float64Array) -> tuple[Float64Array, BoolArray]:
    """Compute Σ λ_it (m_it - m), shape (B,), with m the smallest margin, and whether m > 0."""
    smallest = margins.min(axis=(1, 2), keepdims=True)
    separates: BoolArray = (smallest > 0) & (smallest < np.inf)
    least = np.where(separates, smallest, 0.0)
    above = np.where(np.isfinite(margins), margins, least) - least
    return np.sum(shares * above, axis=(1, 2)), separates[:, 0, 0]


def _angle(gap: Float64Array) -> Float64Array:
    """Compute the angle whose cosine is 1 - gap, without cancellation where it is small."""
    return np.asarray(2.0 * np.arcsin(np.sqrt(np.clip(gap, 0.0, 2.0) / 2)))


def scaled_multipliers(
    dual: ArrayLike | SVMSolution, data: AttentionData, constrained: BoolArray
) -> Float64Array:
    """Return λ (B, n, T) over its largest entry; 0 where there is no constraint or certificate."""
    shape = data.batched().valid.shape
    if isinstance(dual, SVMSolution):
        if dual.dual is None:
            return np.zeros(shape)
        require_shape("dual.dual", dual.dual, *shape_of(data, "n", "T"))
        feasible = np.asarray(dual.feasible)[..., np.newaxis, np.newaxis]
        dual = np.where(feasible, dual.dual, 0.0)
    multipliers = np.where(constrained, as_float64(data, "dual", dual, "n", "T"), 0.0)
    require_nonnegative("dual", multipliers, "multipliers")
    weights = multipliers.reshape(shape)
    largest = weights.max(axis=(1, 2), keepdims=True)
    return weights / np.where(largest > 0, largest, 1.0)
