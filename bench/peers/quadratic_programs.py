"""Solvers of quadratic programs on the dual of the Frobenius SVM, one problem after another.

The dual, max 1'λ - ½ λ'Kλ over λ >= 0, has n (T-1) variables whatever d is, and is the quickest
form for each of these solvers.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import numpy as np
from scipy.sparse import csc_matrix, identity

from bench.peers import NotAvailable, Run
from bench.tasks import SVM, Array


def svm(task: SVM, solver: str) -> Run:
    """Return a run that gives the Gram matrix of every problem to `solver`."""
    if task.norm != "fro":
        raise NotAvailable("a quadratic program has the Frobenius norm")
    importlib.import_module("proxsuite" if solver == "proxqp" else solver)
    solve = globals()[solver]
    problems = task.problems()

    def run() -> Callable[[], Array]:
        dual = np.stack([np.array(solve(problem.gram(), task.gap)) for problem in problems])
        return lambda: dual if task.batched else dual[0]

    return run


def clarabel(K: Array, gap: float) -> Array:
    """Solve by an interior-point method with sparse factorisation."""
    import clarabel

    m = len(K)
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = gap
    upper, rows = csc_matrix(np.triu(K)), -identity(m, format="csc")
    cones = [clarabel.NonnegativeConeT(m)]
    return clarabel.DefaultSolver(upper, -np.ones(m), rows, np.zeros(m), cones, settings).solve().x


def daqp(K: Array, gap: float) -> Array:
    """Solve by a dual active-set method for dense problems of small size."""
    import daqp

    m = len(K)
    bounds = np.full(m, 1e30), np.zeros(m)
    return daqp.solve(K, -np.ones(m), np.empty((0, m)), *bounds, np.zeros(m, np.int32))[0]


def osqp(K: Array, gap: float) -> Array:
    """Solve by OSQP, polished: its default tolerance of 1e-3 gives directions off by 1e-6."""
    import osqp

    m = len(K)
    solver = osqp.OSQP(algebra="builtin")
    bounds = np.zeros(m), np.full(m, np.inf)
    options = {"eps_abs": 10 * gap, "eps_rel": 10 * gap, "polishing": True, "verbose": False}
    rows = identity(m, format="csc")
    solver.setup(csc_matrix(np.triu(K)), -np.ones(m), rows, *bounds, **options)
    return solver.solve(raise_error=False).x


def piqp(K: Array, gap: float) -> Array:
    """Solve by a dense interior-point method with bounds."""
    import piqp

    solver = piqp.DenseSolver()
    for name in ("eps_abs", "eps_rel", "eps_duality_gap_abs", "eps_duality_gap_rel"):
        setattr(solver.settings, name, 0.1 * gap)
    solver.setup(K, -np.ones(len(K)), x_l=np.zeros(len(K)))
    solver.solve()
    return solver.result.x


def proxqp(K: Array, gap: float) -> Array:
    """Solve by a dense proximal method with bounds."""
    from proxsuite import proxqp

    m = len(K)
    solver = proxqp.dense.QP(m, 0, 0, True)
    solver.settings.eps_abs = solver.settings.eps_duality_gap_rel = 0.1 * gap
    solver.settings.eps_rel = solver.settings.eps_duality_gap_abs = 0.0
    solver.settings.check_duality_gap = True
    solver.init(K, -np.ones(m), l_box=np.zeros(m), u_box=np.full(m, np.inf))
    solver.solve()
    return solver.results.x


def scs(K: Array, gap: float) -> Array:
    """Solve by a first-order conic method with a quadratic objective."""
    import scs

    m = len(K)
    problem = {"P": csc_matrix(np.triu(K)), "A": -identity(m, format="csc")}
    problem |= {"b": np.zeros(m), "c": -np.ones(m)}
    eps = {"eps_abs": 0.1 * gap, "eps_rel": 0.1 * gap}
    return scs.SCS(problem, {"l": m}, **eps, max_iters=1_000_000, verbose=False).solve()["x"]
