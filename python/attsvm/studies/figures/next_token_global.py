"""Next-token prediction with the log loss: W grows along the Graph-SVM, beside its finite part."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from attsvm.data import NextTokenData
from attsvm.data.token_priorities import label_preferences, token_priorities
from attsvm.datasets import next_token
from attsvm.descent import regularization_path, train
from attsvm.studies.reproduce.check import Check, checks
from attsvm.studies.reproduce.directions import direction_of
from attsvm.studies.reproduce.figure import Figure, Outcome, Settings
from attsvm.studies.reproduce.iterates import axes_of, path_of
from attsvm.studies.reproduce.palette import BLUE, GREEN, INK, ORANGE, RED
from attsvm.svm import graph_svm
from attsvm.theory import (
    cosine,
    cyclic_subspace,
    finite_part,
    optimal_loss,
    token_priority_graphs,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

__all__ = ["CORRELATIONS", "FIGURE", "attention_along", "least_margin", "mass_on_one_component"]

Float64Array: TypeAlias = NDArray[np.float64]

PROBLEMS: Mapping[str, Mapping[str, Any]] = {
    "acyclic": {"n": 4, "T": 6, "K": 8, "d": 8, "kind": "acyclic"},
    "cyclic": {"n": 6, "T": 4, "K": 6, "d": 8, "kind": "cyclic"},
    "larger cyclic": {"n": 10, "T": 6, "K": 8, "d": 8, "kind": "cyclic"},
}
INSTANCES, QUICK_INSTANCES = 100, 40
RATE, STEPS = 0.01, 4000
RECORDED = sorted({*range(0, 500, 25), *range(500, STEPS + 1, 100)})

CORRELATIONS = {
    "acyclic": {50: 0.244, 100: 0.434, 200: 0.658, 300: 0.762, 500: 0.855, 1000: 0.937,
                2000: 0.978, 3000: 0.988, 4000: 0.993},
    "cyclic": {50: 0.230, 100: 0.421, 200: 0.654, 500: 0.868, 1000: 0.947, 2000: 0.980,
               3000: 0.985, 4000: 0.987},
}  # fmt: skip
"""Mean correlation of W with the Graph-SVM by step."""
_MIDDLE, _END = 0.02, 0.005
"""How far the mean may be from the published one, on the way and at the end."""
_LATE = 1000
"""Before this step the correlation is still that of the start that was drawn."""
MASSES = {"acyclic": 0.21, "cyclic": 0.40}
"""Attention on one component at the start."""

PLAIN = {100: 0.908, 1000: 0.969, 10_000: 0.984, 100_000: 0.990}
"""Correlation of plain descent by step."""
PATH = {5.0: 0.930, 10.0: 0.973, 20.0: 0.991}
"""Correlation of the regularisation path by radius."""
LIMIT_INSTANCES = 15
_SEED, _START_SEED = 0, 1


def attention_along(data: NextTokenData, path: Float64Array) -> Float64Array:
    """Attention of a batch at every W of `path` (B, R, d, d), on all tokens: (B, R, n, T)."""
    keys, queries = data.look_up(data.contexts), data.look_up(data.last)
    logits = np.einsum("bntd,brde,bne->brnt", keys, path, queries, optimize=True)
    weights: Float64Array = softmax(logits, axis=-1)
    return weights


def mass_on_one_component(data: NextTokenData, attention: Float64Array) -> Float64Array:
    """Largest attention on one component of each context, averaged over contexts: (B, R).

    Components are those of the graph of the last token; a token without edges is one by itself.
    """
    graphs = token_priorities(data, label_preferences(data))
    batch, T = len(attention), data.T
    graph = np.arange(batch)[:, np.newaxis] * data.K + data.last
    node = graphs.node(np.broadcast_to(graph[..., np.newaxis], data.contexts.shape), data.contexts)
    component = np.where(node >= 0, graphs.component[node], -1 - np.arange(T))
    together = component[..., :, np.newaxis] == component[..., np.newaxis, :]
    masses = np.einsum("bnst,brnt->brns", together.astype(np.float64), attention)
    best: Float64Array = masses.max(axis=-1).mean(axis=-1)
    return best


def least_margin(data: NextTokenData, W: Float64Array) -> float:
    """Least (e_i - e_j)' W e_k over all pairs with a way from i to j only, not edges alone."""
    E = data.embeddings
    least = np.inf
    for k, graph in token_priority_graphs(data).items():
        logits = E @ W @ E[k]
        for i, j in permutations(graph.tokens.tolist(), 2):
            if graph.precedes(i, j):
                least = min(least, float(logits[i] - logits[j]))
    return least


def compute(settings: Settings) -> Outcome:
    """Train on problems of each kind, and compare W with its limits at every recorded step."""
    instances = QUICK_INSTANCES if settings.quick else INSTANCES
    # Three standard errors of the difference of two means, of problems drawn independently.
    errors = 3 * np.sqrt(1 / instances + 1 / INSTANCES)
    data = {name: _run(name, instances, settings) for name in PROBLEMS}
    found: list[Check] = []
    for name, expected in CORRELATIONS.items():
        series = data[name]
        text = f"{name}: correlation with the Graph-SVM"
        at = {step: series["correlation"][:, k] for k, step in enumerate(RECORDED)}
        # The cosine of a random direction has the variance 1 / d².
        start = 3 / np.sqrt(PROBLEMS[name]["d"] ** 2 * instances)
        found.append(Check(f"{text}, step 0", 0.0, at[0].mean(), start, source="theory"))
        for step, correlation in expected.items():
            drawn = errors * at[step].std(ddof=1)
            tolerance = drawn if step < _LATE else _END if step == STEPS else _MIDDLE
            found.append(Check(f"{text}, step {step}", correlation, at[step].mean(), tolerance))
    acyclic, cyclic, larger = (
        {key: x[:, -1] for key, x in of_kind.items()} for of_kind in data.values()
    )
    found += [
        Check(f"acyclic: |W|, step {STEPS}", 39.5, acyclic["norm"].mean(), 0.5,
              source="recomputed"),
        Check(f"acyclic: loss, step {STEPS}", 1e-4, acyclic["excess"].mean(), 5e-5,
              source="recomputed"),
        Check("cyclic: correlation outside S_fin less that of W", 0.0,
              (cyclic["projected"] - cyclic["correlation"]).mean(), 1e-3),
        Check("cyclic: squared distance of the part in S_fin from W^fin", 1e-3,
              cyclic["distance"].mean(), kind="at most"),
        Check("cyclic: loss less the infimum", 2e-3, cyclic["excess"].mean(), kind="at most",
              source="aim"),
        Check("cyclic: least loss less the infimum", 0.0, data["cyclic"]["excess"].min(),
              kind="at least", source="theory"),
        Check(f"larger cyclic: correlation, step {STEPS}", 0.95,
              larger["correlation"].mean(), kind="at least"),
    ]  # fmt: skip
    for name, mass in MASSES.items():
        masses = data[name]["mass"]
        text = f"{name}: attention on one component, step"
        found.append(Check(f"{text} 0", mass, masses[:, 0].mean(), 0.03))
        found.append(Check(f"{text} {STEPS}", 0.99, masses[:, -1].mean(), kind="at least"))
    found += _structure(instances)
    limits, of_limits = _limits(settings)
    notes = (
        f"Before step {_LATE} means differ by the starts that were drawn: they are compared within "
        "three standard errors of the difference of two means, of this many and of 100 problems.",
        "W^fin is exact here: the minimiser by Newton's method. The published norm difference is "
        "to the iterate of equal number of a descent on the cyclic sub-dataset, which is on its "
        "way to W^fin itself: the distance is compared at the end only.",
        "Normalised steps of one length cannot settle in S_fin: the distance to W^fin stays of the "
        "order of the step. Plain steps and the regularisation path (f) have no such floor.",
    )
    return Outcome({**data, "limits": limits}, (*found, *of_limits), notes)


def _run(name: str, instances: int, settings: Settings) -> dict[str, Float64Array]:
    """Series (B, R) of one kind of problems."""
    data = next_token(**PROBLEMS[name], batch=instances, rng=_SEED)
    machine = direction_of(graph_svm(data))
    run = train(
        data,
        lr=RATE,
        steps=STEPS,
        init="uniform",
        record_every=RECORDED,
        reference={"svm": machine, **axes_of(data.d, data.d)},
        rng=_START_SEED,
        num_threads=settings.num_threads,
        progress=settings.progress,
    )
    path = path_of(run, data.d, data.d)
    inside = _inside(data, path)
    limit = finite_part(data)[:, np.newaxis]
    return {
        "correlation": run.history["cosine:svm"],
        "projected": _correlation(path - inside, machine),
        "distance": np.square(inside - limit).sum(axis=(-2, -1)),
        "mass": mass_on_one_component(data, attention_along(data, path)),
        "excess": run.history["loss"] - np.asarray(optimal_loss(data))[:, np.newaxis],
        "norm": run.history["norm"],
    }


def _correlation(path: Float64Array, machine: Float64Array) -> Float64Array:
    """Cosines of a batch of paths (B, R, d, d) with one matrix each."""
    directions = np.broadcast_to(machine[:, np.newaxis], path.shape)
    cosines: Float64Array = cosine(path, directions, axis=(-2, -1))
    return cosines


def _inside(data: NextTokenData, path: Float64Array) -> Float64Array:
    """The parts in S_fin of a batch of paths."""
    problems = zip(data.problems(), path, strict=True)
    return np.stack([cyclic_subspace(problem).project(W) for problem, W in problems])


def _structure(instances: int) -> list[Check]:
    """What the Graph-SVM of cyclic problems is orthogonal to, and which margins it has."""
    data = next_token(**PROBLEMS["cyclic"], batch=instances, rng=_SEED)
    machine = direction_of(graph_svm(data))
    inside = np.linalg.norm(_inside(data, machine), axis=(-2, -1)).max()
    least = min(least_margin(one, W) for one, W in zip(data.problems(), machine, strict=True))
    return [
        Check("Graph-SVM: largest part in S_fin", 0.0, inside, 1e-8, source="theory"),
        Check("Graph-SVM: least margin of all pairs", 1.0, least, 1e-8, source="theory"),
    ]


def _limits(settings: Settings) -> tuple[dict[str, Any], list[Check]]:
    """Plain descent and the regularisation path: mean correlation and distance from W^fin."""
    data = next_token(**PROBLEMS["cyclic"], batch=LIMIT_INSTANCES, rng=_SEED)
    machine, finite = direction_of(graph_svm(data)), finite_part(data)
    run = train(
        data,
        rule="gd",
        lr=1.0,
        steps=max(PLAIN),
        init="uniform",
        record_every=list(PLAIN),
        reference={"svm": machine, **axes_of(data.d, data.d)},
        rng=_START_SEED,
        num_threads=settings.num_threads,
        progress=settings.progress,
    )
    plain = path_of(run, data.d, data.d)
    balls = [
        np.asarray(regularization_path(one, list(PATH), starts=0, tol=1e-6).W)
        for one in data.problems()
    ]
    paths = {"plain descent": plain, "regularisation path": np.stack(balls)}
    drawn: dict[str, Any] = {}
    found: list[Check] = []
    expected_of = {
        "plain descent": {f"step {step}": value for step, value in PLAIN.items()},
        "regularisation path": {f"R = {R:g}": value for R, value in PATH.items()},
    }
    for name, path in paths.items():
        inside = _inside(data, path)
        away = np.linalg.norm(inside - finite[:, np.newaxis], axis=(-2, -1)).mean(axis=0)
        mean = _correlation(path, machine).mean(axis=0)
        norm = np.linalg.norm(path, axis=(-2, -1)).mean(axis=0)
        drawn[name] = (norm, mean, away)
        expected = expected_of[name]
        found += checks(
            [f"{name}: correlation, {at}" for at in expected],
            expected.values(),
            mean,
            tolerance=_MIDDLE,
            source="recomputed, 15 draws",
        )
        monotone = (np.diff(mean) > 0).all() and (np.diff(away) < 0).all()
        text = f"{name}: correlation rises, distance from W^fin falls"
        found.append(Check(text, True, monotone, kind="equal", source="theory"))
    *_, away = drawn["plain descent"]
    slope = np.log10(away[-1] / away[1]) / 2
    found += [
        Check("plain descent: distance from W^fin, last step", 1e-3, away[-1], kind="at most",
              source="recomputed"),
        Check("plain descent: power of t of that distance", -1.0, slope, 0.1, source="recomputed"),
    ]  # fmt: skip
    *_, away = drawn["regularisation path"]
    text = "regularisation path: distance from W^fin, R = 20"
    found.append(Check(text, 0.02, away[-1], kind="at most", source="recomputed"))
    return drawn, found


def draw(canvas: Canvas, outcome: Outcome) -> None:
    """Correlations above, with what settles beside them; losses, attention and limits below."""
    data = outcome.data
    (first, second, distance), (loss, mass, limits) = canvas.subplots(2, 3)
    colours = {"acyclic": BLUE, "cyclic": RED, "larger cyclic": ORANGE}

    _band(first, data["acyclic"]["correlation"], BLUE, "acyclic")
    _band(second, data["cyclic"]["correlation"], RED, "cyclic")
    projected = data["cyclic"]["projected"].mean(axis=0)
    second.plot(RECORDED, projected, "--", color=INK, linewidth=1, label="outside $S_{fin}$")
    _band(second, data["larger cyclic"]["correlation"], ORANGE, "larger cyclic")
    for axes, name in ((first, "acyclic"), (second, "cyclic")):
        axes.plot(*zip(*CORRELATIONS[name].items(), strict=True), "o", color="none",
                  markeredgecolor=INK, markersize=6, label="published")  # fmt: skip
        axes.set_ylabel("correlation with the Graph-SVM")
        axes.set_ylim(-0.15, 1.03)
        axes.legend(frameon=False, loc="lower right")
    first.set_title("(a) acyclic data", loc="left")
    second.set_title("(b) cyclic data", loc="left")

    for name in ("cyclic", "larger cyclic"):
        distance.semilogy(RECORDED, data[name]["distance"].mean(axis=0), color=colours[name],
                          label=name)  # fmt: skip
    distance.axhline(1e-3, color=RED, linewidth=0.8, linestyle="--", label="cyclic: asked at end")
    distance.set_ylabel(r"$\|\Pi W - W^{fin}\|^2$, mean")
    distance.set_title("(c) distance from the finite part", loc="left")
    distance.legend(frameon=False, loc="upper right")

    for name, colour in colours.items():
        loss.semilogy(RECORDED, data[name]["excess"].mean(axis=0), color=colour, label=name)
        _band(mass, data[name]["mass"], colour, name)
    loss.set_ylabel("loss less its infimum, mean")
    loss.set_title("(d) loss", loc="left")
    loss.legend(frameon=False, loc="upper right")
    mass.plot([0, 0], list(MASSES.values()), "o", color="none", markeredgecolor=INK, markersize=6,
              clip_on=False, label="published start")  # fmt: skip
    mass.set_ylabel("attention on one component")
    mass.set_ylim(0, 1.03)
    mass.set_title("(e) attention", loc="left")
    mass.legend(frameon=False, loc="lower right")

    for (name, (norm, _, away)), colour in zip(data["limits"].items(), (GREEN, INK), strict=True):
        limits.semilogy(norm, away, "o-", color=colour, markersize=4, label=name)
    limits.set_xlabel(r"$\|W\|_F$, mean")
    limits.set_ylabel(r"$\|\Pi W - W^{fin}\|$, mean")
    limits.set_title("(f) plain descent, regularisation path", loc="left")
    limits.legend(frameon=False, loc="upper right")
    for axes in (first, second, distance, loss, mass):
        axes.set_xlabel("step")


def _band(axes: Axes, series: Float64Array, colour: str, label: str) -> None:
    """Mean and one standard deviation around it."""
    mean, spread = series.mean(axis=0), series.std(axis=0)
    axes.fill_between(RECORDED, mean - spread, mean + spread, color=colour, alpha=0.15, lw=0)
    axes.plot(RECORDED, mean, color=colour, label=label)


FIGURE = Figure(
    name="next-token-global",
    title="Next-token prediction, log loss: the Graph-SVM and the finite part",
    source="P4, experiments of global convergence",
    size=(11.0, 6.2),
    compute=compute,
    draw=draw,
    quick=f"{QUICK_INSTANCES} problems of each kind in place of {INSTANCES}",
)
