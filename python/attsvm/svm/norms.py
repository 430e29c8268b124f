"""The norms of W that SVMs make small: their values, their duals, and what solves their SVMs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from attsvm import _core
from attsvm._geometries import Norm as NormLike
from attsvm._geometries import as_norm
from attsvm._linalg import Float64Array, LowRank, euclidean_norm
from attsvm._validation import as_choice
from attsvm.svm.svm_problem import SvmProblem
from attsvm.threads import thread_count

OPTIMALITY_TOLERANCE = 1e-9
NUCLEAR_OPTIMALITY_TOLERANCE = 1e-8
UNRESOLVED = 2
_WORTH_CHECKING = 1e-9  # float64 residual of a proof of infeasibility that is then made exact

Result: TypeAlias = dict[str, Any]
Solver: TypeAlias = "Callable[[SvmProblem, Float64Array | None], tuple[Result, Any]]"


@dataclass(frozen=True)
class Norm:
    """A norm N of W that an SVM makes small."""

    name: str  # a key of `NORMS`, or "l" and p
    text: str  # in messages, before "norm"
    values: Callable[[Float64Array], Float64Array]  # of every matrix of a stack, (..., d, e)
    # (problem, start) to the arrays of the core's result, and the names of what gave them
    solvers: dict[str, Solver]
    dual: NormLike  # N*(G) = max <G, W> over N(W) <= 1
    strictly_convex: bool = False  # whether SVMs have one solution
    by_entry: bool = False  # whether it depends on coordinates, not on singular values alone

    def of(self, matrix: LowRank) -> Float64Array:
        """Compute N of matrices (..., d, e), which are formed only where entries count."""
        return self.values(matrix.dense() if self.by_entry else matrix.compact())


def as_svm_norm(argument: str, norm: NormLike) -> Norm:
    """Read a name of `NORMS`, or a number p > 1 for l_p, and return the norm."""
    name = norm if isinstance(norm, str) else as_norm(argument, norm)
    if isinstance(name, str):  # one of a geometry may have no SVM solver
        return NORMS[as_choice(argument, name, tuple(NORMS))]
    return _power_norm(name)


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
    for b in np.flatnonzero(result["status"] == UNRESOLVED):
        one, names[b] = _active_set(problem.problem(int(b)), None)
        for name, value in one.items():
            result[name][b] = value[0]
    return result, names


def _nuclear(problem: SvmProblem, start: Float64Array | None) -> tuple[Result, Any]:
    """Interior point or singular-value thresholding, finished by Newton's method on a face."""
    result = _core.smallest_nuclear(
        **problem.gathered_arguments(),
        method="auto",
        optimality=NUCLEAR_OPTIMALITY_TOLERANCE,
        infeasibility=_WORTH_CHECKING,
        threads=thread_count(None),
        report=None,
    )
    return dict(result), "native"


def _in_norm(name: str, p: float = 0.0) -> dict[str, Solver]:
    """Interior point for max, l1 and spectral; Newton's method along p for l_p."""

    def solved(problem: SvmProblem, start: Float64Array | None) -> tuple[Result, Any]:
        result = _core.smallest_in_norm(
            **problem.gathered_arguments(),
            norm=name,
            p=p,
            optimality=OPTIMALITY_TOLERANCE,
            infeasibility=_WORTH_CHECKING,
            threads=thread_count(None),
            report=None,
        )
        return dict(result), "native"

    return {"auto": solved, "native": solved}


def _largest(W: Float64Array) -> Float64Array:
    return np.asarray(np.abs(W).max(axis=(-2, -1)))


def _sum(W: Float64Array) -> Float64Array:
    return np.asarray(np.abs(W).sum(axis=(-2, -1)))


def _singular_values(W: Float64Array) -> Float64Array:
    return np.asarray(np.linalg.svd(W, compute_uv=False), np.float64)


@lru_cache(maxsize=64)
def _power_norm(p: float) -> Norm:
    def values(W: Float64Array) -> Float64Array:
        largest = _largest(W)
        unit = W / np.where(largest > 0, largest, 1.0)[..., np.newaxis, np.newaxis]
        return np.asarray(largest * np.sum(np.abs(unit) ** p, axis=(-2, -1)) ** (1 / p))

    return Norm(
        name=f"l{p:g}",
        text=f"l_{p:g}",
        values=values,
        solvers=_in_norm("lp", p),
        dual=p / (p - 1),
        strictly_convex=True,
        by_entry=True,
    )


NORMS: dict[str, Norm] = {
    "fro": Norm(
        "fro",
        "Frobenius",
        lambda W: euclidean_norm(W, (-2, -1)),
        {"auto": _frobenius, "native": _frobenius, "osqp": _by_osqp, "active-set": _active_set},
        dual="fro",
        strictly_convex=True,
    ),
    "nuc": Norm(
        "nuc",
        "nuclear",
        lambda W: np.asarray(_singular_values(W).sum(axis=-1)),
        {"auto": _nuclear, "native": _nuclear},
        dual="spec",
    ),
    "max": Norm("max", "max", _largest, _in_norm("max"), dual="l1", by_entry=True),
    "l1": Norm("l1", "l1", _sum, _in_norm("l1"), dual="max", by_entry=True),
    "spec": Norm(
        "spec",
        "spectral",
        lambda W: np.asarray(_singular_values(W).max(axis=-1)),
        _in_norm("spec"),
        dual="nuc",
    ),
}
