"""Attention W and head v trained together on two classes: how the schedule sets the rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attsvm.datasets import near_orthogonal
from attsvm.descent import Run, StepRule, log_schedule, train
from attsvm.studies.reproduce.check import Check
from attsvm.studies.reproduce.figure import Figure, Outcome, Settings
from attsvm.studies.reproduce.palette import BLUE, INK, ORANGE, RED
from attsvm.svm import att_svm, label_svm
from attsvm.theory import Rate, fit_rate, optimal_tokens

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

__all__ = ["FIGURE", "SCHEDULES", "STEPS", "Schedule", "cube_root_law", "distances", "run_all"]


@dataclass(frozen=True)
class Schedule:
    """A rule, its rates, how it is drawn, and what is known of it."""

    text: str
    colour: str
    rule: StepRule
    lr: dict[str, float]
    apart: dict[int, tuple[float, float]]
    """Distance of W and of v from the directions of their SVMs, by step."""


STEPS = 3000
SCHEDULES = {
    "gd": Schedule("GD, η = 1", ORANGE, StepRule("gd"), {"W": 1.0, "v": 1.0}, {}),
    "constant": Schedule(
        "normalised, η = 0.1", BLUE, StepRule("ngd"), {"W": 0.1, "v": 0.1}, {STEPS: (0.010, 0.009)}
    ),
    "decaying": Schedule(
        "normalised, $η_W = 3/t$, $η_v = 0.3/t^{2/3}$",
        RED,
        StepRule("ngd", decay={"W": 1.0, "v": 2 / 3}),
        {"W": 3.0, "v": 0.3},
        {100: (0.124, 0.21), 1000: (0.067, 0.090), STEPS: (0.061, 0.061)},
    ),
}
PROBLEMS, QUICK_PROBLEMS = 16, 8
_SEED = 1
_FROM = 100  # step from which the laws are fitted
LOGS = {100: 2.77, 1000: 7.93, STEPS: 12.0}
"""-log of the loss with decaying rates, by step."""
LARGEST = 0.02
"""Distance of both blocks at the end of constant rates is below this."""


def run_all(problems: int, *, steps: int = STEPS, num_threads: int | None = None) -> dict[str, Run]:
    """Train W and v from zero under every schedule, beside the SVMs of the optimal tokens."""
    data = near_orthogonal(10, 10, 128, signals="antipodal", batch=problems, rng=_SEED)
    best = optimal_tokens(data)
    reference = {"W": att_svm(data, best), "v": label_svm(data, best)}
    return {
        name: train(
            data,
            parameter=("v", "W"),
            rule=schedule.rule,
            lr=schedule.lr,
            steps=steps,
            loss="exponential",
            init={"v": np.zeros_like(data.value)},
            record_every=log_schedule(steps, per_decade=12),
            reference=reference,
            num_threads=num_threads,
        )
        for name, schedule in SCHEDULES.items()
    }


def distances(run: Run, block: str) -> NDArray[np.float64]:
    """Distance of W or v from the direction of its SVM, shape (B, R)."""
    apart: NDArray[np.float64] = np.sqrt(2 * run.history[f"cosine_gap:{block}"])
    return apart


def cube_root_law(run: Run) -> list[Rate]:
    """log(loss) as a line in t^(1/3), for each problem."""
    roots = np.cbrt(run.history["step"])
    late = roots >= np.cbrt(_FROM) * (1 - 1e-12)
    return [fit_rate(roots[late], loss[late], kind="exponential") for loss in run.history["loss"]]


def compute(settings: Settings) -> Outcome:
    """Train under every schedule and compare."""
    problems = QUICK_PROBLEMS if settings.quick else PROBLEMS
    runs = run_all(problems, num_threads=settings.num_threads)
    notes = (
        f"Means over {problems} problems; the expected numbers are means over 2 other draws. "
        "Drawn: medians, and the range over problems.",
        "Both blocks start at zero. The data scores noise tokens 0 under the SVM of v; where noise "
        "has a part along the signals (datasets.gaussian_classes), W ends farther from its SVM.",
    )
    return Outcome({"runs": runs}, (*_constant_checks(runs), *_decaying_checks(runs)), notes)


def _at(run: Run, step: int) -> int:
    return list(run.history["step"]).index(step)


def _constant_checks(runs: dict[str, Run]) -> list[Check]:
    run, found = runs["constant"], []
    for block, expected in zip("Wv", SCHEDULES["constant"].apart[STEPS], strict=True):
        apart = distances(run, block)[:, -1]
        text = f"P3-6: distance of {block} at step {STEPS}, constant rates"
        found += [
            Check(f"{text}, mean", expected, apart.mean(), 0.15 * expected, source="recomputed"),
            Check(f"{text}, largest", LARGEST, apart.max(), kind="at most", source="recomputed"),
        ]
    loss = float(np.log10(run.history["loss"][:, -1]).mean())
    name = f"P3-6: mean log10 of the loss at step {STEPS}, constant rates"
    return [*found, Check(name, -130, loss, 3, source="recomputed")]


def _decaying_checks(runs: dict[str, Run]) -> list[Check]:
    run, found = runs["decaying"], []
    for step, expected in SCHEDULES["decaying"].apart.items():
        for block, number in zip("Wv", expected, strict=True):
            got = distances(run, block)[:, _at(run, step)].mean()
            text = f"P3-7: distance of {block} at step {step}, decaying rates"
            found.append(Check(text, number, got, 0.15 * number, source="recomputed"))
    for step, number in LOGS.items():
        got = -np.log(run.history["loss"][:, _at(run, step)]).mean()
        text = f"P3-7: mean -log(loss) at step {step}, decaying rates"
        found.append(Check(text, number, got, 0.3, source="recomputed"))
    law = cube_root_law(run)
    slope = -float(np.mean([rate.exponent for rate in law]))
    late = run.history["step"] >= _FROM
    scaled = distances(run, "W")[:, late] * np.log(run.history["step"][late])
    return [
        *found,
        Check("P3-7: mean slope of -log(loss) in t^(1/3)", 0.95, slope, 0.05, source="recomputed"),
        Check(
            "P3-7: least R² of -log(loss) on t^(1/3)",
            0.99,
            min(rate.r_squared for rate in law),
            kind="at least",
            source="theory",
        ),
        Check(
            "P3-7: largest mean of distance of W times log t, over that at step 100",
            1,
            float((scaled.mean(axis=0) / scaled.mean(axis=0)[0]).max()),
            kind="at most",
            source="theory",
        ),
    ]


def draw(canvas: Canvas, outcome: Outcome) -> None:
    """Loss against t and t^(1/3), and the distances of both blocks."""
    loss, law, of_w, of_v = canvas.subplots(1, 4)
    runs: dict[str, Run] = outcome.data["runs"]
    for name, schedule in SCHEDULES.items():
        run = runs[name]
        steps = run.history["step"]
        _draw_band(loss, steps, run.history["loss"], schedule)
        # From v = 0 the first step leaves W at zero, which points nowhere.
        _draw_band(of_w, steps[1:], distances(run, "W")[:, 1:], schedule)
        _draw_band(of_v, steps, distances(run, "v"), schedule)
    for axes, title in (
        (loss, "(a) training loss"),
        (of_w, "(c) distance of W from its SVM"),
        (of_v, "(d) distance of v from its SVM"),
    ):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("step t")
        axes.set_title(title, loc="left")
    loss.set_ylim(1e-8, 2)
    run = runs["decaying"]
    roots, logs = np.cbrt(run.history["step"]), -np.log(run.history["loss"])
    law.plot(roots, logs.mean(axis=0), color=SCHEDULES["decaying"].colour, linewidth=1.6)
    fitted = cube_root_law(run)
    slope = -np.mean([rate.exponent for rate in fitted])
    offset = -np.mean([rate.log_prefactor for rate in fitted])
    law.plot(
        roots,
        offset + slope * roots,
        ":",
        color=INK,
        label=f"{slope:.2f} $t^{{1/3}}$ - {-offset:.1f}",
    )
    law.set_title("(b) -log of the loss, decaying rates", loc="left")
    law.set_xlabel("$t^{1/3}$")
    law.set_xlim(0)
    law.set_ylim(0)
    law.legend(frameon=False, loc="upper left")
    handles, labels = loss.get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)


def _draw_band(
    axes: Axes, x: NDArray[Any], values: NDArray[np.float64], schedule: Schedule
) -> None:
    low, middle, high = np.quantile(values, (0, 0.5, 1), axis=0)
    axes.fill_between(x, low, high, color=schedule.colour, alpha=0.18, linewidth=0)
    axes.plot(x, middle, color=schedule.colour, linewidth=1.4, label=schedule.text)


FIGURE = Figure(
    name="p3-joint",
    title="W and v trained together with constant and with decaying rates",
    source="P3, synthetic experiments with joint training",
    size=(11.6, 3.4),
    compute=compute,
    draw=draw,
    quick=f"{QUICK_PROBLEMS} problems in place of {PROBLEMS}",
)
