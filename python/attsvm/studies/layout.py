"""Layout of the results of a study: dimensions, chunks, coordinates and attributes."""

from __future__ import annotations

import math
import platform
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attsvm import _core
from attsvm.datasets.signal_tokens import KINDS_OF_TOKEN
from attsvm.studies.environment import version
from attsvm.studies.measurements import Record, Variable
from attsvm.studies.problems import FIRST_TOKENS, NO_QUERIES, TRAINED_VALUE
from attsvm.studies.study import Cell, Study
from attsvm.svm.norms import as_svm_norm

FINISHED = Variable("finished", "whether a problem is measured; nothing holds before", "bool")
"""Variable that is written last."""

_MOST_BYTES = 2**25
_MOST_PARTS = 100_000
MEANINGS = MappingProxyType(
    {
        "n": "inputs of a problem",
        "T": "tokens of an input",
        "d": "dimension of a token",
        "attention": "where queries come from",
        "signals": "directions of the signal tokens",
        "noise": "noise on the signal tokens",
        "label_noise": "share of labels that are flipped",
        "signal": "length of the signals",
        "weak": "share of the signal in the weakly relevant tokens",
        "kind": "kind of token",
        "parameter": "what is trained",
        "init": "start of K and Q",
        "rule": "step rule",
        "lr": "step size",
        "lr_factor": "factor of the step size",
        "momentum": "momentum",
        "decay": "exponent of the decay of the step size",
        "weight_decay": "decoupled weight decay",
        "loss": "loss of a margin",
        "norm": "norm of the SVM",
        "seed": "seed of all draws",
        "step": "step of the run that is recorded",
    }
)
"""Meanings of the axes and coordinates."""


@dataclass(frozen=True)
class Part:
    """Problems of a cell that are written together: all of them, unless they are very many."""

    cell: Cell
    problems: range
    chunk: tuple[int, ...]  # index of their chunk along the axes of the study and ``problem``


@dataclass(frozen=True)
class Layout:
    """Dimensions, chunks and attributes of all variables of a study.

    The chunks have size 1 along the axes of the study and are whole along the others, but for
    ``problem``: a chunk of all variables together takes at most 32 MB.
    """

    study: Study

    @cached_property
    def variables(self) -> tuple[Variable, ...]:
        """Measured variables, and last `FINISHED`."""
        measured = (v for each in self.study.measurements for v in each.variables)
        return (*measured, FINISHED)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Size of each dimension, by its name."""
        study = self.study
        axes = {name: len(values) for name, values in study.axes.items()}
        return {
            "problem": study.problems or 0,
            "input": study.largest["n"],
            "step": len(study.recorded_steps),
            "row": study.largest["d"],
            "column": study.largest["d"],
            "norm": len(study.norms or ()),
            "kind": len(KINDS_OF_TOKEN),
            **axes,
        }

    @cached_property
    def part_size(self) -> int:
        """Number of problems of a chunk."""
        sizes = self.sizes
        bytes_of_problem = sum(
            np.dtype(v.dtype).itemsize * math.prod(sizes[dim] for dim in v.along)
            for v in self.variables
        )
        return max(1, min(sizes["problem"], _MOST_BYTES // bytes_of_problem))

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts, in order; more than 100,000 are a `ValueError`."""
        count, step = self.sizes["problem"], self.part_size
        cells = self.study.cells
        if len(cells) * -(-count // step) > _MOST_PARTS:
            raise ValueError(
                f"problems: expected at most {_MOST_PARTS // len(cells) * step} of each cell, so "
                f"that the results have at most {_MOST_PARTS} chunks, got {count}"
            )
        return tuple(
            Part(cell, range(first, min(first + step, count)), (*cell.index, k))
            for cell in cells
            for k, first in enumerate(range(0, count, step))
        )

    @property
    def coordinates(self) -> dict[str, NDArray[Any]]:
        """Values along the axes of the study, and the recorded steps."""
        coordinates = {name: _coordinate(values) for name, values in self.study.axes.items()}
        if any("step" in v.along for v in self.variables):
            coordinates["step"] = np.array(self.study.recorded_steps, dtype=np.int64)
        if any("kind" in v.along for v in self.variables):
            coordinates["kind"] = np.array(KINDS_OF_TOKEN)
        if any("norm" in v.along for v in self.variables):
            norms = self.study.norms or ()
            coordinates["norm"] = np.array([as_svm_norm("norms", norm).name for norm in norms])
        return coordinates

    def dimensions(self, variable: Variable) -> tuple[str, ...]:
        """Return the dimensions of a variable."""
        return (*self.study.axes, "problem", *variable.along)

    def chunks(self, variable: Variable) -> tuple[int, ...]:
        """Return the chunk sizes of a variable."""
        along = (self.sizes[dim] for dim in variable.along)
        return (*(1 for _ in self.study.axes), self.part_size, *along)

    def attributes(self, name: str) -> dict[str, Any]:
        """Return the attributes of a variable or coordinate."""
        if name in MEANINGS:
            return {"long_name": MEANINGS[name], "units": "1"}
        variable = next(v for v in self.variables if v.name == name)
        result: dict[str, Any] = {"long_name": variable.meaning, **variable.attributes}
        for size, dims in (("n", {"input"}), ("d", {"row", "column"})):
            if isinstance(getattr(self.study, size), tuple) and dims & {*variable.along}:
                missing = " and ".join(f"{dim}s" for dim in variable.along)
                result["padding"] = f"{variable.padding} at {missing} that the cell does not have"
        return result

    def block(self, variable: Variable, part: Part, record: Record) -> NDArray[Any]:
        """Return the chunk of a variable, padded."""
        fill = variable.padding if variable.along else 0
        block = np.full(self.chunks(variable)[len(self.study.axes) :], fill, variable.dtype)
        if variable is FINISHED:
            block[: len(part.problems)] = True
        else:
            values = record[variable.name]
            block[tuple(slice(size) for size in values.shape)] = values
        return block.reshape(self.chunks(variable))


def _coordinate(values: tuple[Any, ...]) -> NDArray[Any]:
    """Return the values of an axis. Integers above 2**63, as seeds are, would become floats."""
    unsigned = isinstance(values[0], int) and max(values) >= 2**63
    return np.array(values, dtype=np.uint64 if unsigned else None)


def made_with(study: Study) -> dict[str, Any]:
    """Return all that the results of a study depend on beside its declaration."""
    names = ["attsvm", "numpy", "scipy", "osqp"]
    if study.data == "digits":
        names.append("scikit-learn")
    return {"isa": _core.isa, **{name: version(name) for name in names}}


def attributes(study: Study) -> dict[str, Any]:
    """Return the attributes of the results: settings, declaration, versions, instruction set."""
    result = {
        "title": study.title or study.name,
        **{name: x for name, x in study.settings.items() if name not in ("name", "title")},
        "name": study.name,
        "axes": list(study.axes),
        "declaration": study.toml,
        **made_with(study),
        "python": platform.python_version(),
    }
    if study.file is not None:
        result |= {"data_sha256": study.file.sha256, **study.largest}
    if not study.has_queries:
        result["queries"] = FIRST_TOKENS if study.takes_first_queries else NO_QUERIES
    if not study.has_value:
        result["value"] = TRAINED_VALUE
    return result
