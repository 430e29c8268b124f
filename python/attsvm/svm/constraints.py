"""Constraints of the support vector machines, and the operators made of them.

All the machines of the package ask for the smallest W with A_r(W) >= b_r (or = b_r), where
A_r(W) = D_r' W z_r is linear in W: D_r is a difference of tokens and z_r the query of the sample
which the tokens come from. The prompt and the label machine are the case of the one query z = 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import scipy.sparse

from attsvm._validation import BoolArray, IndexArray
from attsvm.data import AttentionData

__all__ = [
    "Constraints",
    "Float64Array",
    "UnitConstraints",
    "attention_constraints",
    "factored_norm",
    "general_constraints",
    "label_constraints",
    "prompt_constraints",
]

Float64Array: TypeAlias = npt.NDArray[np.float64]

_SMALLEST = 1e-290  # with room below it for the multipliers of the less important constraints
_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Constraints:
    """m linear constraints D_r' W z_{q(r)} >= b_r (or = b_r) on a matrix W of shape (d, e).

    Attributes
    ----------
    differences : ndarray, shape (m, d)
        D_r.
    query : ndarray of int, shape (m,)
        q(r), the row of `queries` that constraint r uses; never decreasing.
    queries : ndarray, shape (s, e)
        z.
    rhs : ndarray, shape (m,)
        b_r.
    equality : ndarray of bool, shape (m,)
        Where A_r(W) = b_r is asked for; elsewhere A_r(W) >= b_r.
    position : tuple of ndarray of int, each of shape (m,)
        Where a value of constraint r belongs in an array of shape `shape`.
    shape : tuple of int
        Shape of the arrays which hold one value per constraint: (n, T) or (n,).
    """

    differences: Float64Array
    query: IndexArray
    queries: Float64Array
    rhs: Float64Array
    equality: BoolArray
    position: tuple[npt.NDArray[np.intp], ...]
    shape: tuple[int, ...]

    @property
    def m(self) -> int:
        """Number of constraints."""
        return int(self.rhs.size)

    def values(self, left: Float64Array, right: Float64Array) -> Float64Array:
        """A(W) for W = left' right, without forming W: shape (m,)."""
        directions = (self.queries @ right.T) @ left
        values: Float64Array = np.einsum("rk,rk->r", self.differences, directions[self.query])
        return values

    def token_sums(self, dual: Float64Array) -> Float64Array:
        """P of the adjoint A*(dual) = P' Z: row j is the sum of dual_r D_r over q(r) = j."""
        starts = np.searchsorted(self.query, np.arange(len(self.queries) + 1))
        weights = scipy.sparse.csr_array(
            (dual, np.arange(self.m), starts), shape=(len(self.queries), self.m)
        )
        return np.asarray(weights @ self.differences)

    def gram(self) -> Float64Array:
        """K with K_rs = <A_r, A_s> = <D_r, D_s> <z_q(r), z_q(s)>: shape (m, m)."""
        of_queries = (self.queries @ self.queries.T)[np.ix_(self.query, self.query)]
        gram: Float64Array = (self.differences @ self.differences.T) * of_queries
        return gram

    def restricted(self, keep: BoolArray) -> Constraints:
        """The constraints marked by `keep`, on the same queries."""
        return Constraints(
            self.differences[keep],
            self.query[keep],
            self.queries,
            self.rhs[keep],
            self.equality[keep],
            tuple(axis[keep] for axis in self.position),
            self.shape,
        )

    def scattered(self, values: npt.NDArray[_Scalar], fill: float | bool) -> npt.NDArray[_Scalar]:
        """One value per constraint, laid out in `shape` with `fill` where there is none."""
        laid_out = np.full(self.shape, fill, dtype=values.dtype)
        laid_out[self.position] = values
        return laid_out

    def normalised(self) -> UnitConstraints:
        """The same constraints with |D_r| = |z_j| = 1 and right-hand sides of at most 1 in size.

        Zero rows (a token equal to the selected one, or a zero query) have no such form and are
        taken out first.
        """
        difference_norm = _row_norms(self.differences)
        query_norm = _row_norms(self.queries)
        query_norm[query_norm == 0] = 1.0  # of samples without constraints
        with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
            row_norm = difference_norm * query_norm[self.query]
            rhs = self.rhs / row_norm
            scale = float(np.abs(rhs).max(initial=0.0)) or 1.0
            unit = Constraints(
                self.differences / difference_norm[:, np.newaxis],
                self.query,
                self.queries / query_norm[:, np.newaxis],
                rhs / scale,
                self.equality,
                self.position,
                self.shape,
            )
        return UnitConstraints(unit, row_norm, scale)

    def zero_rows(self) -> BoolArray:
        """Constraints with A_r = 0: shape (m,)."""
        no_difference: BoolArray = ~np.any(self.differences, axis=1)
        no_query: BoolArray = ~np.any(self.queries, axis=1)
        return no_difference | no_query[self.query]


@dataclass(frozen=True, eq=False)
class UnitConstraints:
    """Constraints scaled to unit rows, and the way back to the units they came in.

    With A_r = row_norm_r Â_r the scaled problem is Â_r(w) >= b_r / (row_norm_r scale), W = scale w.

    Attributes
    ----------
    unit : Constraints
        The scaled constraints.
    row_norm : ndarray, shape (m,)
        |A_r|_F.
    scale : float
        Largest |b_r| / |A_r|_F, or 1 when all b_r are 0.
    """

    unit: Constraints
    row_norm: Float64Array
    scale: float

    def within_float64(self) -> bool:
        """Whether |A_r|, W and its multipliers, as large as |W|², are numbers of float64."""
        with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
            sizes = np.append(self.row_norm, [self.scale, *self.scale / self.row_norm])
        return bool(np.all((sizes > _SMALLEST) & (sizes < 1 / _SMALLEST)))

    def original_dual(self, dual: Float64Array) -> Float64Array:
        """Multipliers of the original constraints from those of the scaled ones."""
        return self.scale * (dual / self.row_norm)

    def original_values(self, values: Float64Array) -> Float64Array:
        """A(W) of the original constraints from Â(w)."""
        return self.row_norm * (self.scale * values)


def attention_constraints(data: AttentionData, selected: IndexArray) -> Constraints:
    """(x_i,selected - x_it)' W z_i >= 1 for every valid t other than the selected token."""
    assert data.queries is not None
    differences, position = _token_differences(data, selected)
    m = len(differences)
    return Constraints(
        differences,
        position[0],
        data.queries.astype(np.float64, copy=False),
        np.ones(m),
        np.zeros(m, dtype=np.bool_),
        position,
        (data.n, data.T),
    )


def general_constraints(data: AttentionData, chosen: IndexArray, sets: BoolArray) -> Constraints:
    """(x_i,chosen - x_it)' W z_i = 0 for the other t of the selected set, >= 1 for all others."""
    constraints = attention_constraints(data, chosen)
    equality = sets[constraints.position]
    return replace(constraints, rhs=np.where(equality, 0.0, 1.0), equality=equality)


def prompt_constraints(
    data: AttentionData, selected: IndexArray, required: BoolArray
) -> Constraints:
    """(x_i,selected - x_it)' p >= 1, or >= 0 in the inputs that are not `required`."""
    differences, position = _token_differences(data, selected)
    m = len(differences)
    return Constraints(
        differences,
        np.zeros(m, dtype=np.int64),
        np.ones((1, 1)),
        required[position[0]].astype(np.float64),
        np.zeros(m, dtype=np.bool_),
        position,
        (data.n, data.T),
    )


def label_constraints(data: AttentionData, selected: IndexArray) -> Constraints:
    """Y_i v' x_i,selected >= 1 for every input."""
    sample = np.arange(data.n)
    tokens = data.own_tokens[sample, selected].astype(np.float64)
    return Constraints(
        data.labels.astype(np.float64)[:, np.newaxis] * tokens,
        np.zeros(data.n, dtype=np.int64),
        np.ones((1, 1)),
        np.ones(data.n),
        np.zeros(data.n, dtype=np.bool_),
        (sample,),
        (data.n,),
    )


def factored_norm(left: Float64Array, right: Float64Array) -> float:
    """|left' right|_F without forming the product, from the triangular factor of `right`'."""
    triangle = np.linalg.qr(right.T, mode="r")
    return float(np.linalg.norm(triangle @ left))


def _token_differences(
    data: AttentionData, selected: IndexArray
) -> tuple[Float64Array, tuple[npt.NDArray[np.intp], ...]]:
    others = data.valid.copy()
    others[np.arange(data.n), selected] = False
    sample, token = np.nonzero(others)
    tokens = data.own_tokens
    chosen = tokens[sample, selected[sample]].astype(np.float64, copy=False)
    with np.errstate(over="ignore"):
        return chosen - tokens[sample, token], (sample, token)


def _row_norms(rows: Float64Array) -> Float64Array:
    """Euclidean norms of the rows, without overflow or underflow of the squares."""
    largest = np.abs(rows).max(axis=1, initial=0.0)
    divisor = np.where(largest > 0, largest, 1.0)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        norms: Float64Array = largest * np.linalg.norm(rows / divisor[:, np.newaxis], axis=1)
    return norms
