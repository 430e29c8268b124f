"""The cyclic subspace S_fin, in which next-token attention converges to a finite part."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from attsvm._linalg import in_own_span
from attsvm._validation import (
    ArrayLike,
    BoolArray,
    Float64Array,
    IndexArray,
    as_float_array,
    require_shape,
)
from attsvm.data.batch_axis import require_one_problem
from attsvm.data.next_token_data import NextTokenData, as_next_token_data
from attsvm.data.token_priorities import TokenPriorities, label_preferences, token_priorities

__all__ = ["CyclicSubspace", "cyclic_subset", "cyclic_subspace"]

_MOST_NUMBERS = 2**27
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False, repr=False)
class CyclicSubspace:
    """S_fin, the span of (e_i - e_j) e_k' over tokens i, j of one component in the graph of k.

    Attributes
    ----------
    data : NextTokenData
        A single problem.
    graphs : TokenPriorities
        Its graphs.
    """

    data: NextTokenData
    graphs: TokenPriorities

    def __repr__(self) -> str:
        return f"CyclicSubspace(dimension={self.dimension}, d={self.data.d})"

    @cached_property
    def nodes(self) -> IndexArray:
        """Nodes (last token, token) that are in components of several tokens."""
        return np.flatnonzero(self.graphs.sizes[self.graphs.component] > 1)

    @cached_property
    def component(self) -> IndexArray:
        """Component of each of `nodes`, counted from 0."""
        return np.unique(self.graphs.component[self.nodes], return_inverse=True)[1].astype(np.int64)

    @cached_property
    def embeddings(self) -> Float64Array:
        """(K, d), in float64."""
        return self.data.embeddings.astype(np.float64, copy=False)

    @cached_property
    def free(self) -> bool:
        """True where any differences of logits inside components are those of some W.

        It is so where the embeddings are linearly independent.
        """
        if self.data.orthonormal:
            return True
        if self.data.d < self.data.K:
            return False
        return int(np.linalg.matrix_rank(self.embeddings)) == self.data.K

    @property
    def dimension(self) -> int:
        """Dimension of S_fin."""
        if self.free:
            return self.nodes.size - int(self.component.max(initial=-1)) - 1
        return len(self._coordinates.basis)

    @cached_property
    def basis(self) -> Float64Array:
        """Orthonormal matrices that span S_fin, (dimension, d, d).

        Raises
        ------
        ValueError
            They would hold more than 2**27 numbers.
        """
        d = self.data.d
        if self.dimension * d * d > _MOST_NUMBERS:
            raise ValueError(
                f"data: expected a cyclic subspace of at most 2**27 numbers, got {self.dimension} "
                f"matrices of {d} x {d}"
            )
        return self._coordinates.lifted(np.eye(self.dimension))

    def project(self, W: ArrayLike) -> Float64Array:
        """Compute Π(W), the orthogonal projection of W onto S_fin.

        Parameters
        ----------
        W : array_like, shape (..., d, d)

        Returns
        -------
        ndarray of float64, shape (..., d, d)
        """
        d = self.data.d
        matrices = as_float_array("W", W, "(..., d, d)", ndim=range(2, 65), dtype=np.float64)
        require_shape("W", matrices, "(..., d, d)", (*matrices.shape[:-2], d, d))
        stack = matrices.reshape(-1, d, d)
        if not self.data.orthonormal:
            parts = self._coordinates.lifted(self._coordinates.of(stack))
        else:
            parts = np.stack([self.lift(self._values(matrix)) for matrix in stack])
        return parts.reshape(matrices.shape)

    def lift(self, values: Float64Array) -> Float64Array:
        """Compute the W in S_fin with the differences of `values` inside every component.

        Parameters
        ----------
        values : ndarray, shape (number of `nodes`,)
            Logits e_j' W e_k up to a constant of each component. They are those of some W.
        """
        if self.nodes.size == 0:
            return np.zeros((self.data.d, self.data.d))
        if self.data.orthonormal:
            K = self.data.K
            sizes = np.bincount(self.component)
            mean = np.bincount(self.component, weights=values) / sizes
            table = np.zeros((K, K))
            nodes = self.nodes
            token, last = self.graphs.token[nodes], self.graphs.graph[nodes]
            table[token, last] = values - mean[self.component]
            if self.data.d == K and np.array_equal(self.embeddings, np.eye(K)):
                return np.asarray(table, dtype=np.float64)
            W: Float64Array = self.embeddings.T @ table @ self.embeddings
            return W
        coordinates = self._coordinates.with_differences(values)
        lifted: Float64Array = self._coordinates.lifted(coordinates[np.newaxis])[0]
        return lifted

    @cached_property
    def features(self) -> Float64Array:
        """Rows with which coordinates of W in S_fin give the logits of `nodes`, (nodes, dimension).

        They are up to a constant of each component.
        """
        return self._coordinates.features

    def _values(self, W: Float64Array) -> Float64Array:
        """Compute e_j' W e_k of all `nodes`."""
        E, nodes = self.embeddings, self.nodes
        token, last = self.graphs.token[nodes], self.graphs.graph[nodes]
        if self.data.d == self.data.K and np.array_equal(E, np.eye(self.data.K)):
            table = W
        else:
            table = E @ W @ E.T
        values: Float64Array = table[token, last]
        return values

    @cached_property
    def _coordinates(self) -> _Coordinates:
        return _Coordinates.of_subspace(self)


@dataclass(frozen=True, eq=False)
class _Coordinates:
    """An orthonormal basis of S_fin, by a pivoted QR factorisation of its generators.

    Attributes
    ----------
    basis : ndarray, shape (r, l, l)
        In coordinates of the span of the embeddings.
    span : ndarray, shape (l, d), or None
        Basis of that span.
    triangle : ndarray, shape (r, r)
    pivots : ndarray of int, shape (r,)
        Generators of the first r columns.
    upper, lower : ndarray of int, shape (m,)
        Indices in `nodes` of i and j of the generators (e_i - e_j) e_k'.
    features : ndarray, shape (nodes, r)
    """

    basis: Float64Array
    span: Float64Array | None
    triangle: Float64Array
    pivots: NDArray[np.intp]
    upper: IndexArray
    lower: IndexArray
    features: Float64Array

    @classmethod
    def of_subspace(cls, space: CyclicSubspace) -> _Coordinates:
        graphs, nodes = space.graphs, space.nodes
        keys, span = in_own_span(space.embeddings[np.newaxis])
        E = keys[0]
        size = E.shape[1]
        tree, _ = graphs.tree
        if tree.size * size * size > _MOST_NUMBERS:
            raise ValueError(
                f"data: expected a cyclic subspace of at most 2**27 numbers, got {tree.size} "
                f"generators of {size} x {size}; orthonormal embeddings have no such limit"
            )
        source, target = graphs.source[tree], graphs.target[tree]
        differences = E[graphs.token[source]] - E[graphs.token[target]]
        queries = E[graphs.graph[source]]
        generators = (differences[:, :, np.newaxis] * queries[:, np.newaxis, :]).reshape(
            tree.size, size * size
        )
        basis, triangle, pivots = scipy.linalg.qr(generators.T, mode="economic", pivoting=True)
        diagonal = np.abs(np.diagonal(triangle))
        rank = int(np.sum(diagonal > max(generators.shape) * _EPS * diagonal.max(initial=0.0)))
        matrices = np.ascontiguousarray(basis[:, :rank].T).reshape(rank, size, size)
        columns = np.einsum("rde,me->rmd", matrices, E[graphs.graph[nodes]])
        features = np.einsum("rmd,md->mr", columns, E[graphs.token[nodes]])
        return cls(
            matrices,
            None if span is None else span[0],
            triangle[:rank, :rank],
            pivots[:rank],
            np.searchsorted(nodes, source),
            np.searchsorted(nodes, target),
            features,
        )

    def of(self, stack: Float64Array) -> Float64Array:
        """Compute coordinates (s, r) of the projections onto S_fin of matrices (s, d, d)."""
        inside = stack if self.span is None else self.span @ stack @ self.span.T
        flat = self.basis.reshape(len(self.basis), inside[0].size)
        coordinates: Float64Array = inside.reshape(len(stack), inside[0].size) @ flat.T
        return coordinates

    def with_differences(self, values: Float64Array) -> Float64Array:
        """Compute coordinates (r,) of the W in S_fin with these differences inside components."""
        wanted = (values[self.upper] - values[self.lower])[self.pivots]
        coordinates: Float64Array = scipy.linalg.solve_triangular(self.triangle, wanted, trans=1)
        return coordinates

    def lifted(self, coordinates: Float64Array) -> Float64Array:
        """Compute the matrices (s, d, d) of coordinates (s, r)."""
        size = self.basis.shape[1]
        inside = coordinates @ self.basis.reshape(len(self.basis), size * size)
        stack: Float64Array = inside.reshape(len(coordinates), size, size)
        return stack if self.span is None else self.span.T @ stack @ self.span


def cyclic_subspace(data: NextTokenData) -> CyclicSubspace:
    """Return S_fin, the span in which next-token attention converges while it grows along W^mm.

    Parameters
    ----------
    data : NextTokenData
        A single problem.

    Returns
    -------
    CyclicSubspace
        Of dimension 0 where every component is a single token.

    Raises
    ------
    TypeError, ValueError
        `data` is not `NextTokenData`, or has a batch axis.

    References
    ----------
    P4: Li, Huang, Ildiz, Rawat, Oymak, "Mechanics of Next Token Prediction with Self-Attention",
    2024, the cyclic subspace.

    Examples
    --------
    >>> import numpy as np
    >>> import attsvm
    >>> data = attsvm.NextTokenData(np.eye(3), [[1, 2, 0], [1, 2, 0]], [1, 2])
    >>> space = attsvm.theory.cyclic_subspace(data)
    >>> space
    CyclicSubspace(dimension=1, d=3)
    >>> space.project([[0.0, 0, 0], [1, 0, 1], [0, 0, 0]])
    array([[ 0. ,  0. ,  0. ],
           [ 0.5,  0. ,  0. ],
           [-0.5,  0. ,  0. ]])
    """
    require_one_problem(as_next_token_data(data))
    return CyclicSubspace(data, token_priorities(data, label_preferences(data)))


def cyclic_subset(data: NextTokenData) -> NextTokenData | None:
    """Return the cyclic sub-dataset: the contexts restricted to components of several tokens.

    A context is kept if another of its tokens is in the component of its label, and keeps the
    tokens of that component. Its query is kept, also where it is no longer one of them.

    Parameters
    ----------
    data : NextTokenData
        A single problem.

    Returns
    -------
    NextTokenData or None
        None where no context is kept.

    Raises
    ------
    TypeError, ValueError
        `data` is not `NextTokenData`, or has a batch axis.

    References
    ----------
    P4: Li, Huang, Ildiz, Rawat, Oymak, "Mechanics of Next Token Prediction with Self-Attention",
    2024, the cyclic sub-dataset.

    Examples
    --------
    >>> import numpy as np
    >>> import attsvm
    >>> data = attsvm.NextTokenData(np.eye(4), [[1, 2, 0], [1, 2, 0], [3, 0, 0]], [1, 2, 3])
    >>> attsvm.theory.cyclic_subset(data).contexts
    array([[1, 2],
           [1, 2]])
    """
    require_one_problem(as_next_token_data(data))
    kept, inside = inside_components(data, token_priorities(data, label_preferences(data)))
    if not kept.any():
        return None
    rows = inside[kept]
    counts = rows.sum(axis=1)
    contexts = np.zeros((len(rows), counts.max()), dtype=np.int64)
    contexts[np.arange(counts.max()) < counts[:, np.newaxis]] = data.contexts[kept][rows]
    return NextTokenData(
        data.embeddings,
        contexts,
        data.labels[kept],
        lengths=counts,
        last=data.last[kept],
        vocabulary=data.vocabulary,
    )


def inside_components(data: NextTokenData, graphs: TokenPriorities) -> tuple[BoolArray, BoolArray]:
    """Find contexts of the cyclic sub-dataset (n,), and tokens (n, T) of the label's component."""
    tied = graphs.edge >= 0
    tied[tied] = ~graphs.strict[graphs.edge[tied]]
    kept: Any = tied.any(axis=-1)
    return kept, kept[..., np.newaxis] & (tied | (data.label_scores > 0))
