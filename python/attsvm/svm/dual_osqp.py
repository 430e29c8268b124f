"""The dual of a Frobenius machine by OSQP: a guess for its multipliers."""

from __future__ import annotations

import numpy as np
import osqp
import scipy.sparse

from attsvm._validation import BoolArray
from attsvm.svm.constraints import Float64Array

__all__ = ["osqp_multipliers"]

_UNBOUNDED = "dual infeasible"
_INTERRUPTED = "interrupted"


def osqp_multipliers(
    gram: Float64Array, rhs: Float64Array, equality: BoolArray
) -> Float64Array | None:
    """Multipliers that maximise b'λ - ½ λ'Kλ over λ_r >= 0 (free where `equality`), nearly.

    Parameters
    ----------
    gram : ndarray, shape (m, m)
        K, of unit diagonal.
    rhs : ndarray, shape (m,)
        b.
    equality : ndarray of bool, shape (m,)

    Returns
    -------
    ndarray or None
        λ, shape (m,): a guess, whatever OSQP says of it. None when OSQP calls the dual unbounded,
        which is to say the machine infeasible, and so has no λ.

    Notes
    -----
    The work is deterministic: the penalty of OSQP adapts by iteration count, not by time. OSQP's
    polishing is off, as the finish on the active set does its work.
    """
    m = rhs.size
    rows, columns = np.tril_indices(m)  # of the transpose: upper triangle, column by column
    upper = scipy.sparse.csc_array(
        (gram[rows, columns], columns, np.arange(m + 1) * np.arange(1, m + 2) // 2), shape=(m, m)
    )
    solver = osqp.OSQP(algebra="builtin")
    solver.setup(
        scipy.sparse.csc_matrix(upper),
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
    result = solver.solve(raise_error=False)
    if result.info.status == _INTERRUPTED:  # OSQP takes Ctrl-C for itself and raises nothing
        raise KeyboardInterrupt
    guess = np.asarray(result.x, dtype=np.float64)
    if result.info.status == _UNBOUNDED or not np.isfinite(guess).all():
        return None
    return guess
