"""Machines solved by the dual in the C++ core, a whole batch in one call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from attsvm import _core
from attsvm._validation import BoolArray, FloatArray, IndexArray
from attsvm.data import AttentionData
from attsvm.svm.certificate import (
    FARKAS_TOLERANCE,
    NUCLEAR_OPTIMALITY_TOLERANCE,
    OPTIMALITY_TOLERANCE,
)
from attsvm.svm.constraints import Constraints, Float64Array
from attsvm.svm.frobenius import Infeasible, Optimal
from attsvm.svm.solution import ACTIVE_TOLERANCE, SVMSolution, fields_of
from attsvm.threads import thread_count

__all__ = [
    "Machines",
    "attention_machines",
    "general_machines",
    "label_machines",
    "prompt_machines",
    "solve_natively",
]

_OPTIMAL, _INFEASIBLE, _UNRESOLVED = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Machines:
    """B machines of one shape: the smallest W with d_it' W z_i >= b_it (or = b_it).

    d_it is the selected token of input i less its token t, for the valid tokens t other than it.
    An input without a selected token has the tokens themselves for d_it.

    Attributes
    ----------
    tokens : ndarray, shape (B, n, T, d), float64 or float32
    queries : ndarray, shape (B, n, e)
        z_i.
    selected : ndarray of int, shape (B, n)
        -1 for inputs without a selected token.
    lengths : ndarray of int, shape (B, n)
        Number of valid tokens.
    rhs : ndarray, shape (B, n, T)
        b_it.
    equality : ndarray of bool, shape (B, n, T)
        Where equality is asked for.
    start : ndarray, shape (B, n, T), or None
        A guess of the multipliers, of any scale, for the Frobenius norm.
    """

    tokens: FloatArray
    queries: Float64Array
    selected: IndexArray
    lengths: IndexArray
    rhs: Float64Array
    equality: BoolArray
    start: Float64Array | None = None

    @property
    def constrained(self) -> BoolArray:
        """Which tokens have a constraint: shape (B, n, T)."""
        token = np.arange(self.tokens.shape[2])
        constrained: BoolArray = (token < self.lengths[..., np.newaxis]) & (
            token != self.selected[..., np.newaxis]
        )
        return constrained


def attention_machines(data: AttentionData, selected: IndexArray) -> Machines:
    """(x_i,selected - x_it)' W z_i >= 1 for every valid t other than the selected token."""
    assert data.queries is not None
    tokens, lengths, selected = _with_batch_axis(data, selected)
    queries = data.queries.reshape(*selected.shape, -1).astype(np.float64, copy=False)
    return _machines(tokens, queries, selected, lengths, np.ones(tokens.shape[:3]))


def general_machines(data: AttentionData, chosen: IndexArray, sets: BoolArray) -> Machines:
    """(x_i,chosen - x_it)' W z_i = 0 for the other t of the selected set, >= 1 for all others."""
    machines = attention_machines(data, chosen)
    in_set = sets.reshape(machines.rhs.shape)
    equality = in_set & machines.constrained
    return replace(machines, rhs=np.where(in_set, 0.0, 1.0), equality=equality)


def prompt_machines(data: AttentionData, selected: IndexArray, required: BoolArray) -> Machines:
    """(x_i,selected - x_it)' p >= 1, or >= 0 in the inputs that are not `required`."""
    tokens, lengths, selected = _with_batch_axis(data, selected)
    rhs = np.repeat(required.reshape(*selected.shape, 1), data.T, axis=2).astype(np.float64)
    return _machines(tokens, np.ones((*selected.shape, 1)), selected, lengths, rhs)


def label_machines(data: AttentionData, selected: IndexArray) -> Machines:
    """Y_i v' x_i,selected >= 1 for every input."""
    tokens, _, selected = _with_batch_axis(data, selected)
    chosen = np.take_along_axis(tokens, selected[..., np.newaxis, np.newaxis], axis=2)
    labels = data.labels.reshape(*selected.shape, 1, 1).astype(np.float64)
    ones = np.ones_like(selected)
    rhs = np.ones((*ones.shape, 1))
    return _machines(labels * chosen, rhs, -ones, ones, rhs)


def solve_natively(
    variable: Literal["W", "p", "v"],
    machines: Machines,
    otherwise: Callable[[int], tuple[Constraints, Optimal | Infeasible]],
    norm: Literal["fro", "nuc"] = "fro",
) -> SVMSolution:
    """Solve all of the machines; the solution has their batch axis.

    Parameters
    ----------
    variable : {"W", "p", "v"}
    machines : Machines
    otherwise : callable
        Solves the machine of one index. It is asked for those that the core has certified neither
        a solution nor infeasibility for.
    norm : {"fro", "nuc"}
        What is made small: the Frobenius or the nuclear norm.

    Notes
    -----
    Frobenius norm: block coordinate ascent on the dual guesses the active constraints, conjugate
    gradients finish on them; small machines, and those where that does not end, are solved by the
    dual active set method. Neither forms the Gram matrix. The core checks each answer by the
    certificates that `attsvm.svm.certificate` describes, against the same tolerances.

    Nuclear norm: an interior-point method, or primal-dual steps with singular-value thresholding
    where there are many constraints, finished by Newton's method on the face of the solution.
    Machines that these do not solve are given to the Frobenius methods for a proof of
    infeasibility, which does not depend on the norm.
    """
    problem: dict[str, Any] = {
        "tokens": machines.tokens,
        "queries": machines.queries,
        "selected": machines.selected,
        "lengths": machines.lengths,
        "rhs": machines.rhs,
        "equality": machines.equality,
        "infeasibility": FARKAS_TOLERANCE,
        "threads": thread_count(None),
        "report": None,
    }
    if norm == "fro":
        answer = _core.smallest_frobenius(
            start=machines.start, optimality=OPTIMALITY_TOLERANCE, **problem
        )
    else:
        problem["tokens"] = machines.tokens.astype(np.float64, copy=False)
        answer = _core.smallest_nuclear(
            method="auto", optimality=NUCLEAR_OPTIMALITY_TOLERANCE, **problem
        )
    status, dual, margins = answer["status"], answer["dual"], answer["margins"]
    left, right = answer["left"], answer["right"]
    optimal = (status == _OPTIMAL)[:, np.newaxis, np.newaxis]
    infeasible = (status == _INFEASIBLE)[:, np.newaxis, np.newaxis]
    active = machines.equality | (margins - machines.rhs <= ACTIVE_TOLERANCE)
    of_constraints: dict[str, Any] = {
        "margins": margins,
        "dual": np.where(optimal, dual, np.nan),
        "support": optimal & machines.constrained & active,
        "certificate": np.where(infeasible, dual, np.nan),
    }
    if variable == "v":
        of_constraints = {name: value[..., 0] for name, value in of_constraints.items()}
    if variable != "W":  # all inputs have the same query
        left = np.sum(left * right, axis=1, keepdims=True)
        right = np.where(np.isnan(left[..., :1]), np.nan, 1.0)
    fields: dict[str, Any] = {
        "status": np.where(status == _INFEASIBLE, "infeasible", "optimal"),
        "norm": answer["norm"],
        "gap": answer["gap"],
        "kkt": answer["kkt"],
        "solver": np.where(answer["iterations"] == 0, "none", "native").astype("<U10"),
        "left": left,
        "right": right,
        **of_constraints,
    }
    for b in np.flatnonzero(status == _UNRESOLVED):
        for name, value in fields_of(*otherwise(int(b))).items():
            fields[name][b] = value
    return SVMSolution(variable=variable, **fields)


def _with_batch_axis(
    data: AttentionData, selected: IndexArray
) -> tuple[FloatArray, IndexArray, IndexArray]:
    """Tokens (B, n, T, d), lengths and selected (B, n), with B = 1 for a single problem."""
    batch = data.batch or 1
    tokens = data.own_tokens.reshape(batch, data.n, data.T, data.d)
    return tokens, data.lengths.reshape(batch, data.n), selected.reshape(batch, data.n)


def _machines(
    tokens: FloatArray,
    queries: Float64Array,
    selected: IndexArray,
    lengths: IndexArray,
    rhs: Float64Array,
) -> Machines:
    """Without equalities."""
    return Machines(
        np.ascontiguousarray(tokens),
        np.ascontiguousarray(queries),
        np.ascontiguousarray(selected),
        np.ascontiguousarray(lengths),
        rhs,
        np.zeros(rhs.shape, dtype=np.bool_),
    )
