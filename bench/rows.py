"""The rows of the speed table, as `rows.toml` declares them, and the tasks of their entries."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import attsvm
from bench.contenders import CONTENDERS
from bench.tasks import SVM, Descent, Figure, Products, Read

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LIMITS = {"read": "one read of the tokens", "products": "matrix products at peak"}


@dataclass(frozen=True)
class Entry:
    """A contender with its task in a row; the fields are those of `rows.toml`."""

    contender: str
    task: Any = field(repr=False)
    name: str
    title: str
    steps: tuple[int, int] | None = None
    memory: int | None = None
    compared: bool = True

    @property
    def role(self) -> str:
        return self.contender if self.contender in ("attsvm", "limit") else "peer"

    @property
    def stepwise(self) -> bool:
        return isinstance(self.task, Descent | Read | Products)

    @property
    def problems(self) -> int:
        """Problems in the task; times are for one of them."""
        return len(self.task.tokens) if getattr(self.task, "batched", False) else 1


@dataclass(frozen=True)
class Row:
    """One line of the table; the fields are those of `rows.toml`."""

    name: str
    title: str
    unit: str
    task: Mapping[str, Any]
    contenders: tuple[str | Mapping[str, Any], ...]
    targets: Mapping[str, float] = field(default_factory=dict)
    tolerance: float = 1e-9
    check_steps: int = 10
    most_steps: int = 20_000
    busy: int = 0
    gap: float | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    about: str = ""

    def entries(self) -> list[Entry]:
        """Draw the data; return the entries, attsvm's first."""
        drawn: dict[str, Any] = {}
        entries = []
        for declared in self.contenders:
            given = {"contender": declared} if isinstance(declared, str) else dict(declared)
            name = given.pop("contender")
            settings = {**self.task, **given.pop("task", {})}
            key = repr(settings)
            task = drawn[key] = drawn.get(key) or draw(**settings)
            if "problem" in given:
                task = task.part(given.pop("problem"))
            if "problems" in given:
                task = task.part(slice(given.pop("problems")))
            if name in LIMITS:
                entries.append(Entry("limit", limit_of_step(name, task), name, LIMITS[name]))
            else:
                title = CONTENDERS[name].title
                entries.append(Entry(name, task, **{"name": name, "title": title, **given}))
        return entries


def draw(
    kind: str,
    n: int,
    T: int,
    d: int,
    batch: int | None = None,
    dtype: str = "float64",
    reduced: bool = False,
    steps: int = 0,
    **fields: Any,
) -> Descent | SVM | Figure:
    """Return a task on random data of the unit sphere, the SVM that of the optimal tokens.

    The `kind` may also be one of `SVMS`, which draw other data.

    W and p start at zero, K and Q, and all of a figure, at small random matrices. `reduced`: the
    same logits and scores in coordinates of the spans of tokens and queries (thin QR).
    """
    if kind in SVMS:
        return SVMS[kind](n, T, d, **fields)
    data = attsvm.datasets.unit_sphere(n, T, d, batch=batch, rng=0, dtype=np.dtype(dtype).type)
    if kind == "svm":
        return SVM(data.tokens, data.queries, attsvm.optimal_tokens(data), **fields)
    task = Descent(data.tokens, data.labels, data.queries, data.value, **fields)
    names = "WKQ" if kind == "figure" else "KQ" if task.parameter == "KQ" else ""
    rng, bound = np.random.default_rng(1), 1.0 / np.sqrt(d)
    shape = (*data.tokens.shape[:-3], d, d)
    task = replace(task, init={name: rng.uniform(-bound, bound, shape) for name in names})
    if reduced:
        basis, triangle = np.linalg.qr(task.tokens.reshape(-1, d).T)
        task = replace(
            task,
            tokens=np.ascontiguousarray(triangle.T).reshape(n, T, -1),
            queries=np.ascontiguousarray(np.linalg.qr(task.queries.T, mode="r").T),
            value=basis.T @ task.value,
        )
    return Figure(task, steps) if kind == "figure" else task


def correlated_svm(n: int, T: int, d: int, noise: float, **fields: Any) -> SVM:
    """Return the SVM of the optimal tokens among tokens on eight common directions and noise."""
    rng = np.random.default_rng(0)
    common = rng.standard_normal((8, d))
    tokens = rng.standard_normal((n, T, 8)) @ common + noise * rng.standard_normal((n, T, d))
    tokens /= np.linalg.norm(tokens, axis=2, keepdims=True)
    scores = rng.choice([-1, 1], (n, 1)) * (tokens @ rng.standard_normal(d))
    return SVM(tokens, tokens[:, 0].copy(), scores.argmax(axis=1), **fields)


def digits_svm(n: int, T: int, d: int, patch: int, stride: int, **fields: Any) -> SVM:
    """Return the SVM of the optimal tokens among T patches of each of n handwritten digits."""
    data = attsvm.datasets.digits(n, d, patch=patch, stride=stride, rng=0)
    assert data.T == T
    return SVM(data.tokens, data.queries, attsvm.optimal_tokens(data), **fields)


def soft_margin_svm(n: int, T: int, d: int, C: float, apart: float, **fields: Any) -> SVM:
    """Return the soft margin of two normal classes as a hard margin with a coordinate per sample.

    Constraint i is y_i (x_i, y_i e_i / √C)'w >= 1, with 0 for the token that is not selected.
    """
    rng = np.random.default_rng(0)
    samples = rng.standard_normal((n, d))
    labels = np.where(np.arange(n) % 2, 1.0, -1.0)
    samples[:, 0] += apart * labels
    tokens = np.zeros((n, T, d + n))
    tokens[:, 0] = np.hstack([samples * labels[:, None], np.eye(n) / np.sqrt(C)])
    return SVM(tokens, np.ones((n, 1)), np.zeros(n, dtype=np.int64), **fields)


SVMS = {"correlated": correlated_svm, "digits": digits_svm, "soft margin": soft_margin_svm}


def limit_of_step(name: str, task: Descent) -> Read | Products:
    """Return one read of the tokens, or the two products of a step: the least a step can take.

    Both in the coordinates of the spans of tokens and queries, min(nT, d) and min(n, d) of them.
    """
    n, T, d = task.tokens.shape
    key, query = min(n * T, d), min(n, d)
    if name == "read":
        return Read(n * T * key * task.tokens.itemsize)
    return Products(4.0 * n * key * query, (n, d))


def _declared() -> dict[str, Row]:
    with Path(__file__).with_name("rows.toml").open("rb") as file:
        tables = tomllib.load(file)
    return {
        name: Row(name=name, contenders=tuple(table.pop("entries")), **table)
        for name, table in tables.items()
    }


ROWS = _declared()
