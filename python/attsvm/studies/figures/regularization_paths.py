"""Minimisers over growing balls: each parameterisation converges to the SVM of its norm."""

from __future__ import annotations

import numpy as np

from attsvm.descent import regularization_path
from attsvm.heads import LinearScores
from attsvm.studies.figures import joint_training, single_input, trajectories
from attsvm.studies.reproduce.drawing import Axes, Canvas, legend_outside
from attsvm.studies.reproduce.figure import Array, Data, Figure, Task
from attsvm.studies.reproduce.palette import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, RED
from attsvm.svm import prompt_svm

FIGURE = Figure.of(__name__)
_NORMS = {"W": ("fro", "nuc"), "KQ": ("nuc", "fro")}
"""Norm of the SVM to which a parameterisation converges, and the other one."""


def compute(task: Task) -> Data:
    """Follow all paths."""
    data: Data = {}
    residuals: list[float] = []

    batch, heads, _ = single_input.problem("local")
    inputs, head = batch.problem(0), LinearScores(heads.scores[0])
    svm = prompt_svm(inputs, np.array([0])).direction
    radii = _radii(task, "single")
    path = regularization_path(inputs, radii, parameter="p", head=head, reference=svm)
    residuals.append(path.residual.max())
    data["single"] = (radii, path.cosines[""])
    task.check("single", path.cosines[""], radii)

    radii = _radii(task, "joint")
    for case, r in (("tight", "large"), ("loose", "large"), ("loose", "small")):
        inputs, balls = joint_training.problem(case), {"v": task[r], "p": radii}
        path = regularization_path(inputs, balls, parameter=("v", "p"))
        residuals.append(path.residual.max())
        p = np.asarray(path.p)
        data[case, r] = (radii, p[:, 1] / p[:, 0])
        task.check(f"{case} {r}", p[:, 1] / p[:, 0], radii)

    radii = _radii(task, "matched")
    for name in ("vis1", "vis2"):
        inputs = trajectories.problem(name)
        reference = trajectories.svm_directions(inputs)
        for parameter, (matched, other) in _NORMS.items():
            path = regularization_path(inputs, radii, parameter=parameter, reference=reference)
            residuals.append(path.residual.max())
            data[name, parameter] = (radii, path.cosines)
            task.check(f"{name} {parameter}", path.cosines[matched], radii)
            at_80, at_320 = np.searchsorted(radii, [80, 320])
            task.check("matched", path.cosines[matched][[at_80]], at=[[name, parameter, matched]])
            task.check("other", path.cosines[other][[at_320]], at=[[name, parameter, other]])
    task.check("residual", max(residuals))
    return data


def _radii(task: Task, name: str) -> Array:
    """Return the radii that are checked, and between them enough to draw a curve."""
    low, high = task["drawn"][name]
    curve = np.geomspace(low, high, task["curve_points"]).round(2)
    return np.union1d(np.array(task["radii"][name], dtype=np.float64), curve)


def draw(canvas: Canvas, data: Data) -> None:
    """Plot the paths of one and of both blocks above, those of W and (K, Q) below."""
    (single, joint), below = canvas.subplots(2, 2)
    radii, cosines = data["single"]
    single.semilogy(radii, 1 - np.array(cosines), ".-", color=INK)
    single.set(title="(a) p, one input", xlabel="R", ylabel="1 − cosine of $p$ with $p^{mm}$")
    _draw_joint(joint, data)
    for axes, name, text, letter in zip(
        below, ("vis1", "vis2"), ("first", "second"), "cd", strict=True
    ):
        for parameter, style in (("W", ".-"), ("KQ", ".--")):
            radii, of_norm = data[name, parameter]
            for norm, colour, symbol in (("fro", BLUE, "$W^{mm}$"), ("nuc", RED, "$W_*^{mm}$")):
                label = f"{parameter} with {symbol}"
                axes.semilogx(radii, of_norm[norm], style, color=colour, label=label)
        between = FIGURE.numbers["other"].value([name, "W", "nuc"])
        axes.axhline(between, color=GREY, linewidth=0.7, label="of $W^{mm}$ and $W_*^{mm}$")
        axes.set(title=f"({letter}) W and KQ, {text} problem", xlabel="R", ylabel="cosine")
    dashes = {"handlelength": 2.8, "markerscale": 0.6}  # a mark must not hide them
    legend_outside(canvas, below[0], "outside lower center", 5, **dashes)


def _draw_joint(axes: Axes, data: Data) -> None:
    for key, colour, limit, label in (
        (("tight", "large"), GREEN, 0.25, "all inputs support, r = 50,000"),
        (("loose", "large"), ORANGE, 0.0, "third does not, r = 50,000"),
        (("loose", "small"), PURPLE, 0.2, "third does not, r = 5"),
    ):
        axes.axhline(limit, color=colour, linewidth=0.7, linestyle=":")
        axes.plot(*data[key], ".-", color=colour, label=label)
    axes.set(title="(b) v and p together", xlabel="R", ylabel="$p_2 / p_1$",
             ylim=(-0.02, 0.6))  # fmt: skip
    axes.plot([], [], ":", color=INK, linewidth=0.7, label="SVM")
    axes.legend(loc="upper right")
