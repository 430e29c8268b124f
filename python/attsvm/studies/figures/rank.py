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
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attsvm.datasets import unit_sphere
from attsvm.progress import bar
from attsvm.studies.reproduce.check import Check
from attsvm.studies.reproduce.figure import Figure, Outcome, Settings
from attsvm.studies.reproduce.palette import BLUE, GREEN, INK, ORANGE
from attsvm.svm import att_svm
from attsvm.theory import optimal_tokens, rank

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

__all__ = ["DIMENSIONS", "FIGURE", "NUCLEAR", "PUBLISHED", "PUBLISHED_NUCLEAR", "comparisons"]

DIMENSIONS = (1, 2, 3, 4, 5, 10, 15, 20)
BY_N = ((5, 5), (10, 5), (15, 5))
BY_T = ((5, 5), (5, 10), (5, 15))
"""(n, T) of the two panels."""
INSTANCES, QUICK_INSTANCES = 100, 20
_PUBLISHED_INSTANCES = 100
_SEED = 0

PUBLISHED = {
    (5, 5): (1.0, 1.4, 2.78, 4.0, 4.95, 5.0, 5.0, 5.0),
    (10, 5): (1.0, 1.0, 1.25, 3.59, 5.0, 10.0, 10.0, 10.0),
    (15, 5): (1.0, 1.0, 1.0, 1.42, 4.84, 10.0, 15.0, 15.0),
}
"""Mean rank in the Frobenius norm, read off the figure: by (n, T), over `DIMENSIONS`."""
PUBLISHED_NUCLEAR = {
    (5, 5): {5: 4.5, 10: 4.95},
    (10, 5): {10: 9.06, 15: 9.97},
    (15, 5): {10: 9.82, 15: 13.91, 20: 14.95},
}
"""The same in the nuclear norm, by d, where it differs."""
NUCLEAR = {
    (5, 5): {2: 1.75, 3: 2.55, 4: 2.6, 5: 2.55, 10: 2.4, 15: 2.6, 20: 2.55},
    (10, 5): {4: 3.35, 5: 3.65, 10: 3.85, 15: 3.7, 20: 3.7},
    (15, 5): {4: 3.6, 5: 4.45, 10: 4.7, 15: 4.8, 20: 4.6},
}
"""True mean rank in the nuclear norm: an interior-point solver, 20 feasible problems each."""
NUCLEAR_RANGES = {(5, 10): (2.85, 3.1), (5, 15): (3.0, 3.25)}
"""The same for more tokens: smallest and largest over d."""
NUCLEAR_TOLERANCE = 0.4
FROBENIUS_SHARE = 0.02
"""min(n, d) may be missed by this share: a few W have a singular value near 0."""
_LOWER_FROM = 4
"""Dimension from which the mean rank in the nuclear norm is clearly the lower one."""
_READING = 0.05
"""What reading a mean off the figure may be wrong by."""
_FEW = 10
"""Feasible problems that a mean takes to be compared."""


def compute(settings: Settings) -> Outcome:
    """Solve both SVMs of the optimal tokens of random problems of every size."""
    instances = QUICK_INSTANCES if settings.quick else INSTANCES
    sizes = list(dict.fromkeys(BY_N + BY_T))
    ranks: dict[tuple[int, int], dict[str, NDArray[np.float64]]] = {}
    enabled = None if settings.progress else False
    with bar(len(sizes) * len(DIMENSIONS), "sizes", enabled=enabled) as advance:
        for n, T in sizes:
            of_size: dict[str, list[NDArray[np.float64]]] = {"fro": [], "nuc": []}
            for d in DIMENSIONS:
                seed = np.random.SeedSequence(_SEED, spawn_key=(n, T, d))
                data = unit_sphere(n, T, d, batch=instances, rng=np.random.default_rng(seed))
                best = optimal_tokens(data)
                for norm, found_ranks in of_size.items():
                    found_ranks.append(np.asarray(rank(att_svm(data, best, norm=norm))))
                advance(1, f"n = {n}, T = {T}, d = {d}")
            ranks[n, T] = {norm: np.stack(found) for norm, found in of_size.items()}

    found: list[Check] = []
    for (n, T), by_norm in ranks.items():
        found += comparisons(n, T, by_norm)
    notes = (
        f"{instances} problems of each size, tokens of highest score selected; means are over the "
        f"feasible ones, and are compared where these are {_FEW} or more. Singular values count "
        "above 1e-5 of the largest.",
        "The published means count a problem without a solution as rank 1, for matrix_rank(None) "
        "is 1. The check counts them so too, and finds the published curve.",
        "The published ranks in the nuclear norm are the error of a first-order solver above an "
        "absolute 1e-7, not ranks; they are drawn faintly and not compared.",
    )
    return Outcome({"ranks": ranks}, tuple(found), notes)


def comparisons(n: int, T: int, ranks: dict[str, NDArray[np.float64]]) -> list[Check]:
    """Means over the problems of one (n, T), ranks by norm (dimensions, problems), NaN for none."""
    found: list[Check] = []
    for k, d in enumerate(DIMENSIONS):
        size = f"n={n}, T={T}, d={d}"
        fro, nuc = ranks["fro"][k], ranks["nuc"][k]
        feasible = np.isfinite(fro)
        count, most = int(feasible.sum()), min(n, d)
        if (n, T) in PUBLISHED:
            as_published = np.where(feasible, fro, 1.0)
            error = _artefact_error(PUBLISHED[n, T][k], most, len(fro))
            found.append(
                Check(
                    f"{size}: mean rank, Frobenius, infeasible as 1",
                    PUBLISHED[n, T][k],
                    as_published.mean(),
                    3 * error + _READING,
                )
            )
        if count < _FEW:
            continue
        higher = float(np.maximum(fro, nuc)[feasible].max())
        found += [
            Check(f"{size}: highest rank of all", most, higher, kind="at most", source="theory"),
            Check(f"{size}: mean rank, Frobenius", most, fro[feasible].mean(),
                  _deficit(most, count), source="theory"),
        ]  # fmt: skip
        if d >= _LOWER_FROM:
            lower = nuc[feasible].mean() < fro[feasible].mean()
            found.append(Check(f"{size}: nuclear below Frobenius", True, lower, kind="equal"))
        expected = NUCLEAR.get((n, T), {}).get(d)
        if expected is None and (n, T) in NUCLEAR_RANGES and d >= 5:
            expected = float(np.mean(NUCLEAR_RANGES[n, T]))
        if expected is not None:
            found.append(
                Check(
                    f"{size}: mean rank, nuclear",
                    expected,
                    nuc[feasible].mean(),
                    NUCLEAR_TOLERANCE,
                    source="Clarabel, 20 problems",
                )
            )
    return found


def _artefact_error(published: float, most: int, instances: int) -> float:
    """Standard error of the difference of two means of ranks that are 1 or `most`.

    The published mean, up to reading, gives the share of either.
    """
    if most == 1:
        return 0.0
    reading = _READING / (most - 1)
    share = min(max((published - 1) / (most - 1), reading), 1 - reading)
    spread = (most - 1) * math.sqrt(share * (1 - share))
    return spread * math.sqrt(1 / _PUBLISHED_INSTANCES + 1 / instances)


def _deficit(most: int, count: int) -> float:
    """What the mean of `count` ranks may miss `most` by: the share, and three standard errors."""
    share = FROBENIUS_SHARE * most
    return share + 3 * math.sqrt(share / count)


def draw(canvas: Canvas, outcome: Outcome) -> None:
    """Mean rank against d, by n and by T, and below it the share of feasible problems."""
    ranks = outcome.data["ranks"]
    grid = canvas.subplots(2, 2, sharex=True, sharey="row", height_ratios=(3, 1))
    for column, (sizes, varied, fixed) in enumerate(
        ((BY_N, "n", f"T = {BY_N[0][1]}"), (BY_T, "T", f"n = {BY_T[0][0]}"))
    ):
        means, shares = grid[:, column]
        for (n, T), colour in zip(sizes, (BLUE, ORANGE, GREEN), strict=True):
            label = f"{varied} = {n if varied == 'n' else T}"
            _draw_means(means, (n, T), ranks[n, T], colour, label)
            feasible = np.isfinite(ranks[n, T]["fro"]).mean(axis=1)
            shares.plot(DIMENSIONS, feasible, "o-", color=colour, markersize=3, linewidth=1)
        means.set_title(fixed, loc="left")
        shares.set_xlabel("dimension d")
        shares.set_xticks((1, 5, 10, 15, 20))
    styles = grid[0, 1]
    for style, label in (("-", "Frobenius norm"), ("--", "nuclear norm")):
        styles.plot([], [], style, color=INK, label=label)
    faint: dict[str, Any] = {"color": "none", "markeredgecolor": INK, "alpha": 0.5, "markersize": 5}
    styles.plot([], [], "o", label="published, Frobenius", **faint)
    styles.plot([], [], "s", label="published, nuclear", **faint)
    for axes in grid[0]:
        axes.legend(frameon=False, loc="upper left")
    grid[0, 0].set_ylabel("mean rank of the feasible")
    grid[1, 0].set_ylabel("feasible")
    grid[1, 0].set_ylim(-0.05, 1.1)
    grid[0, 0].set_ylim(0, 17)


def _draw_means(
    axes: Axes,
    size: tuple[int, int],
    ranks: dict[str, NDArray[np.float64]],
    colour: str,
    label: str,
) -> None:
    for norm, style in (("fro", "-"), ("nuc", "--")):
        some = np.isfinite(ranks[norm]).any(axis=1)
        at = np.array(DIMENSIONS)[some]
        mean = np.nanmean(ranks[norm][some], axis=1)
        name = label if norm == "fro" else None
        axes.plot(at, mean, style, marker=".", color=colour, markersize=5, label=name)
    faint: dict[str, Any] = {
        "color": "none",
        "markeredgecolor": colour,
        "alpha": 0.5,
        "markersize": 5,
    }
    if size in PUBLISHED:
        axes.plot(DIMENSIONS, PUBLISHED[size], "o", **faint)
        nuclear = PUBLISHED_NUCLEAR[size]
        axes.plot(list(nuclear), list(nuclear.values()), "s", **faint)


FIGURE = Figure(
    name="rank",
    title="Rank of the smallest W against the dimension",
    source="P2, the figure of the rank of SVM solutions",
    size=(9.0, 5.0),
    compute=compute,
    draw=draw,
    quick=f"{QUICK_INSTANCES} problems of each size in place of {INSTANCES}",
)
