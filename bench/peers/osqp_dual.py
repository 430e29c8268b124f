"""OSQP on the dual, polished: its default tolerance of 1e-3 gives directions off by 1e-6."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import osqp
import scipy.sparse

from bench.peers.qp_dual import solve_each
from bench.tasks import Array, Machine


def version() -> str:
    return str(osqp.__version__)


def svm(task: Machine) -> Callable[[], Callable[[], Array]]:
    return solve_each(task, _solve)


def _solve(K: Array, gap: float) -> Array:
    m = len(K)
    solver = osqp.OSQP(algebra="builtin")
    solver.setup(
        scipy.sparse.csc_matrix(np.triu(K)),
        -np.ones(m),
        scipy.sparse.identity(m, format="csc"),
        np.zeros(m),
        np.full(m, np.inf),
        eps_abs=10 * gap,
        eps_rel=10 * gap,
        polishing=True,
        verbose=False,
    )
    dual: Array = solver.solve(raise_error=False).x
    return dual
