"""The norms of W that SVMs make small: their values, their duals, and what solves their SVMs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from attsvm._arrays import Float64Array
from attsvm._geometries import Norm as NormLike
from attsvm._geometries import as_geometry, as_norm
from attsvm._linalg import LowRank
from attsvm._validation import number_text
from attsvm.svm.cut_norm import cut_norms, dual_cut_norms, smallest_cut
from attsvm.svm.solvers import Solver, active_set, by_osqp, frobenius, in_norm, nuclear


@dataclass(frozen=True)
class Norm:
    """A norm N of W that an SVM makes small."""

    name: str  # a key of `NORMS`, or "l" and p
    text: str  # in messages, before "norm"
    solvers: dict[str, Solver]  # by the name that callers choose
    values: Callable[[Float64Array], Float64Array]  # of every matrix of a stack, (..., d, e)
    dual_values: Callable[[Float64Array], Float64Array]  # N*(G) = max <G, W> over N(W) <= 1
    by_entry: bool  # whether it depends on coordinates, not on singular values alone
    of_vectors: str | None = None  # name of what it is of one column, where that is another
    of_diagonals: str | None = None  # the same of diag(w), in terms of w
    of_factors: str | None = None  # name of the norm of K Q' that steps in this one of K, Q reduce
    strictly_convex: bool = False  # whether SVMs have one solution

    def of(self, matrix: LowRank) -> Float64Array:
        """Compute N of matrices (..., d, e), which are formed only where entries count."""
        return self.values(self._as_needed(matrix))

    def dual_of(self, matrix: LowRank) -> Float64Array:
        """Compute N* of matrices (..., d, e), which are formed only where entries count."""
        return self.dual_values(self._as_needed(matrix))

    def of_one_column(self) -> Norm:
        """Return the norm that it is of vectors."""
        return self if self.of_vectors is None else NORMS[self.of_vectors]

    def of_one_diagonal(self) -> Norm:
        """Return the norm of w that it is of diag(w)."""
        return self if self.of_diagonals is None else NORMS[self.of_diagonals]

    def _as_needed(self, matrix: LowRank) -> Float64Array:
        return matrix.dense() if self.by_entry else matrix.compact()


def as_name(argument: str, norm: NormLike) -> NormLike:
    """Read a name of `NORMS`, or a number p > 1 for l_p; p = 2 is "fro"."""
    return as_norm(argument, norm, NORMS)


def as_svm_norm(argument: str, norm: NormLike) -> Norm:
    """Read a name of `NORMS`, or a number p > 1 for l_p, and return the norm."""
    name = as_name(argument, norm)
    return NORMS[name] if isinstance(name, str) else _power_norm(name)


def _of_entries(norm: NormLike, text: str, solvers: dict[str, Solver], **known: Any) -> Norm:
    """Return the norm of a geometry of the core that is computed from entries."""
    geometry = as_geometry("norm", norm)
    return Norm(
        name=norm if isinstance(norm, str) else f"l{number_text(norm)}",
        text=text,
        solvers=solvers,
        values=geometry.norm,
        dual_values=geometry.dual_norm,
        by_entry=geometry.by_coordinate,
        **known,
    )


def _sum_of_singular_values(W: Float64Array) -> Float64Array:
    return np.asarray(np.linalg.svd(W, compute_uv=False).sum(axis=-1))


def _largest_singular_value(W: Float64Array) -> Float64Array:
    return np.asarray(np.linalg.svd(W, compute_uv=False).max(axis=-1))


@lru_cache(maxsize=64)
def _power_norm(p: float) -> Norm:
    return _of_entries(p, f"l_{number_text(p)}", in_norm("lp", p), strictly_convex=True)


_FROBENIUS_SOLVERS: dict[str, Solver] = {
    "auto": frobenius,
    "native": frobenius,
    "osqp": by_osqp,
    "active-set": active_set,
}

NORMS: dict[str, Norm] = {
    norm.name: norm
    for norm in (
        _of_entries("fro", "Frobenius", _FROBENIUS_SOLVERS, strictly_convex=True, of_factors="nuc"),
        Norm(  # of many rows and columns LAPACK's singular values are sooner there than the core's
            name="nuc",
            text="nuclear",
            solvers={"auto": nuclear, "native": nuclear},
            values=_sum_of_singular_values,
            dual_values=_largest_singular_value,
            by_entry=False,
            of_vectors="fro",
            of_diagonals="l1",
        ),
        _of_entries("max", "max", in_norm("max"), of_factors="cut"),
        _of_entries("l1", "l1", in_norm("l1")),
        Norm(
            name="spec",
            text="spectral",
            solvers=in_norm("spec"),
            values=_largest_singular_value,
            dual_values=_sum_of_singular_values,
            by_entry=False,
            of_vectors="fro",
            of_diagonals="max",
            of_factors="spec",
        ),
        Norm(
            name="cut",
            text="cut",
            solvers={"auto": smallest_cut, "native": smallest_cut},
            values=cut_norms,
            dual_values=dual_cut_norms,
            by_entry=True,
            of_vectors="max",
            of_diagonals="max",
        ),
    )
}
