"""How the results of a study are laid out: dimensions, chunks, coordinates and attributes."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attsvm import _core
from attsvm.studies.environment import version
from attsvm.studies.measurements import Record, Variable
from attsvm.studies.study import Cell, Study

__all__ = ["FINISHED", "MEANINGS", "Layout", "Part", "attributes", "made_with"]

FINISHED = Variable("finished", "whether a problem is measured; nothing holds before", "bool")
"""The variable that is written last."""

_MOST_BYTES = 2**25
MEANINGS = MappingProxyType(
    {
        "n": "inputs of a problem",
        "T": "tokens of an input",
        "d": "dimension of a token",
        "attention": "where queries come from",
        "signals": "directions of the signal tokens",
        "noise": "noise on the signal tokens",
        "label_noise": "share of labels that are flipped",
        "parameter": "what is trained",
        "init": "start of K and Q",
        "rule": "rule of descent",
        "lr": "rate of descent",
        "momentum": "momentum of descent",
        "decay": "exponent with which the rate decays",
        "loss": "loss of a margin",
        "norm": "norm of the SVM",
        "seed": "seed of all draws",
        "step": "step of the run that is recorded",
    }
)
"""What coordinates and axes mean."""


@dataclass(frozen=True)
class Part:
    """Problems of a cell that are written together: all of them, unless they are very many."""

    cell: Cell
    problems: range


@dataclass(frozen=True)
class Layout:
    """Dimensions, chunks and attributes of all variables of a study.

    The chunks have size 1 along the axes of the study and are whole along the others, but for
    ``problem``: a chunk of all variables together takes at most 32 MB.
    """

    study: Study

    @property
    def variables(self) -> tuple[Variable, ...]:
        """What is measured, and last of all whether it is."""
        of_measurements = (v for each in self.study.measurements for v in each.variables)
        return (*of_measurements, FINISHED)

    @property
    def sizes(self) -> dict[str, int]:
        """Size of each dimension, by its name."""
        study = self.study
        axes = {name: len(values) for name, values in study.axes.items()}
        return axes | {
            "problem": study.problems or 0,
            "input": study.largest["n"],
            "step": len(study.recorded_steps),
        }

    @property
    def part_size(self) -> int:
        """Problems of a chunk."""
        sizes = self.sizes
        numbers = sum(
            np.dtype(v.dtype).itemsize * int(np.prod([sizes[dim] for dim in v.along]))
            for v in self.variables
        )
        return max(1, min(sizes["problem"], _MOST_BYTES // numbers))

    @property
    def parts(self) -> tuple[Part, ...]:
        """All there is to write, in order."""
        count, step = self.sizes["problem"], self.part_size
        return tuple(
            Part(cell, range(first, min(first + step, count)))
            for cell in self.study.cells
            for first in range(0, count, step)
        )

    @property
    def coordinates(self) -> dict[str, NDArray[Any]]:
        """Values along the axes of the study, and the recorded steps."""
        coordinates = {name: _coordinate(values) for name, values in self.study.axes.items()}
        if any("step" in v.along for v in self.variables):
            coordinates["step"] = np.array(self.study.recorded_steps, dtype=np.int64)
        return coordinates

    def dimensions(self, variable: Variable) -> tuple[str, ...]:
        """Dimensions of a variable."""
        return (*self.study.axes, "problem", *variable.along)

    def chunks(self, variable: Variable) -> tuple[int, ...]:
        """Chunk sizes of a variable."""
        sizes = self.sizes
        return (
            *(1 for _ in self.study.axes),
            self.part_size,
            *(sizes[dim] for dim in variable.along),
        )

    def attributes(self, name: str) -> dict[str, Any]:
        """Attributes of a variable or coordinate."""
        for variable in self.variables:
            if variable.name == name:
                said: dict[str, Any] = {"long_name": variable.meaning, **variable.attributes}
                ragged = isinstance(self.study.n, tuple) and "input" in variable.along
                if ragged:
                    said["padding"] = f"{variable.padding} at inputs that the cell does not have"
                return said
        return {"long_name": MEANINGS[name], "units": "1"}

    def block(self, variable: Variable, part: Part, record: Record) -> NDArray[Any]:
        """What is written of a variable, padded to the size of a chunk."""
        sizes = self.sizes
        shape = (len(part.problems), *(sizes[dim] for dim in variable.along))
        if variable is FINISHED:
            return np.ones(shape, dtype=np.bool_)
        values = record[variable.name]
        block = np.full(shape, variable.padding if variable.along else 0, dtype=variable.dtype)
        block[tuple(slice(size) for size in values.shape)] = values
        return block


def _coordinate(values: tuple[Any, ...]) -> NDArray[Any]:
    """Values along an axis. Integers above 2**63, as seeds are, NumPy would take for floats."""
    unsigned = isinstance(values[0], int) and max(values) >= 2**63
    return np.array(values, dtype=np.uint64 if unsigned else None)


def made_with(study: Study) -> dict[str, Any]:
    """All that the results of a study depend on beside its declaration."""
    names = ["attsvm", "numpy", "scipy", "osqp"]
    if study.data == "digits":
        names.append("scikit-learn")
    return {"isa": _core.isa, **{name: version(name) for name in names}}


def attributes(study: Study) -> dict[str, Any]:
    """What the results say of themselves: settings, declaration, versions, instruction set."""
    settings: Mapping[str, Any] = study.settings
    said = {
        "title": study.title or study.name,
        **{name: value for name, value in settings.items() if name not in ("name", "title")},
        "name": study.name,
        "axes": list(study.axes),
        "declaration": study.toml,
        **made_with(study),
        "python": platform.python_version(),
    }
    if study.file is not None:
        said |= {"data_sha256": study.file.sha256, **study.largest}
    return said
