"""cvxpy as in the papers' published code: W of d x d, a constraint for each token."""

from __future__ import annotations

from collections.abc import Callable

import cvxpy as cp
import numpy as np

from bench.peers import Run
from bench.tasks import SVM, Array


def svm(task: SVM, solver: str | None = None) -> Run:
    """Return a run that gives W, ([B,] d, d), and multipliers ([B,] m).

    A solver that is named gets the accuracy of the task; None is cvxpy's choice, as published.
    """
    problems = task.problems()
    options = {"eps_abs": task.gap, "eps_rel": task.gap, "max_iters": 1_000_000}
    options = {"solver": solver, **options} if solver else {}

    def solve(problem: SVM) -> tuple[Array, Array]:
        n, T, d = problem.tokens.shape
        W = cp.Variable((d, d))
        constraints = [
            (problem.tokens[i, problem.selected[i]] - problem.tokens[i, t]) @ W @ problem.queries[i]
            >= 1
            for i in range(n)
            for t in range(T)
            if t != problem.selected[i]
        ]
        program = cp.Problem(cp.Minimize(_norm(W, problem.norm)), constraints)
        program.solve(**options)
        dual = np.array([constraint.dual_value for constraint in constraints]).reshape(-1)
        # Multipliers of |W|, and in the Frobenius norm now of ½|W|².
        return W.value, dual * (program.value if problem.norm == "fro" else 1.0)

    def run() -> Callable[[], tuple[Array, Array]]:
        W, dual = (np.stack(part) for part in zip(*map(solve, problems), strict=True))
        return lambda: (W, dual) if task.batched else (W[0], dual[0])

    return run


def _norm(W: cp.Variable, norm: str | float) -> cp.Expression:
    if norm == "spec":
        return cp.sigma_max(W)
    if norm in ("max", "l1"):
        return cp.norm(cp.vec(W, order="F"), "inf" if norm == "max" else 1)
    return cp.norm(W, norm) if isinstance(norm, str) else cp.pnorm(cp.vec(W, order="F"), norm)
