"""Token-priority graphs: the priority of tokens over others, given the last token."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy

from attsvm._arrays import IndexArray
from attsvm._display import Plotted
from attsvm._validation import as_int
from attsvm.data.batch_axis import require_one_problem
from attsvm.data.next_token_data import NextTokenData, as_next_token_data
from attsvm.data.token_priorities import label_preferences, token_priorities


@dataclass(frozen=True, eq=False, repr=False)
class TokenPriorityGraph(Plotted):
    """Graph of one last token k: an edge y -> j for every label y beside a token j.

    Attributes
    ----------
    last : int
        k.
    K : int
        Size of the vocabulary.
    tokens : ndarray of int, shape (M,)
        Ids with an edge, increasing. Every other id is a component by itself.
    edges : ndarray of int, shape (E, 2)
        Ids y and j of every edge.
    count : ndarray of int, shape (E,)
        Number of tokens of all contexts that make the edge.
    component : ndarray of int, shape (M,)
        Component of each of `tokens`: 0, 1, ..., with priorities from lower to higher numbers.
    level : ndarray of int, shape (M,)
        Number of edges of the longest path to the component.
    condensation : ndarray of int, shape (R, 2)
        Priorities between components that do not follow from others: the transitive reduction.
    """

    last: int
    K: int
    tokens: IndexArray
    edges: IndexArray
    count: IndexArray
    component: IndexArray
    level: IndexArray
    condensation: IndexArray

    _drawn_by = "token_priority_graph"

    def _facts(self) -> dict[str, str]:
        return {
            "last token": str(self.last),
            "tokens": f"{self.tokens.size:,} of {self.K:,}",
            "edges": f"{len(self.edges):,}",
            "components": f"{len(self.components):,}",
            "largest component": f"{self._largest():,}",
        }

    def _largest(self) -> int:
        return max(map(len, self.components), default=0)

    def __repr__(self) -> str:
        return (
            f"TokenPriorityGraph(last={self.last}, {self.tokens.size} tokens, "
            f"{len(self.edges)} edges, {len(self.components)} components, largest "
            f"{self._largest()})"
        )

    @cached_property
    def components(self) -> tuple[IndexArray, ...]:
        """Ids of every strongly connected component of `tokens`, highest priority first."""
        if self.tokens.size == 0:
            return ()
        order = np.argsort(self.component, kind="stable")
        starts = np.flatnonzero(np.diff(self.component[order]))
        return tuple(np.split(self.tokens[order], starts + 1))

    @property
    def adjacency(self) -> scipy.sparse.csr_array:
        """`count` as a sparse matrix, (K, K)."""
        return scipy.sparse.csr_array(
            (self.count, (self.edges[:, 0], self.edges[:, 1])), shape=(self.K, self.K)
        )

    @property
    def cyclic(self) -> bool:
        """True where some component has two tokens or more."""
        return len(self.components) < self.tokens.size

    @property
    def component_count(self) -> int:
        """Number of components, single tokens without an edge included: K of a graph of no edges.

        It is 1 where every token of the vocabulary has priority over every other.
        """
        return len(self.components) + self.K - self.tokens.size

    def precedes(self, i: int, j: int) -> bool:
        """Test whether `i` has priority over `j`, not `j` over `i`: paths from `i` to `j` only."""
        for name, token in (("i", i), ("j", j)):
            if not 0 <= as_int(name, token) < self.K:
                raise ValueError(f"{name}: expected an id in 0..{self.K - 1}, got {token}")
        above, below = (self._component_of.get(int(token)) for token in (i, j))
        return above is not None and below is not None and bool(self._below[above] >> below & 1)

    @cached_property
    def _component_of(self) -> dict[int, int]:
        return dict(zip(self.tokens.tolist(), self.component.tolist(), strict=True))

    @cached_property
    def _below(self) -> list[int]:
        """Components that there is a path to from each, as the bits of a number."""
        below = [0] * len(self.components)
        # From low priorities to high ones: what is below `lower` is known.
        for above, lower in sorted(self.condensation.tolist(), reverse=True):
            below[above] |= below[lower] | 1 << lower
        return below


def token_priority_graphs(data: NextTokenData) -> dict[int, TokenPriorityGraph]:
    """Build the token-priority graphs of all last tokens ("Mechanics of Next Token Prediction").

    The graph of k is made of the contexts with the last token k: each has an edge from its label to
    every other of its tokens. Tokens with paths in both directions, in one strongly connected
    component, share the attention; a token with a path to another and none back takes all of it.

    Parameters
    ----------
    data : NextTokenData
        A single problem. Contexts without their label make no edges.

    Returns
    -------
    dict of TokenPriorityGraph
        By last token k, increasing.

    Examples
    --------
    >>> import numpy as np
    >>> import attsvm
    >>> data = attsvm.NextTokenData(np.eye(4), [[1, 2, 0], [1, 2, 0], [2, 3, 0]], [1, 2, 2])
    >>> graph = attsvm.token_priority_graphs(data)[0]
    >>> graph.components
    (array([1, 2]), array([0]), array([3]))
    >>> graph.precedes(1, 3)
    True
    """
    require_one_problem(as_next_token_data(data))
    every = token_priorities(data, label_preferences(data))
    lasts = np.unique(data.last)
    nodes = np.searchsorted(every.graph, np.stack([lasts, lasts + 1]))
    edges = np.searchsorted(every.source, nodes)
    covering = every.covering
    pairs = np.stack(
        [every.component[every.source[covering]], every.component[every.target[covering]]], axis=1
    )
    components = np.searchsorted(every.graph_of_component, np.stack([lasts, lasts + 1]))
    between = np.searchsorted(pairs[:, 0], components)
    graphs = {}
    for at, k in enumerate(lasts.tolist()):
        node, edge, pair = (slice(*ends[:, at].tolist()) for ends in (nodes, edges, between))
        first = int(components[0, at])
        graphs[k] = TokenPriorityGraph(
            last=k,
            K=data.K,
            tokens=every.token[node],
            edges=every.token[np.stack([every.source[edge], every.target[edge]], axis=1)],
            count=every.count[edge],
            component=every.component[node] - first,
            level=every.level[node],
            condensation=pairs[pair] - first,
        )
    return graphs
