"""Accuracy of an answer, by the same plain formulas for every contender."""

from __future__ import annotations

import numpy as np

from bench.tasks import SVM, Array


def relative_difference(A: Array, B: Array) -> float:
    """Compute |A - B| / |B|, the largest over problems."""
    A, B = np.asarray(A, dtype=np.float64), np.asarray(B, dtype=np.float64)
    problems = len(B) if B.ndim > 2 else 1
    difference, size = (np.linalg.norm(M.reshape(problems, -1), axis=1) for M in (A - B, B))
    return float((difference / size).max())


def svm_accuracy(task: SVM, answer: Array | tuple[Array, Array]) -> dict[str, float]:
    """Compute the largest relative duality gap and KKT residual over the problems of a task.

    `answer`: multipliers ([B,] m), or W with its multipliers.

    Gap in the Frobenius norm: 1 - g / f with f = ½|W / min_r A_r(W)|² and g = 1'λ - ½|A*λ|²; in
    another norm N f = N(W / min_r A_r(W)) and g = 1'λ / N*(A*λ). KKT (Frobenius): the largest
    of max(1 - A_r(W), 0), max(-λ_r, 0) / max |λ|, |λ_r (A_r(W) - 1)| / 1'λ and |W - A*λ| / |W|.
    """
    answers = answer if isinstance(answer, tuple) else (None, answer)
    worst: dict[str, float] = {}
    for b, problem in enumerate(task.problems()):
        W, dual = (a[b] if task.batched and a is not None else a for a in answers)
        for name, value in _accuracy(problem, W, np.ravel(dual)).items():
            worst[name] = max(worst.get(name, 0.0), value)
    return worst


_DUALS = {"nuc": "spec", "spec": "nuc", "max": "l1", "l1": "max"}


def _norm(W: Array, norm: str | float) -> float:
    if norm in ("nuc", "spec"):
        return float(np.linalg.norm(W, "nuc" if norm == "nuc" else 2))
    order = {"max": np.inf, "l1": 1.0}[norm] if isinstance(norm, str) else norm
    return float(np.linalg.norm(W.ravel(), order))


def _accuracy(problem: SVM, W: Array | None, dual: Array) -> dict[str, float]:
    differences, sample = problem.differences()
    if W is None or problem.norm != "fro":
        dual = np.maximum(dual, 0.0)
    adjoint = (differences * dual[:, None]).T @ problem.queries[sample]
    W = adjoint if W is None else W
    values = np.einsum("md,md->m", differences @ W, problem.queries[sample])
    if not values.min() > 0:
        return {"gap": np.inf, "kkt": np.inf} if problem.norm == "fro" else {"gap": np.inf}
    if problem.norm != "fro":
        size = _norm(W, problem.norm) / values.min()
        norm = problem.norm
        dual_norm = _DUALS[norm] if isinstance(norm, str) else norm / (norm - 1)
        return {"gap": float(1 - dual.sum() / _norm(adjoint, dual_norm) / size)}
    size, total = np.linalg.norm(W), dual.sum()
    primal = 0.5 * (size / values.min()) ** 2
    residuals = (
        np.maximum(1 - values, 0).max(),
        np.maximum(-dual, 0).max() / np.abs(dual).max(),
        np.abs(dual * (values - 1)).max() / total,
        np.linalg.norm(W - adjoint) / size,
    )
    gap = abs(primal - total + 0.5 * np.linalg.norm(adjoint) ** 2) / primal
    return {"gap": float(gap), "kkt": float(max(residuals))}
