"""Mirror descent in l_1.75, l_2 and l_3: each goes to the SVM of its own norm."""

from __future__ import annotations

import numpy as np

from attsvm.datasets import unit_sphere
from attsvm.descent import Run, StepRule
from attsvm.studies.reproduce.drawing import Canvas, legend_outside, ring, rings
from attsvm.studies.reproduce.figure import Array, Data, Figure, Task
from attsvm.studies.reproduce.iterates import direction_of
from attsvm.studies.reproduce.palette import BLUE, GREEN, RED
from attsvm.svm import SVMSolution, att_svm
from attsvm.theory import bregman_distance

FIGURE = Figure.of(__name__)
_COLOURS = {1.75: GREEN, 2.0: BLUE, 3.0: RED}
_TOKENS = {"own": "tokens of the run", "others": "tokens of the run in its norm"}


def compute(task: Task) -> Data:
    """Train in every norm; compute D(SVM in every norm, W) along every run.

    By the p of the run: the steps, and by kind and q the distances (B, R) from the SVM in l_q of
    the tokens of the run, "own", and of those that the run in l_q selected, "others".
    """
    norms, B, d = task["norms"], task["problems"], task["data"]["d"]
    data = unit_sphere(**task["data"], batch=B, rng=task["seed"])
    runs = {}
    with task.bar(len(norms), "runs") as advance:
        for p, last in zip(norms, task["steps"], strict=True):
            # A stream for each norm, apart from those of the problems, the children of the seed.
            starts = np.random.default_rng([task["seed"], last])
            runs[p] = task.train(
                data,
                rule=StepRule("mirror", norm=p),
                steps=last,
                init=starts.standard_normal((B, d, d)),
                record="W",
                record_every=[step for step in task["recorded"] if step <= last],
            )
            advance(1, f"l_{p:g}")
    along: Data = {}
    for p, run in runs.items():
        own = {q: _distances(run, p, att_svm(data, run.selected, norm=q)) for q in norms}
        others = {
            q: _distances(run, p, att_svm(data, other.selected, norm=q))
            for q, other in runs.items()
        }
        along[p] = {"step": run.history["step"], "own": own, "others": others}
    for kind in ("own", "others"):
        ends = [along[p][kind][q][:, -1] for p, q in FIGURE.numbers[kind].at]
        task.check(kind, ends)
    published = along[3.0]
    for q in norms:
        task.check(f"published {q:g}", published["others"][q].T, published["step"])
        task.check(f"curve {q:g}", published["own"][q].T, published["step"])
    return along


def _distances(run: Run, p: float, svm: SVMSolution) -> Array:
    W = run.history["W"]
    of_svm = np.broadcast_to(direction_of(svm)[:, np.newaxis], W.shape)
    return bregman_distance(of_svm, W, p, axis=(-2, -1))


def draw(canvas: Canvas, data: Data) -> None:
    """Plot D along every run, a panel for each, with rings at the published numbers."""
    panels = canvas.subplots(1, len(data), sharex=True, sharey=True)
    for axes, (p, along) in zip(panels, data.items(), strict=True):
        for q, colour in _COLOURS.items():
            for kind, style in (("own", "-"), ("others", "--")):
                mean = along[kind][q].mean(axis=0)
                label = f"SVM in $l_{{{q:g}}}$, {_TOKENS[kind]}"
                axes.plot(along["step"], mean, style, color=colour, label=label)
            if p == 3:
                rings(axes, FIGURE.numbers[f"published {q:g}"], colour)
        axes.set(title=f"run in $l_{{{p:g}}}$", xlabel="step", xscale="log", yscale="log")
    ring(panels[0], [], [], label="published")
    panels[0].set_ylabel("mean Bregman distance")
    legend_outside(canvas, panels[0], "outside lower center", 2)
