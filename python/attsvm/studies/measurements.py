"""Measurements of the problems of a study: names, and the variables that each makes."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from attsvm import _core
from attsvm._arrays import BoolArray, Float64Array, IndexArray
from attsvm._geometries import Norm
from attsvm.data import AttentionData
from attsvm.datasets.signal_tokens import by_kind, flipped
from attsvm.descent import Run
from attsvm.descent.blocks import as_blocks
from attsvm.svm.solution import SVMSolution, rows_of
from attsvm.theory import classify, margin_ratio, optimal_tokens
from attsvm.theory.cosine import cosine_gap, cosines_and_gaps

Arrays: TypeAlias = "Sequence[npt.NDArray[Any]]"
Record: TypeAlias = "dict[str, npt.NDArray[Any]]"
"""Named arrays, with one row for each problem."""

_ALONE = tuple(name for name, kind in _core.parameterisations.items() if kind.queries != "prompt")
PARAMETERS = (*_ALONE, *(f"v+{name}" for name in _ALONE))
"""Parameters that a study can train: all that need no prompt."""

KEPT = ("W", "p", "v")
"""Measurements that keep what was trained."""

OUTCOMES = ("neither", "local", "global")
"""Meanings of the values 0, 1, 2 of the variable ``outcome``."""

_HISTORY = MappingProxyType(
    {
        "loss": "mean loss",
        "loss_gap": "mean loss less its infimum",
        "norm": "Frobenius norm of what is trained",
        "grad_norm": "norm of the gradient",
        "log_grad_norm": "logarithm of the norm of the gradient, where the norm underflows too",
        "max_attention": "largest attention of an input, mean over inputs",
    }
)
_ACCURACY = MappingProxyType(
    {
        "norm": "norm of the solution, inf where there is none",
        "gap": "relative duality gap, or the residual of the proof that there is no solution",
        "kkt": "largest residual of the optimality conditions, or that of the proof",
    }
)


@dataclass(frozen=True)
class Variable:
    """An array of the results."""

    name: str
    meaning: str  # for its attribute ``long_name``
    dtype: str = "float64"
    # "input", "step", "row", "column", "norm" or "kind": axes beside those of the study
    along: tuple[str, ...] = ()
    padding: float = math.nan  # value at inputs, rows and columns that a cell does not have
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Measured:
    """A batch of B trained problems."""

    data: AttentionData
    run: Run
    direction: Float64Array  # (B, d, d) or (B, d): trained W or p
    norm: Norm  # of its SVMs
    norms: tuple[Norm, ...]  # of those that are solved in several
    # (selected tokens, norm) to the solutions of its SVMs.
    solve: Callable[[IndexArray, Norm], SVMSolution]

    @cached_property
    def optimal(self) -> IndexArray:
        """Optimal tokens (B, n)."""
        return optimal_tokens(self.data)

    @cached_property
    def svm_optimal(self) -> SVMSolution:
        """SVM of the optimal tokens."""
        return self.solve(self.optimal, self.norm)

    @cached_property
    def svm_selected(self) -> SVMSolution:
        """SVM of the selected tokens."""
        return self.solve(self.run.selected, self.norm)

    @cached_property
    def svms_in_norms(self) -> tuple[SVMSolution, ...]:
        """SVM of the selected tokens in each of `norms`."""
        return tuple(self.solve(self.run.selected, norm) for norm in self.norms)

    @cached_property
    def moved(self) -> BoolArray:
        """Whether the direction is not zero (B,)."""
        return np.asarray(self.direction.any(axis=tuple(range(1, self.direction.ndim))))


@dataclass(frozen=True)
class Measurement:
    """A measurement of every problem."""

    name: str  # its name in declarations
    recorded: str  # description of what it records of a run
    variables: tuple[Variable, ...]
    # Maps `Measured` to an array for each variable, without padding.
    arrays: Callable[[Measured], Arrays]
    # Trained parameters that it is defined for; by default all.
    parameters: tuple[str, ...] | None = None
    # What there must be: a "value" of the problems, a "head", which may be trained, a "test", or
    # "kinds" of tokens.
    of: str = ""
    # What it needs of every recorded step: the "direction" W or p, the "attention", which labels
    # are "fitted", or the accuracy on a "test".
    needs: str = ""

    def measure(self, measured: Measured) -> Record:
        """Return an array for each variable, by name, without padding."""
        names = (variable.name for variable in self.variables)
        return dict(zip(names, self.arrays(measured), strict=True))

    @property
    def in_norms(self) -> bool:
        """Whether it needs SVMs in several norms."""
        return any("norm" in variable.along for variable in self.variables)

    def fits(self, parameter: str) -> bool:
        """Return whether it can be measured of this parameter."""
        return self.parameters is None or parameter in self.parameters

    def obstacle(self, parameter: str, has: Collection[str]) -> str | None:
        """Return why it cannot be measured, or None where it can."""
        if not self.fits(parameter):
            assert self.parameters is not None
            fitting = (name for name, each in MEASUREMENTS.items() if each.fits(parameter))
            return (
                f"measure: {self.name!r} needs the parameter {' or '.join(self.parameters)}, "
                f"got {parameter}; choose of {', '.join(fitting)}"
            )
        head = "value" in has or parameter.startswith("v+")
        if self.of and self.of not in (*has, *(["head"] if head else [])):
            return f"measure: {self.name!r} needs data with {_OF_DATA[self.of]}, got data without"
        return None


_OF_DATA = MappingProxyType(
    {
        "value": "a value",
        "head": "a value",
        "test": "label noise",
        "kinds": "kinds of tokens (signal_noise)",
    }
)
"""Properties of problems, in words."""


def _outcome(measured: Measured) -> IndexArray:
    kinds = np.asarray(classify(measured.data, measured.run, solution=measured.svm_selected))
    return np.asarray(sum(code * (kinds == kind) for code, kind in enumerate(OUTCOMES)))


def _all_support(measured: Measured) -> BoolArray:
    support = measured.svm_optimal.support
    assert support is not None
    constraints = (measured.data.lengths - 1).sum(axis=1)
    return np.asarray(support.sum(axis=(1, 2)) == constraints)


def _compared(measured: Measured, solution: SVMSolution) -> tuple[Float64Array, Float64Array]:
    """Compute the cosine of the trained direction with a SVM, and 1 - cosine; NaN for zero."""
    directions = solution.direction
    axes = tuple(range(1, directions.ndim))
    compare = np.asarray(solution.feasible & measured.moved & (solution.norm > 0))
    both = np.full(len(directions), np.nan), np.full(len(directions), np.nan)
    if compare.any():
        known = cosines_and_gaps(measured.direction[compare], directions[compare], axes)
        for values, of_known in zip(both, known, strict=True):
            values[compare] = of_known
    return both


def _margin_ratio(measured: Measured, norm: Norm, solution: SVMSolution) -> Float64Array:
    """Compute the margin ratio in a norm; NaN for zero, which has none."""
    ratios, moved = np.full(len(measured.direction), np.nan), measured.moved
    if moved.any():
        data, selected = measured.data.subset(moved), measured.run.selected[moved]
        W, of_moved = measured.direction[moved], rows_of(solution, moved)
        ratios[moved] = margin_ratio(data, W, selected, norm, solution=of_moved)
    return ratios


def _single(
    variable: Variable, recorded: str, array: Callable[[Measured], npt.NDArray[Any]], **options: Any
) -> Measurement:
    """Return the measurement of one variable, which has its name."""
    return Measurement(
        variable.name, recorded, (variable,), lambda measured: [array(measured)], **options
    )


def _in_norms(
    variable: Variable,
    of_norm: Callable[[Measured, Norm, SVMSolution], Float64Array],
    recorded: str,
) -> Measurement:
    """Return the measurement of a number in each of the norms."""

    def array(measured: Measured) -> Float64Array:
        of_norms = zip(measured.norms, measured.svms_in_norms, strict=True)
        return np.stack([of_norm(measured, *each) for each in of_norms], axis=-1)

    return _single(variable, recorded, array)


def _cosine_history(measured: Measured) -> Arrays:
    """Compute 1 - cosine of every recorded iterate with the SVM of the final tokens."""
    run, solution = measured.run, measured.svm_selected
    directions = solution.direction
    iterates = run.history[as_blocks(run.parameter).direction]
    axes = tuple(range(2, iterates.ndim))  # of an iterate
    gaps = np.full(iterates.shape[:2], np.nan)
    compare = iterates.any(axis=axes) & (solution.feasible & (solution.norm > 0))[:, np.newaxis]
    problem, _ = np.nonzero(compare)
    if problem.size:
        same = tuple(axis - 1 for axis in axes)  # where problem and step are one axis
        gaps[compare] = cosine_gap(iterates[compare], directions[problem], axis=same)
    return [gaps]


def _trained_block(name: str, meaning: str, along: tuple[str, ...]) -> Measurement:
    """Return the measurement that keeps a trained parameter."""

    def array(measured: Measured) -> Float64Array:
        trained = measured.run.v if name == "v" else measured.direction
        assert trained is not None
        return trained

    def trains(parameter: str) -> bool:
        if name == "v":
            return parameter.startswith("v+")
        return (name == "W") == (as_blocks(parameter).direction == "W")

    variable = Variable(name, f"trained {meaning}", along=along)
    known = tuple(filter(trains, PARAMETERS))
    return _single(variable, f"the trained {meaning}", array, parameters=known)


def _accuracy(name: str, tokens: str) -> Measurement:
    return Measurement(
        name,
        f"the accuracy of the SVM of the {tokens} tokens",
        tuple(
            Variable(f"{name}_{key}", f"SVM of the {tokens} tokens: {meaning}")
            for key, meaning in _ACCURACY.items()
        ),
        lambda measured: [getattr(getattr(measured, name), key) for key in _ACCURACY],
        of="value" if name == "svm_optimal" else "",
    )


def _history(measured: Measured) -> Arrays:
    history = measured.run.history
    nothing = np.full_like(history["norm"], np.nan)
    return [history.get(key, nothing) for key in _HISTORY]


def _by_label(measured: Measured, values: npt.NDArray[Any]) -> Arrays:
    """Average values (B, R, n, ...) over the inputs with clean and those with flipped labels."""
    of_flipped = flipped(measured.data.labels)
    means = []
    for which in (~of_flipped, of_flipped):
        count = which.sum(axis=-1)[:, np.newaxis]
        total = np.einsum("bi,bri...->br...", which.astype(np.float64), values)
        count = count.reshape(count.shape + (1,) * (total.ndim - 2))
        mean = np.full(total.shape, np.nan)
        np.divide(total, count, out=mean, where=count > 0)
        means.append(mean)
    return means


def _with_history(
    name: str,
    recorded: str,
    variables: Mapping[str, str],
    series: Callable[[Measured], Arrays],
    *,
    along: tuple[str, ...] = (),
    **options: Any,
) -> tuple[Measurement, Measurement]:
    """Return the measurements of series (B, R, ...) at the end and at every recorded step."""
    at_end = tuple(Variable(each, meaning, along=along) for each, meaning in variables.items())
    at_steps = tuple(
        Variable(f"history_{each}", f"record of the run: {meaning}", along=("step", *along))
        for each, meaning in variables.items()
    )

    def last(measured: Measured) -> Arrays:
        return [values[:, -1] for values in series(measured)]

    return (
        Measurement(name, recorded, at_end, last, **options),
        Measurement(f"{name}_history", f"{recorded}, during training", at_steps, series, **options),
    )


_TOKEN: dict[str, Any] = {"dtype": "int32", "along": ("input",), "padding": -1}
_NONE_IS_NAN = {"comment": "NaN where one of the two is zero or missing"}

_ALL = (
    _single(
        Variable("selected", "token with the largest attention", **_TOKEN),
        "the tokens it selected",
        lambda measured: measured.run.selected,
    ),
    _single(
        Variable("optimal", "token with the largest score Y v'x", **_TOKEN),
        "the optimal tokens, those with the largest scores",
        lambda measured: measured.optimal,
        of="value",
    ),
    _single(
        Variable(
            "outcome",
            "classification of the selected tokens",
            "int8",
            attributes={
                "flag_values": list(range(len(OUTCOMES))),
                "flag_meanings": " ".join(OUTCOMES),
                "comment": "global: every input selects its optimal token; local: the selected "
                "tokens outscore their SVM-neighbours",
            },
        ),
        "whether the selection is globally optimal, locally optimal or neither",
        _outcome,
        of="head",
    ),
    _single(
        Variable("feasible", "whether the SVM of the optimal tokens is feasible", "bool"),
        "whether an SVM separates the optimal tokens from the others",
        lambda measured: np.asarray(measured.svm_optimal.feasible),
        of="value",
    ),
    _single(
        Variable(
            "all_support",
            "whether all tokens are support vectors of the SVM of the optimal ones",
            "bool",
        ),
        "whether all tokens are support vectors of that SVM",
        _all_support,
        of="value",
    ),
    Measurement(
        "cosine",
        "the cosine of what was trained with the SVM of the selected tokens",
        (
            Variable(
                "cosine",
                "cosine of what was trained with the SVM of the selected tokens",
                attributes=_NONE_IS_NAN,
            ),
            Variable(
                "cosine_gap",
                "1 - cosine, to all digits also where the cosine rounds to 1",
                attributes=_NONE_IS_NAN,
            ),
        ),
        lambda measured: _compared(measured, measured.svm_selected),
    ),
    _accuracy("svm_optimal", "optimal"),
    _accuracy("svm_selected", "selected"),
    _in_norms(
        Variable(
            "margin_ratio",
            "margin of what was trained over the largest of its norm",
            along=("norm",),
            attributes=_NONE_IS_NAN,
        ),
        _margin_ratio,
        "its margin ratio in each norm",
    ),
    _in_norms(
        Variable(
            "cosine_in_norm",
            "cosine of what was trained with the SVM in a norm",
            along=("norm",),
            attributes=_NONE_IS_NAN,
        ),
        lambda measured, _, solution: _compared(measured, solution)[0],
        "its cosine with the SVM in each norm",
    ),
    Measurement(
        "svm_in_norm",
        "the accuracy of the SVM in each norm",
        tuple(
            Variable(f"svm_in_norm_{key}", f"SVM in a norm: {meaning}", along=("norm",))
            for key, meaning in _ACCURACY.items()
        ),
        lambda measured: [
            np.stack([getattr(solution, key) for solution in measured.svms_in_norms], axis=-1)
            for key in _ACCURACY
        ],
    ),
    Measurement(
        "history",
        "loss, norm and gradient during training",
        tuple(
            Variable(f"history_{key}", f"record of the run: {meaning}", along=("step",))
            for key, meaning in _HISTORY.items()
        ),
        _history,
    ),
    Measurement(
        "cosine_history",
        "1 - cosine during training with the SVM of the tokens selected at the end",
        (
            Variable(
                "history_cosine_gap",
                "record of the run: 1 - cosine with the SVM of the tokens selected at the end",
                along=("step",),
                attributes=_NONE_IS_NAN,
            ),
        ),
        _cosine_history,
        needs="direction",
    ),
    *_with_history(
        "accuracy",
        "the share of the labels that it fits",
        {"accuracy": "share of the labels that are fitted"},
        lambda measured: [measured.run.history["fitted"].mean(axis=-1)],
        needs="fitted",
    ),
    *_with_history(
        "fitted",
        "the shares of the clean and of the flipped labels that it fits",
        {
            "clean_fitted": "share of the labels that are not flipped that are fitted",
            "flipped_fitted": "share of the flipped labels that are fitted",
        },
        lambda measured: _by_label(measured, measured.run.history["fitted"]),
        of="test",
        needs="fitted",
    ),
    *_with_history(
        "test_accuracy",
        "the accuracy on a test without flipped labels",
        {"test_accuracy": "share of the labels of the test that are predicted"},
        lambda measured: [measured.run.history["test_accuracy"]],
        of="test",
        needs="test",
    ),
    *_with_history(
        "attention_by_kind",
        "the attention on each kind of token",
        {
            f"{labels}_attention": f"attention by kind of token, mean over {labels} inputs"
            for labels in ("clean", "flipped")
        },
        lambda measured: _by_label(measured, by_kind(measured.run.history["attention"])),
        along=("kind",),
        of="kinds",
        needs="attention",
    ),
    _trained_block("W", "W, or what K and Q make of it", ("row", "column")),
    _trained_block("p", "p, or W p where both are trained", ("row",)),
    _trained_block("v", "head v", ("row",)),
)
MEASUREMENTS: Mapping[str, Measurement] = MappingProxyType({each.name: each for each in _ALL})
"""Measurements by name."""


def measurable(
    names: Iterable[str], parameters: Collection[str], has: Collection[str]
) -> tuple[str, ...]:
    """Return those of these measurements that can be made of all the trained parameters."""
    return tuple(
        name
        for name in names
        if all(MEASUREMENTS[name].obstacle(each, has) is None for each in parameters)
    )
