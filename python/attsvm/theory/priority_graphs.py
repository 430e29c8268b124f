"""Token-priority graphs: which token goes before which, given the last one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse

from attsvm._validation import IndexArray, as_int
from attsvm.data.next_token_data import NextTokenData, as_next_token_data
from attsvm.data.token_priorities import label_preferences, token_priorities

__all__ = ["TokenPriorityGraph", "token_priority_graphs"]


@dataclass(frozen=True, eq=False, repr=False)
class TokenPriorityGraph:
    """The graph of one last token k: an edge y -> j for every label y beside a token j.

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
        Tokens that state it, over all contexts.
    component : ndarray of int, shape (M,)
        Component of each of `tokens`: 0, 1, ..., with priorities from lower to higher numbers.
    level : ndarray of int, shape (M,)
        Number of steps of the longest way down to the component.
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

    def __repr__(self) -> str:
        largest = max((len(one) for one in self.components), default=0)
        return (
            f"TokenPriorityGraph(last={self.last}, {self.tokens.size} tokens, "
            f"{len(self.edges)} edges, {len(self.components)} components, largest {largest})"
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
        """Whether some component has two tokens or more."""
        return len(self.components) < self.tokens.size

    @property
    def component_count(self) -> int:
        """Number of components, single tokens without an edge included: K of a graph of no edges.

        It is 1 where every token of the vocabulary has priority over every other.
        """
        return len(self.components) + self.K - self.tokens.size

    @cached_property
    def _below(self) -> list[int]:
        """Components that each one has priority over, as bits."""
        below = [0] * len(self.components)
        for above, other in reversed(self.condensation.tolist()):
            below[above] |= below[other] | 1 << other
        return below

    def precedes(self, i: int, j: int) -> bool:
        """Whether `i` has priority over `j` and not `j` over `i`: a way from `i` to `j` only.

        Raises
        ------
        TypeError, ValueError
            Not ids of the vocabulary.
        """
        at = []
        for name, one in (("i", i), ("j", j)):
            if not 0 <= as_int(name, one) < self.K:
                raise ValueError(f"{name}: expected an id in 0..{self.K - 1}, got {one}")
            place = int(np.searchsorted(self.tokens, one))
            if place == self.tokens.size or self.tokens[place] != one:
                return False
            at.append(int(self.component[place]))
        return bool(self._below[at[0]] >> at[1] & 1)


def token_priority_graphs(data: NextTokenData) -> dict[int, TokenPriorityGraph]:
    """Token-priority graphs of all last tokens.

    The graph of k is made of the contexts with the last token k: each has an edge from its label to
    every other of its tokens. Tokens that are connected both ways, in one strongly connected
    component, share the attention; a token with a way to another and none back takes all of it.

    Parameters
    ----------
    data : NextTokenData
        A single problem. Contexts without their label make no edges.

    Returns
    -------
    dict of TokenPriorityGraph
        By last token k, increasing.

    Raises
    ------
    TypeError, ValueError
        `data` is not `NextTokenData`, or has a batch axis.

    References
    ----------
    P4: Li, Huang, Ildiz, Rawat, Oymak, "Mechanics of Next Token Prediction with Self-Attention",
    2024, token-priority graphs.

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
    if as_next_token_data(data).batch is not None:
        raise ValueError("data: expected one problem, got data with a batch axis")
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
