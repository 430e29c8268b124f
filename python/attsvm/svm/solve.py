"""Solve SVM problems in the C++ core, a whole batch in one call, with certified answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from attsvm import _core
from attsvm._linalg import Float64Array
from attsvm._validation import as_choice
from attsvm.svm.solution import ACTIVE_TOLERANCE, SolverError, SVMSolution, without_batch_axis
from attsvm.svm.svm_problem import SvmProblem
from attsvm.threads import thread_count

__all__ = ["NORMS", "OPTIMALITY_TOLERANCE", "certify", "solution_of", "solve"]

OPTIMALITY_TOLERANCE = 1e-9
NUCLEAR_OPTIMALITY_TOLERANCE = 1e-8
_WORTH_CHECKING = 1e-9  # float64 residual of a proof of infeasibility that is then made exact
_OPTIMAL, _INFEASIBLE, _UNRESOLVED, _BEYOND_FLOAT64 = 0, 1, 2, 3

Variable = Literal["W", "p", "v"]
Result = dict[str, Any]


@dataclass(frozen=True)
class Norm:
    """A norm of W that an SVM makes small, and how.

    Attributes
    ----------
    solvers : dict of str to callable
        (problem, start) to the arrays of the core's result, and the names of the solvers that gave
        them, shape (B,).
    """

    solvers: dict[str, Callable[[SvmProblem, Float64Array | None], tuple[Result, Any]]]


def solve(
    variable: Variable,
    problem: SvmProblem,
    *,
    batch: int | None,
    norm: str = "fro",
    solver: str = "auto",
    start: Float64Array | None = None,
) -> SVMSolution:
    """Solve every problem of a batch and return what is certified.

    Parameters
    ----------
    variable : {"W", "p", "v"}
        What the solution calls W.
    problem : SvmProblem
    batch : int or None
        None: the one problem of the batch is returned without batch axis.
    norm : str
        A key of `NORMS`.
    solver : str
        A key of its solvers.
    start : ndarray, shape (B, n, T), optional
        A guess of the multipliers.

    Raises
    ------
    ValueError
        `norm` or `solver` is not known.
    SolverError
        Neither a solution nor infeasibility could be certified.
    """
    solvers = NORMS[as_choice("norm", norm, tuple(NORMS))].solvers
    method = solvers[as_choice("solver", solver, tuple(solvers))]
    result, names = method(problem, start)
    unresolved = np.flatnonzero(result["status"] >= _UNRESOLVED)
    if unresolved.size:
        raise SolverError(_not_solved(problem, result, int(unresolved[0]), solver, norm))
    solution = solution_of(variable, problem, result, names)
    return solution if batch is not None else without_batch_axis(solution)


def certify(
    problem: SvmProblem,
    dual: Float64Array,
    left: Float64Array | None = None,
    right: Float64Array | None = None,
) -> Result:
    """Compute what multipliers prove of the Frobenius problems, on their data as given.

    Parameters
    ----------
    problem : SvmProblem
    dual : ndarray, shape (B, n, T)
        λ: of a solution, or of a proof that there is none.
    left, right : ndarray, shapes (B, n, d) and (B, n, e), optional
        W = left' right to be certified with them. Otherwise W is A*(λ), or what solves the
        constraints that are active in λ.

    Returns
    -------
    dict
        The core's result. Its status is 2 or more where neither is proved.
    """
    return dict(
        _core.certify_frobenius(
            **problem.core_arguments(),
            dual=np.ascontiguousarray(dual),
            left=None if left is None else np.ascontiguousarray(left),
            right=None if right is None else np.ascontiguousarray(right),
            optimality=OPTIMALITY_TOLERANCE,
            infeasibility=_WORTH_CHECKING,
            threads=thread_count(None),
            report=None,
        )
    )


def solution_of(variable: Variable, problem: SvmProblem, result: Result, names: Any) -> SVMSolution:
    """Return the core's result as a solution with batch axis."""
    status, dual, margins = result["status"], result["dual"], result["margins"]
    left, right = result["left"], result["right"]
    optimal = (status == _OPTIMAL)[:, np.newaxis, np.newaxis]
    infeasible = (status == _INFEASIBLE)[:, np.newaxis, np.newaxis]
    active = problem.equality | (margins - problem.rhs <= ACTIVE_TOLERANCE)
    of_constraints: dict[str, Any] = {
        "margins": margins,
        "dual": np.where(optimal, dual, np.nan),
        "support": optimal & problem.constrained & active,
        "certificate": np.where(infeasible, dual, np.nan),
    }
    if variable == "v":
        of_constraints = {name: value[..., 0] for name, value in of_constraints.items()}
    if variable != "W":  # all inputs have the same query
        left = np.sum(left * right, axis=1, keepdims=True)
        right = np.where(np.isnan(left[..., :1]), np.nan, 1.0)
    return SVMSolution(
        variable=variable,
        status=np.where(status == _INFEASIBLE, "infeasible", "optimal"),
        norm=result["norm"],
        gap=result["gap"],
        kkt=result["kkt"],
        solver=np.where(result["iterations"] == 0, "none", names).astype("<U10"),
        left=left,
        right=right,
        **of_constraints,
    )


def _frobenius(
    problem: SvmProblem, start: Float64Array | None, *, active_set: bool = False
) -> tuple[Result, Any]:
    """Ascent on the dual or the dual active set method, whichever is less work; or this alone."""
    result = _core.smallest_frobenius(
        **problem.core_arguments(),
        start=start,
        active_set=active_set,
        optimality=OPTIMALITY_TOLERANCE,
        infeasibility=_WORTH_CHECKING,
        threads=thread_count(None),
        report=None,
    )
    return dict(result), "active-set" if active_set else "native"


def _active_set(problem: SvmProblem, start: Float64Array | None) -> tuple[Result, Any]:
    return _frobenius(problem, start, active_set=True)


def _by_osqp(problem: SvmProblem, start: Float64Array | None) -> tuple[Result, Any]:
    from attsvm.svm.dual_osqp import osqp_multipliers

    result = certify(problem, osqp_multipliers(problem))
    names = np.full(len(problem.rhs), "osqp", dtype="<U10")
    for b in np.flatnonzero(result["status"] == _UNRESOLVED):
        one, names[b] = _active_set(problem.problem(int(b)), None)
        for name, value in one.items():
            result[name][b] = value[0]
    return result, names


def _nuclear(problem: SvmProblem, start: Float64Array | None) -> tuple[Result, Any]:
    """Interior point or singular-value thresholding, finished by Newton's method on a face."""
    arguments = problem.core_arguments()
    arguments["tokens"] = arguments["tokens"].astype(np.float64, copy=False)
    del arguments["token_ids"], arguments["query_ids"]
    result = _core.smallest_nuclear(
        **arguments,
        method="auto",
        optimality=NUCLEAR_OPTIMALITY_TOLERANCE,
        infeasibility=_WORTH_CHECKING,
        threads=thread_count(None),
        report=None,
    )
    return dict(result), "native"


NORMS: dict[str, Norm] = {
    "fro": Norm(
        {"auto": _frobenius, "native": _frobenius, "osqp": _by_osqp, "active-set": _active_set}
    ),
    "nuc": Norm({"auto": _nuclear, "native": _nuclear}),
}


def _not_solved(problem: SvmProblem, result: Result, b: int, solver: str, norm: str) -> str:
    place = f" of problem {b}" if len(problem.rhs) > 1 else ""
    constraints = f"{int(problem.constrained[b].sum())} constraints{place}"
    if result["status"][b] == _BEYOND_FLOAT64:
        return f"{constraints}: their norms, W or its multipliers are beyond what float64 holds"
    what = "nuclear-norm" if norm == "nuc" else "Frobenius-norm"
    tried = "native" if solver == "auto" else solver
    return f"no certified {what} answer for {constraints}; tried {tried}"
