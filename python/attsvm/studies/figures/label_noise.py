"""W and p trained on flipped labels: benign and harmful overfitting, and labels not memorised."""

from __future__ import annotations

from typing import Any

import numpy as np

from attsvm.data import AttentionData
from attsvm.datasets import signal_noise
from attsvm.descent import Run
from attsvm.studies.reproduce.drawing import Axes, Canvas, legend_outside
from attsvm.studies.reproduce.figure import Data, Figure, Task
from attsvm.studies.reproduce.palette import BLUE, GREY, INK, PALE, RED, SAND, SKY

FIGURE = Figure.of(__name__)
_KINDS = {"relevant": BLUE, "weak, own class": SKY, "weak, other class": RED, "noise": GREY}
_ACCURACIES = {
    "clean": ("training, clean", BLUE, "-"),
    "flipped": ("training, flipped", RED, "-"),
    "test_accuracy": ("test", INK, "--"),
}
_REGIMES = {"harmful": SAND, "benign": SKY, "not memorised": PALE}


def compute(task: Task) -> Data:
    """Train at three strengths of the signal, and over a grid of strengths and numbers of inputs.

    Under "along", by strength, are series with one row for each problem; under "map" the share of
    flipped labels that are fitted at the end, and the test accuracy, (n, strengths).
    """
    along = {}
    strengths, problems = task["strengths"], task["problems"]
    with task.bar(len(strengths) * problems, "runs") as advance:
        for signal in strengths:
            test = signal_noise(**task["test"], signal=signal, rng=task["seed"] + 1)
            runs = []
            for k in range(problems):
                rng = np.random.default_rng([task["seed"], k])
                data = signal_noise(**task["data"], signal=signal, rng=rng)
                runs.append(_train(task, data, test, rng).history)
                advance(1, f"|μ| = {signal:g}")
            names = ("accuracy", "test_accuracy", *_SERIES)
            along[signal] = {name: np.array([run[name] for run in runs]) for name in names}
            along[signal]["step"] = runs[0]["step"]
    _compare(task, along)
    return {"along": along, "map": _map(task)}


_SERIES = ("clean", "flipped", "attention on clean", "attention on flipped")


def _train(
    task: Task, data: AttentionData, test: AttentionData, rng: np.random.Generator, **options: Any
) -> Run:
    """Train W and p, and record what is made of clean and flipped labels."""
    flipped = data.labels != np.where(np.arange(data.n) % 2 == 0, 1, -1)

    def by_label(run: Run) -> Data:
        fitted = run.evaluate(data).margins > 0
        kinds = np.add.reduceat(run.attention, [0, 1, 2, 3], axis=-1)
        recorded = {}
        for name, which in (("clean", ~flipped), ("flipped", flipped)):
            share = which / which.sum(axis=-1, keepdims=True)
            recorded[name] = (share * fitted).sum(axis=-1)
            recorded[f"attention on {name}"] = (share[..., np.newaxis] * kinds).sum(axis=-2)
        return recorded

    return task.train(data, test=test, record=by_label, rng=rng, **options)


def _compare(task: Task, along: Data) -> None:
    ends = {
        name: [of[name][:, -1] for of in along.values()] for name in ("accuracy", "test_accuracy")
    }
    task.check("train", ends["accuracy"])
    task.check("test", ends["test_accuracy"])
    task.check("start", [of["test_accuracy"][0, 0] for of in along.values()])
    for signal in (20, 80):
        of = along[signal]
        task.check(f"fitted {signal}", of["flipped"].T, of["step"])
    attention = [along[20][f"attention on {name}"][:, -1, k] for name, k in _COMPARED]
    task.check("attention", attention)
    harmful, benign = (along[signal]["test_accuracy"].mean(axis=0) for signal in (5, 20))
    task.check("harm", harmful.max() - harmful[-1])
    task.check("benign", benign[-1])


_COMPARED = (("clean", 0), ("flipped", 0), ("flipped", 2))


def _map(task: Task) -> Data:
    grid = task["grid"]
    strengths, counts, steps = grid["strengths"], grid["n"], task["train"]["steps"]
    ends = {name: np.empty((len(counts), len(strengths))) for name in ("flipped", "test_accuracy")}
    with task.bar(len(strengths) * len(counts), "grid") as advance:
        for column, signal in enumerate(strengths):
            settings = {**task["data"], "d": grid["d"], "signal": signal}
            of_test = {**settings, "n": grid["test"], "label_noise": 0.0}
            test = signal_noise(**of_test, rng=task["seed"] + 1)
            for row, n in enumerate(counts):
                rng = np.random.default_rng([task["seed"], n])
                data = signal_noise(**{**settings, "n": n}, batch=grid["problems"], rng=rng)
                history = _train(task, data, test, rng, record_every=[steps]).history
                for name, values in ends.items():
                    values[row, column] = history[name].mean()
                advance(1, f"n = {n}, |μ| = {signal:g}")
    for numbers in ("memorised", "not memorised", "harmful", "harmless"):
        values = ends["flipped" if "memorised" in numbers else "test_accuracy"]
        places = FIGURE.numbers[numbers].at
        task.check(numbers, [values[counts.index(n), strengths.index(x)] for n, x in places])
    return {"n": counts, "strengths": strengths, **ends}


def draw(canvas: Canvas, data: Data) -> None:
    """Draw accuracies and attention along the runs, and the map of their ends."""
    upper, lower = canvas.subfigures(2, 1, squeeze=False, height_ratios=(2, 1.05))[:, 0]
    panels = upper.subplots(2, len(data["along"]), sharex=True, sharey=True)
    for column, (signal, of) in enumerate(data["along"].items()):
        accuracies, attention = panels[:, column]
        for name, (label, colour, style) in _ACCURACIES.items():
            mean = of[name].mean(axis=0)
            accuracies.plot(of["step"], mean, style, color=colour, label=label)
        for k, (kind, colour) in enumerate(_KINDS.items()):
            for name, style in (("flipped", "-"), ("clean", ":")):
                mean = of[f"attention on {name}"][..., k].mean(axis=0)
                attention.plot(of["step"], mean, style, color=colour, label=f"{kind}, {name}")
        accuracies.set_title(f"({'abc'[column]}) accuracy, $|\\mu|$ = {signal:g}")
        attention.set_title(f"({'def'[column]}) attention, $|\\mu|$ = {signal:g}")
        attention.set_xlabel("step")
    panels[0, 0].legend(loc="lower right")
    legend_outside(upper, panels[1, 0], "outside lower center", 4)
    axes = lower.subplots()
    _draw_map(axes, data["map"])
    axes.set_title("(g) share of the flipped labels fitted, and below it test accuracy")
    legend_outside(lower, axes, "outside lower center", 3)


def _draw_map(axes: Axes, data: Data) -> None:
    """Colour the cells of the map by what becomes of the flipped labels."""
    fitted, right = data["flipped"], data["test_accuracy"]
    fits = fitted >= FIGURE.settings["fitted"]
    harmless = right >= FIGURE.settings["harmless"]
    regime = np.where(fits, np.where(harmless, 1, 0), 2)
    for k, (name, colour) in enumerate(_REGIMES.items()):
        axes.bar(0, 0, color=colour, label=name)
        rows, columns = np.nonzero(regime == k)
        axes.bar(columns, 1.0, 1.0, rows - 0.5, color=colour, edgecolor="white")
    for (row, column), share in np.ndenumerate(fitted):
        text = f"{share:.2f}\n{right[row, column]:.2f}"
        axes.text(column, row, text, ha="center", va="center")
    axes.set_xticks(range(len(data["strengths"])), [f"{x:g}" for x in data["strengths"]])
    axes.set_yticks(range(len(data["n"])), [f"{n}" for n in data["n"]])
    axes.set(xlabel=r"$|\mu|$", ylabel="$n$", xlim=(-0.5, fitted.shape[1] - 0.5),
             ylim=(-0.5, fitted.shape[0] - 0.5))  # fmt: skip
    axes.tick_params(length=0)
