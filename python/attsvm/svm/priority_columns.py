"""The Graph-SVM of orthonormal embeddings: every column W e_k is a problem of its own.

In coordinates w_j = e_j' W e_k the constraints are w_i = w_j inside components and w_i - w_j >= 1
along edges from one to another. A component C of c tokens has one value u, which counts c u² in
|W|². What remains is min ½ Σ c u² with differences of at least 1 along the edges of acyclic graphs,
which fall into connected pieces.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import scipy

from attsvm._arrays import BoolArray, Float64Array, IndexArray
from attsvm.data.token_priorities import TokenPriorities
from attsvm.svm.solution import SolverError
from attsvm.svm.solve import solve
from attsvm.svm.solvers import OPTIMALITY_TOLERANCE
from attsvm.svm.svm_problem import row_problem


def smallest_columns(
    graphs: TokenPriorities, edges: IndexArray, equality: BoolArray
) -> tuple[Float64Array, Float64Array]:
    """Compute the value w of every node, and the multiplier of every edge of `edges`, (m,).

    These are the transitive reduction and the spanning trees; `equality` (m,) says which are of the
    trees.
    """
    strict = edges[~equality]
    above = graphs.component[graphs.source[strict]]
    below = graphs.component[graphs.target[strict]]
    u, multipliers = _smallest_differences(above, below, graphs.sizes.astype(np.float64))
    values = u[graphs.component]
    dual = np.zeros(edges.size)
    dual[~equality] = multipliers
    # Inside a component multipliers are the accumulated residuals, summed from leaves to root.
    lacking = values - _sums(graphs, strict, multipliers)
    tree, far = graphs.tree
    near = np.where(graphs.source[tree] == far, graphs.target[tree], graphs.source[tree])
    needed = lacking.tolist()
    for v, parent in zip(far[::-1].tolist(), near[::-1].tolist(), strict=True):
        needed[parent] += needed[v]
    carried = np.asarray(needed)[far] if far.size else np.empty(0)
    signed = np.where(graphs.source[tree] == far, carried, -carried)
    dual[np.searchsorted(edges, tree)] = signed
    return values, dual


def certified_columns(
    graphs: TokenPriorities,
    problem: IndexArray,
    B: int,
    values: Float64Array,
    edges: IndexArray,
    equality: BoolArray,
    dual: Float64Array,
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Compute |W|, relative duality gap and optimality residual of each of B problems: (B,).

    They are those of `SVMSolution`, for the constraints of `edges` on the nodes, and a
    `SolverError` where they are not small enough.
    """

    def total(of_nodes: Float64Array) -> Float64Array:
        return _added(problem, of_nodes, B)

    def largest(of_edges: Float64Array) -> Float64Array:
        result = np.zeros(B)
        np.maximum.at(result, where, of_edges)
        return result

    where = problem[graphs.source[edges]]
    margins = values[graphs.source[edges]] - values[graphs.target[edges]]
    strict = ~equality
    gain = _added(where[strict], dual[strict], B)
    some = gain > 0
    unit = np.where(some, gain, 1.0)
    smallest = np.full(B, np.inf)
    np.minimum.at(smallest, where[strict], margins[strict])
    if np.any(some & ~(smallest > 0)):
        raise SolverError("no certified answer for the Graph-SVM: margins of 0 or less")
    scaling = np.where(some, 1.0 / np.where(some, smallest, 1.0), 1.0)
    square = total(values**2)
    sums = _sums(graphs, edges, dual)
    lost = np.abs(dual * margins)
    penalty = scaling * _added(where[equality], lost[equality], B)
    primal = scaling**2 * square / 2 + penalty
    gap = np.abs(primal - (gain - total(sums**2) / 2)) / np.where(some, primal, 1.0)
    missed = np.where(equality, np.abs(margins), np.maximum(1 - margins, 0.0))
    negative = np.where(equality, 0.0, np.maximum(-dual, 0.0))
    most = largest(np.abs(dual))
    kkt = np.max(
        [
            largest(missed),
            largest(negative) / np.where(most > 0, most, 1.0),
            largest(np.abs(dual * (margins - strict))) / unit,
            np.sqrt(total((values - sums) ** 2) / np.where(square > 0, square, 1.0)),
        ],
        axis=0,
    )
    worst = float(np.maximum(gap, kkt).max(initial=0.0))
    if worst > OPTIMALITY_TOLERANCE:
        raise SolverError(f"no certified answer for the Graph-SVM: residual {worst:.1e}")
    return np.sqrt(square), gap, kkt


def _sums(graphs: TokenPriorities, edges: IndexArray, dual: Float64Array) -> Float64Array:
    """Sum multipliers of edges at every node: the adjoint of the differences."""
    M = graphs.graph.size
    return _added(graphs.source[edges], dual, M) - _added(graphs.target[edges], dual, M)


def _added(where: IndexArray, values: Float64Array, size: int) -> Float64Array:
    """Sum values by their place, of 0..size-1."""
    return np.bincount(where, weights=values, minlength=size).astype(np.float64)


def _smallest_differences(
    above: IndexArray, below: IndexArray, weights: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Minimise ½ Σ c u² with u_above - u_below >= 1: u of every vertex, and the multipliers."""
    u, dual = np.zeros(weights.size), np.zeros(above.size)
    links = scipy.sparse.csr_array(
        (np.ones(above.size), (above, below)), shape=(weights.size, weights.size)
    )
    graph = scipy.sparse.csgraph
    piece = graph.connected_components(links, directed=True, connection="weak")[1][above]
    order = np.argsort(piece, kind="stable")
    starts = np.flatnonzero(np.diff(piece[order], prepend=-1))
    known: dict[Hashable, tuple[Float64Array, Float64Array]] = {}
    for edges in np.split(order, starts[1:]) if order.size else ():
        ends = np.stack([above[edges], below[edges]])
        vertices, local = np.unique(ends, return_inverse=True)
        local = local.reshape(ends.shape)
        key = (local.tobytes(), weights[vertices].tobytes())
        if key not in known:
            known[key] = _smallest_piece(local[0], local[1], weights[vertices])
        u[vertices], dual[edges] = known[key]
    return u, dual


def _smallest_piece(
    above: IndexArray, below: IndexArray, weights: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Solve one connected piece: in v = √c u it is the smallest vector with margins 1."""
    m, N = above.size, weights.size
    each = np.arange(m)
    rows = np.zeros((m, N))
    rows[each, above] = 1 / np.sqrt(weights[above])
    rows[each, below] = -1 / np.sqrt(weights[below])
    if m == N - 1:  # a tree: if all of it is active, its Gram matrix says so
        all_active = np.asarray(np.linalg.solve(rows @ rows.T, np.ones(m)), np.float64)
        if all_active.min() >= 0:
            return (all_active @ rows) / np.sqrt(weights), all_active
    problem = row_problem(rows[np.newaxis], np.ones((1, m)), np.zeros((1, m), dtype=np.bool_))
    found = solve("p", problem, batch=None)
    if found.p is None or found.dual is None:
        raise SolverError("no certified answer for the Graph-SVM: margins came out infeasible")
    return found.p / np.sqrt(weights), found.dual[:, 0]
