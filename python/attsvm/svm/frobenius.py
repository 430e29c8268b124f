"""The smallest W in Frobenius norm that meets constraints, or the proof that there is none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from attsvm._validation import BoolArray
from attsvm.svm.block_pivoting import finish_by_block_pivoting
from attsvm.svm.certificate import FARKAS_TOLERANCE, certify_optimality, farkas_residual
from attsvm.svm.constraints import Constraints, Float64Array, UnitConstraints, factored_norm
from attsvm.svm.coordinates import coordinate_count, row_coordinates
from attsvm.svm.dual_active_set import solve_by_dual_active_set
from attsvm.svm.dual_osqp import osqp_multipliers
from attsvm.svm.solver_error import SolverError

__all__ = ["Infeasible", "Optimal", "smallest_frobenius"]

_FINISHED = 1e-11


@dataclass(frozen=True, eq=False)
class Optimal:
    """The smallest W, certified. Arrays hold one value per constraint.

    Attributes
    ----------
    left, right : ndarray, shapes (s, d) and (s, e)
        W = left' right.
    norm : float
        |W|_F.
    values, dual : ndarray, shape (m,)
        A_r(W) and the multipliers, W = A*(dual).
    gap, kkt : float
    solver : str
    """

    left: Float64Array
    right: Float64Array
    norm: float
    values: Float64Array
    dual: Float64Array
    gap: float
    kkt: float
    solver: str


@dataclass(frozen=True, eq=False)
class Infeasible:
    """No W meets the constraints, certified.

    Attributes
    ----------
    certificate : ndarray, shape (m,)
        Farkas multipliers with b'λ = 1.
    residual : float
        `farkas_residual` of them.
    solver : str
    """

    certificate: Float64Array
    residual: float
    solver: str


def smallest_frobenius(
    constraints: Constraints, solver: Literal["auto", "osqp", "active-set"]
) -> Optimal | Infeasible:
    """Solve min |W|_F under `constraints` and certify the answer, whichever it is.

    "active-set" is the dual active set method. "osqp" takes a guess from OSQP on the dual and
    finishes it exactly on its active set; where that is not certified to the last digits, or OSQP
    sees no solution, the dual active set method decides. "auto" takes the method whose work is
    less: a step of the active set method grows with the coordinates of W, the dual that OSQP solves
    with the number of constraints only.

    Raises
    ------
    SolverError
        Neither a solution nor a proof of infeasibility passed its certificate.
    """
    zero = constraints.zero_rows()
    contradictory = zero & np.where(constraints.equality, constraints.rhs != 0, constraints.rhs > 0)
    if contradictory.any():
        certificate = np.zeros(constraints.m)
        first = int(contradictory.argmax())
        certificate[first] = 1.0 / constraints.rhs[first]
        return Infeasible(certificate, 0.0, "none")
    if not constraints.rhs.any():
        return _zero_solution(constraints)
    scaled = (constraints.restricted(~zero) if zero.any() else constraints).normalised()
    sizes = f"norms from {scaled.row_norm.min():.1e} to {scaled.row_norm.max():.1e}"
    if not scaled.within_float64():
        raise SolverError(f"constraints of {sizes} are beyond what float64 holds")
    if solver == "auto":
        few_coordinates = 2 * coordinate_count(scaled.unit) <= scaled.unit.m
        solver = "active-set" if few_coordinates else "osqp"
    answer = _by_osqp_first(scaled) if solver == "osqp" else _by_active_set(scaled)
    if isinstance(answer, str):
        raise SolverError(
            f"no certified answer for {scaled.unit.m} constraints of {sizes}; tried {answer}"
        )
    if isinstance(answer, Infeasible):
        return replace(answer, certificate=_spread(answer.certificate, ~zero))
    return replace(answer, values=_spread(answer.values, ~zero), dual=_spread(answer.dual, ~zero))


def _by_osqp_first(scaled: UnitConstraints) -> Optimal | Infeasible | str:
    """The better of the two methods, the second of which is tried only where it is needed."""
    first = _by_osqp(scaled)
    if isinstance(first, Optimal) and max(first.gap, first.kkt) <= _FINISHED:
        return first
    second = _by_active_set(scaled)
    if isinstance(second, Infeasible):
        return second
    if isinstance(first, str):
        return f"{first}; {second}" if isinstance(second, str) else second
    if isinstance(second, str):
        return first
    return min(first, second, key=lambda answer: max(answer.gap, answer.kkt))


def _by_osqp(scaled: UnitConstraints) -> Optimal | str:
    """Certified solution, or what came instead."""
    unit = scaled.unit
    gram = unit.gram()
    guess = osqp_multipliers(gram, unit.rhs, unit.equality)
    if guess is None:
        return "osqp: dual unbounded"
    finished = finish_by_block_pivoting(unit, gram, guess)
    if finished is None:
        return "osqp: active set does not settle"
    sums, dual = finished
    return _optimal(scaled, sums, unit.queries, dual, "osqp")


def _by_active_set(scaled: UnitConstraints) -> Optimal | Infeasible | str:
    """Certified solution or proof that there is none, or else what came instead."""
    unit = scaled.unit
    coordinates = row_coordinates(unit)
    answer = solve_by_dual_active_set(coordinates.rows, unit.rhs, unit.equality)
    if answer is None:
        return "active set: does not end"
    residual = farkas_residual(unit, answer.dual)
    if residual <= FARKAS_TOLERANCE:
        gain = scaled.scale * float(unit.rhs @ answer.dual)
        return Infeasible(answer.dual / (gain * scaled.row_norm), residual, "active-set")
    if answer.w is None:
        return f"active set: infeasible, residual of the certificate {residual:.1e}"
    factors = coordinates.factors(answer.w)
    if factors is None:
        factors = unit.token_sums(answer.dual), unit.queries
    return _optimal(scaled, *factors, answer.dual, "active-set")


def _optimal(
    scaled: UnitConstraints,
    left: Float64Array,
    right: Float64Array,
    dual: Float64Array,
    solver: str,
) -> Optimal | str:
    """The point in the original units if it is certified, or else its residuals."""
    unit = scaled.unit
    certificate = certify_optimality(scaled, left, right, dual)
    if not certificate.holds() or farkas_residual(unit, dual) <= FARKAS_TOLERANCE:
        return f"{solver}: gap {certificate.gap:.1e}, KKT residual {certificate.kkt:.1e}"
    padding = ((0, len(unit.queries) - len(left)), (0, 0))
    return Optimal(
        scaled.scale * np.pad(left, padding),
        np.pad(right, padding),
        scaled.scale * factored_norm(left, right),
        scaled.original_values(unit.values(left, right)),
        scaled.original_dual(dual),
        certificate.gap,
        certificate.kkt,
        solver,
    )


def _zero_solution(constraints: Constraints) -> Optimal:
    """W = 0, the smallest there is, where every right-hand side is 0."""
    zeros = np.zeros(constraints.m)
    left = np.zeros((len(constraints.queries), constraints.differences.shape[1]))
    return Optimal(left, constraints.queries, 0.0, zeros, zeros, 0.0, 0.0, "none")


def _spread(values: Float64Array, kept: BoolArray) -> Float64Array:
    """`values` of the kept constraints among all of them, with zeros for the others."""
    spread = np.zeros(kept.size)
    spread[kept] = values
    return spread
