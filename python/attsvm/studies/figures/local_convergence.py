"""W and (K, Q) trained on the same problems: W goes to the Frobenius SVM, K Q' to the nuclear one.

The published problems are 100 draws from torch seeds; those here are drawn by the same rule with
NumPy, so that means are compared, not runs.

The published code adds 2.2e-16 (|K|² + |Q|²) to the loss of (K, Q). It matters: after 200 steps
that term balances the gradient of the loss, K Q' grows no more, and its direction settles on the
SVM of the nuclear norm. Without it K Q' grows like the square of the step and is still on its way:
on the 50 published problems at hand the mean cosine is 0.979 at step 1000 and 0.984 at step 2000.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from attsvm.data import AttentionData
from attsvm.datasets import unit_sphere
from attsvm.descent import Run, train
from attsvm.studies.reproduce.check import Check
from attsvm.studies.reproduce.directions import direction_of
from attsvm.studies.reproduce.figure import Figure, Outcome, Settings
from attsvm.studies.reproduce.palette import BLUE, INK, RED
from attsvm.svm import SVMSolution, att_svm
from attsvm.theory import cosine, is_locally_optimal, optimal_tokens, rank

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

__all__ = ["COSINES", "FIGURE", "SOFTMAX", "Trained", "compare", "problems", "train_and_solve"]

N, T, D = 6, 8, 10
SETS = 100
STEPS, EVERY = 2000, 10
LR = 0.1
RIDGE = {"W": 0.0, "KQ": 2.22e-16}
_SEED = 0

_AT = (50, 100, 200, 500, 1000, 2000)
_LATE = 1000
"""From this step on runs have settled, and means are compared with a fixed tolerance."""
SOFTMAX = {
    "W": dict(zip(_AT, (0.429, 0.730, 0.965, 1.0, 1.0, 1.0), strict=True)),
    "KQ": dict(zip(_AT, (0.857, 0.999, 1.0, 1.0, 1.0, 1.0), strict=True)),
}
"""Largest weight of an input, mean over inputs and runs."""
COSINES = {
    ("W", "fro"): dict(zip(_AT, (0.604, 0.743, 0.882, 0.969, 0.989, 0.9957), strict=True)),
    ("W", "nuc"): dict(zip(_AT, (0.578, 0.690, 0.795, 0.850, 0.858, 0.861), strict=True)),
    ("KQ", "nuc"): dict(zip(_AT, (0.717, 0.858, 0.940, 0.9885, 0.9956, 0.9965), strict=True)),
    ("KQ", "fro"): dict(zip(_AT, (0.650, 0.766, 0.822, 0.851, 0.851, 0.849), strict=True)),
}
"""Mean cosine by what is trained and the norm of the SVM: of an independent program with the
published steps on the published problems, whose curves are those of the published figure."""
_SOURCE = "recomputed, 100 runs"
MATCHED, MISMATCHED = 0.01, 0.02
"""Tolerances of a mean cosine with the SVM of the norm in question, and of the other."""
GLOBAL = {"W": 70.0, "KQ": 72.0}
GLOBAL_TOLERANCE, LOCAL = 9.0, 95.0
"""In points; the first is 1.4 standard errors of a difference. Of seeds 0 to 5, seed 2 is outside.
"""
BETWEEN_SVMS = 0.856
RANK_NUCLEAR = 3.1
_DIGITS = 0.002
NORMS = (48.0, 96.0, 192.0)
"""Norms of W between which 1 - cosine falls fourfold."""
FALL = (3.0, 5.0)

_NAMES = {"W": "W", "KQ": "(K, Q)"}
_SVMS = {"fro": "W^mm", "nuc": "W*^mm"}
_LABELS = {"fro": r"$W^\mathrm{mm}$", "nuc": r"$W_*^\mathrm{mm}$"}
_SHOWN = 1000
_NORM_OF: dict[str, str] = {"W": "fro", "KQ": "nuc"}
"""Norm of the SVM that a parameter goes to."""


@dataclass(frozen=True)
class Trained:
    """Runs of one parameter on all problems, and the SVMs of the tokens that they select."""

    run: Run
    solutions: dict[str, SVMSolution]


def problems() -> AttentionData:
    """The 100 problems."""
    return unit_sphere(N, T, D, batch=SETS, rng=_SEED)


def train_and_solve(data: AttentionData, num_threads: int | None = None) -> dict[str, Trained]:
    """Train W and (K, Q), solve both SVMs of what each selects, and record the cosines.

    Which tokens a run selects is known at its end only, so each runs twice: the second time it is
    compared with its SVMs at every tenth step.
    """
    return {parameter: _trained(data, parameter, num_threads) for parameter in ("W", "KQ")}


def _trained(data: AttentionData, parameter: str, num_threads: int | None) -> Trained:
    start = _start(parameter, data)

    def descend(solutions: Mapping[str, SVMSolution] | None) -> Run:
        return train(
            data,
            parameter=parameter,
            init=start,
            lr=LR,
            ridge=RIDGE[parameter],
            steps=STEPS,
            record_every=EVERY,
            reference=solutions,
            certify=parameter == "W" and solutions is not None,
            num_threads=num_threads,
        )

    selected = descend(None).selected
    solutions = {norm: att_svm(data, selected, norm=norm) for norm in ("fro", "nuc")}
    return Trained(descend(solutions), solutions)


def _start(
    parameter: str, data: AttentionData
) -> NDArray[np.float64] | dict[str, NDArray[np.float64]]:
    """The default start of a linear layer in PyTorch: entries from U(-1/sqrt(d), 1/sqrt(d))."""
    # Problem k is drawn from child k of the seed.
    child = SETS + ("W", "KQ").index(parameter)
    rng = np.random.default_rng(np.random.SeedSequence(_SEED, spawn_key=(child,)))
    reach, shape = 1 / np.sqrt(data.d), (data.tokens.shape[0], data.d, data.d)
    blocks = {name: rng.uniform(-reach, reach, shape) for name in parameter}
    return blocks if parameter == "KQ" else blocks["W"]


def compute(settings: Settings) -> Outcome:
    """Train and solve for all problems, and compare means over them."""
    data = problems()
    results = train_and_solve(data, settings.num_threads)
    found = compare(data, results)
    curves = {
        (parameter, name): of.run.history[name]
        for parameter, of in results.items()
        for name in ("max_attention", "cosine:fro", "cosine:nuc", "certified_cosine")
        if name in of.run.history
    }
    gap = results["W"].run.history["cosine_gap:fro"]
    at = [list(results["W"].run.history["step"]).index(step) for step in (1000, 2000)]
    first, second = np.median(gap[:, at], axis=0)
    notes = (
        f"{SETS} problems drawn with NumPy from seed {_SEED} by the rule of the paper, not the "
        "published ones; steps before 1000 are compared within three standard errors of the "
        "difference of two such means.",
        "The loss of (K, Q) has the published term 2.2e-16 (|K|^2 + |Q|^2). Without it K Q' grows "
        "on like the square of the step, and its mean cosine at step 1000 is 0.98.",
        "The published steps of W add a small number to the norm of the gradient and stand still "
        f"at |W| = 118. Exact steps go on: the median cosine of W is {1 - first:.4f} at step 1000 "
        f"and {1 - second:.4f} at 2000; the mean is lower for a few runs with nearly tied margins.",
        "The thin line is the median of the certified cosine of W, a lower bound that needs no "
        "SVM, from where half of the runs have one.",
    )
    return Outcome({"step": results["W"].run.history["step"], "curves": curves}, found, notes)


def compare(data: AttentionData, results: dict[str, Trained]) -> tuple[Check, ...]:
    """Means over the problems beside those of the 100 published ones."""
    found: list[Check] = []
    for parameter, of in results.items():
        history = of.run.history
        rows = list(np.searchsorted(history["step"], _AT))
        name = _NAMES[parameter]
        found += _means(f"{name}: softmax", SOFTMAX[parameter], history["max_attention"][:, rows])
        for norm, svm in _SVMS.items():
            published = COSINES[parameter, norm]
            fixed = MATCHED if norm == _NORM_OF[parameter] else MISMATCHED
            cosines = history[f"cosine:{norm}"][:, rows]
            found += _means(f"{name}: cosine with {svm}", published, cosines, fixed)
    best = optimal_tokens(data)
    for parameter, of in results.items():
        name, selected = _NAMES[parameter], of.run.selected
        right = selected == best
        local = is_locally_optimal(data, selected, of.solutions[_NORM_OF[parameter]])
        found += [
            Check(f"{name}: global %", GLOBAL[parameter], 100 * float(right.all(axis=1).mean()),
                  GLOBAL_TOLERANCE, source=_SOURCE),
            Check(f"{name}: local (including global) %", LOCAL, 100 * float(np.mean(local)),
                  kind="at least", source=_SOURCE),
        ]  # fmt: skip
    return (*found, *_of_svms(results), *_fall_of_gap(results["W"].run))


def _means(
    name: str,
    published: dict[int, float],
    obtained: NDArray[np.float64],
    fixed: float | None = None,
) -> tuple[Check, ...]:
    """Means over the runs (B, steps) beside the published ones.

    The tolerance is `fixed` for late steps, else three standard errors of the difference of two
    means over independent problems, or the published digits where all runs agree.
    """
    return tuple(
        Check(
            f"{name} at step {step}",
            mean,
            obtained[:, k].mean(),
            fixed
            if fixed is not None and step >= _LATE
            else max(_tolerance(obtained[:, k]), _DIGITS),
            source=_SOURCE,
        )
        for k, (step, mean) in enumerate(published.items())
    )


def _of_svms(results: dict[str, Trained]) -> tuple[Check, ...]:
    """How far apart the SVMs of the two norms are, and their ranks."""
    solutions = results["W"].solutions
    fro, nuc = (direction_of(solutions[norm]) for norm in ("fro", "nuc"))
    between = cosine(fro, nuc, axis=(1, 2))
    full, low = (np.asarray(rank(solutions[norm])) for norm in ("fro", "nuc"))
    return (
        _mean_check("mean cosine of W^mm and W*^mm", BETWEEN_SVMS, between, _tolerance(between)),
        _mean_check("mean rank of W^mm", N, full, 0.05),
        _mean_check("mean rank of W*^mm", RANK_NUCLEAR, low, _tolerance(low)),
    )


def _mean_check(name: str, expected: float, values: NDArray[np.float64], tolerance: float) -> Check:
    return Check(name, expected, values.mean(), tolerance, source=_SOURCE)


def _fall_of_gap(run: Run) -> tuple[Check, ...]:
    """1 - cosine ~ c / |W|²: between two norms, one twice the other, its median falls fourfold."""
    norms, gaps = run.history["norm"], run.history["cosine_gap:fro"]
    at_norms = np.array(
        [
            np.exp(np.interp(np.log(NORMS), np.log(norm), np.log(gap)))
            for norm, gap in zip(norms, gaps, strict=True)
        ]
    )
    medians = np.median(at_norms, axis=0)
    return tuple(
        Check(
            f"W: fall of the median 1-cosine from |W| = {NORMS[k]:g} to {NORMS[k + 1]:g}",
            (FALL[0] + FALL[1]) / 2,
            medians[k] / medians[k + 1],
            (FALL[1] - FALL[0]) / 2,
            source="theory",
        )
        for k in range(len(NORMS) - 1)
    )


def _tolerance(values: NDArray[np.float64]) -> float:
    """Three standard errors of the difference of two means of 100 and of these."""
    return float(3 * values.std(ddof=1) * np.sqrt(1 / SETS + 1 / len(values)))


def draw(canvas: Canvas, outcome: Outcome) -> None:
    """Attention, and the cosines of both parameters with both SVMs, means and one std around."""
    step, curves = outcome.data["step"], outcome.data["curves"]
    softmax, *panels = canvas.subplots(1, 3)
    for parameter, colour in (("W", BLUE), ("KQ", RED)):
        _band(softmax, step, curves[parameter, "max_attention"], colour, _NAMES[parameter])
        _mark(softmax, SOFTMAX[parameter], colour)
    softmax.set_ylabel("softmax probability")
    softmax.set_title("largest weight of an input", loc="left")
    for axes, parameter in zip(panels, ("W", "KQ"), strict=True):
        for norm, colour in (("fro", BLUE), ("nuc", RED)):
            _band(axes, step, curves[parameter, f"cosine:{norm}"], colour, f"with {_LABELS[norm]}")
            _mark(axes, COSINES[parameter, norm], colour)
        axes.set_ylabel("correlation coefficient")
        axes.set_title(f"{_NAMES[parameter]} trained", loc="left")
    certified = curves["W", "certified_cosine"]
    there = (certified > -1).mean(axis=0) > 0.5
    middle = np.median(certified[:, there], axis=0)
    panels[0].plot(step[there], middle, color=INK, linewidth=0.8, label="certified, median")
    for axes in (softmax, *panels):
        axes.plot([], [], "o", color="white", markeredgecolor=INK, markersize=4, label="expected")
        axes.set_xlim(0, _SHOWN)
        axes.set_ylim(0, 1.05)
        axes.set_xlabel("iterations")
        axes.legend(frameon=False, loc="lower right")


def _band(
    axes: Axes, step: NDArray[np.int64], curves: NDArray[np.float64], colour: str, label: str
) -> None:
    mean, spread = curves.mean(axis=0), curves.std(axis=0)
    axes.fill_between(step, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)
    axes.plot(step, mean, color=colour, linewidth=1.6, label=label)


def _mark(axes: Axes, published: Mapping[int, float], colour: str) -> None:
    shown = {step: mean for step, mean in published.items() if step <= _SHOWN}
    axes.plot(
        list(shown),
        list(shown.values()),
        "o",
        color="white",
        markeredgecolor=colour,
        markersize=4,
        clip_on=False,
        zorder=3,
    )


FIGURE = Figure(
    name="local-convergence",
    title="W goes to the Frobenius SVM, (K, Q) to the nuclear-norm SVM",
    source="P2, the figure of local convergence, W and (K, Q)",
    size=(10.0, 3.3),
    compute=compute,
    draw=draw,
)
