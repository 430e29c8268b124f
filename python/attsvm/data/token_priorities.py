"""Token-priority graphs of next-token data: edges, strongly connected components, reduction."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy

from attsvm._arrays import BoolArray, IndexArray
from attsvm.data.next_token_data import NextTokenData


@dataclass(frozen=True, eq=False)
class Preferences:
    """Priorities stated by each context: its top token over other tokens, or tied with them."""

    top: IndexArray  # ([B,] n): ids
    below: BoolArray  # ([B,] n, T): tokens that the top token has an edge to
    tied: BoolArray  # ([B,] n, T): those of them that have an edge to it, too


def label_preferences(data: NextTokenData) -> Preferences:
    """Return the priorities of the label over every other token of a context which it is in."""
    other = data.contexts != data.labels[..., np.newaxis]
    below = data.valid & data.realizable[..., np.newaxis] & other
    return Preferences(data.labels, below, np.zeros_like(below))


@dataclass(frozen=True, eq=False)
class TokenPriorities:
    """Token-priority graphs of all last tokens k, and of all problems of a batch, as one graph.

    A node is a token j in the graph of k; an edge y -> j gives y priority over j. Tokens without
    edges are not nodes. Strongly connected components are numbered by graph, and within a graph so
    that edges between components go from lower to higher numbers: the first has highest priority.
    """

    graph: IndexArray  # (M,): b K + k of each node; never decreasing
    token: IndexArray  # (M,): its id j; increasing within a graph
    source: IndexArray  # (E,): nodes that the edges leave, each edge once, sorted
    target: IndexArray  # (E,): nodes that they enter
    count: IndexArray  # (E,): number of occurrences of an edge
    component: IndexArray  # (M,): number of the node's component
    level: IndexArray  # (M,): length of the longest path to it
    # ([B,] n, T): Edge of each token, from the top token of its context; -1 where there is none.
    edge: IndexArray
    K: int  # size of the vocabulary

    @property
    def strict(self) -> BoolArray:
        """(E,) True for edges from one component to another."""
        return np.asarray(self.component[self.source] != self.component[self.target])

    @property
    def in_contexts(self) -> BoolArray:
        """(E,) False for the edges back to the top tokens of contexts with ties."""
        found = np.zeros(self.source.size, dtype=np.bool_)
        found[self.edge[self.edge >= 0]] = True
        return found

    @property
    def components(self) -> int:
        """Number of components of all graphs."""
        return int(self.component.max(initial=-1)) + 1

    @cached_property
    def sizes(self) -> IndexArray:
        """Number of tokens of each component."""
        return np.bincount(self.component, minlength=self.components)

    @cached_property
    def graph_of_component(self) -> IndexArray:
        """B K + k of each component; never decreasing."""
        graph = np.zeros(self.components, dtype=np.int64)
        graph[self.component] = self.graph
        return graph

    def node(self, graph: IndexArray, token: IndexArray) -> IndexArray:
        """Return the nodes of tokens in graphs, -1 where a token is not a node."""
        keys = self.graph * self.K + self.token
        wanted = graph * self.K + token
        if keys.size == 0:
            return np.full(wanted.shape, -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(keys, wanted), keys.size - 1)
        return np.asarray(np.where(keys[at] == wanted, at, -1))

    @cached_property
    def _condensed(self) -> tuple[list[int], IndexArray, IndexArray]:
        """Components reached from each component, as bits; the covering edges; the first bits."""
        strict = np.flatnonzero(self.strict)
        pairs = (
            self.component[self.source[strict]] * self.components
            + self.component[self.target[strict]]
        )
        pairs, first = np.unique(pairs, return_index=True)
        above, below = np.divmod(pairs, max(self.components, 1))
        starts = np.searchsorted(above, np.arange(self.components + 1)).tolist()
        offset = np.searchsorted(self.graph_of_component, self.graph_of_component).tolist()
        targets = below.tolist()
        reached = [0] * self.components
        kept = np.zeros(pairs.size, dtype=np.bool_)
        for c in range(self.components - 1, -1, -1):
            bits = 0
            for e in range(starts[c], starts[c + 1]):
                t = targets[e]
                bit = 1 << (t - offset[c])
                if not bits & bit:
                    kept[e] = True
                    bits |= bit | reached[t]
            reached[c] = bits
        return reached, strict[first[kept]], np.asarray(offset, dtype=np.int64)

    def reached(self, above: int) -> IndexArray:
        """Return the components to which there is a path from component `above`."""
        reached, _, offset = self._condensed
        bits = reached[above]
        found = [t for t in range(bits.bit_length()) if bits >> t & 1]
        return np.asarray(offset[above] + np.asarray(found, dtype=np.int64))

    @property
    def covering(self) -> IndexArray:
        """Edges of the transitive reduction of the components, one edge for each of its pairs."""
        return self._condensed[1]

    def reaches_all(self, above: int, others: list[int]) -> bool:
        """Test whether there is a path from component `above` to each of `others` in its graph."""
        reached, _, offset = self._condensed
        wanted = 0
        for other in others:
            wanted |= 1 << int(other - offset[above])
        return wanted & ~reached[above] == 0

    @cached_property
    def tree(self) -> tuple[IndexArray, IndexArray]:
        """Edges of a spanning tree of every component, and the nodes at their far ends.

        Nodes come after those nearer to the root. All edges lead from the top token of some
        context, so that `edge` has them.
        """
        inside = np.flatnonzero(~self.strict & self.in_contexts)
        M = self.graph.size
        nothing = np.empty(0, dtype=np.int64)
        if inside.size == 0:
            return nothing, nothing
        _, roots = np.unique(self.component, return_index=True)
        rows = np.concatenate([self.source[inside], np.full(roots.size, M)])
        columns = np.concatenate([self.target[inside], roots])
        links = scipy.sparse.csr_array((np.ones(rows.size), (rows, columns)), shape=(M + 1, M + 1))
        order, before = scipy.sparse.csgraph.breadth_first_order(links, M, directed=False)
        nodes = order[before[order] >= 0].astype(np.int64)
        nodes = nodes[before[nodes] < M]
        parents = before[nodes].astype(np.int64)
        keys = self.source[inside] * M + self.target[inside]
        away = np.minimum(np.searchsorted(keys, parents * M + nodes), keys.size - 1)
        back = np.searchsorted(keys, nodes * M + parents)
        is_away = keys[away] == parents * M + nodes
        return inside[np.where(is_away, away, np.minimum(back, keys.size - 1))], nodes


def token_priorities(data: NextTokenData, preferences: Preferences) -> TokenPriorities:
    """Build the graphs from the preferences of all contexts."""
    K = data.K
    last = data.batched().last
    graph = (np.arange(len(last))[:, np.newaxis] * K + last).reshape(*data.last.shape, 1)
    top = np.broadcast_to(graph * K + preferences.top[..., np.newaxis], data.contexts.shape)
    below = preferences.below
    upper, lower = top[below], (graph * K + data.contexts)[below]
    nodes, index = np.unique(np.concatenate([upper, lower]), return_inverse=True)
    M, E = nodes.size, upper.size
    upper, lower = index[:E].astype(np.int64), index[E:].astype(np.int64)
    tied = preferences.tied[below]
    edges, edge_of, count = np.unique(
        np.concatenate([upper * M + lower, (lower * M + upper)[tied]]),
        return_inverse=True,
        return_counts=True,
    )
    source, target = np.divmod(edges, max(M, 1))
    component, level = _in_order(source, target, nodes // K)
    edge = np.full(data.contexts.shape, -1, dtype=np.int64)
    edge[below] = edge_of[:E]
    return TokenPriorities(
        nodes // K, nodes % K, source, target, count.astype(np.int64), component, level, edge, K
    )


def _in_order(
    source: IndexArray, target: IndexArray, graph: IndexArray
) -> tuple[IndexArray, IndexArray]:
    """Return the component of every node, numbered by graph and level, and its level."""
    M = graph.size
    if M == 0:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    links = scipy.sparse.csr_array((np.ones(source.size), (source, target)), shape=(M, M))
    C, label = scipy.sparse.csgraph.connected_components(links, directed=True, connection="strong")
    label = label.astype(np.int64)
    between = label[source] != label[target]
    pairs = np.unique(label[source[between]] * C + label[target[between]])
    level = _longest_paths(*np.divmod(pairs, C), C)
    _, first = np.unique(label, return_index=True)
    order = np.lexsort((first, level, graph[first]))
    rank = np.empty(C, dtype=np.int64)
    rank[order] = np.arange(C)
    return rank[label], level[label]


def _longest_paths(above: IndexArray, below: IndexArray, C: int) -> IndexArray:
    """Count the edges of the longest path to every node of an acyclic graph; `above` is sorted."""
    level = np.zeros(C, dtype=np.int64)
    waiting = np.bincount(below, minlength=C)
    starts = np.searchsorted(above, np.arange(C + 1))
    front = np.flatnonzero(waiting == 0)
    depth = 0
    while front.size:
        level[front] = depth
        depth += 1
        lengths = starts[front + 1] - starts[front]
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        reached = below[np.repeat(starts[front], lengths) + within]
        np.subtract.at(waiting, reached, 1)
        front = np.unique(reached)
        front = front[waiting[front] == 0]
    return level
