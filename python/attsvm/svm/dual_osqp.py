"""Multipliers by OSQP, a second opinion for solver="osqp"."""

from __future__ import annotations

import atexit
import signal
import threading

import numpy as np
import osqp
import scipy

from attsvm._arrays import BoolArray, Float64Array
from attsvm._linalg import euclidean_norm
from attsvm.svm.svm_problem import SvmProblem

# OSQP has a SIGINT handler of its own while it solves, and puts back the one that it found: two
# solves at once would put back each other's.
_one_at_a_time = threading.Lock()
# At exit a solve of a daemon thread is waited for, and no other begins: it would abort the process.
atexit.register(_one_at_a_time.acquire)
_MOST_INTERRUPTIONS = 20


def osqp_multipliers(problem: SvmProblem) -> Float64Array:
    """Compute multipliers that maximise b'λ - ½|A*λ|² over λ >= 0 (free on equalities), nearly.

    They are a guess (B, n, T), to be certified: zero where OSQP's multiplier is below the slack of
    its constraint; where OSQP calls the dual unbounded, the direction in which it is.
    """
    multipliers = np.zeros(problem.rhs.shape)
    for b, constrained in enumerate(problem.constrained):
        sample, token = np.nonzero(constrained)
        tokens = problem.tokens[b].astype(np.float64, copy=False)
        selected = problem.selected[b][sample]
        rows = tokens[sample, token]
        queries = problem.queries[b][sample]
        with np.errstate(over="ignore", invalid="ignore"):  # rows beyond float64 are left out below
            rows = np.where((selected < 0)[:, np.newaxis], rows, tokens[sample, selected] - rows)
            sizes = euclidean_norm(rows, axis=1) * euclidean_norm(queries, axis=1)
        used = np.flatnonzero((sizes > 0) & np.isfinite(sizes))
        if not used.size:
            continue
        place, sizes = (sample[used], token[used]), sizes[used]
        unit_rows = rows[used] / euclidean_norm(rows[used], axis=1, keepdims=True)
        unit_queries = queries[used] / euclidean_norm(queries[used], axis=1, keepdims=True)
        gram = (unit_rows @ unit_rows.T) * (unit_queries @ unit_queries.T)
        with np.errstate(over="ignore"):
            rhs = problem.rhs[b][place] / sizes
        scale = float(np.abs(rhs).max()) or 1.0
        if np.isfinite(scale):
            found = _solve(gram, rhs / scale, problem.equality[b][place])
            with np.errstate(over="ignore", invalid="ignore"):  # so are multipliers
                guess = scale * (found / sizes)
            multipliers[b][place] = np.where(np.isfinite(guess), guess, 0.0)
    return multipliers


def _solve(gram: Float64Array, rhs: Float64Array, equality: BoolArray) -> Float64Array:
    """Solve the dual with a Gram matrix of unit diagonal.

    The work is deterministic: the penalty of OSQP adapts by iteration count, not by time.
    """
    m = rhs.size
    rows, columns = np.tril_indices(m)  # of the transpose: upper triangle, column by column
    upper = scipy.sparse.csc_matrix(
        (gram[rows, columns], columns, np.arange(m + 1) * np.arange(1, m + 2) // 2), shape=(m, m)
    )
    solver = osqp.OSQP(algebra="builtin")
    solver.setup(
        upper,
        -rhs,
        scipy.sparse.identity(m, format="csc"),
        np.where(equality, -np.inf, 0.0),
        np.full(m, np.inf),
        eps_abs=1e-8,
        eps_rel=1e-8,
        eps_dual_inf=1e-6,
        max_iter=1000,
        adaptive_rho=1,
        verbose=False,
    )
    for _ in range(_MOST_INTERRUPTIONS):
        with _one_at_a_time:
            result = solver.solve(raise_error=False)
        if result.info.status != "interrupted":
            break
        signal.raise_signal(signal.SIGINT)  # to the handler of the caller, which OSQP kept it from
    unbounded = result.info.status == "dual infeasible"
    found = np.asarray(result.dual_inf_cert if unbounded else result.x, dtype=np.float64)
    if found.shape != (m,) or not np.isfinite(found).all():
        return np.zeros(m)
    kept = equality | (found > (0.0 if unbounded else gram @ found - rhs))
    return np.where(kept, np.where(equality, found, np.maximum(found, 0.0)), 0.0)
