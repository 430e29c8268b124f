"""W or p as a caller gives it: an array, a run of descent, or an SVM with its factors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from attsvm._validation import ArrayLike, BoolArray, as_float_array
from attsvm.data.attention_data import AttentionData
from attsvm.descent import Run
from attsvm.svm import SVMSolution
from attsvm.theory.directions import cosine_gap

__all__ = [
    "Float64Array",
    "Matrices",
    "MatrixLike",
    "matrices_beside",
    "matrices_of",
    "matrices_on",
    "queries_of",
]

Float64Array: TypeAlias = npt.NDArray[np.float64]
MatrixLike: TypeAlias = "ArrayLike | Run | SVMSolution"


@dataclass(frozen=True, eq=False)
class Matrices:
    """Matrices W = left' right, one for each of B problems; p is the case e = 1.

    Attributes
    ----------
    variable : {"W", "p"}
    left : ndarray, shape (B, s, d)
    right : ndarray, shape (B, s, e), or None
        None for the identity, where W = left'.
    exists : ndarray of bool, shape (B,)
        False for an infeasible SVM, whose matrix here is zero.
    batched : bool
        Whether the caller's had the axis B.
    """

    variable: Literal["W", "p"]
    left: Float64Array
    right: Float64Array | None
    exists: BoolArray
    batched: bool

    @property
    def d(self) -> int:
        """Number of rows of W."""
        return int(self.left.shape[2])

    def of_queries(self, queries: Float64Array) -> Float64Array:
        """W z of every query, (B, n, e) to (B, n, d)."""
        if self.right is not None:
            queries = queries @ np.swapaxes(self.right, 1, 2)
        return queries @ self.left

    def compact(self) -> Float64Array:
        """Matrices (B, k, d) with the singular values of W', and k at most s and e."""
        if self.right is None:
            return self.left
        compact: Float64Array = _triangle(self.right) @ self.left
        return compact

    def norms(self) -> Float64Array:
        """|W|_F, shape (B,); neither overflows nor underflows."""
        compact = self.compact()
        largest = np.abs(compact).max(axis=(1, 2))
        unit = compact / np.where(largest > 0, largest, 1.0)[:, np.newaxis, np.newaxis]
        norms: Float64Array = largest * np.linalg.norm(unit, axis=(1, 2))
        return norms

    def unit(self) -> Matrices:
        """W / |W|_F; zero stays zero."""
        largest = np.abs(self.left).max(axis=(1, 2), keepdims=True)
        scaled = replace(self, left=self.left / np.where(largest > 0, largest, 1.0))
        norms = scaled.norms()[:, np.newaxis, np.newaxis]
        return replace(scaled, left=scaled.left / np.where(norms > 0, norms, 1.0))

    def cosine_gaps(self, other: Matrices) -> Float64Array:
        """1 - cosine with `other`, shape (B,), without cancellation; 1 where either is zero.

        No matrix is formed where both have factors: in an orthonormal basis of the rows of both
        right factors, differences of the matrices are as large as they are.
        """
        if self.right is None or other.right is None:
            first, second = self.transposed(), other.transposed()
        else:
            rows = np.concatenate([self.right, other.right], axis=1)
            triangle = _triangle(rows)
            s = self.right.shape[1]
            first = triangle[..., :s] @ self.left
            second = triangle[..., s:] @ other.left
        some = np.asarray(first.any(axis=(1, 2)) & second.any(axis=(1, 2)))
        gaps = np.ones(len(some))
        gaps[some] = cosine_gap(first[some], second[some], axis=(1, 2)) if some.any() else 1.0
        return gaps

    def transposed(self) -> Float64Array:
        """W', shape (B, e, d)."""
        return self.left if self.right is None else np.swapaxes(self.right, 1, 2) @ self.left


def matrices_of(name: str, value: MatrixLike) -> Matrices:
    """Check and read W, of shape (d, e) or (B, d, e) where it is an array.

    Raises
    ------
    TypeError, ValueError
        Not a finite array of numbers of two or three axes, a solution of the label machine, or a
        single one that is infeasible.
    """
    if isinstance(value, SVMSolution):
        return _of_solution(name, value)
    if isinstance(value, Run):
        return _of_run(value)
    array = as_float_array(name, value, "(d, d) or (B, d, d)", ndim=(2, 3), dtype=np.float64)
    return _dense("W", array, array.ndim == 3)


def matrices_on(name: str, value: MatrixLike, data: AttentionData) -> Matrices:
    """Check and read W ([B,] d, d), or p ([B,] d), of the problems of `data`."""
    return _matrices_for(name, value, data.batch, data.d)


def matrices_beside(name: str, value: MatrixLike, other: Matrices) -> Matrices:
    """Check and read W or p, whichever `other` is, of the same problems."""
    matrices = _matrices_for(name, value, len(other.left) if other.batched else None, other.d)
    if matrices.variable != other.variable:
        raise ValueError(f"{name}: expected {other.variable}, got {matrices.variable}")
    return matrices


def _matrices_for(name: str, value: MatrixLike, batch: int | None, d: int) -> Matrices:
    batched = batch is not None
    if isinstance(value, SVMSolution | Run):
        matrices = matrices_of(name, value)
    else:
        text = "(B, d, d) for W or (B, d) for p" if batched else "(d, d) for W or (d,) for p"
        ndim = (1 + batched, 2 + batched)
        array = as_float_array(name, value, text, ndim=ndim, dtype=np.float64)
        p = array.ndim == ndim[0]
        matrices = _dense("p" if p else "W", array[..., np.newaxis] if p else array, batched)
    p = matrices.variable == "p"
    e = matrices.left.shape[1] if matrices.right is None else matrices.right.shape[2]
    got = (
        *((len(matrices.left),) if matrices.batched else ()),
        *((matrices.d,) if p else (matrices.d, e)),
    )
    expected = (*((batch,) if batched else ()), *((d,) if p else (d, d)))
    if got != expected:
        text = ("B, d" if batched else "d,") if p else ("B, d, d" if batched else "d, d")
        raise ValueError(f"{name}: expected shape ({text}) = {expected}, got {got}")
    return matrices


def queries_of(data: AttentionData, matrices: Matrices) -> Float64Array:
    """z_i (B, n, d) that W multiplies; the number 1 for p (B, n, 1)."""
    lead = data.batch or 1
    if matrices.variable == "p":
        return np.ones((lead, data.n, 1))
    if data.queries is None:
        raise ValueError("queries: needed for the logits X W z, got data without queries")
    return data.queries.reshape(lead, data.n, data.d).astype(np.float64, copy=False)


def _triangle(rows: Float64Array) -> Float64Array:
    """R of rows' = Q R with orthonormal columns of Q, for each of a batch."""
    triangle: Float64Array = np.asarray(np.linalg.qr(np.swapaxes(rows, 1, 2), mode="r"))
    return triangle


def _dense(variable: Literal["W", "p"], array: Float64Array, batched: bool) -> Matrices:
    W = array if batched else array[np.newaxis]
    exists = np.ones(len(W), dtype=np.bool_)
    return Matrices(variable, np.swapaxes(W, 1, 2), None, exists, batched)


def _of_run(run: Run) -> Matrices:
    batched = run.selected.ndim == 2
    variable: Literal["W", "p"] = "p" if run.attention_parameter == "p" else "W"
    if run.left is None or run.right is None:
        direction = run.direction
        W = direction[..., np.newaxis] if variable == "p" else direction
        return _dense(variable, W, batched)
    left, right = (part if batched else part[np.newaxis] for part in (run.left, run.right))
    return Matrices(variable, left, right, np.ones(len(left), dtype=np.bool_), batched)


def _of_solution(name: str, solution: SVMSolution) -> Matrices:
    if solution.variable == "v":
        raise ValueError(f"{name}: expected a solution W or p, got one of the label SVM")
    exists = np.atleast_1d(np.asarray(solution.feasible))
    batched = np.ndim(solution.status) == 1
    left, right = solution.left, solution.right
    if left is None or right is None:
        raise ValueError(f"{name}: expected a feasible solution, got an infeasible one")
    if not batched:
        left, right = left[np.newaxis], right[np.newaxis]
    there = exists[:, np.newaxis, np.newaxis]
    return Matrices(
        solution.variable, np.where(there, left, 0.0), np.where(there, right, 0.0), exists, batched
    )
