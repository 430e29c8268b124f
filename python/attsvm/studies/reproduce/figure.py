"""A published figure: computation, expected numbers, plot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from attsvm.data import AttentionData, NextTokenData
from attsvm.descent import Run, train
from attsvm.progress import Advance, bar
from attsvm.studies.declarations import read_toml
from attsvm.studies.reproduce.check import Check
from attsvm.studies.reproduce.expected import Expected
from attsvm.threads import core_threads

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

Array: TypeAlias = NDArray[np.float64]
Data: TypeAlias = dict[Any, Any]


@dataclass(frozen=True)
class Paper:
    """A paper whose figures are reproduced."""

    arxiv: str
    title: str
    authors: str
    venue: str

    def __str__(self) -> str:
        return f"{self.title} ({self.authors}; {self.venue}, arXiv {self.arxiv})"


def _read(file: Path) -> dict[str, Any]:
    try:
        return read_toml(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


PAPERS = {
    arxiv: Paper(arxiv, **stated)
    for arxiv, stated in _read(Path(__file__).with_name("papers.toml")).items()
}
"""By arXiv number, in the order they are listed."""


@dataclass(frozen=True)
class Settings:
    """Options of a computation: fewer runs, as `Figure.quick` says; threads; progress bars."""

    quick: bool = False
    num_threads: int | None = None
    progress: bool = False


@dataclass(frozen=True)
class Outcome:
    """A computed figure: what is drawn, the numbers that are compared, and notes for the reader."""

    data: Data
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Figure:
    """A figure of the papers: a module with `compute` and `draw`, and a TOML file of its name."""

    name: str  # on the command line and of the files
    title: str
    papers: tuple[str, ...]  # arXiv numbers
    place: str  # where it stands there: ``"figure 1 (a), (b)"``
    size: tuple[float, float]  # width and height of the drawing in inches
    # `Task` to the data that are drawn; records checks and notes in the task.
    computation: Callable[[Task], Data]
    # Called with an empty matplotlib Figure of that size (constrained layout, style of
    # `attsvm.plots`) and the data; adds the axes.
    drawing: Callable[[Canvas, Data], None]
    # Processor time of a full and of a quick run, roughly: on AVX2, without the drawing.
    seconds: tuple[float, float]
    # What is fewer in a quick run: ``"30 problems in place of 100"``; empty if nothing is.
    quick: str = ""
    # Of the computation, by name; ``"quick"`` holds what differs in a quick run.
    settings: Mapping[str, Any] = field(default_factory=dict)
    numbers: Mapping[str, Expected] = field(default_factory=dict)  # `Expected` numbers, by name
    notes: tuple[str, ...] = ()  # templates, filled in with the settings
    needs: tuple[str, ...] = ()  # modules of extras that it imports
    position: int = 0  # among the figures of its paper
    aliases: tuple[str, ...] = ()  # other names on the command line

    @classmethod
    def of(cls, module: str) -> Figure:
        """Read the TOML file beside a module, given its ``__name__``."""
        return _of_module(module)

    @property
    def source(self) -> str:
        """Papers and place, in a line."""
        titles = " and ".join(f"{PAPERS[arxiv].title} (arXiv {arxiv})" for arxiv in self.papers)
        return f"{titles}, {self.place}"

    @property
    def sources(self) -> list[str]:
        """Source of every number that is compared in a full run."""
        return [group.source for group in self.numbers.values() for _ in group.at]

    def compute(self, settings: Settings) -> Outcome:
        """Compute the data and compare the numbers."""
        task = Task(self, settings)
        with core_threads(settings.num_threads):
            data = self.computation(task)
        return Outcome(data, tuple(task.checks), tuple(task.notes))

    def draw(self, canvas: Canvas, outcome: Outcome) -> None:
        """Draw what was computed."""
        self.drawing(canvas, outcome.data)


@cache
def _of_module(module: str) -> Figure:
    # The path of the module, without importing it: it may be the one that is being imported.
    package, _, stem = module.rpartition(".")
    stated = _read(Path(import_module(package).__path__[0]) / f"{stem}.toml")
    for key in ("papers", "size", "seconds", "notes", "needs", "aliases"):
        stated[key] = tuple(stated.get(key, ()))
    usual = stated.pop("usual", {})  # of groups of numbers that state nothing else
    numbers = {
        key: Expected.read({**usual, **group}, stated.get("settings", {}))
        for key, group in stated.pop("numbers").items()
    }
    return Figure(
        computation=lambda task: import_module(module).compute(task),
        drawing=lambda canvas, data: import_module(module).draw(canvas, data),
        numbers=numbers,
        **stated,
    )


class Task:
    """One computation of a figure: its settings, and the checks and notes that it records."""

    def __init__(self, figure: Figure, settings: Settings) -> None:
        self.progress = settings.progress
        self._numbers = figure.numbers
        self._settings = dict(figure.settings)
        fewer = self._settings.pop("quick", {})
        if settings.quick:
            self._settings.update(fewer)
        self.checks: list[Check] = []
        self.notes = [note.format_map(self._settings) for note in figure.notes]

    def __getitem__(self, name: str) -> Any:
        """Return a setting."""
        return self._settings[name]

    def train(self, data: AttentionData | NextTokenData, **options: Any) -> Run:
        """Train as `attsvm.train` does, with the setting ``train`` in place of its defaults."""
        return train(data, **{**self["train"], **options})

    def check(
        self, numbers: str, obtained: Any, along: Iterable[Any] | None = None, **changes: Any
    ) -> None:
        """Compare with expected numbers of the figure, by the name of their group.

        The arguments are those of `Expected.checks`; where `obtained` goes `along` other places,
        steps for example, those with expected numbers are taken.
        """
        got = obtained if along is None else dict(zip(along, np.asarray(obtained), strict=False))
        self.checks += self._numbers[numbers].checks(got, **changes)

    def bar(self, total: int, label: str) -> AbstractContextManager[Advance]:
        """Show a progress bar, as `attsvm.progress.bar`, where progress is to be shown."""
        return bar(total, label, enabled=None if self.progress else False)
