"""How good an answer is, by attsvm's own certificate, whoever gave it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import attsvm
from attsvm.svm.certificate import certify_optimality
from attsvm.svm.constraints import attention_constraints
from bench.tasks import Array, Machine

__all__ = ["Accuracy", "frobenius_accuracy", "nuclear_accuracy", "relative_difference"]


@dataclass(frozen=True)
class Accuracy:
    """Worst relative duality gap and KKT residual over problems."""

    gap: float
    kkt: float | None = None


def relative_difference(A: Array, B: Array) -> float:
    """|A - B| / |B|, the worst over problems."""
    A, B = np.asarray(A, dtype=np.float64), np.asarray(B, dtype=np.float64)
    problems = len(B) if B.ndim > 2 else 1
    difference = np.linalg.norm((A - B).reshape(problems, -1), axis=1)
    worst: float = (difference / np.linalg.norm(B.reshape(problems, -1), axis=1)).max()
    return worst


def frobenius_accuracy(task: Machine, answer: Array | tuple[Array, Array]) -> Accuracy:
    """Of the multipliers alone, ([B,] m), or of W with its multipliers."""
    W, dual = answer if isinstance(answer, tuple) else (None, answer)
    worst = Accuracy(0.0, 0.0)
    for b, problem in enumerate(task.problems()):
        data = attsvm.AttentionData(
            problem.tokens, np.ones(len(problem.tokens)), queries=problem.queries
        )
        scaled = attention_constraints(data, problem.selected).normalised()
        multipliers = (dual[b] if task.batched else dual) * scaled.row_norm / scaled.scale
        if W is None:
            multipliers = np.maximum(multipliers, 0.0)
            left, right = scaled.unit.token_sums(multipliers), scaled.unit.queries
        else:
            left, right = (W[b] if task.batched else W).T, np.eye(problem.queries.shape[-1])
            left, right = left / scaled.scale, right
        one = certify_optimality(scaled, left, right, multipliers)
        worst = Accuracy(max(worst.gap, one.gap), max(worst.kkt or 0.0, one.kkt))
    return worst


def nuclear_accuracy(task: Machine, answer: tuple[Array, Array]) -> Accuracy:
    """Gap between |W|_* of W scaled to margins of 1, and b'λ of λ scaled to |A*λ|_op <= 1."""
    worst = 0.0
    for b, problem in enumerate(task.problems()):
        W, dual = (part[b] if task.batched else part for part in answer)
        dual = np.maximum(dual.reshape(-1), 0.0)
        differences, sample = problem.differences()
        margins = np.einsum("md,md->m", differences, (problem.queries @ W.T)[sample])
        adjoint = (differences * dual[:, None]).T @ problem.queries[sample]
        upper = np.linalg.norm(W, "nuc") / margins.min() if margins.min() > 0 else np.inf
        lower = dual.sum() / np.linalg.norm(adjoint, 2)
        worst = max(worst, float((upper - lower) / upper) if np.isfinite(upper) else np.inf)
    return Accuracy(worst)
