"""Rank of the smallest W, in the Frobenius and in the nuclear norm, as the dimension grows.

The corrected statement is about feasible problems, with a tolerance relative to the largest
singular value: the rank in the Frobenius norm is min(n, d), that in the nuclear norm is never
larger and on average much smaller. The published curves differ from it by two artefacts.

* Problems without a solution have None, and ``numpy.linalg.matrix_rank(None)`` is 1: each entered
  the mean as a rank of 1, which pulls it down where d is small.
* Ranks in the nuclear norm were counted above an absolute 1e-7 in solutions of a first-order
  solver, whose error is larger: nearly all singular values counted.
"""

from __future__ import annotations

import math

import numpy as np

from attsvm.datasets import unit_sphere
from attsvm.studies.reproduce.drawing import Axes, Canvas
from attsvm.studies.reproduce.figure import Array, Data, Figure, Task
from attsvm.studies.reproduce.palette import BLUE, GREEN, INK, ORANGE
from attsvm.svm import att_svm
from attsvm.theory import optimal_tokens, rank

FIGURE = Figure.of(__name__)
_DIMENSIONS = FIGURE.settings["dimensions"]


def compute(task: Task) -> Data:
    """Solve both SVMs of the optimal tokens of random problems of every size."""
    sizes = dict.fromkeys(map(tuple, task["by_n"] + task["by_T"]))
    ranks: dict[tuple[int, int], dict[str, Array]] = {}
    with task.bar(len(sizes) * len(_DIMENSIONS), "sizes") as advance:
        for n, T in sizes:
            of_size: dict[str, list[Array]] = {"fro": [], "nuc": []}
            for d in _DIMENSIONS:
                seed = np.random.SeedSequence(task["seed"], spawn_key=(n, T, d))
                data = unit_sphere(n, T, d, batch=task["problems"], rng=np.random.default_rng(seed))
                best = optimal_tokens(data)
                for norm, by_d in of_size.items():
                    by_d.append(np.asarray(rank(att_svm(data, best, norm=norm))))
                advance(1, f"n = {n}, T = {T}, d = {d}")
            ranks[n, T] = {norm: np.stack(by_d) for norm, by_d in of_size.items()}
    for (n, T), by_norm in ranks.items():
        compare(task, n, T, by_norm)
    return ranks


def compare(task: Task, n: int, T: int, ranks: dict[str, Array]) -> None:
    """Compare means over the problems of one (n, T), ranks by norm (dimensions, problems).

    A problem without a solution has the rank NaN.
    """
    for d, fro, nuc in zip(_DIMENSIONS, ranks["fro"], ranks["nuc"], strict=True):
        size, most = [n, T, d], min(n, d)
        feasible = np.isfinite(fro)
        count = int(feasible.sum())
        published = FIGURE.numbers.get(f"published {n} {T}")
        if published is not None:
            allowed = _artefact_tolerance(task, published.value(d), most, len(fro))
            mean = np.where(feasible, fro, 1.0).mean()
            task.check(f"published {n} {T}", [mean], at=[d], tolerance=allowed)
        if count < task["few"]:
            continue
        fro, nuc = fro[feasible], nuc[feasible]
        task.check("highest", [np.maximum(fro, nuc).max()], at=[size], expected=most)
        # The share, and three standard errors of it.
        share = task["share"] * most
        allowed = share + 3 * math.sqrt(share / count)
        task.check("mean", [fro.mean()], at=[size], expected=most, tolerance=allowed)
        if d >= task["lower_from"]:
            task.check("lower", [nuc.mean() < fro.mean()], at=[size])
        if size in FIGURE.numbers["nuclear"].at:
            task.check("nuclear", [nuc.mean()], at=[size])


def _artefact_tolerance(task: Task, published: float, most: int, instances: int) -> float:
    """Compute three standard errors of the difference of two means of ranks 1 or `most`.

    The published mean, up to reading, gives the share of either.
    """
    error = 0.0
    if most > 1:
        reading = task["reading"] / (most - 1)
        share = min(max((published - 1) / (most - 1), reading), 1 - reading)
        spread = (most - 1) * math.sqrt(share * (1 - share))
        error = spread * math.sqrt(1 / task["published_problems"] + 1 / instances)
    return float(3 * error + task["reading"])


def draw(canvas: Canvas, data: Data) -> None:
    """Plot the mean rank against d, by n and by T, and below it the share of feasible problems."""
    grid = canvas.subplots(2, 2, sharex=True, sharey="row", height_ratios=(3, 1))
    panels = (("by_n", "n = {}", "(a) T = 5"), ("by_T", "T = {}", "(b) n = 5"))
    for (means, shares), (sizes, label, title) in zip(grid.T, panels, strict=True):
        for (n, T), colour in zip(FIGURE.settings[sizes], (BLUE, ORANGE, GREEN), strict=True):
            ranks = data[n, T]
            _draw_means(means, n, T, ranks, colour, label.format(n if sizes == "by_n" else T))
            feasible = np.isfinite(ranks["fro"]).mean(axis=1)
            shares.plot(_DIMENSIONS, feasible, "o-", color=colour, markersize=3, linewidth=1)
        means.set_title(title)
        shares.set(xlabel="dimension d", xticks=(1, 5, 10, 15, 20))
    styles = grid[0, 1]
    for style, label in (("-", "Frobenius norm"), ("--", "nuclear norm")):
        styles.plot([], [], style, color=INK, label=label)
    for mark, label in (("o", "published, Frobenius"), ("s", "published, nuclear")):
        styles.plot([], [], mark, label=label, **_faint(INK))
    for axes in grid[0]:
        axes.legend(loc="upper left")
    grid[0, 0].set(ylabel="mean rank of the feasible", ylim=(0, 17))
    grid[1, 0].set(ylabel="feasible", ylim=(-0.05, 1.1))


def _faint(colour: str) -> Data:
    return {"color": "none", "markeredgecolor": colour, "alpha": 0.5, "markersize": 5}


def _draw_means(
    axes: Axes, n: int, T: int, ranks: dict[str, Array], colour: str, label: str
) -> None:
    for norm, style in (("fro", "-"), ("nuc", "--")):
        some = np.isfinite(ranks[norm]).any(axis=1)
        mean = np.nanmean(ranks[norm][some], axis=1)
        axes.plot(np.array(_DIMENSIONS)[some], mean, style, marker=".", color=colour, markersize=5,
                  label=label if norm == "fro" else None)  # fmt: skip
    published = FIGURE.numbers.get(f"published {n} {T}")
    if published is not None:
        axes.plot(_DIMENSIONS, published.expected, "o", **_faint(colour))
        nuclear = FIGURE.settings["published_nuclear"][f"{n} {T}"]
        axes.plot(nuclear["d"], nuclear["rank"], "s", **_faint(colour))
