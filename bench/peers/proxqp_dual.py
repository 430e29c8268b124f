"""ProxQP on the dual: its dense proximal method with bounds."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata

import numpy as np
from proxsuite import proxqp

from bench.peers.qp_dual import solve_each
from bench.tasks import Array, Machine


def version() -> str:
    return metadata.version("proxsuite")


def svm(task: Machine) -> Callable[[], Callable[[], Array]]:
    return solve_each(task, _solve)


def _solve(K: Array, gap: float) -> Array:
    m = len(K)
    solver = proxqp.dense.QP(m, 0, 0, True)
    solver.settings.eps_abs = 0.1 * gap
    solver.settings.eps_rel = 0.0
    solver.settings.check_duality_gap = True
    solver.settings.eps_duality_gap_abs = 0.0
    solver.settings.eps_duality_gap_rel = 0.1 * gap
    solver.init(K, -np.ones(m), l_box=np.zeros(m), u_box=np.full(m, np.inf))
    solver.solve()
    dual: Array = np.array(solver.results.x)
    return dual
