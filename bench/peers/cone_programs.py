"""Solvers of linear and cone programs on the SVM in a norm of entries or the spectral norm.

One problem after another, with all constraints in one matrix, whose making is in the time.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.sparse import block_array, coo_array, csc_array, csc_matrix, eye_array, kron

from bench.peers import NotAvailable, Run
from bench.tasks import SVM, Array

PATIENCE = 60.0
"""Seconds after which a solver is stopped."""


def svm(task: SVM, solver: str) -> Run:
    """Return a run that gives W, ([B,] d, d), and multipliers ([B,] m)."""
    linear, problems = solver.startswith("highs"), task.problems()
    written = ("max", "l1") if linear else ("spec",)
    if task.norm not in written and (linear or isinstance(task.norm, str)):
        raise NotAvailable(f"not written for the norm {task.norm}")
    importlib.import_module("scipy.optimize" if linear else solver)
    solve = partial(highs, solver) if linear else clarabel

    def solved(problem: SVM) -> tuple[Array, Array]:
        differences, sample = problem.differences()
        rows = np.einsum("md,me->mde", differences, problem.queries[sample])
        W, dual = solve(rows.reshape(len(rows), -1), rows.shape[1:], problem.norm, problem.gap)
        return W.reshape(rows.shape[1:]), dual

    def run() -> Callable[[], tuple[Array, Array]]:
        W, dual = (np.stack(part) for part in zip(*map(solved, problems), strict=True))
        return lambda: (W, dual) if task.batched else (W[0], dual[0])

    return run


def highs(
    method: str, rows: Array, _: tuple[int, int], norm: str | float, gap: float
) -> tuple[Array, Array]:
    """Solve the linear program of the max or l1 norm by HiGHS."""
    from scipy.optimize import linprog

    m, size = rows.shape
    if norm == "max":  # min t, -t <= W_k <= t
        identity, bound = eye_array(size), csc_array(-np.ones((size, 1)))
        A = block_array([[csc_array(-rows), None], [identity, bound], [-identity, bound]])
        cost, b, free = np.eye(size + 1)[-1], np.zeros(2 * size), (None, None)
    else:  # W = P - N, min Σ P + N
        A, b, cost, free = np.hstack([-rows, rows]), np.zeros(0), np.ones(2 * size), (0, None)
    options = {"time_limit": PATIENCE, "primal_feasibility_tolerance": max(gap, 1e-10)}
    found = linprog(
        cost, A, np.concatenate([-np.ones(m), b]), bounds=free, method=method, options=options
    )
    if found.status == 1:
        raise NotAvailable(f"not finished after {PATIENCE:g} s")
    W = found.x[:size] if norm == "max" else found.x[:size] - found.x[size:]
    return W, -found.ineqlin.marginals[:m]


def clarabel(
    rows: Array, shape: tuple[int, int], norm: str | float, gap: float
) -> tuple[Array, Array]:
    """Solve by Clarabel: a power cone for every entry in an l_p norm, [t I, W; W', t I] ⪰ 0."""
    import clarabel

    m, size = rows.shape
    # In columns: W, t, and in an l_p norm the r_k with Σ r_k = t
    if norm == "spec":
        (d, e), order = shape, sum(shape)
        column, row = np.tril_indices(order)  # of the upper triangle, column by column
        of_W = np.flatnonzero((column >= d) & (row < d))
        entries = row[of_W] * e + column[of_W] - d
        of_t = csc_array(-np.equal(row, column)[:, None].astype(float))
        off = coo_array((np.full(size, -np.sqrt(2.0)), (of_W, entries)), (len(row), size))
        A = block_array([[csc_array(-rows), None], [off, of_t]])
        cones, zeros = [clarabel.PSDTriangleConeT(order)], len(row)
    else:  # r_k^(1/p) t^(1 - 1/p) >= |W_k|
        first, second, third = (csc_array(-np.eye(3)[:, [k]]) for k in range(3))
        identity, ones = eye_array(size), csc_array(np.ones((size, 1)))
        of_cones = [kron(identity, third), kron(ones, second), kron(identity, first)]
        sums = [None, csc_array([[-1.0]]), ones.T]
        A = block_array([[csc_array(-rows), None, None], sums, of_cones])
        cones = [clarabel.ZeroConeT(1), *[clarabel.PowerConeT(1.0 / float(norm))] * size]
        zeros = 1 + 3 * size
    whole, b = csc_matrix(A), np.concatenate([-np.ones(m), np.zeros(zeros)])
    cones = [clarabel.NonnegativeConeT(m), *cones]
    cost = np.zeros(whole.shape[1])
    cost[size] = 1.0
    settings = clarabel.DefaultSettings()
    settings.verbose, settings.time_limit = False, PATIENCE
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = gap
    nothing = csc_matrix((len(cost), len(cost)))
    found = clarabel.DefaultSolver(nothing, cost, whole, b, cones, settings).solve()
    if found.status == clarabel.SolverStatus.MaxTime:
        raise NotAvailable(f"not finished after {PATIENCE:g} s")
    return np.array(found.x[:size]), np.array(found.z[:m])
