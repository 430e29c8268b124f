"""Two planar problems: W goes to the Frobenius machine, K Q' to that of the nuclear norm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attsvm.data import AttentionData
from attsvm.descent import Run, train
from attsvm.studies.reproduce.check import Check, checks
from attsvm.studies.reproduce.directions import direction_of
from attsvm.studies.reproduce.figure import Figure, Outcome, Settings
from attsvm.studies.reproduce.iterates import axes_of, path_of
from attsvm.studies.reproduce.palette import BLUE, GREY, INK, ORANGE, RED, TEAL
from attsvm.svm import att_svm
from attsvm.theory import cosine, optimal_tokens, rank

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

__all__ = ["CROSS", "FIGURE", "PROBLEMS", "STEPS", "machines", "problem"]


@dataclass(frozen=True)
class _Drawn:
    """Tokens, queries and value of a published problem, as they were drawn in float32."""

    tokens: tuple[tuple[tuple[float, float], ...], ...]
    queries: tuple[tuple[float, float], ...]
    value: tuple[float, float]
    best: tuple[int, int]


PROBLEMS = {
    "vis1": _Drawn(
        (
            ((-0.9814968, 0.1863952), (-1.1355718, -0.049839072), (-1.4568305, 0.11450518)),
            ((0.6917174, -0.16891584), (0.7323128, -0.017475054), (0.9413471, -0.2896908)),
        ),
        ((0.84501135, 0.5347484), (-0.63626397, -0.7714714)),
        (0.92731994, 0.37426966),
        (0, 2),
    ),
    "vis2": _Drawn(
        (
            ((1.0, 0.5), (-0.18972462, -0.798354), (-0.7976964, 0.30564982),
             (-0.6198048, -0.01682163), (-1.1724226, 0.24682678)),
            ((1.0, -0.5), (-0.757443, 0.10261719), (-0.8307859, 0.676377),
             (-0.8131823, 0.0067082397), (-0.6131634, -0.05462176)),
        ),
        ((-0.53912896, -0.8422232), (0.9525519, 0.30437642)),
        (0.9771238, 0.21267143),
        (0, 0),
    ),
}  # fmt: skip
STEPS = 2000
_RIDGE = float(np.finfo(np.float64).eps)
"""λ of the published code, which adds λ(|K|² + |Q|²) to the loss."""

FROBENIUS = (2.8537, -2.7029, 5.3712, 5.5805)
NUCLEAR = (0.4867, 0.4693, 7.0055, 6.7544)
"""The machines of vis1, row by row."""
NORMS = {"fro": 8.6857, "nuc": 9.7548}
CROSS = {"vis1": 0.8904, "vis2": 0.936}
"""Cosine of the two machines."""
COSINES = {200: 0.9353, 500: 0.9941, 1000: 0.9987, 2000: 0.9997}
"""Of W trained on vis1 with its machine, by step; 0.898 with the other machine at the end."""
OTHER = 0.898
EARLY_FACTORED, LATE_FACTORED = 0.993, 0.8898
"""Of K Q' trained on vis1: with its machine at step 200 (.992 to .994 from several starts), and
with the other machine at the end."""
RIDGE_NORM = 301.5
"""|W| at which the published (K, Q) run on vis1 stalls, to 2: normalised steps of 0.1 go to and fro
about that point."""

_SHOWN = 1000
_REACH = 1.8
"""Length to which a path is scaled in the plane."""


def problem(name: str) -> AttentionData:
    """One of `PROBLEMS`, in float64."""
    drawn = PROBLEMS[name]
    tokens, queries, value = (
        np.array(part, dtype=np.float32).astype(np.float64)
        for part in (drawn.tokens, drawn.queries, drawn.value)
    )
    return AttentionData(tokens, np.ones(len(tokens)), queries=queries, value=value)


def machines(data: AttentionData) -> dict[str, NDArray[np.float64]]:
    """W^mm and W*^mm of the best tokens, by the name of their norm."""
    best = optimal_tokens(data)
    return {norm: direction_of(att_svm(data, best, norm=norm)) for norm in ("fro", "nuc")}


def compute(settings: Settings) -> Outcome:
    """Train W and (K, Q) on both problems, and solve the machines of the best tokens."""
    data: dict[str, Any] = {}
    found: list[Check] = []
    for name in PROBLEMS:
        inputs = problem(name)
        solved = machines(inputs)
        runs = {parameter: _train(inputs, parameter, solved, settings) for parameter in ("W", "KQ")}
        data[name] = {
            "data": inputs,
            "machines": solved,
            "paths": {parameter: path_of(run, 2, 2) for parameter, run in runs.items()},
            "cosines": {
                (parameter, norm): run.history[f"cosine:{norm}"]
                for parameter, run in runs.items()
                for norm in solved
            },
        }
        found += _common(name, solved, runs)
    found += _vis1(data["vis1"], settings)
    notes = (
        "K starts at 0.1 times normal numbers of NumPy (seed 0) and Q at zero; the published start "
        "is unseeded. vis2 is drawn anew by the published rule (torch, seed 3): the seed is not "
        "known, but its cosine between the two machines is the published one.",
        "The published code adds 2.2e-16 (|K|^2 + |Q|^2) to the loss and 2.2e-16 to the norm of "
        "the gradient; such a run of (K, Q) stops at |W| = 301.5 with the cosine .9999. Here "
        "nothing is added (but the first, for the check of that norm): W goes on growing, and its "
        "cosine is still rising at the end.",
    )
    return Outcome(data, tuple(found), notes)


def _train(
    data: AttentionData,
    parameter: str,
    reference: Mapping[str, NDArray[np.float64]],
    settings: Settings,
    ridge: float = 0.0,
) -> Run:
    K = 0.1 * np.random.default_rng(0).standard_normal((2, 2))
    return train(
        data,
        parameter=parameter,
        init=None if parameter == "W" else {"K": K, "Q": np.zeros((2, 2))},
        ridge=ridge,
        steps=STEPS,
        record_every=1,
        reference={**reference, **axes_of(2, 2)},
        num_threads=settings.num_threads,
    )


def _common(
    name: str, solved: Mapping[str, NDArray[np.float64]], runs: Mapping[str, Run]
) -> list[Check]:
    best = PROBLEMS[name].best
    found = []
    for parameter, run in runs.items():
        wrong = int((run.selected != np.array(best)).sum())
        text = f"{name}: inputs of the {parameter} run not at their best token"
        found.append(Check(text, 0, wrong, kind="equal", source="recomputed"))
    reached = {"W": ("fro", "W^mm"), "KQ": ("nuc", "W*^mm")}
    for parameter, (norm, symbol) in reached.items():
        ends = runs[parameter].history[f"cosine:{norm}"]
        text = f"{name}: cosine of the {parameter} run with {symbol}"
        found.append(Check(f"{text} at {STEPS}", 0.999, ends[-1], kind="at least", source="theory"))
        if name == "vis2":
            step = 500 if parameter == "W" else 1000
            found.append(
                Check(f"{text} at {step}", 0.999, ends[step], kind="at least", source="recomputed")
            )
    text = f"{name}: cosine of W^mm and W*^mm"
    between = cosine(solved["fro"], solved["nuc"])
    found.append(Check(text, CROSS[name], between, 1e-3, source="recomputed"))
    return found


def _vis1(of_vis1: Mapping[str, Any], settings: Settings) -> list[Check]:
    solved, cosines = of_vis1["machines"], of_vis1["cosines"]
    ridged = _train(of_vis1["data"], "KQ", solved, settings, ridge=_RIDGE)
    entries = ("11", "12", "21", "22")
    size = {
        "fro": float(np.linalg.norm(solved["fro"])),
        "nuc": float(np.linalg.norm(solved["nuc"], "nuc")),
    }
    found: list[Check] = []
    for norm, symbol, expected in (("fro", "W^mm", FROBENIUS), ("nuc", "W*^mm", NUCLEAR)):
        found += checks(
            [f"vis1: {symbol}, entry {e}" for e in entries],
            expected,
            solved[norm].ravel(),
            tolerance=1e-3,
            source="recomputed",
        )
        text = f"vis1: norm of {symbol}"
        found.append(Check(text, NORMS[norm], size[norm], 1e-3, source="recomputed"))
    single = float(np.asarray(rank(solved["nuc"])))
    found.append(Check("vis1: rank of W*^mm", 1, single, kind="equal", source="recomputed"))
    found += checks(
        [f"vis1: cosine of the W run with W^mm at {step}" for step in COSINES],
        COSINES.values(),
        cosines["W", "fro"][list(COSINES)],
        tolerance=1e-4,
        source="recomputed",
    )
    end = ridged.history["norm"][-1]
    for text, number, obtained, tolerance in (
        ("cosine of the W run with W*^mm at end", OTHER, cosines["W", "nuc"][-1], 1e-3),
        ("cosine of the KQ run with W*^mm at 200", EARLY_FACTORED, cosines["KQ", "nuc"][200], 5e-3),
        ("cosine of the KQ run with W^mm at end", LATE_FACTORED, cosines["KQ", "fro"][-1], 1e-3),
        ("norm of the KQ run with the published ridge", RIDGE_NORM, end, 2.0),
    ):
        found.append(Check(f"vis1: {text}", number, obtained, tolerance, source="recomputed"))
    return found


def draw(canvas: Canvas, outcome: Outcome) -> None:
    """Above the tokens, machines and paths mapped to the queries; below the cosines."""
    panels = canvas.subplots(2, 3, height_ratios=(1.5, 1))
    columns = (
        ("vis1", ("W", "KQ"), "(a) first problem, W and KQ"),
        ("vis2", ("W",), "(b) second problem, W"),
        ("vis2", ("KQ",), "(c) second problem, KQ"),
    )
    for (plane, curves), (name, parameters, title) in zip(panels.T, columns, strict=True):
        _draw_plane(plane, outcome.data[name], parameters)
        plane.set_title(title, loc="left")
        _draw_cosines(curves, outcome.data[name]["cosines"], parameters)
    panels[1, 0].set_ylabel("cosine with the SVM")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    lines, names = panels[1, 0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    canvas.legend(lines, names, loc="outside lower center", ncols=4, frameon=False)


_OF_PARAMETER = {"W": ("fro", "-", "W"), "KQ": ("nuc", "--", "KQ")}


def _draw_plane(axes: Axes, one: Mapping[str, Any], parameters: tuple[str, ...]) -> None:
    data: AttentionData = one["data"]
    queries = np.asarray(data.queries)
    for parameter in parameters:
        norm, style, label = _OF_PARAMETER[parameter]
        for i, colour in enumerate((RED, BLUE)):
            z = queries[i]
            direction = one["machines"][norm] @ z
            line = np.outer([0.0, 10.0], direction / np.linalg.norm(direction))
            text = f"SVM of {label}, $z_{i + 1}$"
            axes.plot(*line.T, style, color=colour, linewidth=2, alpha=0.45, label=text)
            path = one["paths"][parameter][: _SHOWN + 1] @ z
            path *= _REACH / np.linalg.norm(path[-1])
            axes.plot(*path.T, style, color=colour, linewidth=1)
            axes.plot(*path[-1:].T, "s", color=colour, markersize=3)
    axes.plot([], [], color=INK, linewidth=1, label="path of $Wz$, scaled")
    axes.plot([], [], "*", color=INK, markersize=9, label="best token")
    best = optimal_tokens(data)
    for i, colour in enumerate((TEAL, ORANGE)):
        tokens = data.tokens[i]
        axes.plot(*tokens.T, "o", color=colour, markersize=3.5, label=f"tokens of input {i + 1}")
        axes.plot(*tokens[best[i]], "*", color=colour, markersize=9)
    axes.set_aspect("equal")
    axes.set_xlim(-2, 2)
    axes.set_ylim(-2, 2)


def _draw_cosines(
    axes: Axes,
    cosines: Mapping[tuple[str, str], NDArray[np.float64]],
    parameters: tuple[str, ...],
) -> None:
    for parameter in parameters:
        _, style, _ = _OF_PARAMETER[parameter]
        for norm, colour, symbol in (("fro", BLUE, "$W^{mm}$"), ("nuc", RED, "$W_*^{mm}$")):
            label = f"{parameter} run with {symbol}"
            axes.plot(cosines[parameter, norm], style, color=colour, label=label)
    axes.axhline(1, color=GREY, linewidth=0.5)
    axes.set_xlabel("step")
    axes.set_xlim(0, _SHOWN)
    axes.set_ylim(0.5, 1.02)


FIGURE = Figure(
    name="trajectories",
    title="W and (K, Q) trained on two problems in the plane",
    source="P2, trajectory figures (vis1, vis2)",
    size=(9.6, 6.2),
    compute=compute,
    draw=draw,
)
