"""Clarabel on the dual: an interior-point method with sparse factorisation."""

from __future__ import annotations

from collections.abc import Callable

import clarabel
import numpy as np
import scipy.sparse

from bench.peers.qp_dual import solve_each
from bench.tasks import Array, Machine


def version() -> str:
    return str(clarabel.__version__)


def svm(task: Machine) -> Callable[[], Callable[[], Array]]:
    return solve_each(task, _solve)


def _solve(K: Array, gap: float) -> Array:
    m = len(K)
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = gap
    solver = clarabel.DefaultSolver(
        scipy.sparse.csc_matrix(np.triu(K)),
        -np.ones(m),
        -scipy.sparse.identity(m, format="csc"),
        np.zeros(m),
        [clarabel.NonnegativeConeT(m)],
        settings,
    )
    return np.asarray(solver.solve().x)
