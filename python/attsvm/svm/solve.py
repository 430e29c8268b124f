"""Solve SVM problems in the C++ core, a whole batch in one call, with certified answers."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from attsvm._arrays import Float64Array
from attsvm._validation import as_choice
from attsvm.svm.norms import NORMS, Norm
from attsvm.svm.solution import (
    ACTIVE_TOLERANCE,
    ADVICE,
    SolverError,
    SVMSolution,
    of_batch,
    one_problem,
)
from attsvm.svm.solvers import (
    BEYOND_FLOAT64,
    EXTENDED,
    INFEASIBLE,
    STATUSES,
    Result,
    without_answer,
)
from attsvm.svm.svm_problem import SvmProblem

Variable = Literal["W", "p", "v"]

_UNIQUE = (False, True, None)  # by the core's number, -1 where it is not decided


def solve(
    variable: Variable,
    problem: SvmProblem,
    *,
    batch: int | None,
    norm: Norm = NORMS["fro"],
    solver: str = "auto",
    start: Float64Array | None = None,
) -> SVMSolution:
    """Solve every problem of a batch and return what is certified; else raise `SolverError`.

    The solution calls W `variable`; where `batch` is None, that of the one problem has no batch
    axis. `solver` is a key of those of the norm, `start` a guess of the multipliers (B, n, T).
    """
    method = norm.solvers[as_choice("solver", solver, norm.solvers)]
    result, names = method(problem, start)
    require_answers(problem, result, solver, norm)
    fields = fields_of(variable, problem, result, names, norm)
    return SVMSolution(**(one_problem(fields) if batch is None else of_batch(fields)))


def fields_of(
    variable: Variable, problem: SvmProblem, result: Result, names: list[str], norm: Norm
) -> dict[str, Any]:
    """Return the fields of solutions by problem, for `of_batch` or `one_problem`."""
    dual, margins, left, right = result["dual"], result["margins"], result["left"], result["right"]
    status, iterations = result["status"].tolist(), result["iterations"].tolist()
    size, unique = result["norm"].tolist(), result["unique"].tolist()
    of_constraints: dict[str, Any] = {
        "margins": margins,  # inf where there is no constraint
        "dual": dual,
        "support": problem.equality | (margins - problem.rhs <= ACTIVE_TOLERANCE),
    }
    if INFEASIBLE in status:
        infeasible = (result["status"] == INFEASIBLE)[:, np.newaxis, np.newaxis]
        of_constraints |= {
            "dual": np.where(infeasible, np.nan, dual),
            "support": ~infeasible & of_constraints["support"],
            "certificate": np.where(infeasible, dual, np.nan),
        }
    if variable == "v":
        of_constraints = {name: value[..., 0] for name, value in of_constraints.items()}
    if variable != "W":  # all inputs have the same query
        parts = left * right
        left = np.sum(parts, axis=1, keepdims=True)
        if EXTENDED in names:
            extended = np.array([[[name == EXTENDED]] for name in names])
            nothing = left - left  # NaN where there is no solution
            lacking = np.where(extended, parts[:, 1:4], nothing)
            left = np.concatenate([left, lacking], axis=1)
        right = np.where(np.isnan(left[..., :1]), np.nan, 1.0)
    return {
        "variable": variable,
        "status": [STATUSES[s] for s in status],
        "norm": size,
        "gap": result["gap"].tolist(),
        "kkt": result["kkt"].tolist(),
        "solver": [name if k else "none" for name, k in zip(names, iterations, strict=True)],
        "left": left,
        "right": right,
        "unique": [
            None if s == INFEASIBLE else norm.strictly_convex or x == 0 or _UNIQUE[u]
            for s, x, u in zip(status, size, unique, strict=True)
        ],
        **of_constraints,
    }


def require_answers(problem: SvmProblem, result: Result, solver: str, norm: Norm) -> None:
    """Raise a `SolverError` that names the first problem of which nothing is certified."""
    for b in without_answer(result)[:1]:
        place = f" of problem {b}" if len(problem.rhs) > 1 else ""
        constraints = f"{int(problem.constrained[b].sum())} constraints{place}"
        if result["status"][b] == BEYOND_FLOAT64:
            beyond = "their norms, W or its multipliers are beyond what float64 holds"
            raise SolverError(f"{constraints}: {beyond}")
        tried = "native" if solver == "auto" else solver
        unanswered = f"no certified {norm.text}-norm answer for {constraints}"
        raise SolverError(f"{unanswered}; tried {tried}; {ADVICE}")
