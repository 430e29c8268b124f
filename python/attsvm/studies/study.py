"""A study as a declaration: which problems, how they are trained, and what is measured."""

from __future__ import annotations

import difflib
import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from attsvm._validation import (
    as_choice,
    as_float,
    as_nonnegative_int,
    as_positive_float,
    as_positive_int,
)
from attsvm.descent.step_rule import StepRule
from attsvm.studies.declarations import declared, read_toml, write_toml
from attsvm.studies.measurements import MEASUREMENTS, Measurement, measurable
from attsvm.studies.problems import KINDS, FileOfProblems

__all__ = ["Cell", "OverrideError", "Study"]

_PARAMETERS = ("W", "p", "KQ", "v+W", "v+p")
_LOSSES = ("logistic", "exponential", "correlation")


def _share(name: str, value: float) -> float:
    share = as_float(name, value)
    if not 0 <= share <= 1:
        raise ValueError(f"{name}: expected a share in [0, 1], got {value}")
    return share


def _momentum(name: str, value: float) -> float:
    return StepRule(momentum=as_float(name, value)).momentum


def _not_negative(name: str, value: float) -> float:
    number = as_float(name, value)
    if number < 0:
        raise ValueError(f"{name}: expected a number >= 0, got {value}")
    return number


def _tokens(name: str, value: int) -> int:
    tokens = as_positive_int(name, value)
    if tokens < 2:
        raise ValueError(f"{name}: expected two tokens or more to select from, got {value}")
    return tokens


def _seed(name: str, value: int) -> int:
    seed = as_nonnegative_int(name, value)
    # Coordinates of the results have at most 64 bits.
    if seed >= 2**64:
        raise ValueError(f"{name}: expected an integer below 2**64, got {value}")
    return seed


def _trained(name: str, value: str | Sequence[str]) -> str:
    """What is trained, a pair such as ("v", "W") as "v+W"."""
    written = "+".join(map(str, value)) if isinstance(value, tuple | list) else value
    return as_choice(name, written, _PARAMETERS)


def _one_of(*choices: str) -> Callable[[str, Any], str]:
    return lambda name, value: as_choice(name, value, choices)


_AXES: Mapping[str, Callable[[str, Any], Any]] = {
    "n": as_positive_int,
    "T": _tokens,
    "d": as_positive_int,
    "attention": _one_of("cross", "self"),
    "signals": _one_of("antipodal", "orthogonal"),
    "noise": _not_negative,
    "label_noise": _share,
    "parameter": _trained,
    "init": _one_of("uniform", "balanced"),
    "rule": _one_of("ngd", "gd", "polyak", "adam"),
    "lr": as_positive_float,
    "momentum": _momentum,
    "decay": _not_negative,
    "loss": _one_of(*_LOSSES),
    "norm": _one_of("auto", "fro", "nuc"),
    "seed": _seed,
}
"""What may be an axis, in the order of the axes, and how each of its values is checked."""

_SIZES = ("n", "T", "d")
_MEASURED = ("selected", "outcome", "cosine")
"""What is measured unasked, where it can be."""


class OverrideError(ValueError):
    """Overrides of a declaration, and not what it says itself, make no study.

    Attributes
    ----------
    fields : tuple of str
        Those that are to blame.
    reason : str
    """

    def __init__(self, fields: Sequence[str], reason: str) -> None:
        super().__init__(fields, reason)
        self.fields = tuple(fields)
        self.reason = reason

    def __str__(self) -> str:
        return f"overrides ({', '.join(self.fields)}): {self.reason}"


@dataclass(frozen=True)
class Cell:
    """One combination of the values of the axes.

    Attributes
    ----------
    index : tuple of int
        Its place along each axis.
    axes : dict
        Its value on each axis.
    settings : dict
        All settings of its problems: those of the axes and those that are fixed, with the sizes
        n, T and d.
    """

    index: tuple[int, ...]
    axes: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """How messages call it."""
        values = ", ".join(f"{axis}={_plain(value)}" for axis, value in self.axes.items())
        return values or "the only cell"


@dataclass(frozen=True, kw_only=True)
class Study:
    """Many problems of each kind: how to draw them, how to train, and what to measure.

    A field with several values, a tuple or list of them, is an axis; every combination of the
    values of all axes is a cell. A field with one value is a fixed setting. Studies that differ in
    settings of training alone see the same problems.

    Attributes
    ----------
    name : str
        Names the directory of the results.
    title : str
        One line for the reader of the results.
    data : str
        "sphere", "near_orthogonal", "gaussian_classes" or "digits": the generators
        `attsvm.datasets.unit_sphere` and those of these names; or the path of an ``.npz`` file of
        problems that `attsvm.load` reads.
    problems : int
        Problems of each cell; by default all of a file. Problem k of a cell is the same whatever
        else is in the study: its random stream is that of (seed, n, T, d, k).
    seed : int or axis
        From 0 to 2**64 - 1.
    n, T, d : int or axis
        Inputs, tokens of each and dimension. Not given where the data are a file, which has them.
    attention : {"cross", "self"} or axis
        Of "sphere".
    signals, noise, label_noise : or axis
        Of "near_orthogonal" and "gaussian_classes".
    classes : pair of int
        Of "digits", whose T patches are 4, 9 or 25.
    parameter : {"W", "p", "KQ", "v+W", "v+p"} or axis
        What is trained; ``("v", "W")``, as `attsvm.train` has it, is kept as "v+W". W and p start
        at zero; v at the value of the data, or at zero.
    init : {"uniform", "balanced"} or axis
        How K and Q start.
    rule, lr, momentum, decay, loss : or axis
        Of `attsvm.train` and `attsvm.StepRule`.
    steps : int
    norm : {"auto", "fro", "nuc"} or axis
        Of the SVM; "auto" is the nuclear norm for K and Q, and else the Frobenius norm.
    measure : tuple of str
        Names of `attsvm.studies.MEASUREMENTS`; by default those of selected, outcome and cosine
        that every cell has.

    Raises
    ------
    TypeError, ValueError
        A field is not what it must be, or does not go with another one.
    ImportError
        The digits are asked for and scikit-learn is not installed.
    OSError
        The file of problems cannot be read.

    Examples
    --------
    >>> from attsvm.studies import Study
    >>> study = Study(n=3, T=4, d=(2, 5), problems=10, steps=100, measure=("outcome",))
    >>> study.axes
    {'d': (2, 5)}
    >>> [cell.name for cell in study.cells]
    ['d=2', 'd=5']
    """

    name: str = "study"
    title: str = ""
    data: str = "sphere"
    problems: int | None = None
    seed: int | tuple[int, ...] = 0
    n: int | tuple[int, ...] | None = None
    T: int | tuple[int, ...] | None = None
    d: int | tuple[int, ...] | None = None
    attention: str | tuple[str, ...] | None = None
    signals: str | tuple[str, ...] | None = None
    noise: float | tuple[float, ...] | None = None
    label_noise: float | tuple[float, ...] | None = None
    classes: tuple[int, int] | None = None
    parameter: str | tuple[str, ...] = "W"
    init: str | tuple[str, ...] = "uniform"
    rule: str | tuple[str, ...] = "ngd"
    lr: float | tuple[float, ...] = 0.1
    momentum: float | tuple[float, ...] = 0.0
    decay: float | tuple[float, ...] = 0.0
    loss: str | tuple[str, ...] = "logistic"
    steps: int = 1000
    norm: str | tuple[str, ...] = "auto"
    measure: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list | np.ndarray):
                self._set(field.name, tuple(value))
            if isinstance(value, tuple) and field.name not in (*_AXES, "classes", "measure"):
                raise ValueError(f"{field.name}: expected one value, got {list(value)}")
        for name in ("name", "title", "data"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name}: expected text, got {getattr(self, name)!r}")
        if not self.name or set(self.name) & set("/\\\0") or self.name.startswith("."):
            raise ValueError(f"name: expected a name for a directory, got {self.name!r}")
        self._set("steps", as_positive_int("steps", self.steps))
        self._check_data()
        for axis, check in _AXES.items():
            self._check_axis(axis, check)
        if self.measure is None:
            self._set("measure", self._measured_by_default())
        self._check_measure()
        for cell in self.cells:
            try:
                self._check_cell(cell)
            except ValueError as error:
                raise ValueError(f"{error} (where {cell.name})" if self.axes else error) from error

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _check_data(self) -> None:
        own = self.options
        of_all = dict.fromkeys(option for kind in KINDS.values() for option in kind.options)
        others = [name for name in of_all if name not in own and getattr(self, name) is not None]
        if others:
            raise ValueError(
                f"{', '.join(others)}: expected none for data {self.data!r}, {self._got(others)}"
            )
        sizes = self.file.sizes if self.file else {}
        for name, size in sizes.items():
            if getattr(self, name) is None:
                self._set(name, size)
        wrong = [name for name in _SIZES if sizes and getattr(self, name) != sizes[name]]
        if wrong:
            there = ", ".join(str(sizes[name]) for name in wrong)
            raise ValueError(
                f"{', '.join(wrong)}: expected none or the {there} of the file, {self._got(wrong)}"
            )
        for name in (*_SIZES, "problems"):
            if getattr(self, name) is None:
                raise ValueError(f"{name}: expected a number, got none")
        problems = as_positive_int("problems", self.problems or 0)
        self._set("problems", problems)
        if self.file and problems > self.file.sizes["problems"]:
            raise ValueError(
                f"problems: expected at most the {self.file.sizes['problems']} of {self.data}, "
                f"got {problems}"
            )

    def _got(self, names: list[str]) -> str:
        values = (getattr(self, name) for name in names)
        given = (list(value) if isinstance(value, tuple) else value for value in values)
        return f"got {', '.join(map(repr, given))}"

    def _check_axis(self, axis: str, check: Callable[[str, Any], Any]) -> None:
        given = getattr(self, axis)
        if given is None:
            return
        several = isinstance(given, tuple) and not (axis == "parameter" and "v" in given)
        values = given if several else (given,)
        # Integers that stand for floats become floats, so that a declaration has one spelling.
        checked = tuple(check(axis, value) for value in values)
        if not checked or len(set(checked)) < len(checked):
            raise ValueError(f"{axis}: expected one or more different values, got {list(values)}")
        self._set(axis, checked if several else checked[0])

    def _measured_by_default(self) -> tuple[str, ...]:
        parameters = {cell.settings["parameter"] for cell in self.cells}
        return measurable(_MEASURED, parameters, self.has_value)

    def _check_measure(self) -> None:
        names: Any = self.measure
        if not isinstance(names, tuple) or not names:
            raise TypeError(f"measure: expected a list of names, got {names!r}")
        for name in names:
            as_choice("measure", name, tuple(MEASUREMENTS))
        if len(set(names)) < len(names):
            raise ValueError(f"measure: expected different names, got {list(names)}")

    def _check_cell(self, cell: Cell) -> None:
        settings = cell.settings
        if self.file is None:
            KINDS[self.data].check(settings)
        if settings["norm"] == "nuc" and settings["parameter"] in ("p", "v+p"):
            raise ValueError("norm: expected 'auto' or 'fro' where p is trained, got 'nuc'")
        if settings["rule"] == "adam" and settings["momentum"]:
            raise ValueError(f"momentum: expected 0 for adam, got {settings['momentum']}")
        has_value = self.has_value
        if not has_value and not settings["parameter"].startswith("v+"):
            raise ValueError(
                "parameter: expected 'v+W' or 'v+p' for data without a value, "
                f"got {settings['parameter']!r}"
            )
        if not self.has_queries and settings["parameter"] not in ("p", "v+p"):
            raise ValueError(
                "parameter: expected 'p' or 'v+p' for data without queries, "
                f"got {settings['parameter']!r}"
            )
        for measurement in self.measurements:
            obstacle = measurement.obstacle(settings["parameter"], has_value)
            if obstacle is not None:
                raise ValueError(obstacle)

    @cached_property
    def file(self) -> FileOfProblems | None:
        """The file of problems, where the data are one."""
        return None if self.data in KINDS else FileOfProblems.read(self.data)

    @property
    def options(self) -> dict[str, Any]:
        """Settings that its kind of data has, with their defaults where they are not given."""
        defaults = {} if self.file else KINDS[self.data].options
        given = {name: getattr(self, name) for name in defaults}
        return {name: defaults[name] if x is None else x for name, x in given.items()}

    @property
    def has_value(self) -> bool:
        """Whether its problems have a value v, and with it scores and optimal tokens."""
        if self.file is not None:
            return self.file.data.value is not None
        return KINDS[self.data].has_value

    @property
    def has_queries(self) -> bool:
        """Whether its problems have queries z, which W, K and Q act on."""
        return self.file is None or self.file.data.queries is not None

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """What is measured."""
        return tuple(MEASUREMENTS[name] for name in self.measure or ())

    @property
    def axes(self) -> dict[str, tuple[Any, ...]]:
        """Values of each axis, by its name."""
        return {
            name: getattr(self, name) for name in _AXES if isinstance(getattr(self, name), tuple)
        }

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The grid, the last axis running fastest."""
        axes = self.axes
        fixed = {name: getattr(self, name) for name in ("data", *_AXES, "steps")} | self.options
        return tuple(
            Cell(index, chosen := dict(zip(axes, values, strict=True)), {**fixed, **chosen})
            for index, values in zip(
                itertools.product(*(range(len(values)) for values in axes.values())),
                itertools.product(*axes.values()),
                strict=True,
            )
        )

    @property
    def largest(self) -> dict[str, int]:
        """Largest n, T and d of the study."""
        values = {size: getattr(self, size) for size in _SIZES}
        return {k: max(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @property
    def recorded_steps(self) -> tuple[int, ...]:
        """Steps at which runs are recorded: 0, 1, 2, 5, 10, 20, 50, … and the last."""
        steps = self.steps
        regular = (k * 10**e for e in range(len(str(steps))) for k in (1, 2, 5))
        return (0, *(step for step in regular if step < steps), steps)

    @property
    def settings(self) -> dict[str, Any]:
        """Every field that has a value, by default too; axes and pairs as lists."""
        values = {field.name: getattr(self, field.name) for field in fields(self)} | self.options
        if self.file is not None:
            values |= dict.fromkeys(_SIZES) | {"data": str(self.file.path)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if value is not None
        }

    @property
    def toml(self) -> str:
        """The declaration as a TOML file that `load` reads back."""
        return write_toml(self.settings)

    @classmethod
    def load(
        cls, source: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None
    ) -> Study:
        """Read a declaration.

        Parameters
        ----------
        source : str or path-like
            A TOML file, or the name of a study that comes with attsvm, such as "overparam". The
            path of a file of problems is relative to the TOML file. Or that file itself, ``.npz``:
            W, or p where they have no queries, is trained on its problems, together with v where
            they have no value, and all that fits is measured.
        overrides : dict, optional
            Fields to change. One value for what is an axis leaves it an axis. The path of a file
            of problems is here relative to the working directory.

        Raises
        ------
        OSError
            The file cannot be read.
        TypeError, ValueError
            It is not TOML, or does not declare a study; the message names file and field.
        OverrideError
            A `ValueError`: an override is no field, or not what that must be.
        """
        overrides = {} if overrides is None else overrides
        path, named = declared(source), os.fspath(source)
        if path.suffix == ".npz":
            given = _of_problems(path)
        else:
            try:
                given = read_toml(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise ValueError(f"{named}: {error}") from error
        known = [field.name for field in fields(cls)]
        for name in (*given, *overrides):
            if name not in known:
                close = difflib.get_close_matches(name, known, 1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                reason = f"{name}: expected one of the fields {', '.join(known)}{hint}"
                if name in given:
                    raise ValueError(f"{named}: {reason}")
                raise OverrideError([name], reason)
        given.setdefault("name", path.stem)
        data = given.get("data")
        if isinstance(data, str) and data not in KINDS:
            given["data"] = str(path.parent / data)
        changed = given | {
            name: _as_axis(name, value, given.get(name)) for name, value in overrides.items()
        }
        try:
            return cls(**changed)
        except (TypeError, ValueError) as error:
            blamed = _blamed(cls, error, given, overrides)
            if blamed:
                raise OverrideError(blamed, str(error)) from error
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{named}: {error}") from error


def _as_axis(name: str, value: Any, before: Any) -> Any:
    """The value of an override: an axis where that was one."""
    axis = name == "measure" or (isinstance(before, list) and name in _AXES)
    return [value] if axis and not isinstance(value, list | tuple) else value


def _blamed(
    kind: type[Study], error: Exception, given: Mapping[str, Any], overrides: Mapping[str, Any]
) -> list[str]:
    """Overrides that an error is about: those it names, or all where it arose only with them."""
    named = str(error).partition(":")[0].split(", ")
    blamed = [name for name in overrides if name in named]
    if overrides and not blamed:
        try:
            kind(**given)
        except (TypeError, ValueError, OSError):
            return []
        return list(overrides)
    return blamed


def _of_problems(path: Path) -> dict[str, Any]:
    """Fields of a study of the problems in a file."""
    data = FileOfProblems.read(str(path)).data
    has_value = data.value is not None
    attention = "p" if data.queries is None else "W"
    parameter = attention if has_value else f"v+{attention}"
    measure = measurable(MEASUREMENTS, [parameter], has_value)
    return {"data": path.name, "parameter": parameter, "measure": list(measure)}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
