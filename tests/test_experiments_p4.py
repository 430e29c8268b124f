"""Experiments of "Mechanics of Next Token Prediction with Self-Attention" (paper 4).

Numbers of its figures are compared by `test_reproduce`. Here: the quantities which they draw, and
that descent of the cyclic subset is the finite part, which no figure shows.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

from attsvm import NextTokenData, finite_part, graph_svm, train
from attsvm.datasets import next_token
from attsvm.studies.figures import next_token_global, priority_components
from attsvm.theory import cyclic_subset, cyclic_subspace, token_priority_graphs


@pytest.fixture(scope="module")
def data():
    return next_token(6, 4, 6, 8, kind="cyclic", batch=5, rng=3)


def components_by_paths(data: NextTokenData, last: int) -> np.ndarray:
    """Component of every id in the graph of a last token, by SciPy on its matrix of edges."""
    edges = np.zeros((data.K, data.K))
    for context, label, k in zip(data.contexts, data.labels, data.last, strict=True):
        if k == last:
            edges[label, context[context != label]] = 1
    return connected_components(edges, connection="strong")[1]


def test_recorded_attention_is_that_of_the_runs(data):
    settings = {"init": "uniform", "rng": 0}
    run = train(data, steps=40, record_every=20, record="attention", **settings)
    for at, step in enumerate((0, 20, 40)):
        exact = train(data, steps=step, **settings).attention
        assert run.history["attention"][:, at] == pytest.approx(exact, abs=1e-13)


def test_mass_on_one_component(data):
    attention = np.random.default_rng(0).dirichlet(np.ones(4), size=(5, 2, 6))
    mass = next_token_global.mass_on_one_component(data, attention)
    for b, problem in enumerate(data.problems()):
        for r in range(2):
            best = []
            for i, context in enumerate(problem.contexts):
                component = components_by_paths(problem, problem.last[i])[context]
                weights = attention[b, r, i]
                best.append(max(weights[component == one].sum() for one in component))
            assert mass[b, r] == pytest.approx(np.mean(best), abs=1e-14)


def test_least_margin_is_over_paths_not_edges():
    """1 -> 2 -> 3 given 0: the edges have margins 3 and -1, the path from 1 to 3 has 2."""
    data = NextTokenData(np.eye(4), [[1, 2, 0], [2, 3, 0]], [1, 2])
    W = np.zeros((4, 4))
    W[:, 0] = [-9.0, 5.0, 2.0, 3.0]
    assert next_token_global.least_margin(data, W) == -1.0
    W[:, 0] = [-9.0, 5.0, 2.0, 1.0]
    assert next_token_global.least_margin(data, W) == 1.0
    W = graph_svm(data).W
    assert W is not None
    assert next_token_global.least_margin(data, W) == pytest.approx(1.0, abs=1e-9)


def test_components_are_those_of_the_graphs():
    data = next_token(40, 4, 8, 8, batch=4, rng=5)
    counts = priority_components.components(data)
    for problem, count in zip(data.problems(), counts, strict=True):
        by_paths = [components_by_paths(problem, last).max() + 1 for last in range(8)]
        assert count == np.mean(by_paths)
        graphs = token_priority_graphs(problem)
        assert count == np.mean([graphs[k].component_count if k in graphs else 8 for k in range(8)])


@pytest.mark.parametrize(
    ("T", "expected"),
    [
        (2, priority_components.of_pairs),
        (4, priority_components.of_permutations),
    ],
)
@pytest.mark.parametrize("n", [1, 2])
def test_expected_components_over_all_contexts(T, expected, n):
    """The average over everything that can be drawn, of a vocabulary of four."""
    K = 4
    # By symmetry a context is its label, its last token and, of two tokens, what is before it.
    if T == 2:
        single = [([j, k], y) for k in range(K) for j in range(K) if j != k for y in (j, k)]
    else:
        single = [([*(set(range(K)) - {k}), k], y) for k in range(K) for y in range(K)]
    draws = list(product(single, repeat=n))
    data = NextTokenData(
        np.broadcast_to(np.eye(K), (len(draws), K, K)),
        [[context for context, _ in draw] for draw in draws],
        [[label for _, label in draw] for draw in draws],
    )
    assert priority_components.components(data).mean() == pytest.approx(expected(n, K), abs=1e-12)


def test_p4_2_descent_of_the_cyclic_subset_from_zero_is_the_finite_part():
    """It stays in the cyclic subspace. Plain steps: normalised ones of 0.01 do not settle."""
    for problem in next_token(6, 4, 6, 8, kind="cyclic", batch=10, rng=0).problems():
        small, space = cyclic_subset(problem), cyclic_subspace(problem)
        alone = train(small, rule="gd", lr=1.0, steps=20_000).W
        assert np.abs(alone - space.project(alone)).max() <= 20_000 * np.finfo(float).eps
        assert np.linalg.norm(alone - finite_part(problem)) <= 1e-10
