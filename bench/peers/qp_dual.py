"""What the quadratic-programming peers share: one dual problem after another.

The dual of the Frobenius machine, max 1'λ - ½ λ'Kλ over λ >= 0, has n (T-1) variables whatever d
is, and is the quickest form for each of these solvers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.peers import NotAvailable
from bench.tasks import Array, Machine

__all__ = ["solve_each"]


def solve_each(
    task: Machine, solve: Callable[[Array, float], Array]
) -> Callable[[], Callable[[], Array]]:
    """A run that gives every problem's Gram matrix to `solve`, for multipliers ([B,] m)."""
    if task.norm != "fro":
        raise NotAvailable("a quadratic programme has the Frobenius norm")
    problems = task.problems()

    def run() -> Callable[[], Array]:
        dual = np.stack([solve(problem.gram(), task.gap) for problem in problems])
        return lambda: dual if task.batched else dual[0]

    return run
