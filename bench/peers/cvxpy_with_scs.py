"""cvxpy as published, with SCS as its solver at the accuracy that is asked for."""

from __future__ import annotations

from collections.abc import Callable

import cvxpy as cp
import scs

from bench.peers import cvxpy_published
from bench.tasks import Array, Machine


def version() -> str:
    return f"{cp.__version__}, SCS {scs.__version__}"


def svm(task: Machine) -> Callable[[], Callable[[], Array]]:
    options = {"solver": cp.SCS, "eps_abs": task.gap, "eps_rel": task.gap, "max_iters": 1_000_000}
    return cvxpy_published.svm(task, options)
