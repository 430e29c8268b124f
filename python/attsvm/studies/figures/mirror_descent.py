"""Mirror descent in l_1.75, l_2 and l_3, of W and of W with v: each goes to the SVM of its norm."""

from __future__ import annotations

import numpy as np

from attsvm.data import AttentionData
from attsvm.datasets import unit_sphere
from attsvm.descent import Run, StepRule
from attsvm.studies.reproduce.drawing import Axes, Canvas, legend_outside, ray, ring, rings
from attsvm.studies.reproduce.figure import Array, Data, Figure, Task
from attsvm.studies.reproduce.palette import BLUE, GREEN, ORANGE, RED
from attsvm.svm import SVMSolution, att_svm, label_svm
from attsvm.theory import bregman_distance, cosine

FIGURE = Figure.of(__name__)
_COLOURS = {1.75: GREEN, 2.0: BLUE, 3.0: RED}
_TOKENS = {"own": "tokens of the run", "others": "tokens of the run in its norm"}
_PROBABILITIES = {"softmax": BLUE, "logistic": ORANGE}


def compute(task: Task) -> Data:
    """Train W, and in a small example W and v, in every norm; return both by the p of the run."""
    return {
        "along": _along(task),
        "joint": {p: _joint(task, k) for k, p in enumerate(task["norms"])},
    }


def _along(task: Task) -> Data:
    """Compute D(SVM in every norm, W) along every run.

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
    of_svm = np.broadcast_to(svm.direction[:, np.newaxis], W.shape)
    return bregman_distance(of_svm, W, p, axis=(-2, -1))


def _joint(task: Task, k: int) -> Data:
    """Train W and v in the k-th norm: paths, directions of their SVMs, probabilities."""
    p, last = task["norms"][k], task["steps"][k]
    tokens = np.array(task["tokens"])
    data = AttentionData(tokens, [1, -1], queries=tokens[:, 0])
    early = task["early"]
    run = task.train(
        data,
        parameter=("v", "W"),
        rule=StepRule("mirror", norm=p),
        steps=last,
        record=("W", "v", "attention"),
        record_every=[*range(early + 1), *range(early + 100, last + 1, 100)],
    )
    svms = {"W": att_svm(data, run.selected, norm=p), "v": label_svm(data, run.selected, norm=p)}
    directions = {name: svm.direction for name, svm in svms.items()}
    W, v, attention = (run.history[name] for name in ("W", "v", "attention"))
    # As published: the probability of the label by the token selected at this step and the next v.
    top = np.argmax(attention[:early], axis=-1)
    scores = data.labels * np.einsum("rnd,rd->rn", tokens[np.arange(2), top], v[1 : early + 1])
    curves = {
        "softmax": attention[:early].max(axis=-1).mean(axis=-1),
        "logistic": (1 / (1 + np.exp(-scores))).mean(axis=-1),
    }
    task.check(f"tokens {p:g}", run.selected)
    task.check(f"norms {p:g}", [svm.norm for svm in svms.values()])
    ends = {"W": W[-1], "v": v[-1]}
    task.check(f"cosines {p:g}", [cosine(ends[name], x) for name, x in directions.items()])
    at_200 = np.flatnonzero(run.history["step"] == 200).item()
    reached = [np.sum(np.abs(block[at_200]) ** p) ** (1 / p) for block in (W, v)]
    task.check(f"reached {p:g}", reached)
    for name, curve in curves.items():
        task.check(f"{name} {p:g}", curve, range(early))
    return {"W": W[:, 0], "v": v, "SVM": (directions["W"][0], directions["v"]), "curves": curves}


def draw(canvas: Canvas, data: Data) -> None:
    """Plot D along every run, then paths and probabilities of the small example."""
    upper, lower = canvas.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.55))[:, 0]
    _draw_distances(upper, data["along"])
    panels = lower.subplots(2, len(data["joint"]), height_ratios=(1.2, 1))
    for column, (p, of_run) in enumerate(data["joint"].items()):
        _draw_paths(panels[0, column], of_run, FIGURE.settings["frames"][column])
        panels[0, column].set_title(f"({'def'[column]}) $W$ and $v$ trained, $l_{{{p:g}}}$")
        _draw_probabilities(panels[1, column], of_run["curves"], p)
        panels[1, column].set_title(f"({'ghi'[column]}) probabilities, $l_{{{p:g}}}$")
    legend_outside(lower, panels[0, -1], "outside lower center", 4)
    panels[1, 0].legend(loc="lower right")
    panels[0, 0].set_ylabel("second coordinate")
    panels[1, 0].set_ylabel("mean probability")


def _draw_distances(canvas: Canvas, data: Data) -> None:
    panels = canvas.subplots(1, len(data), sharex=True, sharey=True)
    for axes, letter, (p, along) in zip(panels, "abc", data.items(), strict=True):
        for q, colour in _COLOURS.items():
            for kind, style in (("own", "-"), ("others", "--")):
                mean = along[kind][q].mean(axis=0)
                label = f"SVM in $l_{{{q:g}}}$, {_TOKENS[kind]}"
                axes.plot(along["step"], mean, style, color=colour, label=label)
            if p == 3:
                rings(axes, FIGURE.numbers[f"published {q:g}"], colour)
        axes.set(
            title=f"({letter}) $W$ trained, $l_{{{p:g}}}$",
            xlabel="step",
            xscale="log",
            yscale="log",
        )
    ring(panels[0], [], [], label="published")
    panels[0].set_ylabel("mean Bregman distance")
    legend_outside(canvas, panels[0], "outside lower center", 2)


def _draw_paths(axes: Axes, of_run: Data, frame: list[float]) -> None:
    """Plot (W_11, W_12) and v in one plane, as published, with their SVMs."""
    names = ("$(W_{11}, W_{12})$", "$v$")
    for name, block, svm, colour in zip(names, "Wv", of_run["SVM"], (BLUE, ORANGE), strict=True):
        ray(axes, svm, colour, f"SVM of {name}", alpha=0.4)
        axes.plot(*of_run[block].T, color=colour, linewidth=1, label=name)
    axes.set(xlim=frame[:2], ylim=frame[2:], xlabel="first coordinate")


def _draw_probabilities(axes: Axes, curves: Data, p: float) -> None:
    for name, curve in curves.items():
        colour = _PROBABILITIES[name]
        axes.plot(curve, color=colour, label=f"{name}, {'token' if name == 'softmax' else 'label'}")
        rings(axes, FIGURE.numbers[f"{name} {p:g}"], colour)
    ring(axes, [], [], label="published")
    axes.set(xlabel="step", xlim=(-1, 50), ylim=(0.3, 1.03))
