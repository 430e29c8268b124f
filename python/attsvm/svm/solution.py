"""The solution of an SVM, with what proves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from attsvm._arrays import ArrayLike, BoolArray, Float64Array
from attsvm._display import Plotted
from attsvm._linalg import LowRank, with_equal_rows

ACTIVE_TOLERANCE = 1e-6
_OF_SOLUTIONS = ("left", "right", "margins", "dual", "support")
_OF_PROOFS = ("certificate",)
_OF_PROBLEMS: dict[str, npt.DTypeLike] = {
    "status": "<U10",
    "norm": np.float64,
    "gap": np.float64,
    "kkt": np.float64,
    "solver": "<U10",
    "unique": np.object_,
}


class SolverError(RuntimeError):
    """No answer passed its check; the message names the problem and what was tried.

    Constraints that nearly contradict each other are a cause, if |W|_F is beyond 4.5e15 times what
    one of them asks for, or multipliers Σ λ_it |(x_iα - x_it) z_i'|_F beyond 1e31 |W|_F.
    """


ADVICE = "where inputs nearly agree or contradict each other, leave one out"
"""What helps where no answer is certified."""


@dataclass(frozen=True, eq=False, repr=False)
class SVMSolution(Plotted):
    """The smallest W, p or v with the margins asked for, or the proof that there is none.

    A constraint belongs to token t of input i, and arrays with one value per constraint have the
    shape ([B,] n, T); those of the label SVM, with one constraint per input, have the shape
    ([B,] n). B is there when the data is a batch; `status`, `norm`, `gap`, `kkt`, `solver`
    and `unique` are then arrays of shape (B,). Numbers are float64, whatever the type of the data.

    What an infeasible problem does not have is None, and in a batch its entries are NaN (False in
    `support`).

    Attributes
    ----------
    variable : {"W", "p", "v"}
        What was solved for.
    status : {"optimal", "infeasible", "bounded"}
        Said only with a certificate that was checked, see `gap` and `kkt`. "bounded", in the cut
        norm of more than 16 rows and columns: W meets the constraints, and no smaller norm than
        (1 - `gap`) `norm` does.
    norm : float
        |W|_F, |p| or |v|, or the norm N(W) that was made small; inf if infeasible. A direction of
        norm 1 has the margin 1 / norm at most.
    margins : ndarray or None
        (x_iα - x_it)' W z_i with the selected token α, or the same with p for W z_i; inf at the
        selected token and at padding. Label SVM: Y_i v' x_iα.
    dual : ndarray or None
        Multiplier λ_it >= 0 of each constraint, W = Σ λ_it (x_iα - x_it) z_i'; 0 at the selected
        token and at padding. In another norm N this sum G has the dual norm N*(G) = 1 and
        <G, W> = N(W); for the nuclear norm, |G|_op = 1.
    support : ndarray of bool, or None
        Whether the constraint is active, its margin at most 1e-6 above its right-hand side; False
        at the selected token and at padding. W is made of those with ``dual > 0``; an active
        constraint may have the multiplier 0.
    gap : float
        Relative duality gap between a point that meets the constraints and one of the dual. If
        infeasible, see the notes.
    kkt : float
        Largest residual of the optimality conditions: violation of a constraint (where 0 is asked
        for, over |W|_F |(x_iα - x_it) z_i'|_F if that is above 1), complementarity
        λ_it (margin - b_it) / b'λ (b: the right-hand sides), stationarity |W - A*λ| / |W|; of
        other norms, N*(G) - 1 and (N(W) - <G, W>) / N(W). If infeasible, the same as `gap`.
    certificate : ndarray or None
        Of an infeasible problem, Farkas multipliers λ >= 0 with b'λ = 1 and A*λ = 0, with which no
        W can go; 0 at the selected token and at padding. None if feasible, in a batch NaN.
    solver : {"native", "osqp", "active-set", "extended", "none"}
        What produced the answer; "none" where there was nothing to solve, "extended" where no W in
        float64 has `gap` and `kkt` of 1e-9, see the notes.
    left, right : ndarray or None, shapes ([B,] s, d) and ([B,] s, e)
        Factors with W = left' right: s = n and e = d for W, s = e = 1 for p and v. W itself, of
        shape (d, d), is formed when it is first asked for. In the max, l1, l_p and cut norm W has
        no low rank: s is d, or n where that is larger. Of an "extended" W the first d rows (one of
        p and v) are W itself, and three times as many after them what rounding takes from it, from
        the largest parts to the smallest; where that is more than the s above, s is as large. In a
        batch, s is the largest of all.
    unique : bool or None
        Whether there is no other solution; None where that is not decided, or there is none. Always
        True in the Frobenius and l_p norm. Constraints, entries or singular values that agree to
        about 1e-13 are taken for equal; where they agree to 1e-7, and it matters, it is None.

    Notes
    -----
    Certificates are those of the data as given, with the rounding of float64 bounded; where it
    might decide, sums and products are evaluated in twice its precision.

    Optimal: margins miss a right-hand side of 1 by at most 1e-9. `gap` and `kkt` are below 1e-9.
    Where more digits than those of float64 are too much work, or do not reach it, they are below
    the rounding of the margins of a float64 W: about 1e-14 |W|_F times the largest
    |(x_iα - x_it) z_i'|_F, at most 1e-6; for the nuclear norm below 1e-8.

    Extended: where constraints nearly agree or contradict each other, W must meet them with more
    digits than float64 has: rounding of W moves a margin by up to 1.1e-16 |W|_F times
    |(x_iα - x_it) z_i'|_F. The solution is then left' right, with four times the digits, and
    `margins`, `gap` and `kkt` are those of this sum. `W`, `p` or `v` is the nearest in float64, its
    direction right to the last digits; its own margins may miss by what rounding takes, and those
    that other functions, such as `margin_ratio`, compute of the solution do too.
    The multipliers have more digits too, of which `dual` has the first 16: it alone may prove less
    than `gap` says.

    Infeasible: no W is a solution, up to a norm of 4.5e15 times (1 over the rounding of float64)
    what the constraint that asks for the largest W alone asks for. <A*λ, W> >= b'λ = 1 for every W
    that meets the constraints, so that its norm is at least 1 / |A*λ|_F; `gap` is the inverse of
    this bound relative to that largest W. W is measured with every entry in units of the largest
    entries of rows of norm 1 in its place, so that the units of features do not matter.
    It is that of the multipliers with digits beyond float64, of which `certificate` has the first
    16. Between the largest W that can be certified and this bound there is a `SolverError`.
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
    unique: Any

    _drawn_by = "solution"

    def _facts(self) -> dict[str, str]:
        if not isinstance(self.status, str):
            optimal = np.asarray(self.feasible)
            facts = {"problems": f"{optimal.size:,}", "optimal": f"{int(optimal.sum()):,}"}
            if optimal.any():
                facts |= {
                    f"norm of {self.variable}, median": f"{np.median(self.norm[optimal]):.6g}",
                    "relative duality gap, largest": f"{np.max(self.gap[optimal]):.1e}",
                    "optimality residual, largest": f"{np.max(self.kkt[optimal]):.1e}",
                }
            return facts
        facts = {"status": f"{self.status}, certified"}
        if self.margins is not None and self.support is not None:
            facts |= {
                f"norm of {self.variable}": f"{self.norm:.6g}",
                "smallest margin": f"{np.nanmin(self.margins):.9f}",
                "support vectors": f"{int(self.support.sum()):,}",
                "relative duality gap": f"{self.gap:.1e}",
                "optimality residual": f"{self.kkt:.1e}",
            }
        else:
            facts["proof that no W exists"] = f"multipliers, to a relative {self.gap:.1e}"
        return {**facts, "solver": self.solver}

    def __repr__(self) -> str:
        if isinstance(self.status, str):
            summary = (
                f"{self.status!r}, norm={self.norm:.6g}, gap={self.gap:.1e}, kkt={self.kkt:.1e}"
            )
        else:
            summary = f"{int(np.sum(self.feasible))} of {len(self.status)} feasible"
        return f"SVMSolution({self.variable}: {summary})"

    @property
    def feasible(self) -> bool | BoolArray:
        """Whether there is a solution: one bool, or one for each problem of a batch, (B,)."""
        if isinstance(self.status, str):
            return self.status != "infeasible"
        return np.asarray(self.status != "infeasible")

    @cached_property
    def direction(self) -> Float64Array:
        """`W`, `p` or `v`, whichever was solved for; a `ValueError` of a single infeasible SVM."""
        if self.left is None:
            raise ValueError("solution: expected a feasible one, got status 'infeasible'")
        product = LowRank(self.left, self.right).dense()
        return product if self.variable == "W" else product[..., 0]

    @property
    def W(self) -> Float64Array | None:
        """Return the solution of the attention SVM, ([B,] d, d), formed when first asked for."""
        return self._direction_as("W")

    @property
    def p(self) -> Float64Array | None:
        """Return the solution of the prompt SVM, ([B,] d)."""
        return self._direction_as("p")

    @property
    def v(self) -> Float64Array | None:
        """Return the solution of the label SVM, ([B,] d)."""
        return self._direction_as("v")

    def _direction_as(self, variable: str) -> Float64Array | None:
        return self.direction if self.variable == variable and self.left is not None else None


ARRAYS = tuple(each.name for each in fields(SVMSolution) if each.name != "variable")
"""Fields of a solution that have the batch axis."""


def rows_of(solution: SVMSolution, rows: ArrayLike) -> SVMSolution:
    """Return the solutions of these problems of a batch."""
    arrays: dict[str, Any] = {name: getattr(solution, name)[rows] for name in ARRAYS}
    return replace(solution, **arrays)


def joined(solutions: Sequence[SVMSolution]) -> SVMSolution:
    """Join batches of solutions, one after the other."""
    arrays: dict[str, Any] = {name: [getattr(each, name) for each in solutions] for name in ARRAYS}
    arrays |= {name: with_equal_rows(arrays[name]) for name in ("left", "right")}
    arrays = {name: np.concatenate(values) for name, values in arrays.items()}
    return replace(solutions[0], **arrays)


def of_batch(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields by problem as arrays; where all are feasible, there is no certificate."""
    return {
        "certificate": np.full(fields["dual"].shape, np.nan),
        **fields,
        **{name: np.array(fields[name], dtype) for name, dtype in _OF_PROBLEMS.items()},
    }


def one_problem(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the problem that is alone in its batch."""
    absent = _OF_SOLUTIONS if fields["status"][0] == "infeasible" else _OF_PROOFS
    one = {name: None if name in absent else fields[name][0] for name in ARRAYS}
    return {"variable": fields["variable"], **one}


def only_one(solution: SVMSolution) -> SVMSolution:
    """Return the solution of the problem that is alone in its batch."""
    of_problem = {name: getattr(solution, name).tolist() for name in _OF_PROBLEMS}
    return SVMSolution(**one_problem(vars(solution) | of_problem))
