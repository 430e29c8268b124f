"""Next-token prediction with other losses: W goes to the Graph-SVM of the tokens it selects."""

from __future__ import annotations

import numpy as np

from attsvm.datasets import next_token
from attsvm.studies.reproduce.drawing import Canvas, band, legend_outside, rings
from attsvm.studies.reproduce.figure import Data, Figure, Task
from attsvm.studies.reproduce.palette import BLUE, GREY, INK, RED
from attsvm.svm import graph_svm
from attsvm.theory import cosine

FIGURE = Figure.of(__name__)
_LOSSES = FIGURE.settings["losses"]
_STEPS = FIGURE.settings["train"]["steps"]
_RECORDED = sorted({*range(0, 200, 10), *range(200, _STEPS + 1, 50)})


def compute(task: Task) -> Data:
    """Train with both losses, and compare W with the SVMs of the labels and of its selection."""
    problems = next_token(**task["problem"], batch=task["instances"], rng=task["seed"])
    threshold = task["threshold"]
    of_labels = graph_svm(problems).direction
    data = {}
    for loss, text in _LOSSES.items():
        run = task.train(
            problems, loss=loss, record_every=_RECORDED, record="W", progress=task.progress
        )
        path = run.history["W"]
        selected = graph_svm(problems, attention=run, threshold=threshold).direction
        data[loss] = {
            name: cosine(path, np.broadcast_to(svm[:, np.newaxis], path.shape), axis=(-2, -1))
            for name, svm in (("global", of_labels), ("local", selected))
        }
        for name, series in data[loss].items():
            task.check(f"{name} {loss}", series.T, _RECORDED)
            task.check(f"last {name}", [series[:, -1].mean()], at=[text])
        count = np.sum(run.attention > threshold, axis=-1).mean(axis=-1)
        task.check("selected", [count], at=[text])
    return data


def draw(canvas: Canvas, data: Data) -> None:
    """Plot both correlations for each loss, and those of every problem at the end."""
    *panels, ends = canvas.subplots(1, 3)
    colours = {"global": BLUE, "local": RED}
    for axes, (loss, text), letter in zip(panels, _LOSSES.items(), "ab", strict=True):
        for name, colour in colours.items():
            band(axes, _RECORDED, data[loss][name], colour, f"{name} Graph-SVM",
                 within=(-1, 1))  # fmt: skip
            label = "expected" if name == "local" else ""
            rings(axes, FIGURE.numbers[f"{name} {loss}"], label=label)
        axes.set(title=f"({letter}) {text}", xlabel="step", ylabel="correlation, ± 1 std",
                 ylim=(-0.15, 1.08))  # fmt: skip
    for (loss, text), colour, marker in zip(_LOSSES.items(), (INK, GREY), "o^", strict=True):
        to_global, to_local = (data[loss][name][:, -1] for name in colours)
        ends.plot(to_global, 1 - to_local, marker, color=colour, alpha=0.7, markersize=4, lw=0,
                  label=text)  # fmt: skip
    ends.set(title="(c) every problem at the end", xlabel="correlation, global Graph-SVM",
             ylabel="1 − correlation, local\nGraph-SVM (upside down)", yscale="log")  # fmt: skip
    ends.invert_yaxis()
    legend_outside(canvas, [panels[0], ends], "outside lower center", 5)
