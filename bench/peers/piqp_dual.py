"""PIQP on the dual: its dense interior-point method with bounds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import piqp

from bench.peers.qp_dual import solve_each
from bench.tasks import Array, Machine


def version() -> str:
    return str(piqp.__version__)


def svm(task: Machine) -> Callable[[], Callable[[], Array]]:
    return solve_each(task, _solve)


def _solve(K: Array, gap: float) -> Array:
    m = len(K)
    solver = piqp.DenseSolver()
    solver.settings.eps_abs = 0.1 * gap
    solver.settings.eps_rel = 0.1 * gap
    solver.settings.eps_duality_gap_abs = 0.1 * gap
    solver.settings.eps_duality_gap_rel = 0.1 * gap
    solver.setup(K, -np.ones(m), x_l=np.zeros(m))
    solver.solve()
    dual: Array = solver.result.x
    return dual
