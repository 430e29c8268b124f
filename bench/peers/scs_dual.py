"""SCS on the dual: a first-order conic method with a quadratic objective."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse
import scs

from bench.peers.qp_dual import solve_each
from bench.tasks import Array, Machine


def version() -> str:
    return str(scs.__version__)


def svm(task: Machine) -> Callable[[], Callable[[], Array]]:
    return solve_each(task, _solve)


def _solve(K: Array, gap: float) -> Array:
    m = len(K)
    data = {
        "P": scipy.sparse.csc_matrix(np.triu(K)),
        "A": -scipy.sparse.identity(m, format="csc"),
        "b": np.zeros(m),
        "c": -np.ones(m),
    }
    eps = 0.1 * gap
    solver = scs.SCS(data, {"l": m}, eps_abs=eps, eps_rel=eps, max_iters=1_000_000, verbose=False)
    dual: Array = solver.solve()["x"]
    return dual
