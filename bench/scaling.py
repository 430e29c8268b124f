"""Time of a step against n, T and d, with the machine's limit beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.contenders import Team
from bench.measure import Measured, measure
from bench.rounds import Entry, Pace
from bench.rows import Row, limit_entries, random_descent

__all__ = ["SWEEPS", "Curve", "draw", "sweep"]

_BASE = {"n": 256, "T": 64, "d": 128}

SWEEPS = {
    "n": (4, 16, 64, 256, 1024, 4096),
    "T": (4, 16, 64, 256, 1024),
    "d": (8, 32, 128, 512, 2048),
}


@dataclass(frozen=True)
class Curve:
    """The points of one sweep."""

    variable: str
    points: dict[int, Measured]

    def record(self) -> dict[str, Any]:
        return {
            "variable": self.variable,
            "base": _BASE,
            "points": {size: point.record() for size, point in self.points.items()},
        }

    def seconds(self, key: str) -> tuple[list[int], list[float]]:
        """Sizes at which a contender was measured, and its seconds per step."""
        found = {
            size: one.unit
            for size, point in self.points.items()
            for one in point.timed
            if one.entry.key == key and one.measured
        }
        return list(found), list(found.values())


def sweep(team: Team, variable: str, pace: Pace) -> Curve:
    """Measure one step at each size of `variable`, the others as in the middle of the plot."""
    short = replace(pace, rounds=3, run=min(pace.run, 0.1), budget=1.0)
    points = {}
    for size in SWEEPS[variable]:
        sizes = {**_BASE, variable: size}
        title = "one step, " + " ".join(f"{name}={value}" for name, value in sizes.items())
        row = Row(f"{variable}={size}", title, "step", lambda sizes=sizes: _entries(sizes), ())
        points[size] = measure(team, row, short)
    return Curve(variable, points)


def _entries(sizes: dict[str, int]) -> list[Entry]:
    task = random_descent(**sizes)
    return [
        Entry("attsvm", "attsvm", "descent", task, "ours"),
        *limit_entries(task),
        Entry("jax", "jax", "descent", task),
        Entry("torch", "torch", "descent", task),
    ]


def draw(curves: list[Curve], path: Path) -> None:
    """Three panels, both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    styles = {
        "torch": ("PyTorch, by hand", "#7f7f7f", "s-"),
        "jax": ("jax.jit", "#d95f02", "^-"),
        "attsvm": ("attsvm", "#1b4f9c", "o-"),
    }
    for panel, curve in zip(panels, curves, strict=True):
        for key, (label, colour, style) in styles.items():
            sizes, seconds = curve.seconds(key)
            milliseconds = [1e3 * value for value in seconds]
            panel.loglog(sizes, milliseconds, style, color=colour, label=label, markersize=4)
        read, products = (
            dict(zip(*curve.seconds("read"), strict=True)),
            dict(zip(*curve.seconds("products"), strict=True)),
        )
        sizes = [size for size in read if size in products]
        limit = [1e3 * (read[size] + products[size]) for size in sizes]
        panel.loglog(sizes, limit, "k--", linewidth=1, label="limit of the machine")
        rest = ", ".join(f"{name} = {v}" for name, v in _BASE.items() if name != curve.variable)
        panel.set_xlabel(curve.variable)
        panel.set_title(rest, fontsize=10)
        panel.grid(which="major", alpha=0.3)
    panels[0].set_ylabel("time per step [ms]")
    panels[0].legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)
