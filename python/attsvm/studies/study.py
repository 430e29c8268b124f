"""Declaration of a study: its problems, their training, and what is measured."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from attrs import Converter, field, fields, frozen

from attsvm import _core
from attsvm._geometries import NORMS, Norm
from attsvm._validation import (
    as_choice,
    as_float_in,
    as_nonnegative_float,
    as_nonnegative_int,
    as_positive_float,
    as_positive_int,
    nearest,
    require_names,
)
from attsvm.descent import StepRule
from attsvm.descent.blocks import STARTS, as_blocks, with_head
from attsvm.descent.step_rule import STEP_SIZE
from attsvm.studies.declarations import declared, read_toml, read_toml_file, write_toml
from attsvm.studies.measurements import KEPT, MEASUREMENTS, PARAMETERS, Measurement, measurable
from attsvm.studies.problems import (
    FIRST_TOKENS,
    KINDS,
    NO_QUERIES,
    TRAINED_VALUE,
    FileOfProblems,
)
from attsvm.svm.norms import NORMS as SVM_NORMS
from attsvm.svm.norms import as_name
from attsvm.theory.svm_of_training import norm_of_training

if TYPE_CHECKING:
    import xarray as xr

LOSSES = tuple(name for name, loss in _core.losses.items() if loss.margins == "real")
"""Losses of a linear head; log needs scores that are not negative, the others a softmax head."""

_SIZES = ("n", "T", "d")
_DEFAULT_MEASURES = ("selected", "outcome", "cosine")
_DEFAULT_TEST = 1000
_OF_RULES = ("lr", "momentum", "decay", "weight_decay")
"""Settings of steps that are fields of a study, and may be stated in `Study.rules` instead."""
_MOST_CELLS = 100_000


def _tokens(name: str, value: Any) -> int:
    tokens = as_positive_int(name, value)
    if tokens < 2:
        raise ValueError(f"{name}: expected two tokens or more to select from, got {value}")
    return tokens


def _below(bits: int, check: Callable[[str, Any], int]) -> Callable[[str, Any], int]:
    """Return a check of integers that fit into so many bits, as results and the core need."""

    def check_size(name: str, value: Any) -> int:
        number = check(name, value)
        if number >= 2**bits:
            raise ValueError(f"{name}: expected an integer below 2**{bits}, got {value}")
        return number

    return check_size


def _trained(name: str, value: Any) -> str:
    """Return the name of a trained parameter, such as "v+W" for the pair ("v", "W")."""
    return as_choice(name, "+".join(map(str, value)) if _is_list(value) else value, PARAMETERS)


def _one_of(*choices: str) -> Callable[[str, Any], str]:
    return partial(as_choice, choices=choices)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected text, got {value!r}")
    return value


def _title(name: str, value: Any) -> str:
    try:
        _text(name, value).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name}: expected Unicode text, got {value!r}") from error
    return str(value)


def _directory(name: str, value: Any) -> str:
    text = _title(name, value)
    if not text or set(text) & set("/\\\0") or text.startswith("."):
        raise ValueError(f"{name}: expected a name for a directory, got {text!r}")
    return text


def _each(name: str, value: Any, what: str, check: Callable[[str, Any], Any]) -> tuple[Any, ...]:
    if not _is_list(value) or not len(value):
        raise TypeError(f"{name}: expected a list of {what}, got {value!r}")
    return tuple(check(name, each) for each in value)


def _different(what: str, check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    """Return a check of lists of different values."""

    def check_all(name: str, value: Any) -> tuple[Any, ...]:
        values = _each(name, value, what, check)
        if len(set(values)) < len(values):
            raise ValueError(f"{name}: expected different {what}, got {list(values)}")
        return values

    return check_all


def _recorded(name: str, value: Any) -> tuple[int, ...]:
    steps = _each(name, value, "steps", as_nonnegative_int)
    if any(later <= step for step, later in itertools.pairwise(steps)):
        raise ValueError(f"{name}: expected increasing steps, got {list(value)}")
    return steps


def _rules(name: str, value: Any) -> dict[str, dict[str, Any]]:
    """Return a copy of the settings of every rule; `Study` checks their values."""
    if not isinstance(value, Mapping) or not value:
        raise TypeError(f"{name}: expected tables of settings by name, got {value!r}")
    known = ("lr", *(each.name for each in dataclass_fields(StepRule)))
    for rule, settings in value.items():
        _title(name, rule)
        if not isinstance(settings, Mapping):
            raise TypeError(f"{name}.{rule}: expected a table of settings, got {settings!r}")
        for key in settings:
            as_choice(f"{name}.{rule}", key, known)
    copied: dict[str, dict[str, Any]] = _plain(value)
    return copied


def _plain(value: Any) -> Any:
    """Return a copy of tables and lists as TOML has them, without what is None."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items() if each is not None}
    if _is_list(value):
        return [_plain(each) for each in value]
    return value.item() if isinstance(value, np.generic) else value


def _is_list(value: Any) -> bool:
    return isinstance(value, tuple | list | np.ndarray)


def _field(check: Callable[[str, Any], Any], default: Any = None, *, several: str) -> Any:
    """Declare a field; several values are "an axis", "refused", or "checked" as one value."""

    def convert(value: Any, declared: Any) -> Any:
        name = declared.name
        if value is None and default is None:
            return None
        # The pair ("v", "W") is a single value.
        if not _is_list(value) or "v" in tuple(value) or several == "checked":
            return check(name, value)
        if several == "refused":
            raise ValueError(f"{name}: expected one value, got {list(value)}")
        checked = tuple(check(name, each) for each in value)
        if not checked or len(set(checked)) < len(checked):
            raise ValueError(f"{name}: expected one or more different values, got {list(value)}")
        return checked

    converter = Converter(convert, takes_field=True)  # type: ignore[misc, call-overload, unused-ignore]
    return field(default=default, converter=converter, metadata={"axis": several == "an axis"})


_axis = partial(_field, several="an axis")
_fixed = partial(_field, several="refused")
_whole = partial(_field, several="checked")


class OverrideError(ValueError):
    """Overrides of a declaration, and not the declaration itself, make no study.

    `fields` are the overrides that are to blame, `reason` says for what.
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
        Its index along each axis.
    axes : dict
        Its value on each axis.
    settings : dict
        All settings of its problems: those of the axes and those that are fixed, with the sizes
        n, T and d, the step size ``lr`` and the `attsvm.StepRule` ``step_rule``.
    """

    index: tuple[int, ...]
    axes: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name for messages."""
        plain = (x if isinstance(x, str) else json.dumps(x) for x in self.axes.values())
        pairs = zip(self.axes, plain, strict=True)
        return ", ".join(f"{axis}={value}" for axis, value in pairs) or "the only cell"


@frozen(kw_only=True, slots=False)
class Study:
    """Many problems of each kind: how to draw them, how to train, and what to measure.

    A field with several values, a tuple or list of them, is an axis; every combination of the
    values of all axes is a cell. A field with one value is a fixed setting. Studies that differ in
    settings of training alone see the same problems. A study is an attrs class:
    ``attrs.evolve(study, lr=0.2)`` is a changed copy.

    Attributes
    ----------
    name : str
        Names the directory of the results.
    title : str
        One line for the reader of the results.
    data : str
        "sphere", "near_orthogonal", "gaussian_classes", "signal_noise" or "digits": the generators
        `attsvm.datasets.unit_sphere` and those of these names; or the path of an ``.npz`` file of
        problems that `attsvm.load` reads.
    problems : int
        Problems of each cell; by default all of a file. Problem k of a cell is the same whatever
        else is in the study: its random stream is that of (seed, n, T, d, k).
    n, T, d : int or axis
        Inputs, tokens of each and dimension; by default those of the file.
    attention : {"cross", "self"} or axis
        Of "sphere".
    signals, noise, label_noise : or axis
        Of "near_orthogonal" and "gaussian_classes"; the last of "signal_noise" too.
    signal, weak : float or axis
        Of "signal_noise".
    test : int
        Inputs of the test, without flipped labels, on which all problems of a cell are tried where
        their test accuracy is measured; by default 1000.
    classes : pair of int
        Of "digits", whose T patches are 4, 9 or 25.
    parameter : {"W", "p", "KQ", "W+p", "diagonal KQ"}, or "v+" and one of them, or axis
        What is trained, the head v too where the data have no value; ``("v", "W")``, as
        `attsvm.train` has it, is kept as "v+W". W and p start at zero, but for W beside p; v at the
        value of the data, or at zero. Queries are the first tokens where the data have none.
    init : {"uniform", "balanced", "unbalanced"} or axis
        How two factors start; expected where some are trained.
    rule : str or axis
        A kind of `attsvm.StepRule`, or a name of `rules`; by default all of these, or "ngd".
    rules : dict of dict, optional
        Step rules with their settings, by the name that they have in results: those of
        `attsvm.StepRule`, whose kind is by default the name, and `lr`.
    lr, momentum, decay, weight_decay, loss : or axis
        Of `attsvm.train` and `attsvm.StepRule`, with the defaults there. What one of the `rules`
        states cannot be given here too, and no `lr` where no step takes a rate.
    lr_factor : float or axis
        Multiplies every step size.
    steps : int
    norm : {"auto", "fro", "nuc", "max", "l1", "spec", "cut"} or axis
        Of the SVM; "auto" is that of the steps: "fro" for gradient steps on W or p, "max" for steps
        of signs and Adam's, and so on; for K and Q "nuc", or "spec" where their steps are, and for
        diagonal ones "l1".
    norms : tuple of {"fro", "max", "l1", "spec", "nuc", "cut"} or float
        Of the SVMs of measurements that have a dimension ``norm``; by default those of steps that
        have a name, all but "cut".
    seed : int or axis
        From 0 to 2**64 - 1.
    measure : tuple of str
        Names of `attsvm.studies.MEASUREMENTS`; by default those of selected, outcome and cosine
        that every cell has. "W", "p" and "v" keep what was trained, "history" and "cosine_history"
        what it was on the way.
    record : tuple of int
        Increasing steps, from 0 to `steps`, at which runs are recorded; by default 0, 1, 2, 5, 10,
        20, 50, … and the last.
    file : FileOfProblems, optional
        The file of problems; read where it is not given.

    Raises
    ------
    TypeError, ValueError
        A field is not what it must be, or does not go with another one.
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

    name: str = _fixed(_directory, "study")
    title: str = _fixed(_title, "")
    data: str = _fixed(_text, "sphere")
    problems: int | None = _fixed(as_positive_int)
    n: int | tuple[int, ...] | None = _axis(as_positive_int)
    T: int | tuple[int, ...] | None = _axis(_tokens)
    d: int | tuple[int, ...] | None = _axis(as_positive_int)
    attention: str | tuple[str, ...] | None = _axis(_one_of("cross", "self"))
    signals: str | tuple[str, ...] | None = _axis(_one_of("antipodal", "orthogonal"))
    noise: float | tuple[float, ...] | None = _axis(as_nonnegative_float)
    label_noise: float | tuple[float, ...] | None = _axis(partial(as_float_in, low=0, high=1))
    signal: float | tuple[float, ...] | None = _axis(as_positive_float)
    weak: float | tuple[float, ...] | None = _axis(as_nonnegative_float)
    test: int | None = _fixed(as_positive_int)
    classes: tuple[int, int] | None = _whole(lambda _, value: tuple(value))
    parameter: str | tuple[str, ...] = _axis(_trained, "W")
    init: str | tuple[str, ...] = _axis(_one_of(*STARTS), "uniform")
    rule: str | tuple[str, ...] | None = _axis(_text)
    rules: Mapping[str, Mapping[str, Any]] | None = _whole(_rules)
    lr: float | tuple[float, ...] | None = _axis(as_positive_float)
    lr_factor: float | tuple[float, ...] = _axis(as_positive_float, 1.0)
    momentum: float | tuple[float, ...] | None = _axis(
        partial(as_float_in, low=0, high=1, ends="[)")
    )
    decay: float | tuple[float, ...] | None = _axis(as_nonnegative_float)
    weight_decay: float | tuple[float, ...] | None = _axis(as_nonnegative_float)
    loss: str | tuple[str, ...] = _axis(_one_of(*LOSSES), "logistic")
    steps: int = _fixed(_below(63, as_positive_int), 1000)
    norm: str | tuple[str, ...] = _axis(_one_of("auto", *SVM_NORMS), "auto")
    norms: tuple[Norm, ...] | None = _whole(_different("norms", as_name))
    seed: int | tuple[int, ...] = _axis(_below(64, as_nonnegative_int), 0)
    measure: tuple[str, ...] | None = _whole(_different("names", _one_of(*MEASUREMENTS)))
    record: tuple[int, ...] | None = _whole(_recorded)
    file: FileOfProblems | None = field(default=None, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        self._find_file()
        self._check_data()
        self._find_rules()
        count = math.prod(len(values) for values in self.axes.values())
        if count > _MOST_CELLS:
            raise ValueError(
                f"{', '.join(self.axes)}: expected at most {_MOST_CELLS} combinations of values, "
                f"got {count}"
            )
        if self.record and self.record[-1] > self.steps:
            self._refuse(["record"], f"steps up to {self.steps} (steps)")
        cells = self.cells
        if self.measure is None:
            parameters = {cell.settings["parameter"] for cell in cells}
            self._set("measure", measurable(_DEFAULT_MEASURES, parameters, self.has))
        if self.test is None and any(each.needs == "test" for each in self.measurements):
            self._set("test", _DEFAULT_TEST)
        if any(measurement.in_norms for measurement in self.measurements):
            if isinstance(self.norm, tuple):
                self._refuse(["norm"], "one value where SVMs in all `norms` are measured")
            if self.norms is None:
                self._set("norms", NORMS)
        for cell in cells:
            try:
                self._check_cell(cell.settings)
            except ValueError as error:
                raise ValueError(f"{error} (where {cell.name})" if self.axes else error) from error
        with_rate = any(cell.settings["step_rule"].takes_rate for cell in cells)
        if with_rate and self.lr is None and not self.rules:
            self._set("lr", STEP_SIZE)
        drawn = any(as_blocks(cell.settings["parameter"]).kind.bilinear for cell in cells)
        for used, names, where in (
            (with_rate, ("lr", "lr_factor"), "no step takes a rate"),
            (drawn, ("init",), "nothing starts at random"),
            ("test" in self.has, ("test",), "data have no test"),
        ):
            given = [x for x in names if getattr(self, x) != getattr(fields(Study), x).default]
            if given and not used:
                self._refuse(given, f"none where {where}")

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _find_file(self) -> None:
        if self.data in KINDS:
            self._set("file", None)
        elif self.file is None or self.file.path != Path(self.data).resolve():
            self._set("file", FileOfProblems.read(self.data))
        if isinstance(self.parameter, tuple):
            headed = (_trained_with(name, self.has) for name in self.parameter)
            self._set("parameter", tuple(dict.fromkeys(headed)))
        else:
            self._set("parameter", _trained_with(self.parameter, self.has))

    def _check_data(self) -> None:
        of_all = dict.fromkeys(option for kind in KINDS.values() for option in kind.options)
        others = [x for x in of_all if x not in self.options and getattr(self, x) is not None]
        if others:
            self._refuse(others, f"none for data {self.data!r}")
        sizes = self.file.sizes if self.file else {}
        for name, size in sizes.items():
            if getattr(self, name) is None:
                self._set(name, size)
        lacking = [name for name in (*_SIZES, "problems") if getattr(self, name) is None]
        if lacking:
            raise ValueError(
                f"{', '.join(lacking)}: expected numbers for data {self.data!r}, got none"
            )
        wrong = [name for name in _SIZES if sizes and getattr(self, name) != sizes[name]]
        if wrong:
            expected = ", ".join(str(sizes[name]) for name in wrong)
            self._refuse(wrong, f"none or the {expected} of the file")
        if self.file and self.problems and self.problems > sizes["problems"]:
            self._refuse(["problems"], f"at most the {sizes['problems']} of {self.data}")

    def _find_rules(self) -> None:
        rules = self.rules or {}
        if self.rule is None:
            self._set("rule", tuple(rules) or "ngd")
        for name in self.rule if isinstance(self.rule, tuple) else (self.rule,):
            as_choice("rule", name, (*rules, *(x for x in _core.step_rules if x not in rules)))

    def _steps(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the step rule of a cell and its step size."""
        name, rules = settings["rule"], self.rules or {}
        stated = rules.get(name, {})
        given = {key: settings[key] for key in _OF_RULES if settings[key] is not None}
        both = [key for key in given if key in stated]
        if both:
            values = ", ".join(str(given[key]) for key in both)
            raise ValueError(
                f"{', '.join(both)}: expected none where rules.{name} states it, got {values}"
            )
        options = {"kind": name, "lr": STEP_SIZE, **given, **stated}
        try:
            lr = as_positive_float("lr", options.pop("lr")) * settings["lr_factor"]
            step_rule = StepRule(**options)
            if step_rule.takes_rate:
                return {"step_rule": step_rule, "lr": lr}
            if "lr" in stated:
                raise ValueError(f"lr: expected none for kind={step_rule.kind!r}, got {lr}")
            return {"step_rule": step_rule, "lr": None}
        except (TypeError, ValueError) as error:
            raise type(error)(f"rules.{name}: {error}" if name in rules else str(error)) from error

    def _refuse(self, names: list[str], expected: str) -> NoReturn:
        values = (getattr(self, name) for name in names)
        got = (repr(list(value) if isinstance(value, tuple) else value) for value in values)
        raise ValueError(f"{', '.join(names)}: expected {expected}, got {', '.join(got)}")

    def _check_cell(self, settings: Mapping[str, Any]) -> None:
        parameter = settings["parameter"]
        if self.file is None:
            KINDS[self.data].check(settings)
        blocks = as_blocks(parameter)
        if settings["norm"] == "nuc" and blocks.kind.queries == "one":
            raise ValueError("norm: expected 'auto' or 'fro' where p is trained, got 'nuc'")
        if blocks.kind.bilinear:
            as_choice("init", settings["init"], blocks.starts)
        step_rule = settings["step_rule"]
        rates = step_rule.rates(settings["lr"], blocks)
        step_rule.to_core(blocks, rates, settings["n"], np.random.default_rng(0))
        for measurement in self.measurements:
            obstacle = measurement.obstacle(parameter, self.has)
            if obstacle is not None:
                raise ValueError(obstacle)

    @property
    def options(self) -> dict[str, Any]:
        """Settings that its kind of data has, with their defaults where they are not given."""
        defaults = {} if self.file else KINDS[self.data].options
        given = {name: getattr(self, name) for name in defaults}
        return {name: defaults[name] if x is None else x for name, x in given.items()}

    @property
    def has(self) -> tuple[str, ...]:
        """What its problems have.

        A "value" v, and with it scores and optimal tokens, "queries" z, which W, K and Q act on, a
        "test", and "kinds" of tokens.
        """
        return self.file.has if self.file else KINDS[self.data].has

    @property
    def has_value(self) -> bool:
        """Whether its problems have a value v, and with it scores and optimal tokens."""
        return "value" in self.has

    @property
    def has_queries(self) -> bool:
        """Whether its problems have queries z, which W, K and Q act on."""
        return "queries" in self.has

    @property
    def takes_first_queries(self) -> bool:
        """Whether queries are first tokens: of data without any, where logits take some."""
        sources = {as_blocks(name).kind.queries for name in np.atleast_1d(self.parameter)}
        return not self.has_queries and "data" in sources

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """Measurements of every problem."""
        return tuple(MEASUREMENTS[name] for name in self.measure or ())

    @property
    def axes(self) -> dict[str, tuple[Any, ...]]:
        """Values of each axis, by its name."""
        values = {name: getattr(self, name) for name in _AXES}
        return {name: several for name, several in values.items() if isinstance(several, tuple)}

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All combinations of the values of the axes, the last axis running fastest."""
        axes = self.axes
        names = ("data", *_AXES, "norms", "steps", "test")
        fixed = {name: getattr(self, name) for name in names} | self.options
        indices = itertools.product(*(range(len(values)) for values in axes.values()))
        cells = []
        for index, values in zip(indices, itertools.product(*axes.values()), strict=True):
            chosen = dict(zip(axes, values, strict=True))
            settings = {**fixed, **chosen}
            cells.append(Cell(index, chosen, settings | self._steps(settings)))
        return tuple(cells)

    @property
    def largest(self) -> dict[str, int]:
        """Largest n, T and d of the study."""
        values = {size: getattr(self, size) for size in _SIZES}
        return {k: max(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @property
    def recorded_steps(self) -> tuple[int, ...]:
        """Steps at which runs are recorded, by default 0, 1, 2, 5, 10, 20, 50, … and the last."""
        if self.record is not None:
            return self.record
        steps = self.steps
        regular = (k * 10**e for e in range(len(str(steps))) for k in (1, 2, 5))
        return (0, *(step for step in regular if step < steps), steps)

    @property
    def settings(self) -> dict[str, Any]:
        """Every field that has a value, by default too; axes and pairs as lists."""
        values = {name: getattr(self, name) for name in FIELDS} | self.options
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
            W is trained on its problems, with first tokens for queries where they have none, and
            together with v where they have no value; all that fits is measured, SVMs in several
            norms only where `norms` are given.
        overrides : dict, optional
            Fields to change; None takes back what is declared. One value for what is an axis leaves
            it an axis. The path of a file of problems is here relative to the working directory.

        Raises
        ------
        OSError
            The file cannot be read.
        OverrideError
            A `ValueError`: an override is no field, or not what that must be.
        """
        overrides = {} if overrides is None else overrides
        if not isinstance(overrides, Mapping):
            raise TypeError(f"overrides: expected a dict, got {type(overrides).__name__}")
        require_names("overrides", overrides)
        path, named = declared(source), os.fspath(source)
        of_problems = path.suffix.lower() == ".npz"
        if of_problems:
            file = FileOfProblems.read(str(path))
            given: dict[str, Any] = {"data": path.name, "file": file}
        else:
            try:
                given = read_toml(read_toml_file(path))
                _require_fields(given)
            except ValueError as error:
                raise ValueError(f"{named}: {error}") from error
        for name in overrides:
            try:
                _require_fields([name])
            except ValueError as error:
                raise OverrideError([name], str(error)) from error
        given.setdefault("name", path.stem.lstrip(".") or "study")
        data = given.get("data")
        if isinstance(data, str) and data not in KINDS:
            given["data"] = str(path.parent / data)

        def declare(changes: Mapping[str, Any]) -> Study:
            rules = changes.get("rules", given.get("rules"))
            known = [x for x in rules if isinstance(x, str)] if isinstance(rules, Mapping) else []
            stated = ({"rule": known} if known else {}) | given
            changed = {k: _like(k, x, stated.get(k)) for k, x in changes.items()}
            values = {k: x for k, x in (stated | changed).items() if x is not None}
            if of_problems and "measure" not in values:
                parameters = values.get("parameter", "W")
                several = parameters if _is_list(parameters) else [parameters]
                trained = [_trained_with(x, given["file"].has) for x in several if x in PARAMETERS]
                given_norms = "norms" in values
                names = [
                    name
                    for name, each in MEASUREMENTS.items()
                    if name not in KEPT and (given_norms or not each.in_norms)
                ]
                values["measure"] = measurable(names, trained, given["file"].has)
            return cls(**values)

        try:
            return declare(overrides)
        except (TypeError, ValueError) as error:
            blamed = _blamed(declare, overrides, str(error))
            if blamed:
                raise OverrideError(blamed, str(error)) from error
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{named}: {error}") from error

    @classmethod
    def from_results(cls, results: xr.Dataset) -> Study:
        """Return the study of results, from `open_results`, that another computer may have made.

        A file of problems need not be there: the study can be described and tabulated, not run.
        Results that do not declare a study which this version of attsvm knows are a `ValueError`.
        """
        stored = results.attrs
        try:
            values = read_toml(stored["declaration"])
            _require_fields(values)
            if values.get("rule") in ("polyak", ["polyak"]) and values.get("lr") == STEP_SIZE:
                del values["lr"]  # that version 0.1.0 stored, by default
            if values.get("data", "sphere") not in KINDS:
                sizes = {size: stored[size] for size in _SIZES}
                sizes["problems"] = values["problems"]
                path = Path(values["data"]).resolve()
                stand_ins = {"value": (TRAINED_VALUE,), "queries": (FIRST_TOKENS, NO_QUERIES)}
                lacks = tuple(name for name, x in stand_ins.items() if stored.get(name) in x)
                values["file"] = FileOfProblems(path, stored["data_sha256"], sizes, lacks)
            study = cls(**values)
            expected = {axis: len(several) for axis, several in study.axes.items()}
            expected["problem"] = study.problems or 0
            if dict(results["finished"].sizes) != expected:
                raise ValueError(
                    f"its results have the sizes {dict(results.sizes)}, not {expected}"
                )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"expected the results of a study: {error}") from error
        return study


FIELDS = tuple(each.name for each in fields(Study) if each.name != "file")
"""Names of the fields that a declaration may have."""
_AXES = tuple(each.name for each in fields(Study) if each.metadata.get("axis"))


def norm_of_svm(settings: Mapping[str, Any]) -> Norm:
    """Return the norm of the SVMs of a cell with these settings."""
    if settings["norm"] != "auto":
        return str(settings["norm"])
    return norm_of_training(settings["parameter"], settings["step_rule"])


def _trained_with(parameter: str, has: Collection[str]) -> str:
    """Return the parameter, with the head v where the data have no value."""
    return parameter if "value" in has else with_head(parameter)


def _require_fields(names: Iterable[str]) -> None:
    for name in names:
        if name not in FIELDS:
            raise ValueError(
                f"{name}: expected one of the fields {', '.join(FIELDS)}{nearest(name, FIELDS)}"
            )


def _like(name: str, value: Any, before: Any) -> Any:
    """Return the value of an override: an axis where that was one."""
    axis = name in ("measure", "record", "norms") or (isinstance(before, list) and name in _AXES)
    return [value] if axis and value is not None and not _is_list(value) else value


def _blamed(
    declare: Callable[[Mapping[str, Any]], Study], overrides: Mapping[str, Any], error: str
) -> list[str]:
    """Return the overrides without one of which there is no error, or else another one."""
    without: dict[str, str] = {}
    for name in overrides:
        try:
            declare({other: x for other, x in overrides.items() if other != name})
            without[name] = ""
        except (TypeError, ValueError, OSError) as other:
            without[name] = str(other)
    mended = [name for name, message in without.items() if not message]
    return mended or [name for name, message in without.items() if message != error]
