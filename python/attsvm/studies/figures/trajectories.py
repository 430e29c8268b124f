"""Two planar problems: W converges to the Frobenius-norm SVM, K Q' to the nuclear-norm SVM."""

from __future__ import annotations

from itertools import count

import numpy as np

from attsvm.data import AttentionData
from attsvm.descent import Run
from attsvm.studies.reproduce.drawing import Axes, Canvas, legend_outside, ray
from attsvm.studies.reproduce.figure import Array, Data, Figure, Task
from attsvm.studies.reproduce.palette import BLUE, GREEN, GREY, INK, ORANGE, RED
from attsvm.svm import att_svm
from attsvm.theory import cosine, optimal_tokens, rank

FIGURE = Figure.of(__name__)
_INPUTS = (GREEN, ORANGE)
"""Colours of the inputs, and of what belongs to their queries."""
_NORM = {"W": "fro", "KQ": "nuc"}
"""Norm of the SVM to which a parameterisation converges."""


def problem(name: str) -> AttentionData:
    """Return a published problem, drawn in float32, in float64."""
    drawn = FIGURE.settings["problems"][name]
    tokens, queries, value = (
        np.array(drawn[part], dtype=np.float32).astype(np.float64)
        for part in ("tokens", "queries", "value")
    )
    return AttentionData(tokens, np.ones(len(tokens)), queries=queries, value=value)


def svm_directions(data: AttentionData) -> dict[str, Array]:
    """Solve for W^mm and W*^mm of the best tokens, by the name of their norm."""
    best = optimal_tokens(data)
    return {norm: att_svm(data, best, norm=norm).direction for norm in ("fro", "nuc")}


def compute(task: Task) -> Data:
    """Train W and (K, Q) on both problems, and solve the SVMs of the best tokens."""
    data: Data = {}
    for name, drawn in task["problems"].items():
        inputs = problem(name)
        solved = svm_directions(inputs)
        runs = {parameter: _train(task, inputs, parameter, solved) for parameter in _NORM}
        data[name] = {
            "data": inputs,
            "svm": solved,
            "paths": {parameter: run.history["W"] for parameter, run in runs.items()},
            "cosines": {
                (parameter, norm): run.history[f"cosine:{norm}"]
                for parameter, run in runs.items()
                for norm in solved
            },
        }
        wrong = [(run.selected != np.array(drawn["best"])).sum() for run in runs.values()]
        task.check(f"wrong {name}", wrong)
        between = cosine(solved["fro"], solved["nuc"])
        task.check("between", [between], at=[name])
        for parameter, norm in _NORM.items():
            curve = data[name]["cosines"][parameter, norm]
            task.check(f"limit {parameter}", curve[-1:], at=[name])
            if name == "vis2":
                task.check(f"reached {parameter}", curve, count())
    _vis1(task, data["vis1"])
    return data


def _train(
    task: Task, data: AttentionData, parameter: str, reference: dict[str, Array], ridge: float = 0.0
) -> Run:
    K = 0.1 * np.random.default_rng(0).standard_normal((2, 2))
    init = None if parameter == "W" else {"K": K, "Q": np.zeros((2, 2))}
    return task.train(
        data, parameter=parameter, init=init, ridge=ridge, reference=reference, record="W"
    )


def _vis1(task: Task, of_vis1: Data) -> None:
    solved, cosines = of_vis1["svm"], of_vis1["cosines"]
    for norm, direction in solved.items():
        task.check(f"entries {norm}", direction.ravel())
    task.check("norm", [np.linalg.norm(solved["fro"]), np.linalg.norm(solved["nuc"], "nuc")])
    task.check("rank", np.asarray(rank(solved["nuc"])))
    task.check("cosine", cosines["W", "fro"], count())
    task.check("other W", cosines["W", "nuc"][-1])
    task.check("early KQ", cosines["KQ", "nuc"], count())
    task.check("other KQ", cosines["KQ", "fro"][-1])
    ridged = _train(task, of_vis1["data"], "KQ", solved, ridge=task["ridge"])
    task.check("ridge", ridged.history["norm"][-1])


def draw(canvas: Canvas, data: Data) -> None:
    """Plot tokens, SVMs and paths mapped to the queries above, the cosines below."""
    panels = canvas.subplots(2, 3, height_ratios=(1.5, 1))
    columns = (
        ("vis1", ("W", "KQ"), "(a) first problem, W and KQ"),
        ("vis2", ("W",), "(b) second problem, W"),
        ("vis2", ("KQ",), "(c) second problem, KQ"),
    )
    for (plane, curves), (name, parameters, title) in zip(panels.T, columns, strict=True):
        _draw_plane(plane, data[name], parameters)
        plane.set_title(title)
        for parameter in parameters:
            style = "-" if parameter == "W" else "--"
            for norm, colour, symbol in (("fro", BLUE, "$W^{mm}$"), ("nuc", RED, "$W_*^{mm}$")):
                curve = data[name]["cosines"][parameter, norm]
                curves.plot(curve, style, color=colour, label=f"{parameter} run with {symbol}")
        curves.axhline(1, color=GREY, linewidth=0.5)
        curves.set(xlabel="step", xlim=(0, FIGURE.settings["shown"]), ylim=(0.5, 1.02))
    panels[0, 0].set_ylabel("second coordinate")
    panels[1, 0].set_ylabel("cosine with the SVM")
    legend_outside(canvas, panels[0, 0], "outside upper center", 4)
    legend_outside(canvas, panels[1, 0], "outside lower center", 4)


def _draw_plane(axes: Axes, drawn: Data, parameters: tuple[str, ...]) -> None:
    data: AttentionData = drawn["data"]
    for parameter in parameters:
        style = "-" if parameter == "W" else "--"
        for i, (z, colour) in enumerate(zip(np.asarray(data.queries), _INPUTS, strict=True)):
            text = f"SVM of {parameter}, $z_{i + 1}$"
            ray(axes, drawn["svm"][_NORM[parameter]] @ z, colour, text, ls=style, alpha=0.45)
            path = drawn["paths"][parameter][: FIGURE.settings["shown"] + 1] @ z
            path *= FIGURE.settings["reach"] / np.linalg.norm(path[-1])
            axes.plot(*path.T, style, color=colour, linewidth=1)
            axes.plot(*path[-1:].T, "s", color=colour, markersize=3)
    axes.plot([], [], color=INK, linewidth=1, label="path of $Wz$, scaled")
    axes.plot([], [], "s", color=INK, markersize=3, label="its end")
    axes.plot([], [], "*", color=INK, markersize=9, label="best token")
    best = optimal_tokens(data)
    for i, colour in enumerate(_INPUTS):
        tokens = data.tokens[i]
        axes.plot(*tokens.T, "o", color=colour, markersize=3.5, label=f"tokens of input {i + 1}")
        axes.plot(*tokens[best[i]], "*", color=colour, markersize=9)
    axes.set(aspect="equal", xlim=(-2, 2), ylim=(-2, 2), xlabel="first coordinate")
