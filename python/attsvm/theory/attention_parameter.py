"""W or p as a caller passes it: an array, a run of descent, or an SVM solution with its factors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from attsvm._arrays import ArrayLike, BoolArray, Float64Array
from attsvm._geometries import Norm as NormLike
from attsvm._linalg import LowRank
from attsvm._validation import as_float64_array, require_shape
from attsvm.data.attention_data import AttentionData, require_queries
from attsvm.descent import Run
from attsvm.svm import SVMSolution
from attsvm.svm.norms import as_svm_norm

ParameterLike: TypeAlias = "ArrayLike | Run | SVMSolution"
_ROUNDING = 1e-6
"""How much the norm of a solution may differ from that of its W in float64."""
_ROUNDING_OF_MARGINS = 1e-5
"""How much a margin of a solution may differ from that of its W, over the largest logit."""


@dataclass(frozen=True, eq=False)
class AttentionParameter:
    """W or p of each of B problems; p is the case e = 1."""

    variable: Literal["W", "p"]
    matrix: LowRank  # (B, d, e)
    exists: BoolArray  # (B,): false for an infeasible SVM, whose matrix here is zero
    batched: bool  # true where the caller's array had the axis B

    @property
    def caller_shape(self) -> tuple[int, ...]:
        """Shape of W or p as the caller knows it."""
        shape = self.matrix.shape[: 2 if self.variable == "p" else 3]
        return shape if self.batched else shape[1:]

    def unit(self) -> AttentionParameter:
        """Return W / |W|_F; zero stays zero."""
        return replace(self, matrix=self.matrix.unit())

    def of_prompt(self, prompt: Float64Array) -> AttentionParameter:
        """Return W p with this p ([B,] d), which the logits X W p have in the place of p."""
        row = self.matrix.of_rows(np.atleast_2d(prompt)[:, np.newaxis])
        return replace(self, variable="p", matrix=LowRank.of_dense(np.swapaxes(row, 1, 2)))

    def queries(self, data: AttentionData) -> Float64Array:
        """Return the z_i (B, n, d) that W multiplies; the number 1 (B, n, 1) for p."""
        if self.variable == "p":
            return np.ones((data.batch or 1, data.n, 1))
        queries = require_queries(data.batched(), "the logits X W z")
        return queries.astype(np.float64, copy=False)

    @overload
    def answer(self, values: Float64Array) -> float | Float64Array: ...
    @overload
    def answer(self, values: BoolArray) -> bool | BoolArray: ...
    def answer(self, values: npt.NDArray[Any]) -> Any:
        """Return one value per problem (B,) in the caller's form, a scalar if there is no batch."""
        return values if self.batched else values[0].item()


def as_parameter(name: str, value: ParameterLike) -> AttentionParameter:
    """Check and read W, of shape (d, e) or (B, d, e) where it is an array."""
    if isinstance(value, SVMSolution):
        return _of_solution(name, value)
    if isinstance(value, Run):
        return _of_run(value)
    array = as_float64_array(name, value, "(d, d) or (B, d, d)", ndim=(2, 3))
    return _of_array("W", array, array.ndim == 3)


def as_parameter_of(name: str, value: ParameterLike, data: AttentionData) -> AttentionParameter:
    """Check and read W ([B,] d, d), or p ([B,] d), of the problems of `data`."""
    return _of_problems(name, value, data.batch, data.d)


def require_in_norm(solution: SVMSolution, norm: NormLike) -> None:
    """Refuse a solution whose own norm is not the one that its W or p has in this norm."""
    if solution.left is None:
        return
    own = as_svm_norm("norm", norm).of(as_parameter("solution", solution).matrix)
    feasible = np.atleast_1d(solution.feasible)
    if not np.isclose(own, np.atleast_1d(solution.norm), rtol=_ROUNDING, atol=0)[feasible].all():
        raise ValueError(f"solution: expected that in the norm {norm!r}, got one in another")


def require_margins_of(
    name: str, solution: SVMSolution, logits: Float64Array, valid: BoolArray
) -> None:
    """Refuse a solution whose margins are not those of the logits ([B,] n, T) that its W has here.

    A margin is how far a token is behind another one of its input that has none. `name` is that of
    the data.
    """
    assert solution.margins is not None
    require_shape("solution.margins", solution.margins, f"of {name}", valid.shape)
    known = np.isfinite(solution.margins)
    ahead = logits + np.where(known, solution.margins, 0.0)
    leader = np.take_along_axis(ahead, known.argmax(axis=-1)[..., np.newaxis], axis=-1)
    allowed = _ROUNDING_OF_MARGINS * max(1.0, float(np.abs(logits[valid]).max()))
    near = np.abs(ahead - leader) <= allowed
    right = np.where(known, near, True).all(axis=-1) & (near & valid & ~known).any(axis=-1)
    # An extended W meets its constraints with digits that the logits do not have.
    extended = np.asarray(solution.solver == "extended")[..., np.newaxis]
    if not (right | ~known.any(axis=-1) | extended).all():
        raise ValueError(f"solution: expected that of `{name}`, got one with other margins there")


def as_parameter_beside(
    name: str, value: ParameterLike, other: AttentionParameter
) -> AttentionParameter:
    """Check and read W or p, whichever `other` is, of the same problems."""
    B, d, _ = other.matrix.shape
    parameter = _of_problems(name, value, B if other.batched else None, d)
    if parameter.variable != other.variable:
        raise ValueError(f"{name}: expected {other.variable}, got {parameter.variable}")
    return parameter


def _of_problems(name: str, value: ParameterLike, batch: int | None, d: int) -> AttentionParameter:
    lead, B = ((), "") if batch is None else ((batch,), "B, ")
    if isinstance(value, SVMSolution | Run):
        parameter = as_parameter(name, value)
        if isinstance(value, Run) and value.prompt is not None:
            parameter = parameter.of_prompt(value.prompt)
    else:
        text = f"({B}d, d) for W or ({B}d{'' if B else ','}) for p"
        ndim = (len(lead) + 1, len(lead) + 2)
        array = as_float64_array(name, value, text, ndim=ndim)
        parameter = _of_array("p" if array.ndim == ndim[0] else "W", array, batch is not None)
    one, text = ((d,), "d" if B else "d,") if parameter.variable == "p" else ((d, d), "d, d")
    if parameter.caller_shape != (*lead, *one):
        raise ValueError(
            f"{name}: expected shape ({B}{text}) = {(*lead, *one)}, got {parameter.caller_shape}"
        )
    return parameter


def _of_array(
    variable: Literal["W", "p"], array: Float64Array, batched: bool
) -> AttentionParameter:
    W = array if batched else array[np.newaxis]
    matrix = LowRank.of_dense(W[..., np.newaxis] if variable == "p" else W)
    return AttentionParameter(variable, matrix, np.ones(len(W), dtype=np.bool_), batched)


def _of_run(run: Run) -> AttentionParameter:
    batched = run.selected.ndim == 2
    if run.left is None or run.right is None:
        return _of_array(run.variable, run.direction, batched)
    left, right = (part if batched else part[np.newaxis] for part in (run.left, run.right))
    exists = np.ones(len(left), dtype=np.bool_)
    return AttentionParameter(run.variable, LowRank(left, right), exists, batched)


def _of_solution(name: str, solution: SVMSolution) -> AttentionParameter:
    if solution.variable == "v":
        raise ValueError(f"{name}: expected a solution W or p, got one of the label SVM")
    left, right = solution.left, solution.right
    if left is None or right is None:
        raise ValueError(f"{name}: expected a feasible solution, got an infeasible one")
    batched = np.ndim(solution.status) == 1
    exists = np.atleast_1d(np.asarray(solution.feasible))
    mask = exists[:, np.newaxis, np.newaxis]
    factors = (np.where(mask, part if batched else part[np.newaxis], 0.0) for part in (left, right))
    return AttentionParameter(solution.variable, LowRank(*factors), exists, batched)
