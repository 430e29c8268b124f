"""cvxpy as the papers' published code goes about it: W of d x d, a constraint for each token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import cvxpy as cp
import numpy as np

from bench.tasks import Array, Machine


def version() -> str:
    return str(cp.__version__)


def svm(
    task: Machine, options: Mapping[str, Any] | None = None
) -> Callable[[], Callable[[], Array]]:
    """A run gives W, ([B,] d, d), and multipliers ([B,] m)."""
    problems = task.problems()

    def run() -> Callable[[], Array]:
        solved = [_solve(problem, options or {}) for problem in problems]
        W, dual = (np.stack(part) for part in zip(*solved, strict=True))
        return lambda: (W, dual) if task.batched else (W[0], dual[0])

    return run


def _solve(task: Machine, options: Mapping[str, Any]) -> tuple[Array, Array]:
    n, T, d = task.tokens.shape
    W = cp.Variable((d, d))
    constraints = [
        (task.tokens[i, task.selected[i]] - task.tokens[i, t]) @ W @ task.queries[i] >= 1
        for i in range(n)
        for t in range(T)
        if t != task.selected[i]
    ]
    problem = cp.Problem(cp.Minimize(cp.norm(W, task.norm)), constraints)
    problem.solve(**options)
    dual = np.array([constraint.dual_value for constraint in constraints]).reshape(-1)
    if task.norm == "fro":
        dual *= problem.value  # of |W|, and now of ½|W|²
    return W.value, dual
