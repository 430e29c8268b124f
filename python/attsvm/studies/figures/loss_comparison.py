"""Two inputs of different scores: how the loss sets the offset from the max-margin direction."""

from __future__ import annotations

import numpy as np

from attsvm.data import AttentionData
from attsvm.heads import LinearScores
from attsvm.studies.reproduce.drawing import Axes, Canvas
from attsvm.studies.reproduce.figure import Array, Data, Figure, Task
from attsvm.studies.reproduce.palette import BLUE, GREEN, INK, ORANGE, RED
from attsvm.svm import prompt_svm

FIGURE = Figure.of(__name__)
_FORMULAS = {"correlation": "-x", "logistic": r"\log(1 + e^{-x})", "exponential": "e^{-x}"}


def problem() -> tuple[AttentionData, LinearScores]:
    """Return inputs (0, 0), (1, 1) and (0, 0), (1, -1) and their scores: a problem for every C."""
    inputs = np.array([[[0.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [1.0, -1.0]]])
    C = np.array(FIGURE.settings["high_scores"])
    scores = np.zeros((C.size, 2, 2))
    scores[:, 0, 1] = C
    scores[:, 1, 1] = 1.0
    tokens = np.broadcast_to(inputs, (C.size, *inputs.shape))
    return AttentionData(tokens, np.ones((C.size, 2))), LinearScores(scores)


def compute(task: Task) -> Data:
    """Train p from zero with every loss and every C."""
    batch, head = problem()
    svm = prompt_svm(batch.problem(0), np.array([1, 1])).direction
    task.check("SVM", svm)
    paths, late = {}, {}
    for loss in task["losses"]:
        run = task.train(batch, head=head, loss=loss, reference={"svm": svm}, record="p")
        paths[loss] = run.history["p"][:, : task["steps"] + 1]
        late[loss] = run.history["cosine:svm"][:, -1]
        end = paths[loss][:, -1]
        task.check(f"offset {loss}", end[:, 1], task["high_scores"])
        if loss != "correlation":
            task.check(f"diagonal {loss}", end[-1])
    task.check("floor", [cosines[:-1].min() for cosines in late.values()])
    task.check("late", [cosines[-1] for cosines in late.values()])
    return paths


def draw(canvas: Canvas, data: Data) -> None:
    """Plot the paths of p for every C, a panel for each loss, and the offsets with their limits."""
    from matplotlib import colormaps

    panels = canvas.subplots(2, 2).ravel()
    high_scores = FIGURE.settings["high_scores"]
    shades = colormaps["viridis"](np.linspace(0, 0.92, len(high_scores)))
    for axes, (loss, text), letter in zip(panels, _FORMULAS.items(), "abc", strict=False):
        axes.axhline(0, color=RED, linewidth=2, label="SVM direction")
        for path, C, shade in zip(data[loss], high_scores, shades, strict=True):
            axes.plot(*path.T, color=shade, linewidth=1.2, label=f"C = {C:g}")
        axes.set(title=rf"({letter}) $\ell(x) = {text}$", xlabel="$p_1$", ylabel="$p_2$",
                 xlim=(0, 10), ylim=(-5, 3))  # fmt: skip
    _draw_offsets(panels[3], data, high_scores[:-1])
    canvas.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper")


def _draw_offsets(axes: Axes, paths: dict[str, Array], high_scores: list[float]) -> None:
    C = np.linspace(1, 10, 200)
    limits = {
        "correlation": np.log(C) / 2,
        "logistic": (np.log(C) + np.log1p(np.e) - np.logaddexp(0, C)) / 2,
        "exponential": (np.log(C) + 1 - C) / 2,
    }
    for (loss, limit), colour in zip(limits.items(), (ORANGE, BLUE, GREEN), strict=True):
        axes.plot(C, limit, color=colour, linewidth=1)
        ends = paths[loss][:-1, -1, 1]
        axes.plot(high_scores, ends, "o", color=colour, markersize=4, label=loss)
    axes.plot([], [], color=INK, linewidth=1, label="limit, closed form")
    axes.set(title=f"(d) offset after {FIGURE.settings['steps']} steps", xlabel="C", ylabel="$p_2$")
    axes.legend(loc="lower left")
