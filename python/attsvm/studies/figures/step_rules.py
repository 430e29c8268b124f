"""Gradient descent, normalised steps and Polyak steps on nearly orthogonal tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from attsvm._arrays import IndexArray
from attsvm._softmax import logsumexp
from attsvm.data import AttentionData
from attsvm.datasets import near_orthogonal
from attsvm.descent import log_schedule, train
from attsvm.studies.reproduce.drawing import Axes, Canvas, band, band_in_legend, legend_outside
from attsvm.studies.reproduce.figure import Array, Data, Figure, Task
from attsvm.studies.reproduce.palette import BLUE, GREEN, INK, ORANGE, RULE_COLOURS
from attsvm.svm import SVMSolution, att_svm
from attsvm.theory import Rate, fit_rate, optimal_tokens

FIGURE = Figure.of(__name__)
_SETTINGS = FIGURE.settings
RULES: Data = _SETTINGS["rules"]
History: TypeAlias = Data


@dataclass(frozen=True)
class Problems:
    """Problems, their tokens of highest score, and the SVM of these."""

    data: AttentionData
    best: IndexArray
    solution: SVMSolution

    @staticmethod
    def draw(problems: int, **changes: Any) -> Problems:
        """Draw near-orthogonal ones with antipodal signals."""
        data = near_orthogonal(**_SETTINGS["data"] | changes, batch=problems, rng=_SETTINGS["seed"])
        best = optimal_tokens(data)
        return Problems(data, best, att_svm(data, best))

    def train(self, record: Sequence[int] | IndexArray, **settings: Any) -> History:
        """Train W up to the last of these steps; return the history with the attention missed.

        ``"log_miss"`` (B, R, n) is the logarithm of 1 less the attention to the best tokens, exact
        also where that rounds to 1.
        """
        history = train(
            self.data, steps=record[-1], record_every=list(record), record="attention", **settings
        ).history
        chosen = np.arange(self.data.T) == self.best[:, np.newaxis, :, np.newaxis]
        others = np.where(chosen, -np.inf, history.pop("log_attention"))
        return history | {"log_miss": np.asarray(logsumexp(others, axis=-1))}


def run_rule(problems: Problems, kind: str, *, steps: int = 0, **options: Any) -> History:
    """Train from zero; return the history on a logarithmic schedule, with the attention missed."""
    return problems.train(
        log_schedule(steps or RULES[kind]["steps"], per_decade=6),
        **{"rule": kind, "lr": RULES[kind].get("lr"), "reference": problems.solution, **options},
    )


def distance(history: Data) -> Array:
    """Compute |W/|W| - W^mm/|W^mm||, shape (B, R)."""
    return np.asarray(np.sqrt(2 * history["cosine_gap"]))


def least_attention(history: Data) -> Array:
    """Compute the smallest attention of an input to its optimal token, shape (B, R)."""
    return np.asarray(-np.expm1(history["log_miss"].max(axis=-1)))


def _rates(history: History, kind: str) -> list[Rate]:
    """Fit the power at which the distance falls at the end, for each problem."""
    window = tuple(RULES[kind]["tail"])
    return [fit_rate(history["step"], d, window=window) for d in distance(history)]


def starts_that_reach(
    task: Task, kind: str, size: float, problems: Problems
) -> tuple[Array, Array]:
    """Train from random W of this norm; return least attention and distance, shape (B,)."""
    B, _, _, d = problems.data.tokens.shape
    W = np.random.default_rng(_SETTINGS["seed"]).standard_normal((B, d, d))
    W *= size / np.linalg.norm(W, axis=(1, 2), keepdims=True)
    svm, lr, steps = problems.solution, RULES[kind].get("lr"), task["start_steps"][kind]
    run = task.train(
        problems.data, rule=kind, lr=lr, steps=steps, init=W, reference=svm, record_every=steps
    )
    attention = np.take_along_axis(run.attention, problems.best[..., np.newaxis], axis=-1)
    return attention.min(axis=(1, 2)), distance(run.history)[:, -1]


def compute(task: Task) -> Data:
    """Run every rule from zero with both losses, and from random starts."""
    problems = Problems.draw(task["problems"])
    solution = problems.solution
    norms = np.asarray(solution.norm)
    task.check("norm", norms.mean())
    task.check("kkt", solution.kkt.max())
    task.check("active", np.asarray(solution.support).sum(axis=(1, 2)).min())
    drawn = {name: Problems.draw(task["seeds"], **of) for name, of in task["starts"].items()}
    sizes, kinds = task["start_norms"], task["start_steps"]
    work = len(task["losses"]) * len(RULES) + len(kinds) * len(drawn) * len(sizes)
    histories: dict[str, dict[str, History]] = {}
    reached: dict[tuple[str, str, float], tuple[Array, Array]] = {}
    with task.bar(work, "runs") as advance:
        for loss in task["losses"]:
            histories[loss] = {}
            for kind, rule in RULES.items():
                histories[loss][kind] = run_rule(problems, kind, loss=loss)
                advance(1, f"{rule['text']}, {loss}")
            _check_direction(task, loss, histories[loss])
            _check_asymptotics(task, loss, histories[loss], norms)
        for kind in kinds:
            for name, some in drawn.items():
                for size in sizes:
                    reached[kind, name, size] = starts_that_reach(task, kind, size, some)
                    advance(1, f"starts, {kind}, {name}")
    for kind in ("ngd", "polyak"):
        attention = np.concatenate([got[0] for key, got in reached.items() if key[0] == kind])
        at = [RULES[kind]["short"]]
        task.check("reached", [(attention > 0.99).sum()], at=at, expected=attention.size)
    for kind in ("ngd", "gd"):
        apart = [reached[kind, "d = 512", size][1].mean() for size in sizes]
        task.check(f"start {kind}", apart)
    return {"histories": histories, "reached": reached, "norm": float(norms.mean())}


def _check_direction(task: Task, loss: str, histories: dict[str, History]) -> None:
    """Compare the distance from the direction of the SVM, in numbers, order, and power."""
    at_100 = {}
    for kind, history in histories.items():
        steps, apart = list(history["step"]), distance(history)
        task.check(f"distance {kind} {loss}", apart.mean(axis=0), steps)
        at_100[kind] = apart[:, steps.index(100)]
    gd, ngd = (_rates(histories[kind], kind) for kind in ("gd", "ngd"))
    task.check("power gd", [np.mean([rate.exponent for rate in gd])], at=[loss])
    task.check("power ngd", [max(rate.high for rate in ngd)], at=[loss])
    ordered = (at_100["polyak"] < at_100["ngd"]) & (at_100["ngd"] < at_100["gd"])
    task.check("order", [ordered.mean()], at=[loss])


def _check_asymptotics(task: Task, loss: str, histories: dict[str, History], norm: Array) -> None:
    """Compare the growth of the norm, Polyak's steps, and the attention missed."""
    ngd, gd, polyak = (histories[kind] for kind in ("ngd", "gd", "polyak"))
    rate = RULES["ngd"]["lr"]
    along = ngd["norm"][:, -1] / (rate * RULES["ngd"]["steps"])
    step = np.exp(np.log(polyak["loss_gap"][:, -1]) - polyak["log_grad_norm"][:, -1]) / 2
    decades = [list(gd["step"]).index(t) for t in (10_000, 100_000)]
    growth = np.diff(gd["norm"][:, decades], axis=1)[:, 0] / (norm * np.log(10))
    mean_gap = np.exp(np.log(polyak["loss_gap"]).mean(axis=0))
    decay = fit_rate(polyak["step"], mean_gap, kind="exponential", window=(20, 100))
    # Exponential fall of 1 - attention to the optimal token, for every input of every problem.
    tails = [
        fit_rate(ngd["step"], miss, kind="exponential", window=(200, int(ngd["step"][-1])))
        for of_problem in np.exp(ngd["log_miss"])
        for miss in of_problem.T
    ]
    slopes = np.array([tail.exponent for tail in tails]).reshape(norm.size, -1)
    at_1000 = list(ngd["step"]).index(1000)
    apart = distance(ngd)
    obtained = {
        "least length": along.min(),
        "largest length": along.max(),
        "Polyak step": (step / norm * 2).mean(),
        "Polyak gap": np.exp(decay.exponent),
        "growth": growth.mean(),
        "fit": min(tail.r_squared for tail in tails),
        "slope": (slopes * norm[:, np.newaxis] / -rate).mean(),
        "attention": least_attention(ngd)[:, at_1000].min(),
        "gap": ngd["loss_gap"][:, -1].max(),
        "fallen": (apart[:, -1] < apart[:, at_1000]).mean(),
    }
    for numbers, number in obtained.items():
        task.check(numbers, [number], at=[loss])


def draw(canvas: Canvas, data: Data) -> None:
    """Plot six measures along the runs from zero, and the distance after random starts."""
    panels = canvas.subplots(3, 2)
    histories = data["histories"]["exponential"]
    measures = {
        "(a) loss − infimum": lambda history: history["loss_gap"],
        "(b) least attention to the optimal token": least_attention,
        "(c) norm $\\|W\\|_F$": lambda history: history["norm"],
        "(d) distance from the SVM's direction": distance,
    }
    for axes, (title, measure) in zip(panels.ravel(), measures.items(), strict=False):
        for kind, history in histories.items():
            label = RULES[kind]["text"]
            if title.startswith("(d)"):
                power = np.mean([rate.exponent for rate in _rates(history, kind)])
                label = f"power {power:.2f}"
            colour = RULE_COLOURS[kind]
            band(axes, history["step"], measure(history), colour, label, middle="median")
        axes.set(title=title, xlabel="step", xscale="log", xlim=(1, 1e5))
    loss, attention, norm, apart = panels.ravel()[:4]
    loss.set(yscale="log", ylim=(1e-30, 3))
    norm.set(yscale="log")
    apart.set(yscale="log", ylim=(2e-5, 1))
    attention.set(ylim=(0, 1.03))
    band_in_legend(loss, "range of all runs")
    legend_outside(canvas, loss, "outside lower center", 4)
    apart.legend(loc="lower left", title="fitted at the end")
    _draw_sparsification(panels[2, 0], histories["ngd"], data["norm"])
    _draw_starts(panels[2, 1], data["reached"])


def _draw_sparsification(axes: Axes, history: History, norm: float) -> None:
    rule = RULES["ngd"]
    missed = np.exp(history["log_miss"].max(axis=-1))
    band(axes, history["step"], missed, RULE_COLOURS["ngd"], rule["text"], middle="median")
    line = np.array([0, rule["steps"]])
    predicted = np.exp(-rule["lr"] * line / norm)
    axes.plot(line, predicted, ":", color=INK, label=r"$e^{-ηt/\|W^{mm}\|}$")
    axes.set(title="(e) 1 − least attention", xlabel="step", xlim=(0, rule["steps"]), yscale="log",
             ylim=(1e-200, 10), yticks=[1e-200, 1e-150, 1e-100, 1e-50, 1])  # fmt: skip
    axes.legend(loc="upper right")


def _draw_starts(axes: Axes, reached: dict[tuple[str, str, float], Any]) -> None:
    shades = dict(zip(_SETTINGS["starts"], (BLUE, GREEN, ORANGE), strict=True))
    marks = {"ngd": "o", "polyak": "^", "gd": "s"}
    sizes = _SETTINGS["start_norms"]
    places = np.arange(len(sizes))
    for j, (kind, mark) in enumerate(marks.items()):
        for k, (name, shade) in enumerate(shades.items()):
            apart = [reached[kind, name, size][1].mean() for size in sizes]
            at = places + 0.24 * (j - 1) + 0.06 * (k - 1)
            axes.plot(at, apart, mark, color=shade, markersize=4)
        text = f"{RULES[kind]['short']}, {_SETTINGS['start_steps'][kind]} steps"
        axes.plot([], [], mark, color=INK, markersize=4, label=text)
    for name, shade in shades.items():
        axes.plot([], [], color=shade, linewidth=3, label=name)
    axes.set(title="(f) distance after random starts", xlabel="norm of the random start",
             yscale="log", ylim=(1e-3, 4000))  # fmt: skip
    axes.set_xticks(places, [f"{size:g}" for size in sizes])
    axes.legend(loc="upper left", ncols=2)
