"""Attention p and its head v trained together: each converges to the direction of its SVM."""

from __future__ import annotations

from itertools import count

import numpy as np

from attsvm.data import AttentionData
from attsvm.studies.reproduce.drawing import Axes, Canvas, legend_outside, ray, ring
from attsvm.studies.reproduce.figure import Data, Figure, Task
from attsvm.studies.reproduce.palette import BLUE, GREEN, INK, ORANGE, RED
from attsvm.svm import label_svm, prompt_svm
from attsvm.theory import cosine

FIGURE = Figure.of(__name__)


def problem(case: str) -> AttentionData:
    """Return three inputs whose token 0 is zero; every token 1 is to be selected."""
    last = np.array([(1.0, 1.0), (1.0, -1.0), FIGURE.settings["third"][case]])
    return AttentionData(np.stack([np.zeros_like(last), last], axis=1), [1, -1, 1])


def compute(task: Task) -> Data:
    """Train p and v together in both cases, and solve the SVMs of token 1."""
    data: Data = {}
    last = np.array([1, 1, 1])
    for case in task["third"]:
        inputs = problem(case)
        label = label_svm(inputs, last)
        run = task.train(inputs, parameter=("v", "p"), init=task["start"], record=("v", "p"))
        solved = data[case] = {
            "paths": {name: run.history[name] for name in ("p", "v")},
            "v": label.direction,
            "unrelaxed": prompt_svm(inputs, last).direction,
            "relaxed": prompt_svm(inputs, last, required=label.support).direction,
        }
        task.check(f"SVM of v {case}", solved["v"])
        task.check(f"margins {case}", np.asarray(label.margins))
        task.check(f"SVM of p {case}", solved["unrelaxed"])
    _tight(task, data["tight"])
    _loose(task, data["loose"])
    return data


def _tight(task: Task, case: Data) -> None:
    inputs, paths, p_mm = problem("tight"), case["paths"], case["unrelaxed"]
    attention = 1 / (1 + np.exp(-paths["p"] @ inputs.tokens[:, 1].T))
    margins = attention * inputs.labels * (paths["v"] @ inputs.tokens[:, 1].T)
    case["softmax"] = attention.mean(axis=1)
    case["logistic"] = (1 / (1 + np.exp(-margins))).mean(axis=1)
    task.check("half square", float(p_mm @ p_mm) / 2)
    cosines = {
        block: cosine(paths[block], np.broadcast_to(svm, paths[block].shape), axis=-1)
        for block, svm in (("p", p_mm), ("v", case["v"]))
    }
    for block, curve in cosines.items():
        task.check(f"cosine of {block}", curve, count())
    task.check("limit", [curve[-1] for curve in cosines.values()])
    for name in ("softmax", "logistic"):
        task.check(name, case[name], count())
    task.check("lowest", case["softmax"].argmin())


def _loose(task: Task, case: Data) -> None:
    end = case["paths"]["p"][-1]
    relaxed, unrelaxed = cosine(end, case["relaxed"]), cosine(end, case["unrelaxed"])
    task.check("relaxed SVM", case["relaxed"])
    task.check("loose cosines", [relaxed, unrelaxed])
    task.check("loose limit", relaxed)
    task.check("nearer", relaxed - unrelaxed)
    task.check("loose v", cosine(case["paths"]["v"][-1], case["v"]))
    task.check("end", end)


def draw(canvas: Canvas, data: Data) -> None:
    """Plot the paths of p and v in both cases, and the probabilities along the tight one."""
    tight, loose, curves = canvas.subplots(1, 3)
    _draw_plane(tight, data["tight"], "tight", "(a) all support vectors")
    _draw_plane(loose, data["loose"], "loose", "(b) third input is none")
    curves.plot(data["tight"]["softmax"], color=RED, label="softmax, token 1")
    curves.plot(data["tight"]["logistic"], color=BLUE, label="logistic, label")
    curves.set(title="(c) probabilities of (a)", xlabel="step", ylabel="mean probability",
               xlim=(0, FIGURE.settings["train"]["steps"]), ylim=(0, 1.05))  # fmt: skip
    curves.legend(loc="lower right")
    tight.set_ylabel("second coordinate")
    legend_outside(canvas, loose, "outside lower center", 4)


def _draw_plane(axes: Axes, case: Data, name: str, title: str) -> None:
    ray(axes, case["v"], BLUE, "SVM of v", alpha=0.5)
    ray(axes, case["relaxed"], RED, "SVM of p (b: relaxed)", alpha=0.5)
    if name == "loose":
        ray(axes, case["unrelaxed"], ORANGE, "SVM of p, not relaxed", alpha=0.5, linestyle=":")
    for block, colour in (("v", BLUE), ("p", RED)):
        path = case["paths"][block]
        axes.plot(*path.T, color=colour, linewidth=1, label=f"{block} trained")
        ring(axes, path[0, 0], path[0, 1], colour)
    tokens = problem(name).tokens[:, 1]
    axes.plot(*tokens.T, "D", color=GREEN, markersize=3.5, label="token 1")
    axes.plot(0, 0, ".", color=INK, markersize=4, label="token 0")
    axes.plot([], [], "o", color="white", markeredgecolor=INK, markersize=4.5, label="start")
    axes.set(title=title, aspect="equal", xlim=(-2, 8), ylim=(-2, 8), xlabel="first coordinate")
