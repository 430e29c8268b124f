"""The Graph-SVM of next-token data: equal inside components, margins from one to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from attsvm._linalg import in_own_span
from attsvm._validation import BoolArray, IndexArray, as_choice
from attsvm.data.attention_weights import AttendedLike
from attsvm.data.next_token_data import NextTokenData, as_next_token_data
from attsvm.data.token_priorities import TokenPriorities, label_preferences, token_priorities
from attsvm.svm.constraints import Constraints, Float64Array
from attsvm.svm.dual_native import Machines, solve_natively
from attsvm.svm.frobenius import Infeasible, Optimal, smallest_frobenius
from attsvm.svm.priority_columns import certified_columns, smallest_columns
from attsvm.svm.selected_ids import attention_preferences
from attsvm.svm.solution import ACTIVE_TOLERANCE, SVMSolution, without_batch_axis

__all__ = ["graph_svm"]


def graph_svm(
    data: NextTokenData,
    *,
    attention: AttendedLike | None = None,
    threshold: float = 1e-2,
    ignored: float = 9e-3,
    norm: str = "fro",
) -> SVMSolution:
    """Graph-SVM: the smallest W that ranks tokens by their priority, given the last one.

    min |W|_F subject to (e_i - e_j)' W e_k = 0 where i and j are in one strongly connected
    component of the token-priority graph of k, and >= 1 where there is a way from i to j only.
    Gradient descent of next-token prediction grows in this direction (P4).

    Parameters
    ----------
    data : NextTokenData
        Contexts without their label have no constraints.
    attention : array_like of shape ([B,] n, T), or Run, optional
        Softmax weights, for the local SVM of descent that does not come to select the labels: the
        graphs are made of the selected ids, those with a weight above `threshold`, each of which
        has an edge to every other id of its context.
    threshold : float
        Least weight of a selected id. Repeated tokens of a context count together.
    ignored : float
        Ids with a weight above this and up to `threshold` are taken out of their context.
    norm : {"fro"}
        What is made small: the Frobenius norm.

    Returns
    -------
    SVMSolution
        With `W`, shape ([B,] d, d). Its constraint at [i, t] is that of the label (or the selected
        id of largest weight) of context i with token x_it: `margins` are (e_y - e_x)' W e_k, 0 in a
        component. A multiplier `dual` of an equality may have any sign. What follows from other
        constraints, and what is repeated, has multiplier 0. There is nothing at the label itself,
        at padding and in contexts without their label.

    Raises
    ------
    TypeError
        `data` is not `NextTokenData`, or `attention` is not numbers.
    ValueError
        `attention` does not hold softmax weights of the contexts, a context has no weight above
        `threshold`, or `norm` is not known.
    SolverError
        Neither a solution nor infeasibility could be certified.

    Notes
    -----
    Of the constraints, a spanning tree of every component and the transitive reduction of the
    order between components say all: margins add up along a way, so that a longer one makes an edge
    superfluous. With orthonormal embeddings every column W e_k is a problem of its own, in which a
    component counts as one coordinate; problems of thousands of last tokens are solved so.

    References
    ----------
    P4: Li, Huang, Ildiz, Rawat, Oymak, "Mechanics of Next Token Prediction with Self-Attention",
    2024, Graph-SVM; section 5 for the local one.

    Examples
    --------
    >>> import numpy as np
    >>> import attsvm
    >>> data = attsvm.NextTokenData(np.eye(3), [[1, 0], [2, 0], [1, 2, 0]], [1, 2, 1])
    >>> attsvm.graph_svm(data).W
    array([[-1.,  0.,  0.],
           [ 1.,  0.,  0.],
           [ 0.,  0.,  0.]])
    """
    as_next_token_data(data)
    as_choice("norm", norm, ("fro",))
    if attention is None:
        preferences = label_preferences(data)
    else:
        preferences = attention_preferences(data, attention, threshold, ignored)
    graphs = token_priorities(data, preferences)
    asked = _Asked.of(data, graphs)
    solution = _by_columns(data, asked) if data.orthonormal else _jointly(data, asked)
    return without_batch_axis(solution) if data.batch is None else solution


@dataclass(frozen=True, eq=False)
class _Asked:
    """The edges that say all, in the order of their problem.

    Attributes
    ----------
    graphs : TokenPriorities
    edges : ndarray of int, shape (m,)
    equality : ndarray of bool, shape (m,)
    problem : ndarray of int, shape (m,)
        Never decreasing.
    """

    graphs: TokenPriorities
    edges: IndexArray
    equality: BoolArray
    problem: IndexArray

    @classmethod
    def of(cls, data: NextTokenData, graphs: TokenPriorities) -> _Asked:
        edges = np.sort(np.concatenate([graphs.covering, graphs.tree[0]]))
        problem = graphs.graph[graphs.source[edges]] // data.K
        return cls(graphs, edges, ~graphs.strict[edges], problem)

    def laid_out(self, data: NextTokenData, values: Float64Array) -> Float64Array:
        """Values of the edges asked for at their first place in an array (B, n, T), 0 elsewhere."""
        place = self.graphs.edge.ravel()
        found, first = np.unique(place, return_index=True)
        result = np.zeros(place.size)
        result[first[np.searchsorted(found, self.edges)]] = values
        return result.reshape(data.batch or 1, data.n, data.T)

    def of_tokens(
        self, data: NextTokenData, values: Float64Array
    ) -> tuple[Float64Array, BoolArray, Float64Array]:
        """Margins (B, n, T) from the logits of the nodes, where they are, and how much they miss.

        The misses (B,) are the largest of each problem.
        """
        graphs = self.graphs
        edge = graphs.edge.reshape(data.batch or 1, data.n, data.T)
        there = edge >= 0
        margins = np.full(edge.shape, np.inf)
        of_edges = values[graphs.source] - values[graphs.target]
        margins[there] = of_edges[edge[there]]
        missed = np.where(graphs.strict, np.maximum(1 - of_edges, 0.0), np.abs(of_edges))
        worst = np.zeros(len(edge))
        np.maximum.at(worst, graphs.graph[graphs.source] // data.K, missed)
        return margins, there, worst

    def support(self, data: NextTokenData, margins: Float64Array, there: BoolArray) -> BoolArray:
        """Which constraints are active: (B, n, T)."""
        rhs = np.zeros(margins.shape)
        edge = self.graphs.edge.reshape(margins.shape)
        rhs[there] = self.graphs.strict[edge[there]]
        active: BoolArray = there & (margins - rhs <= ACTIVE_TOLERANCE)
        return active


def _by_columns(data: NextTokenData, asked: _Asked) -> SVMSolution:
    """Every column W e_k by itself, for orthonormal embeddings."""
    graphs, B = asked.graphs, data.batch or 1
    values, dual = smallest_columns(graphs, asked.edges, asked.equality)
    margins, there, worst = asked.of_tokens(data, values)
    norm, gap, kkt = certified_columns(
        graphs, graphs.graph // data.K, B, values, asked.edges, asked.equality, dual
    )
    used, row = np.unique(graphs.graph, return_inverse=True)
    of_problem = used // data.K
    within = np.arange(used.size) - np.searchsorted(of_problem, of_problem)
    s = int(within.max(initial=0)) + 1
    weights = np.zeros((B, s, data.K))
    weights[graphs.graph // data.K, within[row], graphs.token] = values
    tables = _tables(data)
    right = np.zeros((B, s, data.d))
    right[of_problem, within] = tables[of_problem % len(tables), used % data.K]
    identity = data.d == data.K and len(tables) == 1 and np.array_equal(tables[0], np.eye(data.d))
    return SVMSolution(
        variable="W",
        status=np.full(B, "optimal"),
        norm=norm,
        margins=margins,
        dual=asked.laid_out(data, dual),
        support=asked.support(data, margins, there),
        gap=gap,
        kkt=np.maximum(kkt, worst),
        certificate=np.full(margins.shape, np.nan),
        solver=np.where(norm > 0, "native", "none").astype("<U10"),
        left=weights if identity else weights @ tables,
        right=right,
    )


def _jointly(data: NextTokenData, asked: _Asked) -> SVMSolution:
    """All of W at once, for embeddings that are not orthonormal."""
    graphs, B = asked.graphs, data.batch or 1
    tables = _tables(data)
    keys, basis = in_own_span(tables)
    starts = np.searchsorted(asked.problem, np.arange(B + 1))
    m = max(1, int(np.diff(starts).max()))
    within = np.arange(asked.edges.size) - starts[asked.problem]
    source, target = graphs.source[asked.edges], graphs.target[asked.edges]
    table = asked.problem % len(tables)
    differences = np.zeros((B, m, keys.shape[2]))
    differences[asked.problem, within] = (
        keys[table, graphs.token[source]] - keys[table, graphs.token[target]]
    )
    queries = np.zeros_like(differences)
    queries[asked.problem, within] = keys[table, graphs.graph[source] % data.K]
    rhs = np.zeros((B, m, 1))
    rhs[asked.problem, within, 0] = ~asked.equality
    equality = np.zeros((B, m, 1), dtype=np.bool_)
    equality[asked.problem, within, 0] = asked.equality
    ones = np.ones((B, m), dtype=np.int64)
    machines = Machines(differences[:, :, np.newaxis], queries, -ones, ones, rhs, equality)

    def otherwise(b: int) -> tuple[Constraints, Optimal | Infeasible]:
        each = np.arange(m)
        constraints = Constraints(
            differences[b],
            each,
            queries[b],
            rhs[b, :, 0],
            equality[b, :, 0],
            (each, np.zeros_like(each)),
            (m, 1),
        )
        return constraints, smallest_frobenius(constraints, "auto")

    found = solve_natively("W", machines, otherwise)
    feasible = np.asarray(found.feasible)
    left, right = found.left, found.right
    assert left is not None
    assert right is not None
    W = np.where(feasible[:, np.newaxis, np.newaxis], np.swapaxes(left, 1, 2) @ right, 0.0)
    each, k = np.divmod(graphs.graph, data.K)
    columns = np.einsum("bde,bke->bkd", W, np.broadcast_to(keys, (B, *keys.shape[1:])))
    values = np.einsum("md,md->m", keys[each % len(tables), graphs.token], columns[each, k])
    margins, there, worst = asked.of_tokens(data, values)
    if basis is not None:
        left, right = left @ basis, right @ basis

    def of_edges(values: Float64Array | None) -> Float64Array:
        assert values is not None
        return asked.laid_out(data, values[asked.problem, within, 0])

    lacking = ~feasible[:, np.newaxis, np.newaxis]
    return SVMSolution(
        variable="W",
        status=found.status,
        norm=found.norm,
        margins=np.where(lacking, np.nan, margins),
        dual=np.where(lacking, np.nan, of_edges(found.dual)),
        support=~lacking & asked.support(data, margins, there),
        gap=found.gap,
        kkt=np.where(feasible, np.maximum(found.kkt, worst), found.kkt),
        certificate=np.where(lacking, of_edges(found.certificate), np.nan),
        solver=found.solver,
        left=left,
        right=right,
    )


def _tables(data: NextTokenData) -> Float64Array:
    """Embeddings (B or 1, K, d) in float64."""
    tables: Any = data.embeddings.reshape(-1, data.K, data.d).astype(np.float64, copy=False)
    return np.ascontiguousarray(tables)
