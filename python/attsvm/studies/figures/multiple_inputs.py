"""Three inputs of seven tokens: p goes to the max-margin direction, its norm like log t or t."""

from __future__ import annotations

from itertools import count

import numpy as np
from scipy.special import softmax

from attsvm.data import AttentionData
from attsvm.heads import LinearScores
from attsvm.studies.reproduce.drawing import Canvas, legend_outside, paths_in_plane, ray
from attsvm.studies.reproduce.figure import Array, Data, Figure, Task
from attsvm.studies.reproduce.palette import BLUE, GREEN, GREY, ORANGE, RED
from attsvm.svm import prompt_svm

FIGURE = Figure.of(__name__)
_DRAWN = np.array(FIGURE.settings["tokens"], dtype=np.float32)


def problem() -> tuple[AttentionData, LinearScores, Array]:
    """Return data, head and starts of the six runs, as a batch."""
    starts, of = FIGURE.settings["starts"], FIGURE.settings["scores"]
    runs, (n, T, _) = len(starts), _DRAWN.shape
    tokens = np.broadcast_to(_DRAWN.astype(np.float64), (runs, *_DRAWN.shape))
    scores = np.full((runs, n, T), of["others"])
    scores[..., 0] = of["best"]
    init = np.stack([starts, np.zeros(runs)], axis=1)
    return AttentionData(tokens, np.ones((runs, n))), LinearScores(scores), init


def compute(task: Task) -> Data:
    """Train by both rules from all starts, and solve the SVM of the best tokens."""
    batch, head, init = problem()
    solution = prompt_svm(batch.problem(0), np.zeros(batch.n, dtype=np.int64))
    svm = solution.direction
    options = {"head": head, "init": init, "reference": {"svm": svm}, "record": "p"}
    runs = {
        rule: task.train(batch, rule=rule, lr=lr, **options) for rule, lr in task["rates"].items()
    }
    zero = task["starts"].index(0.0)
    paths = {rule: run.history["p"] for rule, run in runs.items()}
    norm = {rule: run.history["norm"][zero] for rule, run in runs.items()}
    best = {}
    for rule, path in paths.items():
        logits = np.einsum("ntd,rd->rnt", batch.tokens[0], path[zero])
        best[rule] = softmax(logits, axis=-1)[..., 0].mean(axis=-1)

    task.check("SVM", svm)
    task.check("half square", solution.norm**2 / 2)
    task.check("wrong", [(run.selected != 0).sum() for run in runs.values()])
    cosines = runs["ngd"].history["cosine:svm"]
    task.check("floor", cosines[:, 199].min())
    task.check("cosine", cosines[zero], count())
    for rule in runs:
        task.check(f"softmax {rule}", best[rule], count())
        task.check(f"norm {rule}", norm[rule], count())
    task.check("growth", (norm["gd"][999] - norm["gd"][199]) / np.log(999 / 199))
    return {"svm": svm, "paths": paths["ngd"], "softmax": best, "norm": norm}


def draw(canvas: Canvas, data: Data) -> None:
    """Plot the paths of p beside the curves of attention and norm of both rules."""
    plane, softmax_axes, norm_axes = canvas.subplots(1, 3, width_ratios=(2, 1.3, 1.3))
    ray(plane, data["svm"], RED, "SVM direction")
    paths_in_plane(plane, data["paths"], GREY, "gradient descent")
    plane.plot(*_DRAWN[:, 0].T, "D", color=GREEN, markersize=3.5, label="token 0")
    plane.plot(
        *_DRAWN[:, 1:].reshape(-1, 2).T, ".", color=GREEN, markersize=4, label="other tokens"
    )
    plane.set(aspect="equal", xlim=(-2, 10), ylim=(-4.5, 4.5), xlabel="$p_1$", ylabel="$p_2$",
              title="(a) paths of $p$")  # fmt: skip
    legend_outside(canvas, plane, "outside lower center", 5)
    shown = FIGURE.settings["shown"]
    for axes, curves, label, top in (
        (softmax_axes, data["softmax"], "(b) attention, best token", 1.05),
        (norm_axes, data["norm"], "(c) norm $|p|$", None),
    ):
        for rule, name, colour in (("ngd", "normalised", BLUE), ("gd", "plain", ORANGE)):
            axes.plot(curves[rule][: shown + 1], color=colour, label=name)
        axes.set(xlabel="step", title=label, xlim=(0, shown), ylim=(0, top))
    softmax_axes.legend(loc="lower right")
