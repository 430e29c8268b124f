"""W and p trained on flipped labels: benign and harmful overfitting, and labels not memorised."""

from __future__ import annotations

import numpy as np

from attsvm.datasets.signal_tokens import KINDS_OF_TOKEN
from attsvm.studies.compute import measure_cell
from attsvm.studies.measurements import Record
from attsvm.studies.reproduce.drawing import Axes, Canvas, legend_outside
from attsvm.studies.reproduce.figure import Data, Figure, Task
from attsvm.studies.reproduce.palette import BLUE, GREY, INK, PALE, RED, SAND, SKY
from attsvm.studies.study import Cell, Study

FIGURE = Figure.of(__name__)
_COLOURS = dict(zip(KINDS_OF_TOKEN, (BLUE, SKY, RED, GREY), strict=True))
_ACCURACIES = {
    "clean_fitted": ("training, clean", BLUE, "-"),
    "flipped_fitted": ("training, flipped", RED, "-"),
    "test_accuracy": ("test", INK, "--"),
}
_REGIMES = {"harmful": SAND, "benign": SKY, "not memorised": PALE}


def compute(task: Task) -> Data:
    """Train at three strengths of the signal, and over a grid of strengths and numbers of inputs.

    Under "along", by strength, are series with one row for each problem; under "map" the share of
    flipped labels that are fitted at the end, and the test accuracy, (n, strengths).
    """
    of_series = {"signal": task["strengths"], "problems": task["problems"]}
    study, records = _measured(task, of_series | task["along"])
    along: Data = {}
    for cell, record in records:
        series = {name.removeprefix("history_"): values for name, values in record.items()}
        along[cell.settings["signal"]] = {**series, "step": np.array(study.recorded_steps)}
    _compare(task, along)
    return {"along": along, "map": _map(task)}


def _measured(task: Task, settings: Data) -> tuple[Study, list[tuple[Cell, Record]]]:
    """Measure the study "label-noise" with these settings."""
    study = Study.load("label-noise", settings)
    problems = range(study.problems or 0)
    with task.bar(len(study.cells) * len(problems), "problems") as advance:
        return study, [(c, measure_cell(study, c, problems, done=advance)) for c in study.cells]


def _compare(task: Task, along: Data) -> None:
    ends = {
        name: [of[name][:, -1] for of in along.values()] for name in ("accuracy", "test_accuracy")
    }
    task.check("train", ends["accuracy"])
    task.check("test", ends["test_accuracy"])
    task.check("start", [of["test_accuracy"][0, 0] for of in along.values()])
    for signal in (20, 80):
        of = along[signal]
        task.check(f"fitted {signal}", of["flipped_fitted"].T, of["step"])
    attention = [along[20][f"{name}_attention"][:, -1, k] for name, k in _COMPARED]
    task.check("attention", attention)
    harmful, benign = (along[signal]["test_accuracy"].mean(axis=0) for signal in (5, 20))
    task.check("harm", harmful.max() - harmful[-1])
    task.check("benign", benign[-1])


_COMPARED = (("clean", 0), ("flipped", 0), ("flipped", 2))


def _map(task: Task) -> Data:
    study, records = _measured(task, task["grid"])
    counts, strengths = study.axes["n"], study.axes["signal"]
    ends = {
        name: np.reshape([record[name].mean() for _, record in records], (len(counts), -1))
        for name in ("flipped_fitted", "test_accuracy")
    }
    for numbers in ("memorised", "not memorised", "harmful", "harmless"):
        values = ends["flipped_fitted" if "memorised" in numbers else "test_accuracy"]
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
        for k, (kind, colour) in enumerate(_COLOURS.items()):
            for name, style in (("flipped", "-"), ("clean", ":")):
                mean = of[f"{name}_attention"][..., k].mean(axis=0)
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
    fitted, right = data["flipped_fitted"], data["test_accuracy"]
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
