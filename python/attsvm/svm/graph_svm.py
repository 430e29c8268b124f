"""The Graph-SVM of next-token data: equal inside components, margins from one to another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from attsvm._arrays import BoolArray, Float64Array, IndexArray
from attsvm._geometries import Norm as NormLike
from attsvm._linalg import LowRank, euclidean_norm, in_own_span
from attsvm.data.attention_weights import AttendedLike
from attsvm.data.next_token_data import NextTokenData, as_next_token_data
from attsvm.data.token_priorities import TokenPriorities, label_preferences, token_priorities
from attsvm.svm.norms import Norm, as_svm_norm
from attsvm.svm.priority_columns import certified_columns, smallest_columns
from attsvm.svm.selected_ids import attention_preferences
from attsvm.svm.solution import (
    ACTIVE_TOLERANCE,
    SolverError,
    SVMSolution,
    of_batch,
    only_one,
)
from attsvm.svm.solve import fields_of, require_answers
from attsvm.svm.solvers import (
    INFEASIBLE,
    OPTIMALITY_TOLERANCE,
    UNRESOLVED,
    Result,
    certify,
    put,
)
from attsvm.svm.svm_problem import SvmProblem
from attsvm.threads import takes_threads

_DELICATE = 1e4  # |W| times the squared size of embeddings, up to which rounding decides nothing


@takes_threads
def graph_svm(
    data: NextTokenData,
    *,
    attention: AttendedLike | None = None,
    threshold: float = 1e-2,
    ignored: float = 9e-3,
    norm: NormLike = "fro",
    num_threads: int | None = None,
) -> SVMSolution:
    """Solve the Graph-SVM: the smallest W that ranks tokens by their priority, given the last.

    min N(W) subject to (e_i - e_j)' W e_k = 0 where i and j are in one strongly connected component
    of the token-priority graph of k, and >= 1 where there is a path from i to j only. Gradient
    descent of next-token prediction grows in this direction ("Mechanics of Next Token Prediction
    with Self-Attention", section 5 of it for the local SVM).

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
    norm : {"fro", "max", "l1", "spec", "nuc", "cut"} or float
        What is made small, as in `att_svm`.

    Returns
    -------
    SVMSolution
        With `W`, shape ([B,] d, d). Its constraint at [i, t] is that of the label (or the selected
        id of largest weight) of context i with token x_it: `margins` are (e_y - e_x)' W e_k, 0 in a
        component. A multiplier `dual` of an equality may have any sign. What is repeated has
        multiplier 0, and so has what follows from other constraints, unless rounding might decide.
        There is nothing at the label itself, at padding and in contexts without their label.

    Notes
    -----
    Of the constraints, a spanning tree of every component and the transitive reduction of the
    order between components imply the rest: margins add up along a path, so that a longer one makes
    an edge superfluous. Their errors add up, too: where |W|_F times the squared size of embeddings
    is above 1e4 every edge is a constraint. A proof that there is no W counts what paths imply
    among the constraints that ask for a large W. With orthonormal embeddings every column W e_k is
    a problem of its own, in which a component counts as one coordinate; problems of thousands of
    last tokens are solved so.

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
    made_small = as_svm_norm("norm", norm)
    if attention is None:
        preferences = label_preferences(data)
    else:
        preferences = attention_preferences(data, attention, threshold, ignored)
    graphs = token_priorities(data, preferences)
    constraints = _ImplyingConstraints.of(data, graphs)
    if data.orthonormal and made_small.name == "fro":
        solution = _by_columns(data, constraints)
    else:
        solution = _jointly(data, constraints, made_small)
    return only_one(solution) if data.batch is None else solution


@dataclass(frozen=True, eq=False)
class _ImplyingConstraints:
    """Edges whose constraints imply those of all others, in the order of their problem."""

    graphs: TokenPriorities
    edges: IndexArray  # (m,)
    equality: BoolArray  # (m,)
    problem: IndexArray  # (m,): never decreasing

    @classmethod
    def of(cls, data: NextTokenData, graphs: TokenPriorities) -> _ImplyingConstraints:
        edges = np.sort(np.concatenate([graphs.covering, graphs.tree[0]]))
        problem = graphs.graph[graphs.source[edges]] // data.K
        return cls(graphs, edges, ~graphs.strict[edges], problem)

    def laid_out(self, data: NextTokenData, values: Float64Array) -> Float64Array:
        """Put values of `edges` at their first place in an array (B, n, T), 0 elsewhere."""
        place = self.graphs.edge.ravel()
        found, first = np.unique(place, return_index=True)
        result = np.zeros(place.size)
        result[first[np.searchsorted(found, self.edges)]] = values
        return result.reshape(data.batch or 1, data.n, data.T)

    def with_all_of(self, problems: BoolArray) -> _ImplyingConstraints:
        """Return them with every edge of the contexts of these problems (B,)."""
        graphs = self.graphs
        problem = graphs.graph[graphs.source] // graphs.K
        kept = graphs.in_contexts & problems[problem]
        kept[self.edges] = True
        edges = np.flatnonzero(kept)
        return _ImplyingConstraints(graphs, edges, ~graphs.strict[edges], problem[edges])

    def of_tokens(
        self, data: NextTokenData, of_edges: Float64Array
    ) -> tuple[Float64Array, BoolArray, Float64Array]:
        """Return margins (B, n, T) from those of all edges, where they are, and the misses (B,).

        The misses are the largest of each problem.
        """
        graphs = self.graphs
        edge = graphs.edge.reshape(data.batch or 1, data.n, data.T)
        there = edge >= 0
        margins = np.full(edge.shape, np.inf)
        margins[there] = of_edges[edge[there]]
        missed = np.where(graphs.strict, np.maximum(1 - of_edges, 0.0), np.abs(of_edges))
        worst = np.zeros(len(edge))
        np.maximum.at(worst, graphs.graph[graphs.source] // data.K, missed)
        return margins, there, worst

    def support(self, data: NextTokenData, margins: Float64Array, there: BoolArray) -> BoolArray:
        """Return which constraints are active, (B, n, T)."""
        rhs = np.zeros(margins.shape)
        edge = self.graphs.edge.reshape(margins.shape)
        rhs[there] = self.graphs.strict[edge[there]]
        return np.asarray(there & (margins - rhs <= ACTIVE_TOLERANCE))


def _by_columns(data: NextTokenData, constraints: _ImplyingConstraints) -> SVMSolution:
    """Solve for every column W e_k by itself, for orthonormal embeddings."""
    graphs, B = constraints.graphs, data.batch or 1
    values, dual = smallest_columns(graphs, constraints.edges, constraints.equality)
    of_edges = values[graphs.source] - values[graphs.target]
    margins, there, worst = constraints.of_tokens(data, of_edges)
    norm, gap, kkt = certified_columns(
        graphs, graphs.graph // data.K, B, values, constraints.edges, constraints.equality, dual
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
        dual=constraints.laid_out(data, dual),
        support=constraints.support(data, margins, there),
        gap=gap,
        kkt=np.maximum(kkt, worst),
        certificate=np.full(margins.shape, np.nan),
        solver=np.where(norm > 0, "native", "none").astype("<U10"),
        left=weights if identity else weights @ tables,
        right=right,
        unique=np.full(B, True, dtype=object),
    )


def _jointly(data: NextTokenData, constraints: _ImplyingConstraints, norm: Norm) -> SVMSolution:
    """Solve for all of W at once, where its columns are not problems of their own."""
    graphs, B = constraints.graphs, data.batch or 1
    tables = _tables(data)
    problem, place = _edge_problem(constraints, B, tables)
    result, names = _solved_in_span(problem, tables, norm)
    delicate = _is_delicate(result, tables, norm)
    if delicate.any():
        constraints = constraints.with_all_of(delicate)
        problem, place = _edge_problem(constraints, B, tables)
        for b in np.flatnonzero(delicate).tolist():
            one, (names[b],) = norm.solvers["auto"](problem.problem(b), None)
            put(result, b, one)
    for b in np.flatnonzero(result["status"] == INFEASIBLE).tolist():
        joined = _with_path(problem.problem(b), graphs, b)
        one = certify(joined, np.pad(result["dual"][[b]], ((0, 0), (0, 1), (0, 0))))
        if one["status"][0] != INFEASIBLE:
            one, (names[b],) = norm.solvers["auto"](joined, None)
            if one["status"][0] == INFEASIBLE:  # by a proof that may count the path itself
                one["status"][0] = UNRESOLVED
        put(result, b, {**one, **{name: one[name][:, :-1] for name in ("dual", "margins")}})
    require_answers(problem, result, "auto", norm)
    solution = SVMSolution(**of_batch(fields_of("W", problem, result, names, norm)))

    def at_place(values: Float64Array | None) -> Float64Array:
        assert values is not None
        return values[(*place, np.ones_like(place[0]))]

    feasible = np.asarray(solution.feasible)
    of_edges = _margins_of_edges(solution, graphs, tables)
    certified = (delicate & feasible)[constraints.problem]
    of_edges[constraints.edges[certified]] = at_place(solution.margins)[certified]
    margins, there, worst = constraints.of_tokens(data, of_edges)
    worst[delicate] = 0.0  # their own residual has every edge
    if (worst[feasible] > OPTIMALITY_TOLERANCE + 256 * np.finfo(np.float64).eps * _DELICATE).any():
        raise SolverError("no certified answer for the Graph-SVM: margins missed by rounding")

    lacking = ~feasible[:, np.newaxis, np.newaxis]
    return replace(
        solution,
        margins=np.where(lacking, np.nan, margins),
        dual=np.where(lacking, np.nan, constraints.laid_out(data, at_place(solution.dual))),
        support=~lacking & constraints.support(data, margins, there),
        kkt=np.where(feasible, np.maximum(solution.kkt, worst), solution.kkt),
        certificate=np.where(
            lacking, constraints.laid_out(data, at_place(solution.certificate)), np.nan
        ),
    )


def _solved_in_span(
    problem: SvmProblem, tables: Float64Array, norm: Norm
) -> tuple[Result, list[str]]:
    """Solve in coordinates of the span of the embeddings, where the norm allows for that."""
    if norm.by_entry:
        return norm.solvers["auto"](problem, None)
    keys, basis = _coordinates(tables)
    result, names = norm.solvers["auto"](problem._replace(tokens=keys, queries=keys), None)
    if basis is not None:
        result["left"], result["right"] = result["left"] @ basis, result["right"] @ basis
        if norm.name == "spec":  # with a part outside of the span, W has the same norm
            result["unique"][:] = 0
    return result, names


def _is_delicate(result: Result, tables: Float64Array, norm: Norm) -> BoolArray:
    """Return the problems (B,) that rounding might decide, or of which nothing is known."""
    size = result["norm"]
    if norm.name != "fro":
        size = LowRank(result["left"], result["right"]).norm()
    known = np.isfinite(size)
    embeddings = euclidean_norm(tables, axis=2).max(axis=1)
    large = embeddings * (embeddings * np.where(known, size, 0.0)) > _DELICATE
    return np.asarray(~known | large)


def _margins_of_edges(
    solution: SVMSolution, graphs: TokenPriorities, tables: Float64Array
) -> Float64Array:
    """Return (e_source - e_target)' W e_last of every edge, 0 where there is no W."""
    assert solution.left is not None
    assert solution.right is not None
    no_W = ~np.asarray(solution.feasible) | (solution.norm == 0)
    left, right = (
        np.where(no_W[:, np.newaxis, np.newaxis], 0.0, factor)
        for factor in (solution.left, solution.right)
    )
    of_last = right @ np.swapaxes(tables, 1, 2)
    directions = np.swapaxes(of_last, 1, 2) @ left
    b, last = np.divmod(graphs.graph, graphs.K)
    values = np.einsum("md,md->m", tables[b % len(tables), graphs.token], directions[b, last])
    return np.asarray(values[graphs.source] - values[graphs.target])


def _with_path(problem: SvmProblem, graphs: TokenPriorities, b: int) -> SvmProblem:
    """Return problem `b` with a constraint more: ½ for the two nearest tokens on a path.

    A proof excludes W up to a size that is relative to the largest which a single constraint asks
    for, and W is solved for in units of that. Of nearly equal tokens at the ends of a path that is
    the constraint of the path, which asks for 1, so that the one for ½ has multiplier 0.
    """
    table = problem.tokens[0].astype(np.float64, copy=False)
    sizes = euclidean_norm(table, axis=1)
    ends = [b * graphs.K, (b + 1) * graphs.K]
    nodes = slice(*np.searchsorted(graphs.graph, ends).tolist())
    token, component = graphs.token[nodes], graphs.component[nodes]
    smallest, inputs = np.inf, (0, 0, 0)
    for c in range(*np.searchsorted(graphs.graph_of_component, ends).tolist()):
        below = token[np.isin(component, graphs.reached(c))]
        last = int(graphs.graph_of_component[c]) % graphs.K
        for i in token[component == c].tolist() if below.size else ():
            rows = euclidean_norm(table[i] - table[below], axis=1) * sizes[last]
            rows[rows == 0] = np.inf
            at = rows.argmin()
            if rows[at] < smallest:
                smallest, inputs = rows[at], (i, int(below[at]), last)
    more: dict[str, Any] = {
        "selected": [[0]],
        "lengths": [[2 if smallest < np.inf else 1]],
        "rhs": [[[0.0, 0.5]]],
        "equality": [[[False, False]]],
        "token_ids": [[list(inputs[:2])]],
        "query_ids": [[inputs[2]]],
    }
    return problem._replace(
        **{
            name: np.concatenate([getattr(problem, name), value], axis=1)
            for name, value in more.items()
        },
    )


def _edge_problem(
    constraints: _ImplyingConstraints, B: int, tables: Float64Array
) -> tuple[SvmProblem, tuple[IndexArray, IndexArray]]:
    """Return the edges as inputs of two tokens, and where each edge is: problem and input."""
    graphs, edges = constraints.graphs, constraints.edges
    starts = np.searchsorted(constraints.problem, np.arange(B + 1))
    m = max(1, int(np.diff(starts).max()))
    place = constraints.problem, np.arange(edges.size) - starts[constraints.problem]
    source, target = graphs.source[edges], graphs.target[edges]
    token_ids, query_ids = np.zeros((B, m, 2), dtype=np.int64), np.zeros((B, m), dtype=np.int64)
    token_ids[place] = np.stack([graphs.token[source], graphs.token[target]], axis=1)
    query_ids[place] = graphs.graph[source] % graphs.K
    lengths = np.zeros((B, m), dtype=np.int64)
    lengths[place] = 2
    rhs, equality = np.zeros((B, m, 2)), np.zeros((B, m, 2), dtype=np.bool_)
    rhs[(*place, 1)] = ~constraints.equality
    equality[(*place, 1)] = constraints.equality
    selected = np.zeros((B, m), dtype=np.int64)
    return SvmProblem(tables, tables, selected, lengths, rhs, equality, token_ids, query_ids), place


def _coordinates(tables: Float64Array) -> tuple[Float64Array, Float64Array | None]:
    """Return `in_own_span`, with the same coordinates for the same embedding."""
    keys, basis = in_own_span(tables)
    if basis is not None:
        for table, rows in zip(tables, keys, strict=True):
            _, first, again = np.unique(table, axis=0, return_index=True, return_inverse=True)
            rows[:] = rows[first[again.ravel()]]
    return keys, basis


def _tables(data: NextTokenData) -> Float64Array:
    """Return the embeddings (B or 1, K, d) in float64."""
    tables: Any = data.embeddings.reshape(-1, data.K, data.d).astype(np.float64, copy=False)
    return np.ascontiguousarray(tables)
