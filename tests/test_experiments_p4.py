"""The experiments of paper 4 (Mechanics of Next Token Prediction with Self-Attention).

100 instances each, as published: W from U(-1/√d, 1/√d), normalised steps. The numbers are those of
the figures and of independent simulations.
"""

from __future__ import annotations

import numpy as np
import pytest

from attsvm import (
    NextTokenData,
    SVMSolution,
    cosine,
    finite_part,
    graph_svm,
    regularization_path,
    train,
)
from attsvm.datasets import next_token
from attsvm.descent import Run
from attsvm.theory import cyclic_subset, cyclic_subspace, optimal_loss

POINTS = [0, 50, 100, 200, 300, 500, 1000, 2000, 3000, 4000]


def global_runs(n, T, K, d, kind) -> tuple[NextTokenData, SVMSolution, Run]:
    data = next_token(n, T, K, d, kind=kind, batch=100, rng=0)
    solution = graph_svm(data)
    run = train(
        data,
        lr=0.01,
        steps=4000,
        init="uniform",
        rng=1,
        record_every=POINTS,
        reference=solution,
    )
    return data, solution, run


def at(run: Run, step: int) -> float:
    """Mean correlation with the Graph-SVM."""
    return float(run.history["cosine"][:, POINTS.index(step)].mean())


def mass_of_components(data: NextTokenData, attention: np.ndarray) -> np.ndarray:
    """Largest attention on one component of each context, by the graph of the last token: (n,)."""
    best = np.zeros(data.n)
    space = cyclic_subspace(data)
    graphs = space.graphs
    for i in range(data.n):
        node = graphs.node(np.full(data.T, data.last[i]), data.contexts[i])
        component = np.where(node >= 0, graphs.component[node], -1 - np.arange(data.T))
        best[i] = max(attention[i][component == c].sum() for c in component)
    return best


@pytest.fixture(scope="module")
def acyclic():
    return global_runs(4, 6, 8, 8, "acyclic")


@pytest.fixture(scope="module")
def cyclic():
    return global_runs(6, 4, 6, 8, "cyclic")


def test_p4_1_acyclic_data_goes_to_the_graph_svm(acyclic):
    _, solution, run = acyclic
    assert (solution.status == "optimal").all()
    assert at(run, 0) == pytest.approx(0, abs=0.04)
    published = {100: 0.434, 200: 0.658, 500: 0.855, 1000: 0.937, 2000: 0.978}
    for step, correlation in published.items():
        assert at(run, step) == pytest.approx(correlation, abs=0.02)
    assert at(run, 4000) == pytest.approx(0.993, abs=0.005)
    assert run.history["norm"][:, -1].mean() == pytest.approx(39.5, abs=0.5)
    assert run.history["loss"][:, -1].mean() == pytest.approx(1e-4, abs=5e-5)


def test_p4_2_cyclic_data_goes_to_the_graph_svm_and_its_finite_part(cyclic):
    data, solution, run = cyclic
    published = {500: 0.868, 1000: 0.947, 2000: 0.980}
    for step, correlation in published.items():
        assert at(run, step) == pytest.approx(correlation, abs=0.02)
    assert at(run, 4000) == pytest.approx(0.987, abs=0.005)
    spaces = [cyclic_subspace(problem) for problem in data.problems()]
    inside = np.stack([space.project(W) for space, W in zip(spaces, run.W, strict=True)])
    projected = cosine(run.W - inside, solution.W, axis=(-2, -1)).mean()
    assert projected == pytest.approx(at(run, 4000), abs=1e-3)
    assert np.square(inside - finite_part(data)).sum(axis=(1, 2)).mean() <= 1e-3
    gap = run.history["loss"][:, -1] - optimal_loss(data)
    assert (gap > 0).all()
    assert gap.mean() < 2e-3


def test_p4_2_descent_of_the_cyclic_subset_from_zero_is_the_finite_part(cyclic):
    """It stays in the cyclic subspace. Plain steps: normalised ones of 0.01 do not settle."""
    data, _, _ = cyclic
    for problem in list(data.problems())[:10]:
        small, space = cyclic_subset(problem), cyclic_subspace(problem)
        alone = train(small, rule="gd", lr=1.0, steps=20_000).W
        assert np.abs(alone - space.project(alone)).max() <= 20_000 * np.finfo(float).eps
        assert np.linalg.norm(alone - finite_part(problem)) <= 1e-10


def test_p4_3_larger_cyclic_data():
    _, _, run = global_runs(10, 6, 8, 8, "cyclic")
    assert at(run, 4000) > 0.95


@pytest.mark.parametrize(("which", "start"), [("acyclic", 0.21), ("cyclic", 0.40)])
def test_p4_6_attention_settles_on_one_component(which, start, request):
    data, _, run = request.getfixturevalue(which)
    mass = [
        mass_of_components(problem, attention).mean()
        for problem, attention in zip(data.problems(), run.attention, strict=True)
    ]
    assert np.mean(mass) > 0.99
    first = train(data, steps=0, init="uniform", rng=1)
    mass = [
        mass_of_components(problem, attention).mean()
        for problem, attention in zip(data.problems(), first.attention, strict=True)
    ]
    assert np.mean(mass) == pytest.approx(start, abs=0.03)


@pytest.mark.parametrize(
    ("loss", "to_global", "to_local"),
    [("cross_entropy", (0.70, 0.80), (0.98, 1.0)), ("squared", (0.63, 0.76), (0.99, 1.0))],
)
def test_p4_4_and_5_other_losses_go_to_the_machine_of_what_they_select(loss, to_global, to_local):
    data = next_token(6, 4, 6, 8, kind="cyclic", batch=100, rng=0)
    run = train(data, loss=loss, lr=0.1, steps=2000, init="uniform", rng=1)
    local = graph_svm(data, attention=run)
    assert (local.status == "optimal").all()
    correlations = {
        name: float(cosine(run.W, machine.W, axis=(-2, -1)).mean())
        for name, machine in (("global", graph_svm(data)), ("local", local))
    }
    assert to_global[0] < correlations["global"] < to_global[1]
    assert to_local[0] < correlations["local"] <= to_local[1]


def test_p4_7_regularisation_paths_go_to_the_graph_svm_beside_the_finite_part():
    """Simulated on 15 instances: .930 .973 .991, and .17 .052 .0077 from the finite part."""
    radii = [5.0, 10.0, 20.0]
    correlations, distances = [], []
    for problem in next_token(6, 4, 6, 8, kind="cyclic", batch=15, rng=0).problems():
        solution, space = graph_svm(problem), cyclic_subspace(problem)
        path = regularization_path(problem, radii, starts=0, tol=1e-6, reference=solution)
        assert path.converged.all()
        correlations.append(path.cosines[""])
        inside = space.project(path.W)
        distances.append(np.linalg.norm(inside - finite_part(problem), axis=(1, 2)))
    correlation, distance = np.mean(correlations, axis=0), np.mean(distances, axis=0)
    assert (np.diff(correlation) > 0).all()
    assert (np.diff(distance) < 0).all()
    assert correlation == pytest.approx([0.930, 0.973, 0.991], abs=0.02)
    assert distance[-1] < 0.02
