"""Minimisers over growing balls: each parameterisation goes to the machine of its norm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attsvm.descent import RegularizationPath, regularization_path
from attsvm.heads import LinearScores
from attsvm.studies.figures import joint_training, single_input, trajectories
from attsvm.studies.reproduce.check import Check, checks
from attsvm.studies.reproduce.directions import direction_of
from attsvm.studies.reproduce.figure import Figure, Outcome, Settings
from attsvm.studies.reproduce.palette import BLUE, GREY, RED, TEAL
from attsvm.svm import prompt_svm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

__all__ = ["FIGURE"]

SINGLE = {10: 0.9996, 20: 0.99994, 30: 0.99999}
"""Cosine of p with its machine, one input whose last score is 0 (local case), by radius."""
JOINT = {"tight": joint_training.TIGHT, "loose": joint_training.LOOSE}
LARGE, SMALL = 5e4, 5.0
"""Radii r of v."""
TIGHT_SLOPES = {5: 0.2792, 10: 0.2662, 15: 0.2430}
"""p_2 / p_1 at r = 5e4, by R; the machine has 1/4."""
LOOSE_SLOPES = {5: 0.097, 10: 0.127, 15: 0.149}
"""At r = 5, which R outgrows: towards the unrelaxed machine, which has 1/5."""
MATCHED = {
    ("vis1", "W"): {20: (0.981, 1e-3), 80: (0.9992, 1e-4), 320: (0.99995, 1e-5)},
    ("vis1", "KQ"): {20: (0.976, 1e-3), 80: (0.9990, 1e-4), 320: (0.99994, 1e-5)},
    ("vis2", "W"): {20: (0.99933, 1e-5), 80: (1.0, 1e-5), 320: (1.0, 1e-5)},
    ("vis2", "KQ"): {20: (0.99979, 1e-5), 80: (0.99998, 1e-5), 320: (1.0, 1e-5)},
}
"""Cosine with the machine of the own norm by radius, and the digits it is given to."""
_OWN = {"W": "fro", "KQ": "nuc"}
_LEAST_RESIDUAL = 1e-8


def compute(settings: Settings) -> Outcome:
    """Follow all paths."""
    data: dict[Any, Any] = {}
    found: list[Check] = []
    followed: list[RegularizationPath] = []

    batch, heads, _ = single_input.problem("local")
    inputs, head = batch.problem(0), LinearScores(heads.scores[0])
    svm = direction_of(prompt_svm(inputs, np.array([0])))
    radii = _radii(SINGLE, 1, 40, settings)
    path = regularization_path(inputs, radii, parameter="p", head=head, reference=svm)
    followed.append(path)
    data["single"] = (radii, path.cosines[""])
    found += checks(
        [f"one input: cosine of p with its SVM at R = {R}" for R in SINGLE],
        SINGLE.values(),
        _at(radii, path.cosines[""], SINGLE),
        tolerance=5e-5,
        source="recomputed",
    )

    radii = _radii(TIGHT_SLOPES, 2, 16, settings)
    for case, r in (("tight", LARGE), ("loose", LARGE), ("loose", SMALL)):
        path = regularization_path(
            joint_training.problem(JOINT[case]), {"v": r, "p": radii}, parameter=("v", "p")
        )
        followed.append(path)
        p = np.asarray(path.p)
        data[case, r] = (radii, p[:, 1] / p[:, 0])
    for key, expected, tolerance in (
        (("tight", LARGE), TIGHT_SLOPES, 1e-4),
        (("loose", LARGE), dict.fromkeys(LOOSE_SLOPES, 0.0), 1e-6),
        (("loose", SMALL), LOOSE_SLOPES, 1e-3),
    ):
        found += checks(
            [f"v and p, {key[0]}, r = {key[1]:g}: p_2 / p_1 at R = {R}" for R in expected],
            expected.values(),
            _at(radii, data[key][1], expected),
            tolerance=tolerance,
            source="recomputed",
        )

    radii = _radii((5, 20, 80, 320), 2, 400, settings)
    for (name, parameter), expected_at in MATCHED.items():
        inputs = trajectories.problem(name)
        path = regularization_path(
            inputs, radii, parameter=parameter, reference=trajectories.machines(inputs)
        )
        followed.append(path)
        data[name, parameter] = (radii, path.cosines)
        own = _OWN[parameter]
        other = "nuc" if own == "fro" else "fro"
        text = f"{name}, {parameter}: cosine with the SVM of the {own} norm"
        for R, (cosine, tolerance) in expected_at.items():
            (got,) = _at(radii, path.cosines[own], [R])
            found.append(Check(f"{text}, R = {R}", cosine, got, tolerance, source="recomputed"))
        (got,) = _at(radii, path.cosines[own], [80])
        found.append(Check(f"{text}, R = 80", 0.999, got, kind="at least", source="recomputed"))
        (got,) = _at(radii, path.cosines[other], [320])
        text = f"{name}, {parameter}: cosine with the SVM of the {other} norm, R = 320"
        found.append(Check(text, trajectories.CROSS[name], got, 1e-3, source="recomputed"))
    worst = max(float(path.residual.max()) for path in followed)
    found.append(
        Check("all paths: largest residual", _LEAST_RESIDUAL, worst, kind="at most", source="aim")
    )
    return Outcome(data, tuple(found))


def _radii(
    wanted: Iterable[float], low: float, high: float, settings: Settings
) -> NDArray[np.float64]:
    """The radii that are checked, and between them enough to draw a curve."""
    checked = np.array(list(wanted), dtype=np.float64)
    if settings.quick:
        return checked
    return np.union1d(checked, np.geomspace(low, high, 9).round(2))


def _at(
    radii: NDArray[np.float64], values: NDArray[np.float64], wanted: Iterable[float]
) -> NDArray[np.float64]:
    picked: NDArray[np.float64] = values[np.searchsorted(radii, list(wanted))]
    return picked


def draw(canvas: Canvas, outcome: Outcome) -> None:
    """Paths of P1 above, of P2 below."""
    (single, joint), below = canvas.subplots(2, 2)
    radii, cosines = outcome.data["single"]
    single.plot(radii, cosines, ".-", color=RED)
    single.set_ylabel("cosine of p with its SVM")
    single.set_ylim(None, 1.002)
    single.set_title("(a) p, one input", loc="left")
    _draw_joint(joint, outcome.data)
    joint.set_title("(b) v and p together (dotted: SVM)", loc="left")
    for axes in (single, joint):
        axes.set_xlabel("R")
    for axes, name, letter in zip(below, ("vis1", "vis2"), "cd", strict=True):
        for parameter, style in (("W", ".-"), ("KQ", ".--")):
            radii, of_norm = outcome.data[name, parameter]
            for norm, colour, symbol in (("fro", BLUE, "$W^{mm}$"), ("nuc", RED, "$W_*^{mm}$")):
                label = f"{parameter} with {symbol}"
                axes.semilogx(radii, of_norm[norm], style, color=colour, label=label)
        between = trajectories.CROSS[name]
        axes.axhline(between, color=GREY, linewidth=0.7, label="of $W^{mm}$ and $W_*^{mm}$")
        axes.set_title(f"({letter}) {name}", loc="left")
        axes.set_xlabel("R")
        axes.set_ylabel("cosine")
        axes.legend(frameon=False, loc="lower right")


def _draw_joint(axes: Axes, data: Mapping[Any, Any]) -> None:
    for key, colour, limit, label in (
        (("tight", LARGE), BLUE, 0.25, "all inputs support, r = 50,000"),
        (("loose", LARGE), RED, 0.0, "third does not, r = 50,000"),
        (("loose", SMALL), TEAL, 0.2, "third does not, r = 5"),
    ):
        axes.axhline(limit, color=colour, linewidth=0.7, linestyle=":")
        axes.plot(*data[key], ".-", color=colour, label=label)
    axes.set_ylabel("$p_2 / p_1$")
    axes.set_ylim(-0.02, 0.42)
    axes.legend(frameon=False, loc="upper right")


FIGURE = Figure(
    name="regularization-paths",
    title="Minimisers over growing balls go to the machine of their norm",
    source="P1 and P2, theorems on regularisation paths",
    size=(8.4, 6.2),
    compute=compute,
    draw=draw,
    quick="only the radii that are checked",
)
