"""The core's solvers of SVMs in a norm, and OSQP as a second opinion."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np

from attsvm import _core
from attsvm._arrays import Float64Array
from attsvm._linalg import with_equal_rows
from attsvm.progress import reporter
from attsvm.svm.svm_problem import SvmProblem
from attsvm.threads import thread_count

OPTIMALITY_TOLERANCE = 1e-9
NUCLEAR_OPTIMALITY_TOLERANCE = 1e-8
OPTIMAL, INFEASIBLE, UNRESOLVED, BEYOND_FLOAT64, BOUNDED = range(5)  # status of a result
EXTENDED = "extended"  # what solved for W in four times the precision
STATUSES = ("optimal", "infeasible", "unresolved", "overflow", "bounded")
_WORTH_CHECKING = 1e-9  # float64 residual of a proof of infeasibility that is then made exact

Result: TypeAlias = dict[str, Any]


class Solver(Protocol):
    """What solves problems from a guess of multipliers: the result, and what produced each."""

    def __call__(self, problem: SvmProblem, start: Float64Array | None) -> tuple[Result, list[str]]:
        """Solve every problem of the batch."""


def places_with(result: Result, *statuses: int) -> list[int]:
    """Return the places in the batch of results with one of these statuses."""
    # For one problem a list takes less time than arrays; for many, little beside solving them.
    return [b for b, status in enumerate(result["status"].tolist()) if status in statuses]


def without_answer(result: Result) -> list[int]:
    """Return the places in the batch of problems of which nothing is certified."""
    return places_with(result, UNRESOLVED, BEYOND_FLOAT64)


def certify(
    problem: SvmProblem,
    dual: Float64Array,
    left: Float64Array | None = None,
    right: Float64Array | None = None,
) -> Result:
    """Compute what multipliers prove of the Frobenius problems, on their data as given.

    `dual` is λ (B, n, T), of a solution or of a proof that there is none; W = left' right, with
    factors (B, n, d) and (B, n, e), is certified with them. Without factors W is A*(λ), or what
    solves the constraints that are active in λ. The status is 2 or more where neither is proved.
    """
    return dict(
        _core.certify_frobenius(
            svms=problem.core(),
            dual=np.ascontiguousarray(dual),
            left=None if left is None else np.ascontiguousarray(left),
            right=None if right is None else np.ascontiguousarray(right),
            optimality=OPTIMALITY_TOLERANCE,
            infeasibility=_WORTH_CHECKING,
            threads=thread_count(None),
            report=None,
        )
    )


def put(result: Result, b: int, one: Result) -> None:
    """Put the result of one problem at place `b` of a batch, which gets as many rows as that."""
    for name, value in one.items():
        if value.ndim == 3:
            result[name], value = with_equal_rows([result[name], value])
        result[name][b] = value[0]


class _Solve(Protocol):
    """What solves problems by the core, with W in float64 or extended to four times its precision.

    It is extended where multipliers are given that solving in float64 came to.
    """

    def __call__(self, problem: SvmProblem, found: Float64Array | None) -> _core.SvmResult:
        """Solve every problem of the batch."""


def _residuals(result: Result) -> list[float]:
    """Return what is left of the optimality conditions of each problem, the gap among them."""
    return [max(pair) for pair in zip(result["gap"].tolist(), result["kkt"].tolist(), strict=True)]


def _by_core(solve: _Solve, problem: SvmProblem, name: str) -> tuple[Result, list[str]]:
    """Solve, and where no W in float64 meets its conditions to 1e-9, for one with more digits."""
    result: Result = dict(solve(problem, None))
    names = [name] * len(problem.rhs)
    known = zip(result["status"].tolist(), _residuals(result), strict=True)
    for b, (status, left) in enumerate(known):
        certified = status == OPTIMAL
        if status != UNRESOLVED and not (certified and left > OPTIMALITY_TOLERANCE):
            continue
        one: Result = dict(solve(problem.problem(b), result["dual"][[b]]))
        better = _residuals(one)[0] < left  # false where there is none
        if better if certified else one["status"][0] != UNRESOLVED:
            put(result, b, one)
            names[b] = EXTENDED
    return result, names


def _settings(problem: SvmProblem) -> dict[str, Any]:
    """Return what every solver of the core takes; a bar, where one is shown, names the SVMs."""
    count = len(problem.rhs)
    if count > 1:
        shown = reporter(lambda: f"{count} SVMs")
        report = None if shown is None else lambda share, *_: shown(share)
    else:
        report = reporter(lambda: f"SVM of {problem.constrained.sum()} constraints")
    threads = thread_count(None)
    return {"infeasibility": _WORTH_CHECKING, "threads": threads, "report": report}


def frobenius(
    problem: SvmProblem, start: Float64Array | None, *, active_set: bool = False
) -> tuple[Result, list[str]]:
    """Solve by dual ascent or the dual active set method, whichever is less work."""

    def solve(problem: SvmProblem, found: Float64Array | None) -> _core.SvmResult:
        return _core.smallest_frobenius(
            svms=problem.core(),
            start=start if found is None else found,
            active_set=active_set,
            extended=found is not None,
            optimality=OPTIMALITY_TOLERANCE,
            **_settings(problem),
        )

    return _by_core(solve, problem, "active-set" if active_set else "native")


def active_set(problem: SvmProblem, start: Float64Array | None) -> tuple[Result, list[str]]:
    """Solve in the Frobenius norm by the dual active set method."""
    return frobenius(problem, start, active_set=True)


def by_osqp(problem: SvmProblem, start: Float64Array | None) -> tuple[Result, list[str]]:
    """Certify OSQP's multipliers in the Frobenius norm; where that fails, by `active_set`."""
    from attsvm.svm.dual_osqp import osqp_multipliers

    result = certify(problem, osqp_multipliers(problem))
    names = ["osqp"] * len(problem.rhs)
    for b in places_with(result, UNRESOLVED):
        one, (names[b],) = active_set(problem.problem(b), None)
        put(result, b, one)
    return result, names


def nuclear(problem: SvmProblem, start: Float64Array | None) -> tuple[Result, list[str]]:
    """Solve by interior point or singular-value thresholding, and Newton's method on a face."""

    def solve(problem: SvmProblem, found: Float64Array | None) -> _core.SvmResult:
        return _core.smallest_nuclear(
            svms=problem.gathered().core(),
            method="auto",
            extended=found is not None,
            optimality=NUCLEAR_OPTIMALITY_TOLERANCE,
            **_settings(problem),
        )

    return _by_core(solve, problem, "native")


def in_norm(name: str, p: float = 0.0) -> dict[str, Solver]:
    """Solve by interior point for max, l1 and spectral, by Newton's method along p for l_p."""

    def solve(problem: SvmProblem, found: Float64Array | None) -> _core.SvmResult:
        return _core.smallest_in_norm(
            svms=problem.gathered().core(),
            norm=name,
            p=p,
            extended=found is not None,
            optimality=OPTIMALITY_TOLERANCE,
            **_settings(problem),
        )

    def solved(problem: SvmProblem, start: Float64Array | None) -> tuple[Result, list[str]]:
        return _by_core(solve, problem, "native")

    return {"auto": solved, "native": solved}
