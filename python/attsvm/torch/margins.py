"""The direction of a head beside the SVM of the tokens that it selects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from attsvm._arrays import BoolArray
from attsvm._linalg import LowRank
from attsvm.svm import SolverError, SVMSolution, att_svm
from attsvm.svm.norms import as_svm_norm
from attsvm.theory.certified_cosine import certified_gap
from attsvm.torch.dual_ascent import Constraints, Multipliers, ascend
from attsvm.torch.layer import AttentionLayer

_ACTIVE = 1e-4
_SOFT_STEPS, _SOFT_TOLERANCE, _PENALTY = 2000, 1e-6, 10.0


@dataclass(frozen=True, eq=False)
class HeadSVM:
    """The SVM of the tokens that a head selects, in one norm: solved or bounded."""

    # "optimal": solved. "bounded": not solved, the numbers are bounds. "soft margin": nothing
    # separates the tokens, and the soft margin took its place. "no constraints": no input attends
    # to two tokens.
    status: str
    norm: float = np.nan  # |W^mm| is between these
    norm_upper: float = np.nan
    gap: float = np.nan  # relative duality gap
    # Smallest margin of W over |W| and over the largest margin 1 / |W^mm|: between these.
    margin_ratio: float = np.nan
    margin_ratio_upper: float = np.nan
    cosine: float = np.nan  # of W and the solution; of bounds, at least this
    # (n, T), constraints with a margin below 1 + 1e-4, of a soft margin those with a multiplier.
    support: BoolArray | None = None
    penalty: float = np.inf  # C of a soft margin


def head_svms(
    layer: AttentionLayer,
    head: int,
    norms: Sequence[str],
    *,
    max_constraints: int,
    steps: int,
    tolerance: float,
) -> dict[str, HeadSVM]:
    """Compare W of a head with the SVMs of its selected tokens, in each of the norms "fro", "nuc".

    An SVM of more than `max_constraints` is not solved but bounded, by `ascend` with the `steps`
    and the `tolerance`.
    """
    constraints = Constraints(layer, head)
    if not constraints.count:
        return {norm: HeadSVM("no constraints") for norm in norms}
    answers = {}
    bounds: Multipliers | None = None
    for norm in norms:
        solution = _solved(layer, head, norm) if constraints.count <= max_constraints else None
        if solution is not None and solution.feasible:
            answers[norm] = _of_solution(layer, head, norm, solution)
        elif solution is not None:
            answers[norm] = _soft(layer, head, constraints)
        else:
            if bounds is None:
                start = layer.attention[head]
                bounds = ascend(constraints, start, steps=steps, tolerance=tolerance)
            answers[norm] = _of_bounds(layer, head, norm, constraints, bounds)
    return answers


def _solved(layer: AttentionLayer, head: int, norm: str) -> SVMSolution | None:
    """Solve the SVM, or return None where no answer is certified."""
    try:
        return att_svm(layer.problem(head), layer.selected_in_problem(head), norm=norm)
    except SolverError:
        return None


def _relative_margin(layer: AttentionLayer, head: int, norm: str) -> float:
    """Compute the smallest margin of W over its norm; 0 for W = 0."""
    size = _norm(layer.weights(head), norm)
    return float(layer.margins[head].min()) / size if size > 0 else 0.0


def _norm(W: LowRank, norm: str) -> float:
    return float(as_svm_norm("norm", norm).of(W))


def _largest_singular_value(W: LowRank) -> float:
    core = W.compact()
    last = core.shape[0] - 1
    (square,) = linalg.eigvalsh(core @ core.T, subset_by_index=[last, last])
    return float(max(square, 0.0) ** 0.5)


def _cosine(layer: AttentionLayer, head: int, W: LowRank) -> float:
    own = layer.weights(head)
    if not (own.norm() > 0 and W.norm() > 0):
        return np.nan
    return float(1.0 - own.cosine_gap(W))


def _of_solution(layer: AttentionLayer, head: int, norm: str, solution: SVMSolution) -> HeadSVM:
    assert solution.margins is not None
    assert solution.left is not None
    ratio = _relative_margin(layer, head, norm) * solution.norm
    support = np.zeros(layer.attended[head].shape, dtype=np.bool_)
    active = solution.margins < 1 + _ACTIVE
    np.put_along_axis(support, layer.order(head), active, axis=-1)
    return HeadSVM(
        status="optimal",
        norm=solution.norm,
        norm_upper=solution.norm,
        gap=solution.gap,
        margin_ratio=ratio,
        margin_ratio_upper=ratio,
        cosine=_cosine(layer, head, LowRank(solution.left, solution.right)),
        support=support,
    )


def _soft(layer: AttentionLayer, head: int, constraints: Constraints) -> HeadSVM:
    squares = np.square(constraints.sizes[constraints.mask])
    C = _PENALTY / float(squares.mean())
    start = layer.attention[head]
    found = ascend(constraints, start, steps=_SOFT_STEPS, tolerance=_SOFT_TOLERANCE, C=C)
    W = constraints.combined(found.dual)
    return HeadSVM(
        status="soft margin",
        norm=float(W.norm()),
        norm_upper=float(W.norm()),
        gap=found.gap,
        cosine=_cosine(layer, head, W),
        support=found.dual > 0,
        penalty=C,
    )


def _of_bounds(
    layer: AttentionLayer, head: int, norm: str, constraints: Constraints, bounds: Multipliers
) -> HeadSVM:
    """Return what multipliers prove without a solution, by weak duality."""
    of_dual = constraints.combined(bounds.dual)
    dual_size = float(of_dual.norm())
    dual_norm = _largest_singular_value(of_dual) if norm == "nuc" else dual_size
    lower = float(bounds.dual.sum()) / dual_norm if dual_norm > 0 else 0.0
    own = _relative_margin(layer, head, norm)
    upper = 1.0 / own if own > 0 else np.inf
    widest = constraints.combined(bounds.widest)
    least = float(constraints.margins(widest).min())
    if least > 0:
        upper = min(upper, _norm(widest, norm) / least)
    cosine = np.nan
    W = layer.weights(head)
    if norm == "fro" and dual_size > 0 and W.norm() > 0:
        unit, combined = W.unit(), of_dual.unit()
        gap = certified_gap(
            unit.cosine_gap(combined)[np.newaxis],
            (bounds.dual / dual_size)[np.newaxis],
            *(constraints.margins(each)[np.newaxis] for each in (unit, combined)),
        )
        cosine = float(1.0 - gap[0])
    return HeadSVM(
        status="bounded",
        norm=lower,
        norm_upper=upper,
        gap=1.0 - lower / upper if upper > 0 else np.nan,
        margin_ratio=own * lower,
        margin_ratio_upper=min(own * upper, 1.0),
        cosine=cosine,
    )
