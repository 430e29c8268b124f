"""Over-parameterisation: which tokens attention selects as the dimension d grows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from attsvm.data import AttentionData
from attsvm.data.checks import (
    IndexArray,
    as_choice,
    as_nonnegative_int,
    as_positive_float,
    as_positive_int,
)
from attsvm.datasets import digits, unit_sphere
from attsvm.descent import Run, train
from attsvm.studies.store import Record, Store
from attsvm.studies.table import Measure, Row, Table
from attsvm.svm import SVMSolution, att_svm, prompt_svm
from attsvm.theory import classify, cosine, optimal_tokens

__all__ = [
    "DEFAULT_T",
    "MEASURES",
    "REFERENCE",
    "Overparam",
    "OverparamCell",
    "describe",
    "expectations",
    "tabulate",
]

DEFAULT_T = MappingProxyType({"sphere": (5,), "digits": (9,)})
"""Tokens of an input where nothing else is asked for, by the kind of data."""

_PATCH = 4
_STRIDES = {4: 4, 9: 2, 25: 1}
"""Stride between the 4×4 patches of a digit, by the number T of patches that it makes."""

_HISTORY = ("loss", "loss_gap", "norm", "grad_norm", "log_grad_norm", "max_attention")

MEASURES = (
    Measure(
        "global_percent",
        "global %",
        "every input selects its optimal token, the one with the largest score Y v'x",
        lambda record: record["outcome"] == "global",
    ),
    Measure(
        "local_percent",
        "local %",
        "the selection is locally optimal: it outscores all its SVM-neighbours (global included)",
        lambda record: record["outcome"] != "neither",
    ),
    Measure(
        "neither_percent",
        "neither %",
        "the selection is not locally optimal",
        lambda record: record["outcome"] == "neither",
    ),
    Measure(
        "feasible_percent",
        "feasible %",
        "the SVM that separates the optimal tokens from the others has a solution",
        lambda record: record["feasible"],
    ),
    Measure(
        "all_support_percent",
        "all SV %",
        "all constraints of that SVM are active: all tokens are support vectors",
        lambda record: record["all_support"],
    ),
    Measure(
        "cosine_mean",
        "mean cosine",
        "of what was trained with the SVM solution of the tokens it selected",
        lambda record: record["cosine"],
        bounds=(-1.0, 1.0),
        decimals=(4, 4),
    ),
)
"""Columns of the table, read from the records of `Overparam.measure`."""

_REFERENCE_D = (2, 3, 4, 5, 8, 10, 15, 20, 30, 50)

REFERENCE = MappingProxyType(
    {
        measure: MappingProxyType(dict(zip(_REFERENCE_D, percentages, strict=True)))
        for measure, percentages in {
            "global_percent": (21.7, 46.3, 63.7, 72.3, 87.0, 92.3, 94.0, 98.0, 98.7, 100.0),
            "local_percent": (75.3, 100.0, 99.3, 100.0, 99.7, 100.0, 99.7, 99.7, 100.0, 100.0),
            "feasible_percent": (29.0, 92.7, *8 * (100.0,)),
            "all_support_percent": (*7 * (0.0,), 1.3, 8.0, 44.7),
        }.items()
    }
)
"""Percentages by measure and d at n = T = 5 which an independent program found.

It ran 3,000 normalised steps of 0.1 from zero (2,000 for d >= 30) on random unit-norm data with
cross-attention: 300 problems per d (150 for d >= 30), so that its own 95 % intervals reach up to 6
points to either side. The published bar chart (Tarzanagh, Li, Thrampoulidis, Oymak, 2023) shows the
same trends; its numbers, sizes and trials are not given.
"""


@dataclass(frozen=True)
class OverparamCell:
    """Inputs n, tokens T of each and dimension d of the problems of one row."""

    n: int
    T: int
    d: int

    @property
    def name(self) -> str:
        """Names the file of the cell."""
        return f"n{self.n}-T{self.T}-d{self.d}"

    @property
    def axes(self) -> dict[str, int]:
        """Sizes by their letters."""
        return {"n": self.n, "T": self.T, "d": self.d}


@dataclass(frozen=True, kw_only=True)
class Overparam:
    """Many problems of each size: train from zero, solve the SVMs, and see where training went.

    Attention with W (logits X_i W z_i) or with a prompt p (logits X_i p) is trained by normalised
    gradient descent on the logistic loss. The tokens it selects are compared with the optimal ones
    and with their SVM: Att-SVM for W, p-SVM for p.

    Attributes
    ----------
    n, T, d : tuple of int
        The grid: every combination is a cell.
    problems : int
        Problems of each cell. Problem k of a cell is the same whatever else is in the study.
    steps : int
    lr : float
        Length of each step.
    seed : int
    parameter : {"W", "p"}
    data : {"sphere", "digits"}
        `attsvm.datasets.unit_sphere`, or `attsvm.datasets.digits` with T patches of 4×4 pixels:
        T = 4, 9 or 25.
    attention : {"cross", "self"}
        Where the queries of the random data come from. The digits have queries of their own.
    classes : tuple of int
        The two digits.

    Raises
    ------
    TypeError, ValueError
        A setting that is none of these, or a grid that is empty or repeats itself.
    ImportError
        The digits are asked for and scikit-learn is not installed.

    References
    ----------
    Tarzanagh, Li, Thrampoulidis, Oymak, "Transformers as Support Vector Machines", 2023, the figure
    of the percentage of global and local convergence.
    """

    n: tuple[int, ...] = (5,)
    T: tuple[int, ...] = DEFAULT_T["sphere"]
    d: tuple[int, ...] = _REFERENCE_D
    problems: int = 300
    steps: int = 3000
    lr: float = 0.1
    seed: int = 0
    parameter: Literal["W", "p"] = "W"
    data: Literal["sphere", "digits"] = "sphere"
    attention: Literal["cross", "self"] = "cross"
    classes: tuple[int, int] = (3, 8)

    def __post_init__(self) -> None:
        for axis in ("n", "T", "d"):
            sizes = getattr(self, axis)
            for size in sizes:
                as_positive_int(axis, size)
            if not sizes or len(set(sizes)) < len(sizes):
                raise ValueError(f"{axis}: expected one or more different sizes, got {sizes}")
        as_positive_int("problems", self.problems)
        as_positive_int("steps", self.steps)
        as_positive_float("lr", self.lr)
        as_nonnegative_int("seed", self.seed)
        as_choice("parameter", self.parameter, ("W", "p"))
        as_choice("data", self.data, ("sphere", "digits"))
        as_choice("attention", self.attention, ("cross", "self"))
        if min(self.T) < 2:
            raise ValueError(f"T: expected two tokens or more to select from, got {min(self.T)}")
        if self.data == "digits":
            for T in self.T:
                if T not in _STRIDES:
                    raise ValueError(f"T: expected 4, 9 or 25 patches of a digit, got {T}")
            if self.attention == "self":
                raise ValueError(
                    "attention: expected 'cross' for the digits, whose queries are whole images, "
                    "got 'self'"
                )
            digits(max(self.n), 1, classes=self.classes, rng=0)

    @property
    def settings(self) -> dict[str, Any]:
        """All that the runs of a cell depend on, the sizes of the cell aside."""
        settings: dict[str, Any] = {
            "study": "overparam",
            "data": self.data,
            "attention": self.attention,
            "parameter": self.parameter,
            "rule": "ngd",
            "loss": "logistic",
            "lr": self.lr,
            "steps": self.steps,
            "problems": self.problems,
            "seed": self.seed,
        }
        if self.data == "digits":
            settings["classes"] = list(self.classes)
        return settings

    def batch(self, cell: OverparamCell) -> int:
        """Problems measured in one call: at most 64, and no more than 32 MB of W or tokens."""
        numbers = max(cell.d**2, cell.n * cell.T * cell.d)
        return max(1, min(64, 2**22 // numbers))

    @property
    def cells(self) -> tuple[OverparamCell, ...]:
        """The grid, d running fastest."""
        return tuple(OverparamCell(n, T, d) for n in self.n for T in self.T for d in self.d)

    def draw(self, cell: OverparamCell, problems: range) -> AttentionData:
        """Problems of these numbers, as a batch.

        Problem k comes from ``SeedSequence(seed, spawn_key=(n, T, d, k))``.
        """
        rng = np.random.default_rng(
            np.random.SeedSequence(
                self.seed, spawn_key=(cell.n, cell.T, cell.d), n_children_spawned=problems.start
            )
        )
        if self.data == "digits":
            return digits(
                cell.n,
                cell.d,
                classes=self.classes,
                patch=_PATCH,
                stride=_STRIDES[cell.T],
                batch=len(problems),
                rng=rng,
            )
        return unit_sphere(
            cell.n, cell.T, cell.d, batch=len(problems), attention=self.attention, rng=rng
        )

    def measure(
        self, cell: OverparamCell, problems: range, *, num_threads: int | None = None
    ) -> Record:
        """Train these problems, solve their SVMs and classify them.

        Returns
        -------
        dict of ndarray, one row per problem
            ``problem`` its number; ``optimal`` and ``selected`` (n,) tokens; ``outcome`` "global",
            "local" or "neither"; ``feasible`` and ``all_support``: of the SVM of the optimal ones;
            ``cosine`` of the trained parameter with the SVM of the selected tokens;
            ``svm_optimal_*`` and ``svm_selected_*``: ``norm``, ``gap`` and ``kkt`` of the two SVMs
            as in `SVMSolution`; ``history_*`` (R,): the record of the run at R steps. The cosine is
            NaN where that SVM is infeasible or training did not leave zero.
        """
        data = self.draw(cell, problems)
        run = train(
            data,
            parameter=self.parameter,
            rule="ngd",
            loss="logistic",
            lr=self.lr,
            steps=self.steps,
            record_every=_recorded_steps(self.steps),
            num_threads=num_threads,
        )
        optimal = optimal_tokens(data)
        svm_optimal = self._solve(data, optimal)
        svm_selected = self._solve_where_other(data, run.selected, optimal, svm_optimal)
        support = svm_optimal.support
        assert support is not None
        return {
            "problem": np.arange(problems.start, problems.stop),
            "optimal": optimal,
            "selected": run.selected,
            "outcome": np.asarray(classify(data, run, solution=svm_selected)),
            "feasible": np.asarray(svm_optimal.feasible),
            "all_support": support.sum(axis=(1, 2)) == (data.lengths - 1).sum(axis=1),
            "cosine": _cosines(run, svm_selected),
            **_accuracy("svm_optimal", svm_optimal),
            **_accuracy("svm_selected", svm_selected),
            "history_step": np.tile(run.history["step"], (len(problems), 1)),
            **{f"history_{key}": run.history[key] for key in _HISTORY},
        }

    def _solve(self, data: AttentionData, selected: IndexArray) -> SVMSolution:
        return (att_svm if self.parameter == "W" else prompt_svm)(data, selected)

    def _solve_where_other(
        self,
        data: AttentionData,
        selected: IndexArray,
        optimal: IndexArray,
        svm_optimal: SVMSolution,
    ) -> SVMSolution:
        """SVM of the selected tokens; those of the optimal ones need no second solution."""
        other = (selected != optimal).any(axis=1)
        if not other.any():
            return svm_optimal
        svm_other = self._solve(data.subset(other), selected[other])
        source = np.arange(len(other))
        source[other] = len(other) + np.arange(other.sum())
        names = [f.name for f in fields(svm_optimal) if f.name != "variable"]
        arrays: dict[str, Any] = {
            name: np.concatenate([getattr(svm_optimal, name), getattr(svm_other, name)])[source]
            for name in names
        }
        return replace(svm_optimal, **arrays)


def tabulate(study: Overparam, store: Store) -> Table:
    """Table of the finished cells, one row for each."""
    rows = []
    for cell in study.cells:
        record = store.read_cell(cell.name, ("outcome", "feasible", "all_support", "cosine"))
        rows.append(Row(cell.axes, {m.name: m.estimate(record) for m in MEASURES}))
    return Table(MEASURES, tuple(rows))


def describe(study: Overparam) -> str:
    """The settings of a study in a line or two, for the reader of its table or figure."""
    if study.data == "digits":
        data = f"digits {study.classes[0]} and {study.classes[1]}, random features of 4x4 patches"
    else:
        data = f"random unit-norm tokens, {study.attention}-attention"
    return (
        f"{data}; {study.parameter} trained from zero by {study.steps} normalised steps of "
        f"{study.lr:g}, logistic loss; {study.problems} problems of each size, seed {study.seed}"
    )


def expectations(study: Overparam, store: Store) -> list[str]:
    """What theory and the reference say of the finished cells, each beside what was seen.

    Returns
    -------
    list of str
        Sentences; those of which the study has no case are left out.
    """
    sentences = []
    wide = [cell for cell in study.cells if cell.d >= _sufficient_dimension(study, cell)]
    if wide:
        feasible = np.concatenate([store.read_cell(c.name, ["feasible"])["feasible"] for c in wide])
        bound = "max(T-1, n)" if study.parameter == "W" else "n (T-1)"
        sentences.append(
            f"d >= {bound} makes the SVM feasible for almost all data: "
            f"seen in {feasible.sum()} of {feasible.size} problems."
        )
    if study.parameter == "W":
        records = [store.read_cell(c.name, ("all_support", "outcome")) for c in study.cells]
        outcomes = np.concatenate([record["outcome"][record["all_support"]] for record in records])
        if outcomes.size:
            sentences.append(
                "Where all tokens are support vectors training is expected to go global: "
                f"seen in {(outcomes == 'global').sum()} of {outcomes.size} problems."
            )
    differences = _differences_from_reference(study, tabulate(study, store))
    if differences:
        sentences.append(
            "Largest difference from an independent computation at n = T = 5, in points: "
            + ", ".join(f"{heading} {points:.1f} (d={d})" for heading, points, d in differences)
            + "."
        )
    if study.data == "digits":
        sentences.append(
            "How global rises on the digits depends on how they are embedded, and the embedding "
            "was chosen so that it does: an illustration on real data, not independent evidence."
        )
    return sentences


def _sufficient_dimension(study: Overparam, cell: OverparamCell) -> int:
    """Smallest d at which the SVM of any selection is feasible for almost all data.

    For W by the feasibility theorem of "Transformers as Support Vector Machines"; for p because
    n(T-1) differences of tokens are then linearly independent, and any margins can be had.
    """
    if study.parameter == "W":
        return max(cell.T - 1, cell.n)
    return cell.n * (cell.T - 1)


def _differences_from_reference(study: Overparam, table: Table) -> list[tuple[str, float, int]]:
    """Heading, points and d of the largest difference of each measure, where it compares."""
    same = (study.data, study.attention, study.parameter, study.lr, study.steps)
    if same != ("sphere", "cross", "W", 0.1, 3000):
        return []
    rows = [r for r in table.rows if r.axes["n"] == r.axes["T"] == 5]
    differences = []
    for measure in table.measures:
        by_d: Mapping[int, float] = REFERENCE.get(measure.name, {})
        pairs = [
            (abs(row.estimates[measure.name].value - by_d[row.axes["d"]]), row.axes["d"])
            for row in rows
            if row.axes["d"] in by_d
        ]
        if pairs:
            points, d = max(pairs)
            differences.append((measure.heading.removesuffix(" %"), points, d))
    return differences


def _recorded_steps(steps: int) -> list[int]:
    """0, 1, 2, 5, 10, 20, 50, … and the last step."""
    regular = (k * 10**e for e in range(len(str(steps))) for k in (1, 2, 5))
    return [0, *(step for step in regular if step < steps), steps]


def _cosines(run: Run, solution: SVMSolution) -> npt.NDArray[np.float64]:
    """Cosine of each trained parameter with its SVM, NaN where one of them points nowhere."""
    directions = solution.W if run.parameter == "W" else solution.p
    assert directions is not None
    axes = tuple(range(1, directions.ndim))
    compare = solution.feasible & run.direction.any(axis=axes)
    cosines = np.full(len(directions), np.nan)
    if compare.any():
        cosines[compare] = cosine(run.direction[compare], directions[compare], axis=axes)
    return cosines


def _accuracy(name: str, solution: SVMSolution) -> Record:
    return {f"{name}_{key}": getattr(solution, key) for key in ("norm", "gap", "kkt")}
