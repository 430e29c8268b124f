"""The dual active set method in NumPy, an oracle: the exact solution, or a proof of none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr_delete, solve_triangular

Float64Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_EPS = float(np.finfo(np.float64).eps)
_DEPENDENT = 1e-13
_HOPELESS = 1e-10


@dataclass(frozen=True, eq=False)
class ActiveSetAnswer:
    """What the method ends with; nothing of it is checked here.

    Attributes
    ----------
    w : ndarray, shape (D,), or None
        The smallest vector that meets the constraints; None if there is none.
    dual : ndarray, shape (m,)
        Its multipliers, or else the multipliers of a Farkas certificate, of any scale.
    """

    w: Float64Array | None
    dual: Float64Array


def smallest_exactly(rows: Float64Array, rhs: Float64Array, equality: BoolArray) -> ActiveSetAnswer:
    """Compute the smallest w with rows w >= rhs (= where `equality`), for rows of any size."""
    rows, rhs = np.asarray(rows, dtype=float), np.asarray(rhs, dtype=float)
    sizes = np.linalg.norm(rows, axis=1)
    some = sizes > 0
    dual = np.zeros(rhs.size)
    if np.any(~some & np.where(equality, rhs != 0, rhs > 0)):
        return ActiveSetAnswer(None, dual)
    scale = np.abs(rhs[some] / sizes[some]).max(initial=0.0) or 1.0
    unit = rows[some] / sizes[some, np.newaxis]
    answer = solve_by_dual_active_set(unit, rhs[some] / sizes[some] / scale, equality[some])
    assert answer is not None
    dual[some] = scale * answer.dual / sizes[some]
    return ActiveSetAnswer(None if answer.w is None else scale * answer.w, dual)


def solve_by_dual_active_set(
    rows: Float64Array, rhs: Float64Array, equality: BoolArray
) -> ActiveSetAnswer | None:
    """Smallest w with a_r'w >= b_r (a_r'w = b_r where `equality`), from w = 0.

    Violated constraints are made active one at a time, the most violated first; on the way, active
    ones whose multiplier falls to zero are let go. Each constraint made active raises the dual
    objective, so no active set comes back and the method ends. A violated constraint that is a
    combination of active ones, none of which can be let go, is a Farkas certificate. The active
    rows stay linearly independent and are held in an orthogonal factorisation, so that ties and
    repeated constraints do no harm and the Gram matrix, with its squared condition, is not used.

    Parameters
    ----------
    rows : ndarray, shape (m, D)
        a_r, of unit norm.
    rhs : ndarray, shape (m,)
        b_r, at most 1 in size.
    equality : ndarray of bool, shape (m,)

    Returns
    -------
    ActiveSetAnswer or None
        None when rounding keeps it from ending.

    References
    ----------
    Goldfarb, Idnani, "A numerically stable dual method for solving strictly convex quadratic
    programs", Mathematical Programming 27, 1983.
    """
    method = _DualActiveSet(rows, rhs, equality)
    for position in np.flatnonzero(equality):
        if not method.enter(int(position)):
            return ActiveSetAnswer(None, method.certificate)
    settled = False
    for _ in range(10 * sum(rows.shape) + 100):
        constraint, violation = method.most_violated()
        if violation <= method.rounding():
            if settled:
                return ActiveSetAnswer(method.w, method.dual)
            method.settle()
            settled = True
            continue
        settled = False
        if not method.enter(constraint):
            return ActiveSetAnswer(None, method.certificate)
    return None


class _DualActiveSet:
    """The state: w = Σ dual_r a_r, the smallest w with a_r'w = b_r on the active set."""

    def __init__(self, rows: Float64Array, rhs: Float64Array, equality: BoolArray) -> None:
        m, dimension = rows.shape
        self.rows, self.rhs, self.equality = rows, rhs, equality
        self.w = np.zeros(dimension)
        self.dual = np.zeros(m)
        self.certificate = np.zeros(m)
        self.active = np.empty(0, dtype=np.intp)
        capacity = min(m, dimension)
        self._basis = np.empty((dimension, capacity), order="F")
        self._triangle = np.zeros((capacity, capacity), order="F")

    def rounding(self) -> float:
        """Violation that may be rounding alone."""
        return 64 * _EPS * (1.0 + float(np.linalg.norm(self.w)))

    def most_violated(self) -> tuple[int, float]:
        """The inactive inequality with the largest b_r - a_r'w, and that violation."""
        violation = self.rhs - self.rows @ self.w
        violation[self.equality] = -np.inf
        violation[self.active] = -np.inf
        constraint = int(violation.argmax())
        return constraint, float(violation[constraint])

    def enter(self, constraint: int) -> bool:
        """Make `constraint` active; False, with `certificate` set, if it contradicts the others."""
        row = self.rows[constraint]
        gained = 0.0
        while True:
            along, outside = self._split(row)
            combination = self._back_substitute(along)
            missing = float(self.rhs[constraint] - row @ self.w)
            distance = float(np.linalg.norm(outside))
            if distance > _DEPENDENT * (1.0 + float(np.abs(combination).sum())):
                full_step = missing / distance**2
            elif self.equality[constraint] and abs(missing) <= self.rounding():
                return True
            else:
                full_step = np.inf
            blocking, blocked_step = self._first_to_zero(combination)
            step = min(full_step, blocked_step)
            if step == np.inf:
                self.certificate[constraint] = np.sign(missing)
                self.certificate[self.active] = -np.sign(missing) * combination
                negative = ~self.equality & (self.certificate < 0)
                self.certificate[negative] = 0.0
                return False
            self.dual[self.active] -= step * combination
            gained += step
            if full_step < np.inf:
                self.w += step * outside
            if full_step <= blocked_step:
                self.dual[constraint] = gained
                self._append(constraint, along, outside, distance)
                return not self._hopeless()
            self._remove(blocking)

    def settle(self) -> None:
        """Recompute w and the multipliers from the active rows alone, without the history."""
        while True:
            count = self.active.size
            basis, triangle = np.linalg.qr(self.rows[self.active].T)
            self._basis[:, :count] = basis
            self._triangle[:count, :count] = triangle
            rhs = self.rhs[self.active]
            self.w = np.zeros_like(self.w)
            for _ in range(2):
                missing = rhs - self.rows[self.active] @ self.w
                self.w += basis @ solve_triangular(triangle, missing, trans="T")
            dual = self._back_substitute(basis.T @ self.w)
            self.dual[:] = 0.0
            self.dual[self.active] = dual
            negative = (dual < 0) & ~self.equality[self.active]
            if not negative.any():
                return
            self.dual[self.active[negative]] = 0.0
            self.active = self.active[~negative]

    def _split(self, row: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Coefficients of `row` in the basis of the active rows, and what is outside their span."""
        basis = self._basis[:, : self.active.size]
        along = basis.T @ row
        outside = row - basis @ along
        correction = basis.T @ outside
        return along + correction, outside - basis @ correction

    def _back_substitute(self, along: Float64Array) -> Float64Array:
        count = self.active.size
        if count == 0:
            return along
        solution: Float64Array = solve_triangular(self._triangle[:count, :count], along)
        return solution

    def _first_to_zero(self, combination: Float64Array) -> tuple[int, float]:
        """Position in the active set of the multiplier that reaches zero first, and the step."""
        noise = _DEPENDENT * (1.0 + float(np.abs(combination).max(initial=0.0)))
        falling = (combination > noise) & ~self.equality[self.active]
        if not falling.any():
            return -1, np.inf
        steps = np.full(combination.size, np.inf)
        steps[falling] = self.dual[self.active[falling]] / combination[falling]
        first = int(steps.argmin())
        return first, float(steps[first])

    def _append(
        self, constraint: int, along: Float64Array, outside: Float64Array, distance: float
    ) -> None:
        count = self.active.size
        self._basis[:, count] = outside / distance
        self._triangle[:count, count] = along
        self._triangle[count, count] = distance
        self.active = np.append(self.active, constraint)

    def _remove(self, position: int) -> None:
        count = self.active.size
        basis, triangle = qr_delete(
            self._basis[:, :count], self._triangle[:count, :count], position, which="col"
        )
        self._basis[:, : count - 1] = basis[:, : count - 1]
        self._triangle[: count - 1, : count - 1] = triangle[: count - 1]
        self.dual[self.active[position]] = 0.0
        self.active = np.delete(self.active, position)

    def _hopeless(self) -> bool:
        """Whether the multipliers already prove that w would have to be beyond reach."""
        weight = float(np.abs(self.dual[self.rhs != 0]).sum())
        if float(np.linalg.norm(self.w)) >= _HOPELESS * weight:
            return False
        self.certificate[:] = self.dual
        return True
