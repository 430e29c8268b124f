"""What a report says of a study in words, and how accurate its SVMs are."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from attsvm.studies.axis_values import in_words
from attsvm.studies.study import Study
from attsvm.studies.summary import describe, records

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "Accuracy",
    "Progress",
    "Reruns",
    "accuracies",
    "paragraph",
    "progress",
    "reruns",
    "versions",
]

_VERSIONS = ("attsvm", "numpy", "scipy", "osqp", "scikit-learn", "python")


@dataclass(frozen=True)
class Progress:
    """How much of a study is there: problems and whole cells, and how many it has in all."""

    problems: int
    all_problems: int
    cells: int
    all_cells: int

    @property
    def finished(self) -> bool:
        """Whether nothing is missing."""
        return self.problems == self.all_problems


@dataclass(frozen=True)
class Accuracy:
    """The certificates of one kind of SVM in a study.

    Attributes
    ----------
    what : str
    count : int
        SVMs of this kind.
    gap, kkt : float
        The largest of all.
    cell : str
        Where the largest `kkt` is.
    """

    what: str
    count: int
    gap: float
    kkt: float
    cell: str


@dataclass(frozen=True)
class Reruns:
    """Commands, as they are typed."""

    install: str
    study: str
    report: str
    python: str


def paragraph(study: Study) -> str:
    """What was studied, for a reader who does not know the names of the settings."""
    recorded = "; ".join(each.recorded for each in study.measurements)
    problems = len(study.cells) * (study.problems or 0)
    axes = "; ".join(
        f"{axis} = {', '.join(map(in_words, values))}" for axis, values in study.axes.items()
    )
    every = "each of" if len(study.axes) == 1 else "every combination of"
    grid = f" There is a cell for {every} {axes}." if axes else ""
    return (
        f"Attention was trained on {problems:,} problems, to see where gradient descent goes and "
        "to compare it with the support vector machine (SVM) that theory says it converges to. "
        f"The settings: {describe(study)}.{grid} Recorded of every run: {recorded}."
    )


def progress(study: Study, results: xr.Dataset) -> Progress:
    """How much of a study is finished."""
    by_cell = results["finished"].to_numpy().reshape(-1, study.problems or 0)
    return Progress(int(by_cell.sum()), by_cell.size, int(by_cell.all(axis=1).sum()), len(by_cell))


def accuracies(study: Study, results: xr.Dataset) -> list[Accuracy]:
    """Largest duality gap and optimality residual of the SVMs that a study has recorded.

    An SVM without a solution has the residual of the proof that there is none, which is another
    thing: it has a line of its own.
    """
    found = []
    for tokens in ("optimal", "selected"):
        names = [f"svm_{tokens}_{part}" for part in ("norm", "gap", "kkt")]
        if names[0] not in results:
            continue
        solved: list[tuple[float, float, int, str]] = []
        proved: list[tuple[float, float, int, str]] = []
        for cell, record in records(study, results, names):
            norm, gap, kkt = (record[name] for name in names)
            has_solution = np.isfinite(norm)
            for kind, mask in ((solved, has_solution), (proved, ~has_solution)):
                if mask.any():
                    values = float(kkt[mask].max()), float(gap[mask].max())
                    kind.append((*values, int(mask.sum()), cell.name))
        for kind, what in (
            (solved, f"SVM of the {tokens} tokens, solved"),
            (proved, f"SVM of the {tokens} tokens, proved to have no solution"),
        ):
            if kind:
                worst = max(kind)
                count = sum(number for _, _, number, _ in kind)
                found.append(
                    Accuracy(what, count, max(gap for _, gap, _, _ in kind), worst[0], worst[3])
                )
    return found


def versions(results: xr.Dataset) -> dict[str, str]:
    """What the results were made with, as they recorded it."""
    said = results.attrs
    words = {
        "instruction set": said.get("isa"),
        **{name: said.get(name) for name in _VERSIONS},
        "seed": said.get("seed"),
        "SHA-256 of the file of problems": said.get("data_sha256"),
    }
    return {
        name: ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in words.items()
        if value is not None
    }


def reruns(study: Study, results: xr.Dataset) -> Reruns:
    """How to run a study again and to open its results, wherever they lie now."""
    directory = f"out/{study.name}"
    return Reruns(
        install=f'pip install "attsvm[report]=={results.attrs["attsvm"]}"',
        study=shlex.join(["attsvm", "study", f"{study.name}.toml", "--out", directory]),
        report=shlex.join(["attsvm", "report", directory]),
        python=(
            "from attsvm.studies import open_results\n\n"
            f"results = open_results({json.dumps(directory)})  # an xarray.Dataset\n"
            "print(results)"
        ),
    )
