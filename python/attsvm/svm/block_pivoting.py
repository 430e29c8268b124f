"""Exact finish of a guess on the Gram matrix, by exchanging whole blocks of the active set."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, lapack

from attsvm.svm.constraints import Constraints, Float64Array

__all__ = ["finish_by_block_pivoting"]

_MOST_ROUNDS = 30
_EPS = float(np.finfo(np.float64).eps)


def finish_by_block_pivoting(
    unit: Constraints, gram: Float64Array, guess: Float64Array
) -> tuple[Float64Array, Float64Array] | None:
    """Solution and multipliers that meet the optimality conditions, from a guess near them.

    The active set starts where a multiplier outweighs its slack. Its constraints are solved as
    equations; those whose multiplier comes out negative leave, those that are violated enter, until
    nothing changes. This is the primal-dual active set method, a semismooth Newton method, and
    takes one or two rounds from a good guess. Of linearly dependent constraints only independent
    ones get a multiplier.

    Parameters
    ----------
    unit : Constraints
        With unit rows.
    gram : ndarray, shape (m, m)
        Its Gram matrix.
    guess : ndarray, shape (m,)

    Returns
    -------
    (ndarray, ndarray) or None
        P, shape (s, d), with W = P' Z; and λ, shape (m,). None when the exchanges do not settle.
        The result is not checked here.

    References
    ----------
    Hintermüller, Ito, Kunisch, "The primal-dual active set strategy as a semismooth Newton method",
    SIAM Journal on Optimization 13, 2003.
    """
    inequality = ~unit.equality
    active = unit.equality | (guess > gram @ guess - unit.rhs)
    for _ in range(_MOST_ROUNDS):
        equations = _ActiveEquations(gram, np.flatnonzero(active))
        dual = equations.solve(unit.rhs)
        slack = gram @ dual - unit.rhs
        rounding = 64 * _EPS * max(1.0, float(np.abs(dual).sum()))
        leaves = active & inequality & (dual <= 0)
        enters = ~active & inequality & (slack < -rounding)
        if not (leaves.any() or enters.any()):
            return _refined(unit, equations, dual)
        active = (active & ~leaves) | enters
    return None


def _refined(
    unit: Constraints, equations: _ActiveEquations, dual: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Iterative refinement of P and λ together, with residuals from the differences themselves.

    P is corrected on its own, so that what rounding leaves in the margins is relative to W and not
    to the multipliers, which are as large as its square.
    """
    sums = unit.token_sums(dual)
    for _ in range(2):
        correction = equations.solve(unit.rhs - unit.values(sums, unit.queries))
        sums = sums + unit.token_sums(correction)
        dual = dual + correction
    return sums, np.where(unit.equality, dual, np.maximum(dual, 0.0))


class _ActiveEquations:
    """K_AA λ_A = b_A on a largest independent part of the active set A, by pivoted Cholesky."""

    def __init__(self, gram: Float64Array, active: npt.NDArray[np.intp]) -> None:
        self.independent = active
        self.factor = np.empty((0, 0))
        if active.size:
            factor, pivots, rank, _ = lapack.dpstrf(gram[np.ix_(active, active)])
            self.independent = active[pivots[:rank] - 1]
            self.factor = factor[:rank, :rank]

    def solve(self, rhs: Float64Array) -> Float64Array:
        """λ with zeros outside the independent part, for a right-hand side of every constraint."""
        dual = np.zeros_like(rhs)
        if self.independent.size:
            dual[self.independent] = cho_solve((self.factor, False), rhs[self.independent])
        return dual
