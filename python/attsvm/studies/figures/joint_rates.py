"""Attention W and head v trained together on two classes: how the schedule sets the rate."""

from __future__ import annotations

import numpy as np

from attsvm.datasets import near_orthogonal
from attsvm.descent import Run, StepRule, log_schedule
from attsvm.studies.reproduce.drawing import Canvas, band, band_in_legend, legend_outside
from attsvm.studies.reproduce.figure import Array, Data, Figure, Task
from attsvm.studies.reproduce.palette import BLUE, INK, ORANGE, RED
from attsvm.svm import att_svm, label_svm
from attsvm.theory import Rate, fit_rate, optimal_tokens

FIGURE = Figure.of(__name__)
_COLOURS = {"gd": ORANGE, "constant": BLUE, "decaying": RED}


def distances(run: Run, block: str) -> Array:
    """Compute the distance of W or v from the direction of its SVM, shape (B, R)."""
    return np.asarray(np.sqrt(2 * run.history[f"cosine_gap:{block}"]))


def cube_root_law(run: Run) -> list[Rate]:
    """Fit log(loss) as a line in t^(1/3), for each problem."""
    late = run.history["step"] >= FIGURE.settings["fitted_from"]
    roots = np.cbrt(run.history["step"][late])
    return [fit_rate(roots, loss[late], kind="exponential") for loss in run.history["loss"]]


def compute(task: Task) -> Data:
    """Train W and v from zero under every schedule, beside the SVMs of the optimal tokens."""
    data = near_orthogonal(**task["data"], batch=task["problems"], rng=task["seed"])
    best = optimal_tokens(data)
    reference = {"W": att_svm(data, best), "v": label_svm(data, best)}
    runs = {
        name: task.train(
            data,
            parameter=("v", "W"),
            rule=StepRule(schedule["kind"], decay=schedule.get("decay", 0.0)),
            lr=schedule["lr"],
            init={"v": np.zeros_like(data.value)},
            record_every=log_schedule(task["train"]["steps"], per_decade=12),
            reference=reference,
        )
        for name, schedule in task["schedules"].items()
    }

    gd, constant, decaying = (runs[name].history for name in ("gd", "constant", "decaying"))
    steps = decaying["step"]
    apart = {(name, block): distances(run, block) for name, run in runs.items() for block in "Wv"}
    ends = {key: values[:, -1] for key, values in apart.items()}
    task.check("constant", [ends["constant", block].mean() for block in "Wv"])
    task.check("constant, largest", [ends["constant", block].max() for block in "Wv"])
    task.check("constant, loss", np.log10(constant["loss"][:, -1]).mean())
    for block in "Wv":
        task.check(f"decaying {block}", apart["decaying", block].mean(axis=0), steps)
    task.check("decaying, loss", -np.log(decaying["loss"]).mean(axis=0), steps)
    task.check("decaying, norm", [decaying[key][:, -1].mean() for key in ("norm", "norm:v")])
    law = cube_root_law(runs["decaying"])
    task.check("slope", -np.mean([rate.exponent for rate in law]))
    task.check("fit", min(rate.r_squared for rate in law))
    late = steps >= task["fitted_from"]
    scaled = (apart["decaying", "W"] * np.log(steps)).mean(axis=0)[late]
    task.check("log", (scaled / scaled[0]).max())
    task.check("gd, loss", gd["loss"].mean(axis=0), steps)
    task.check("gd", [ends["gd", block].mean() for block in "Wv"])
    return runs


def draw(canvas: Canvas, data: Data) -> None:
    """Plot the loss against t and t^(1/3), and the distances of both blocks."""
    loss, law, of_w, of_v = canvas.subplots(2, 2).ravel()
    for name, run in data.items():
        steps = run.history["step"]
        # From v = 0 the first step leaves W at zero, which points nowhere.
        for axes, x, curves in (
            (loss, steps, run.history["loss"]),
            (of_w, steps[1:], distances(run, "W")[:, 1:]),
            (of_v, steps, distances(run, "v")),
        ):
            text = FIGURE.settings["schedules"][name]["text"]
            band(axes, x, curves, _COLOURS[name], text, middle="median")
    for axes, title in (
        (loss, "(a) training loss"),
        (of_w, r"(c) $\|W/\|W\| - W^{mm}/\|W^{mm}\|\,\|$"),
        (of_v, r"(d) $\|v/\|v\| - v^{mm}/\|v^{mm}\|\,\|$"),
    ):
        axes.set(title=title, xscale="log", yscale="log", xlabel="step t")
    loss.set_ylim(1e-8, 2)
    run = data["decaying"]
    roots, logs = np.cbrt(run.history["step"]), -np.log(run.history["loss"])
    law.plot(roots, logs.mean(axis=0), color=_COLOURS["decaying"], linewidth=1.6)
    fitted = cube_root_law(run)
    slope = -np.mean([rate.exponent for rate in fitted])
    offset = -np.mean([rate.log_prefactor for rate in fitted])
    text = f"{slope:.2f} $t^{{1/3}}$ - {-offset:.1f}"
    law.plot(roots, offset + slope * roots, ":", color=INK, label=text)
    law.set(title="(b) -log of the loss, decaying rates", xlabel="$t^{1/3}$", xlim=(0, None),
            ylim=(0, None))  # fmt: skip
    law.legend(loc="upper left")
    band_in_legend(loss, "range of all runs")
    legend_outside(canvas, loss, "outside lower center", 4)
