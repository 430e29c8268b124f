"""The cyclic subspace S_fin, in which next-token attention converges to a finite part."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy

from attsvm._arrays import ArrayLike, BoolArray, Float64Array, IndexArray
from attsvm._linalg import in_own_span
from attsvm._validation import as_float64_array, require_shape
from attsvm.data.batch_axis import require_one_problem
from attsvm.data.next_token_data import NextTokenData, as_next_token_data
from attsvm.data.token_priorities import TokenPriorities, label_preferences, token_priorities
from attsvm.threads import takes_threads

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
        return len(self._basis)

    @cached_property
    def basis(self) -> Float64Array:
        """Orthonormal matrices that span S_fin, (dimension, d, d), of at most 2**27 numbers."""
        d = self.data.d
        if self.dimension * d * d > _MOST_NUMBERS:
            raise ValueError(
                f"data: expected a cyclic subspace of at most 2**27 numbers, got {self.dimension} "
                f"matrices of {d} x {d}"
            )
        return self._lifted(np.eye(self.dimension))

    def project(self, W: ArrayLike) -> Float64Array:
        """Compute Π(W), the orthogonal projection of W (..., d, d) onto S_fin."""
        d = self.data.d
        matrices = as_float64_array("W", W, "(..., d, d)", ndim=range(2, 65))
        require_shape("W", matrices, "(..., d, d)", (*matrices.shape[:-2], d, d))
        stack = matrices.reshape(-1, d, d)
        if self.data.orthonormal:
            parts = np.stack([self.lift(self._values(matrix)) for matrix in stack])
        else:
            _, span = self._in_span
            inside = stack if span is None else span @ stack @ span.T
            parts = self._lifted(np.tensordot(inside, self._basis, axes=((1, 2), (1, 2))))
        return parts.reshape(matrices.shape)

    def lift(self, values: ArrayLike) -> Float64Array:
        """Compute the W in S_fin with the differences of `values` inside every component.

        The values, one for each of `nodes`, are logits e_j' W e_k up to a constant of each
        component. They are those of some W.
        """
        shape = self.nodes.shape
        values = as_float64_array("values", values, "(nodes,)", shape=shape)
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
            return np.asarray(self.embeddings.T @ table @ self.embeddings)
        tree, _ = self.graphs.tree
        upper, lower = np.searchsorted(
            self.nodes, [self.graphs.source[tree], self.graphs.target[tree]]
        )
        differences = self.features[upper] - self.features[lower]
        coordinates = scipy.linalg.lstsq(differences, values[upper] - values[lower])[0]
        return np.asarray(self._lifted(coordinates[np.newaxis])[0])

    @cached_property
    def features(self) -> Float64Array:
        """Rows with which coordinates of W in S_fin give the logits of `nodes`, (nodes, dimension).

        They are up to a constant of each component.
        """
        (E, _), nodes = self._in_span, self.nodes
        columns = np.einsum("rde,me->rmd", self._basis, E[self.graphs.graph[nodes]])
        return np.asarray(np.einsum("rmd,md->mr", columns, E[self.graphs.token[nodes]]))

    def _values(self, W: Float64Array) -> Float64Array:
        """Compute e_j' W e_k of all `nodes`."""
        E, nodes = self.embeddings, self.nodes
        token, last = self.graphs.token[nodes], self.graphs.graph[nodes]
        if self.data.d == self.data.K and np.array_equal(E, np.eye(self.data.K)):
            table = W
        else:
            table = E @ W @ E.T
        return np.asarray(table[token, last])

    @cached_property
    def _in_span(self) -> tuple[Float64Array, Float64Array | None]:
        """Coordinates (K, l) of the embeddings in their span, and its basis (l, d)."""
        coordinates, basis = in_own_span(self.embeddings[np.newaxis])
        return coordinates[0], None if basis is None else basis[0]

    @cached_property
    def _basis(self) -> Float64Array:
        """Orthonormal basis (r, l, l) of S_fin in the span of the embeddings, by a pivoted QR."""
        E, _ = self._in_span
        size = E.shape[1]
        tree, _ = self.graphs.tree
        if tree.size * size * size > _MOST_NUMBERS:
            raise ValueError(
                f"data: expected a cyclic subspace of at most 2**27 numbers, got {tree.size} "
                f"generators of {size} x {size}; orthonormal embeddings have no such limit"
            )
        source, target = self.graphs.source[tree], self.graphs.target[tree]
        differences = E[self.graphs.token[source]] - E[self.graphs.token[target]]
        queries = E[self.graphs.graph[source]]
        generators = (differences[:, :, np.newaxis] * queries[:, np.newaxis, :]).reshape(
            -1, size**2
        )
        basis, triangle, _ = scipy.linalg.qr(generators.T, mode="economic", pivoting=True)
        diagonal = np.abs(np.diagonal(triangle))
        rank = int(np.sum(diagonal > max(generators.shape) * _EPS * diagonal.max(initial=0.0)))
        matrices: Float64Array = np.ascontiguousarray(basis[:, :rank].T)
        return matrices.reshape(rank, size, size)

    def _lifted(self, coordinates: Float64Array) -> Float64Array:
        """Compute the matrices (s, d, d) of coordinates (s, r) in the basis of S_fin."""
        _, span = self._in_span
        stack: Float64Array = np.tensordot(coordinates, self._basis, axes=1)
        return stack if span is None else span.T @ stack @ span


@takes_threads
def cyclic_subspace(data: NextTokenData, *, num_threads: int | None = None) -> CyclicSubspace:
    """Return S_fin, the span in which next-token attention converges while it grows along W^mm.

    Parameters
    ----------
    data : NextTokenData
        A single problem.

    Returns
    -------
    CyclicSubspace
        Of dimension 0 where every component is a single token.

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

    Parameters, errors and references are those of `cyclic_subspace`.

    Returns
    -------
    NextTokenData or None
        None where no context is kept.

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
