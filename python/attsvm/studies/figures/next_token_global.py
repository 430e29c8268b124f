"""Next-token prediction with the log loss: W grows along the Graph-SVM, beside its finite part."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np

from attsvm.data import NextTokenData
from attsvm.data.token_priorities import label_preferences, token_priorities
from attsvm.datasets import next_token
from attsvm.descent import Run, regularization_path
from attsvm.studies.reproduce.drawing import Canvas, band, band_in_legend, ring, rings
from attsvm.studies.reproduce.figure import Array, Data, Figure, Task
from attsvm.studies.reproduce.palette import BLUE, GREEN, INK, ORANGE, RED
from attsvm.svm import graph_svm
from attsvm.theory import cosine, cyclic_subspace, finite_part, optimal_loss, token_priority_graphs

FIGURE = Figure.of(__name__)
_STEPS = FIGURE.settings["train"]["steps"]
_RECORDED = sorted({*range(0, 500, 25), *range(500, _STEPS + 1, 100)})


def mass_on_one_component(data: NextTokenData, attention: Array) -> Array:
    """Average the largest attention on one component of each context over contexts: (B, R).

    Components are those of the graph of the last token; a token without edges is one by itself.
    """
    graphs = token_priorities(data, label_preferences(data))
    batch, T = len(attention), data.T
    graph = np.arange(batch)[:, np.newaxis] * data.K + data.last
    node = graphs.node(np.broadcast_to(graph[..., np.newaxis], data.contexts.shape), data.contexts)
    component = np.where(node >= 0, graphs.component[node], -1 - np.arange(T))
    together = component[..., :, np.newaxis] == component[..., np.newaxis, :]
    masses = np.einsum("bnst,brnt->brns", together.astype(np.float64), attention)
    return np.asarray(masses.max(axis=-1).mean(axis=-1))


def least_margin(data: NextTokenData, W: Array) -> float:
    """Find the least (e_i - e_j)' W e_k over all pairs with a path from i to j, edge or not."""
    E = data.embeddings
    least = np.inf
    for k, graph in token_priority_graphs(data).items():
        logits = E @ W @ E[k]
        for i, j in permutations(graph.tokens.tolist(), 2):
            if graph.precedes(i, j):
                least = min(least, float(logits[i] - logits[j]))
    return least


def _train(task: Task, data: NextTokenData, svm: Array, **settings: Any) -> Run:
    options = {"record": ("W", "attention"), "progress": task.progress, **settings}
    return task.train(data, reference={"svm": svm}, **options)


def _correlation(path: Array, svm: Array) -> Array:
    """Compute the cosines of a batch of paths (B, R, d, d) with one matrix each."""
    return np.asarray(cosine(path, np.broadcast_to(svm[:, np.newaxis], path.shape), axis=(-2, -1)))


def _inside(data: NextTokenData, path: Array) -> Array:
    """Project a batch of paths on S_fin."""
    problems = zip(data.problems(), path, strict=True)
    return np.stack([cyclic_subspace(problem).project(W) for problem, W in problems])


def compute(task: Task) -> Data:
    """Train on problems of each kind, and compare W with its limits at every recorded step."""
    data = {name: _run(task, name) for name in task["problems"]}
    acyclic, cyclic, larger = data.values()
    for name, series in (("acyclic", acyclic), ("cyclic", cyclic)):
        by_step = series["correlation"].T
        allowed = 3 / np.sqrt(task["problems"][name]["d"] ** 2 * task["instances"])
        task.check("start", [by_step[0].mean()], at=[name], tolerance=allowed)
        task.check(name, by_step, _RECORDED)
    task.check("norm", acyclic["norm"][:, -1].mean())
    task.check("loss", acyclic["excess"][:, -1].mean())
    task.check("projected", (cyclic["projected"] - cyclic["correlation"])[:, -1].mean())
    task.check("distance", cyclic["distance"][:, -1].mean())
    task.check("excess", cyclic["excess"][:, -1].mean())
    task.check("least excess", cyclic["excess"].min())
    task.check("larger cyclic", larger["correlation"][:, -1].mean())
    for numbers, k in (("mass", 0), ("last mass", -1)):
        task.check(numbers, [series["mass"][:, k].mean() for series in (acyclic, cyclic)])
    return {**data, "limits": _limits(task)}


def _run(task: Task, name: str) -> dict[str, Array]:
    """Train on one kind of problems; return series (B, R)."""
    data = next_token(**task["problems"][name], batch=task["instances"], rng=task["seed"])
    svm = graph_svm(data).direction
    run = _train(task, data, svm, record_every=_RECORDED)
    if name == "cyclic":
        task.check("orthogonal", np.linalg.norm(_inside(data, svm), axis=(-2, -1)).max())
        task.check("margin", min(map(least_margin, data.problems(), svm)))
    path = run.history["W"]
    inside = _inside(data, path)
    limit = finite_part(data)[:, np.newaxis]
    return {
        "correlation": run.history["cosine:svm"],
        "projected": _correlation(path - inside, svm),
        "distance": np.square(inside - limit).sum(axis=(-2, -1)),
        "mass": mass_on_one_component(data, run.history["attention"]),
        "excess": run.history["loss"] - np.asarray(optimal_loss(data))[:, np.newaxis],
        "norm": run.history["norm"],
    }


def _limits(task: Task) -> Data:
    """Compare plain descent and the regularisation path with the Graph-SVM and W^fin."""
    data = next_token(**task["problems"]["cyclic"], batch=task["limit_instances"], rng=task["seed"])
    svm, finite = graph_svm(data).direction, finite_part(data)
    steps = task["plain_steps"]
    run = _train(task, data, svm, rule="gd", lr=1.0, steps=max(steps), record_every=steps)
    balls = [
        np.asarray(regularization_path(problem, task["radii"], starts=0, tol=1e-6).W)
        for problem in data.problems()
    ]
    drawn: Data = {}
    for name, path in (
        ("plain descent", run.history["W"]),
        ("regularisation path", np.stack(balls)),
    ):
        apart = np.linalg.norm(_inside(data, path) - finite[:, np.newaxis], axis=(-2, -1))
        mean, away = _correlation(path, svm).mean(axis=0), apart.mean(axis=0)
        drawn[name] = (np.linalg.norm(path, axis=(-2, -1)).mean(axis=0), away)
        task.check(name, mean)
        monotone = (np.diff(mean) > 0).all() and (np.diff(away) < 0).all()
        task.check("monotone", [monotone], at=[name])
    (_, plain), (_, of_path) = drawn.values()
    task.check("plain distance", plain[-1])
    task.check("plain power", np.log10(plain[-1] / plain[1]) / 2)
    task.check("path distance", of_path[-1])
    return drawn


def draw(canvas: Canvas, data: Data) -> None:
    """Plot correlations and distance from the finite part; losses, attention and limits below."""
    (first, second), (distance, loss), (mass, limits) = canvas.subplots(3, 2)
    colours = {"acyclic": BLUE, "cyclic": RED, "larger cyclic": ORANGE}
    numbers = FIGURE.numbers
    for name, colour in colours.items():
        axes = first if name == "acyclic" else second
        band(axes, _RECORDED, data[name]["correlation"], colour, name, within=(-1, 1))
        loss.semilogy(_RECORDED, data[name]["excess"].mean(axis=0), color=colour, label=name)
        band(mass, _RECORDED, data[name]["mass"], colour, name, within=(0, 1))
        if name != "acyclic":
            away = data[name]["distance"].mean(axis=0)
            distance.semilogy(_RECORDED, away, color=colour, label=name)
    projected = data["cyclic"]["projected"].mean(axis=0)
    second.plot(_RECORDED, projected, "--", color=INK, linewidth=1, label="outside $S_{fin}$")
    for axes, name, letter in ((first, "acyclic", "a"), (second, "cyclic", "b")):
        rings(axes, numbers[name], label="published")
        band_in_legend(axes, "± 1 std")
        axes.set(title=f"({letter}) {name} data", ylabel="correlation, Graph-SVM",
                 ylim=(-0.15, 1.03))  # fmt: skip
        axes.legend(loc="lower right")
    bound = numbers["distance"].value()
    distance.axhline(bound, color=RED, linewidth=0.8, linestyle="--", label="cyclic: bound at end")
    distance.set(
        title="(c) distance from the finite part",
        ylim=(None, 30),
        ylabel=r"$\|\Pi W - W^{fin}\|^2$, mean",
    )
    loss.set(title="(d) loss", ylabel="loss less its infimum, mean")
    starts = numbers["mass"].expected
    ring(mass, [0] * len(starts), starts, label="published start")
    mass.set(title="(e) attention", ylabel="on one component", ylim=(0, 1.03))
    mass.legend(loc="lower right")
    for (name, (norm, away)), colour in zip(data["limits"].items(), (GREEN, INK), strict=True):
        limits.semilogy(norm, away, "o-", color=colour, markersize=4, label=name)
    limits.set(title="(f) distance against norm", xlabel=r"$\|W\|_F$, mean",
               ylabel=r"$\|\Pi W - W^{fin}\|$, mean")  # fmt: skip
    for axes in (distance, loss, limits):
        axes.legend(loc="upper right")
    for axes in (first, second, distance, loss, mass):
        axes.set_xlabel("step")
