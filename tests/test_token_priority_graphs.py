"""Token-priority graphs, their components and their order."""

from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attsvm import NextTokenData, token_priority_graphs
from attsvm.datasets import next_token

pytest_plots = pytest.importorskip("matplotlib")

from matplotlib.image import imread  # noqa: E402

from attsvm import plots  # noqa: E402


@st.composite
def problems(draw: st.DrawFn) -> NextTokenData:
    """Few tokens and repeated ones, so that graphs have components of every kind."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, T, K = draw(st.integers(1, 12)), draw(st.integers(1, 4)), draw(st.integers(2, 6))
    contexts = rng.integers(0, K, (n, T))
    labels = contexts[np.arange(n), rng.integers(0, T, n)]
    odd = rng.random(n) < 0.2
    labels[odd] = rng.integers(0, K, odd.sum())
    return NextTokenData(np.eye(K), contexts, labels, lengths=rng.integers(1, T + 1, n))


def ways(data: NextTokenData, k: int) -> np.ndarray:
    """(K, K) bool: whether there is a way from i to j in the graph of k, by Warshall's closure."""
    way = np.zeros((data.K, data.K), dtype=bool)
    for i in range(data.n):
        x = data.contexts[i, : data.lengths[i]]
        if data.last[i] == k and data.labels[i] in x:
            way[data.labels[i], x[x != data.labels[i]]] = True
    for m in range(data.K):
        way |= way[:, m : m + 1] & way[m : m + 1]
    return way


@given(data=problems())
def test_components_and_priorities_are_those_of_the_closure(data):
    graphs = token_priority_graphs(data)
    assert list(graphs) == sorted(set(data.last.tolist()))
    for k, graph in graphs.items():
        way = ways(data, k)
        assert graph.tokens.tolist() == np.flatnonzero(way.any(0) | way.any(1)).tolist()
        for i in range(data.K):
            for j in range(data.K):
                assert graph.precedes(i, j) == (way[i, j] and not way[j, i])
        expected = {frozenset({i, *np.flatnonzero(way[i] & way[:, i])}) for i in range(data.K)}
        found = {frozenset(one.tolist()) for one in graph.components}
        assert found == {one for one in expected if way[min(one)].any() or way[:, min(one)].any()}
        assert graph.component_count == len(expected)
        assert graph.cyclic == (max(map(len, expected)) > 1)


def test_all_priorities_of_a_long_chain_are_kept_in_little_memory():
    K = 2000
    best = np.arange(K - 1)
    contexts = np.stack([best, best + 1, np.full(K - 1, K - 1)], axis=1)
    graph = token_priority_graphs(NextTokenData(np.eye(K), contexts, best))[K - 1]
    tracemalloc.start()
    first = [graph.precedes(i, K - 1) for i in range(K)]
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert first == [True] * (K - 1) + [False]
    assert not graph.precedes(K - 1, 0)
    assert most < 16 * K**2 / 8  # a bit for each pair


@given(data=problems())
def test_the_condensation_is_acyclic_and_reduced(data):
    """Its edges go down, keep all priorities, and none follows from the others."""
    for k, graph in token_priority_graphs(data).items():
        C = len(graph.components)
        order = np.zeros((C, C), dtype=bool)
        order[tuple(graph.condensation.T)] = True
        assert (graph.condensation[:, 0] < graph.condensation[:, 1]).all()
        closure = order.copy()
        for m in range(C):
            closure |= closure[:, m : m + 1] & closure[m : m + 1]
        way = ways(data, k)
        first = [one[0] for one in graph.components]
        strict = way[np.ix_(first, first)]
        np.fill_diagonal(strict, False)
        np.testing.assert_array_equal(closure, strict)
        longer = (closure.astype(int) @ closure.astype(int)) > 0
        assert not (order & longer).any()


@given(data=problems())
def test_levels_are_the_longest_ways_down(data):
    for graph in token_priority_graphs(data).values():
        level = np.zeros(len(graph.components), dtype=int)
        for above, below in graph.condensation.tolist():  # sorted by the upper component
            level[below] = max(level[below], level[above] + 1)
        assert graph.level.tolist() == level[graph.component].tolist()


def test_edges_are_counted_by_hand():
    data = NextTokenData(np.eye(4), [[1, 2, 0], [1, 2, 0], [2, 3, 0], [1, 1, 3]], [1, 1, 2, 2])
    graphs = token_priority_graphs(data)
    assert graphs[0].adjacency.toarray().tolist() == [
        [0, 0, 0, 0],
        [2, 0, 2, 0],
        [1, 0, 0, 1],
        [0, 0, 0, 0],
    ]
    assert graphs[3].tokens.size == 0  # its label is not in its context
    assert graphs[3].component_count == 4
    assert repr(graphs[0]) == (
        "TokenPriorityGraph(last=0, 4 tokens, 4 edges, 4 components, largest 1)"
    )


def test_components_merge_as_contexts_are_added():
    """P4-9: their number falls from K = 8 to 1, and faster with longer contexts."""
    counts = {}
    for T in (3, 6):
        data = next_token(2000, T, 8, 8, batch=3, rng=0)
        row = []
        for n in (8, 32, 128, 512, 2000):
            first = [p.subset(np.arange(2000) < n) for p in data.problems()]
            graphs = [token_priority_graphs(p) for p in first]
            row.append(
                np.mean([g[k].component_count if k in g else 8 for g in graphs for k in range(8)])
            )
        counts[T] = row
        assert row[0] > 6
        assert row[-1] == 1
        assert (np.diff(row) <= 0).all()
    assert all(long <= short for short, long in zip(counts[3], counts[6], strict=True))


def test_a_batch_and_other_data_are_refused():
    with pytest.raises(ValueError, match=r"^data: expected one problem"):
        token_priority_graphs(next_token(2, 2, 3, 3, batch=2, rng=0))
    with pytest.raises(TypeError, match=r"^data: expected NextTokenData, got int"):
        token_priority_graphs(3)
    graph = token_priority_graphs(next_token(2, 2, 3, 3, rng=0))
    with pytest.raises(ValueError, match=r"^j: expected an id in 0..2, got 3"):
        next(iter(graph.values())).precedes(0, 3)


def test_the_figure_has_a_box_for_each_component_and_an_arrow_for_each_priority():
    data = NextTokenData(np.eye(5), [[1, 2, 0], [1, 2, 0], [3, 1, 0], [1, 4, 0]], [1, 2, 3, 1])
    graph = token_priority_graphs(data)[0]
    names = ["the", "a$", "cat", "dog", " "]
    figure = plots.token_priority_graph(graph, names)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert [text for text in texts if text] == ["dog", r"a\$, cat", "the, ' '"]
    assert texts.count("") == 2  # "the" and " " stand alike below the component, in one box
    assert len(graph.condensation) == 3
    assert figure.axes[0].get_title("left") == "last token the"
    assert plots.png(figure) == plots.png(plots.token_priority_graph(graph, names))
    few = plots.token_priority_graph(graph, most=1)
    assert "3 components of lower priority are not drawn" in few.axes[0].get_title("left")
    with pytest.raises(ValueError, match=r"^vocabulary: expected names of 5 ids or more, got 4$"):
        plots.token_priority_graph(graph, names[:4])


def test_the_arrows_have_heads():
    """Drawn before the boxes they ended below them."""

    def dark():
        return int((imread(io.BytesIO(plots.png(figure)))[..., :3].max(axis=-1) < 0.5).sum())

    data = NextTokenData(np.eye(3), [[1, 2, 0], [1, 2, 0]], [1, 1])
    figure = plots.token_priority_graph(token_priority_graphs(data)[0])
    with_heads = dark()
    (arrow,) = (text.arrow_patch for text in figure.axes[0].texts if not text.get_text())
    arrow.set_arrowstyle("-")
    assert with_heads > dark() + 20


def test_the_figure_of_a_graph_without_edges_is_drawn():
    data = NextTokenData(np.eye(2), [[1, 1]], [1])
    figure = plots.token_priority_graph(token_priority_graphs(data)[1])
    assert plots.png(figure).startswith(b"\x89PNG")
