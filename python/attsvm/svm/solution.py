"""The solution of a support vector machine, with what proves it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np

from attsvm._validation import BoolArray
from attsvm.svm.constraints import Constraints, Float64Array
from attsvm.svm.frobenius import Infeasible, Optimal

__all__ = [
    "ACTIVE_TOLERANCE",
    "SVMSolution",
    "fields_of",
    "solution_of",
    "solution_of_batch",
    "without_batch_axis",
]

ACTIVE_TOLERANCE = 1e-6
_OF_SOLUTIONS = ("left", "right", "margins", "dual", "support")
_OF_PROOFS = ("certificate",)


@dataclass(frozen=True, eq=False, repr=False)
class SVMSolution:
    """The smallest W, p or v with the margins asked for, or the proof that there is none.

    A constraint belongs to token t of input i, and arrays with one value per constraint have the
    shape ([B,] n, T); those of the label machine, with one constraint per input, have the shape
    ([B,] n). B is there when the data is a batch; `status`, `norm`, `gap`, `kkt` and `solver` are
    then arrays of shape (B,). Numbers are float64, whatever the type of the data.

    What an infeasible problem does not have is None, and in a batch its entries are NaN (False in
    `support`).

    Attributes
    ----------
    variable : {"W", "p", "v"}
        What was solved for.
    status : {"optimal", "infeasible"}
        Either is said only with a certificate that was checked, see `gap` and `kkt`.
    norm : float
        |W|_F, |p| or |v|, or |W|_* of the nuclear-norm machine; inf if infeasible. A direction of
        norm 1 has the margin 1 / norm at most.
    margins : ndarray or None
        (x_iα - x_it)' W z_i with the selected token α, or the same with p for W z_i; inf at the
        selected token and at padding. Label machine: Y_i v' x_iα.
    dual : ndarray or None
        Multiplier λ_it >= 0 of each constraint, W = Σ λ_it (x_iα - x_it) z_i'; 0 at the selected
        token and at padding. Nuclear norm: this sum G has |G|_op = 1 and <G, W> = |W|_*.
    support : ndarray of bool, or None
        Whether the constraint is active, its margin at most 1e-6 above its right-hand side; False
        at the selected token and at padding. W is made of those with ``dual > 0``; an active
        constraint may have the multiplier 0.
    gap : float
        Relative duality gap between a point that meets the constraints and one of the dual. If
        infeasible, the residual of the certificate.
    kkt : float
        Largest residual of the optimality conditions: violation of a constraint, complementarity
        λ_it (margin - b_it) / b'λ (b: the right-hand sides), stationarity |W - A*λ| / |W|; of the
        nuclear norm, |G|_op - 1 and (|W|_* - <G, W>) / |W|_*. If infeasible, the residual of the
        certificate.
    certificate : ndarray or None
        Of an infeasible problem, Farkas multipliers λ >= 0 with b'λ = 1 and A*λ = 0, with which no
        W can go; 0 at the selected token and at padding. None if feasible, in a batch NaN.
    solver : {"native", "osqp", "active-set", "none"}
        What produced the answer; "none" where there was nothing to solve.
    left, right : ndarray or None, shapes ([B,] s, d) and ([B,] s, e)
        Factors with W = left' right: s = n and e = d for W, s = e = 1 for p and v. W itself, of
        shape (d, d), is formed when it is first asked for.

    Notes
    -----
    `gap` and `kkt` are below 1e-9, or below the rounding of the margins of a float64 W where that
    is larger: about 1e-14 |W|_F times the largest |(x_iα - x_it) z_i'|_F, at most 1e-6. For the
    nuclear norm they are below 1e-8 in place of 1e-9, and 1e-12 as a rule. The
    residual of a certificate is |Σ λ_it (x_iα - x_it) z_i'|_F over Σ λ_it |(x_iα - x_it) z_i'|_F,
    where the second sum leaves out the constraints with right-hand side 0. It is below 1e-9 too,
    and 1e-15 as a rule: a problem that only a W a billion times as large as a single constraint
    asks for could solve counts as infeasible.
    """

    variable: Literal["W", "p", "v"]
    status: Any
    norm: Any
    margins: Float64Array | None
    dual: Float64Array | None
    support: BoolArray | None
    gap: Any
    kkt: Any
    certificate: Float64Array | None
    solver: Any
    left: Float64Array | None
    right: Float64Array | None

    def __repr__(self) -> str:
        if isinstance(self.status, str):
            said = f"{self.status!r}, norm={self.norm:.6g}, gap={self.gap:.1e}, kkt={self.kkt:.1e}"
        else:
            said = f"{int(np.sum(self.feasible))} of {len(self.status)} feasible"
        return f"SVMSolution({self.variable}: {said})"

    @property
    def feasible(self) -> bool | BoolArray:
        """Whether there is a solution: one bool, or one for each problem of a batch, shape (B,)."""
        if isinstance(self.status, str):
            return self.status == "optimal"
        feasible: BoolArray = self.status == "optimal"
        return feasible

    @cached_property
    def W(self) -> Float64Array | None:
        """Solution of the attention machine, ([B,] d, d), formed when first asked for."""
        return self._product() if self.variable == "W" else None

    @cached_property
    def p(self) -> Float64Array | None:
        """Solution of the prompt machine, ([B,] d)."""
        return self._vector() if self.variable == "p" else None

    @cached_property
    def v(self) -> Float64Array | None:
        """Solution of the label machine, ([B,] d)."""
        return self._vector() if self.variable == "v" else None

    def _product(self) -> Float64Array | None:
        if self.left is None or self.right is None:
            return None
        product: Float64Array = np.swapaxes(self.left, -1, -2) @ self.right
        return product

    def _vector(self) -> Float64Array | None:
        product = self._product()
        return None if product is None else product[..., 0]


def solution_of(
    variable: Literal["W", "p", "v"], constraints: Constraints, answer: Optimal | Infeasible
) -> SVMSolution:
    """The solution of a single problem."""
    values = fields_of(constraints, answer)
    for name in _OF_SOLUTIONS if isinstance(answer, Infeasible) else _OF_PROOFS:
        values[name] = None
    return SVMSolution(variable=variable, **values)


def solution_of_batch(
    variable: Literal["W", "p", "v"],
    answers: Sequence[tuple[Constraints, Optimal | Infeasible]],
) -> SVMSolution:
    """The solutions of a batch, stacked."""
    problems = [fields_of(constraints, answer) for constraints, answer in answers]
    stacked = {name: np.stack([one[name] for one in problems]) for name in problems[0]}
    return SVMSolution(variable=variable, **stacked)


def without_batch_axis(solution: SVMSolution) -> SVMSolution:
    """The solution of the problem that is alone in its batch."""
    values = {field.name: getattr(solution, field.name) for field in fields(solution)}
    values = {name: value[0] for name, value in values.items() if name != "variable"}
    for name in ("norm", "gap", "kkt"):
        values[name] = float(values[name])
    for name in ("status", "solver"):
        values[name] = str(values[name])
    for name in _OF_SOLUTIONS if values["status"] == "infeasible" else _OF_PROOFS:
        values[name] = None
    return SVMSolution(variable=solution.variable, **values)


def fields_of(constraints: Constraints, answer: Optimal | Infeasible) -> dict[str, Any]:
    """Every field but `variable`, of one problem, with NaN for what it does not have."""
    none = np.full(constraints.shape, np.nan)
    if isinstance(answer, Infeasible):
        s, e = constraints.queries.shape
        return {
            "status": "infeasible",
            "norm": np.inf,
            "margins": none,
            "dual": none,
            "support": np.zeros(constraints.shape, dtype=np.bool_),
            "gap": answer.residual,
            "kkt": answer.residual,
            "certificate": constraints.scattered(answer.certificate, 0.0),
            "solver": answer.solver,
            "left": np.full((s, constraints.differences.shape[1]), np.nan),
            "right": np.full((s, e), np.nan),
        }
    active = constraints.equality | (answer.values - constraints.rhs <= ACTIVE_TOLERANCE)
    return {
        "status": "optimal",
        "norm": answer.norm,
        "margins": constraints.scattered(answer.values, np.inf),
        "dual": constraints.scattered(answer.dual, 0.0),
        "support": constraints.scattered(active, False),
        "gap": answer.gap,
        "kkt": answer.kkt,
        "certificate": none,
        "solver": answer.solver,
        "left": answer.left,
        "right": answer.right,
    }
