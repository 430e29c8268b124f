"""The rows of the speed table: sizes, contenders and targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import attsvm
from bench.contenders import CONTENDERS
from bench.tasks import SVM, Array, Descent, Figure, Products, Read

GIB = 2**30


@dataclass(frozen=True)
class Entry:
    """A contender of `bench.contenders.CONTENDERS` with its task in a row.

    Attributes
    ----------
    key, title : str
        Those of the contender where they are not given.
    steps : (int, int), optional
        Steps of the short and of the long run; chosen by their times where not given.
    memory : int, optional
        Bytes of address space that the process may take.
    compared : bool
        Whether its answer is that of the other entries.
    """

    contender: str
    task: Any = field(repr=False)
    key: str = ""
    title: str = ""
    steps: tuple[int, int] | None = None
    memory: int | None = None
    compared: bool = True

    @property
    def name(self) -> str:
        return self.key or self.contender

    @property
    def label(self) -> str:
        return self.title or CONTENDERS[self.contender].title

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
    """One line of the table.

    Attributes
    ----------
    unit : str
        One step or one problem: times are for one of these.
    entries : callable
        Draws the data and gives the entries, attsvm's first.
    targets : dict
        Largest "seconds" of a unit, times the "limit" of the hardware, longest over shortest of
        attsvm's settings ("flat"), "gap", "peak" bytes; under any other key, names of entries with
        "|" between them, how many times faster than the fastest of them attsvm is at least.
    tolerance : float
        Largest relative difference between the answers of descent after `check_steps` steps.
    gap : float or None
        Relative duality gap that an SVM solver must reach to be compared.
    left_out : dict
        Peers that would belong here, and why they are not run.
    """

    name: str
    title: str
    unit: str
    entries: Callable[[], list[Entry]]
    targets: Mapping[str, float] = field(default_factory=dict)
    tolerance: float = 1e-9
    check_steps: int = 10
    most_steps: int = 20_000
    gap: float | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def random_descent(
    n: int, T: int, d: int, *, batch: int | None = None, dtype: type = np.float64, **options: Any
) -> Descent:
    """Return a task on random data; (K, Q) starts at small random blocks, the others at zero."""
    data = attsvm.datasets.unit_sphere(n, T, d, batch=batch, rng=0, dtype=dtype)
    factors = options.get("parameter") == "KQ"
    init = _random_start(data.tokens.shape[:-3], d, "KQ") if factors else None
    options = {"init": init, **options}
    return Descent(data.tokens, data.labels, data.queries, data.value, **options)


def _random_start(lead: tuple[int, ...], d: int, names: str) -> dict[str, Array]:
    rng = np.random.default_rng(1)
    bound = 1.0 / np.sqrt(d)
    return {name: rng.uniform(-bound, bound, (*lead, d, d)) for name in names}


def step_entries(task: Descent, peers: tuple[str, ...]) -> list[Entry]:
    """Return attsvm, the limits of the hardware and the peers on one task.

    The least a step can take is one read of the tokens and its two products at peak, both in the
    coordinates of the spans of tokens and queries, min(nT, d) and min(n, d) of them.
    """
    n, T, d = task.tokens.shape
    key, query = min(n * T, d), min(n, d)
    read = Read(n * T * key * task.tokens.itemsize)
    products = Products(4.0 * n * key * query, (n, d))
    return [
        Entry("attsvm", task),
        Entry("limit", read, "read", "one read of the tokens"),
        Entry("limit", products, "products", "matrix products at peak"),
        *(Entry(peer, task) for peer in peers),
    ]


def _step(n: int, T: int, d: int, targets: dict[str, float]) -> Row:
    def entries() -> list[Entry]:
        return step_entries(random_descent(n, T, d), ("jax", "torch", "numpy", "published"))

    return Row(f"step-{n}x{T}x{d}", f"one step, n={n} T={T} d={d}", "step", entries, targets)


def _many(parameter: str, title: str, check_steps: int, targets: dict[str, float]) -> Row:
    def entries() -> list[Entry]:
        # Factors at the usual 0.1 are unstable: there rounding decides where a run goes.
        lr = 0.05 if parameter == "KQ" else 0.1
        task = random_descent(6, 8, 10, batch=1024, parameter=parameter, lr=lr)
        vmap = "jax.jit(vmap(loop))"
        return [
            Entry("attsvm", task),
            Entry("jax", task, title=vmap),
            Entry("jax-devices", task, title=f"{vmap}, a device per core"),
            Entry("numpy", task),
            Entry("torch", task),
            Entry("published", task.part(0)),
        ]

    targets = {"jax|jax-devices": 12.0, **targets}
    title, unit = f"1,024 problems n=6 T=8 d=10, {title}", "step and problem"
    options = {"check_steps": check_steps, "most_steps": 2000}
    return Row(f"many-{parameter}", title, unit, entries, targets, **options)


def _one_small() -> list[Entry]:
    task = random_descent(6, 8, 10)
    return [Entry(name, task) for name in ("attsvm", "jax", "numpy", "torch", "published")]


def _flat() -> list[Entry]:
    # For fewer steps the tokens are not reduced.
    options: dict[str, Any] = {"steps": (1000, 51_000), "memory": 12 * GIB}
    tasks = {d: random_descent(20, 8, d, output="attention") for d in (1000, 10_000, 100_000)}
    small = tasks[1000]
    basis, triangle = np.linalg.qr(small.tokens.reshape(-1, 1000).T)
    reduced = replace(
        small,
        tokens=np.ascontiguousarray(triangle.T).reshape(20, 8, -1),
        queries=np.ascontiguousarray(np.linalg.qr(small.queries.T, mode="r").T),
        value=basis.T @ small.value,
    )
    return [
        *(
            Entry("attsvm", task, f"d={d}", f"attsvm, d = {d:,}", compared=d == 1000, **options)
            for d, task in tasks.items()
        ),
        Entry("numpy", reduced, "reduced", "NumPy, d = 1,000 reduced by hand to 160 x 20"),
        Entry("jax", small, title="jax.jit, d = 1,000"),
    ]


def _float32() -> list[Entry]:
    tasks = {t.__name__: random_descent(1000, 128, 256, dtype=t) for t in (np.float32, np.float64)}
    return [Entry("attsvm", task, name, f"attsvm, {name} tokens") for name, task in tasks.items()]


def _threads(name: str, title: str, unit: str, least: float, task: Callable[[], Any]) -> Row:
    """Return a row that compares two threads with one, whose answers have the same bits."""

    def entries() -> list[Entry]:
        two = task()
        one = replace(two, threads=1)
        return [
            Entry("attsvm", two, "2 threads", "attsvm, 2 threads"),
            Entry("attsvm", one, "1 thread", "attsvm, 1 thread"),
        ]

    title = f"1 to 2 threads, {title}"
    return Row(f"threads-{name}", title, unit, entries, {"1 thread": least}, tolerance=0.0)


def random_svm(n: int, T: int, d: int, *, batch: int | None = None, **options: Any) -> SVM:
    """Return the SVM of the optimal tokens of random data."""
    data = attsvm.datasets.unit_sphere(n, T, d, batch=batch, rng=0)
    return SVM(data.tokens, data.queries, attsvm.optimal_tokens(data), **options)


def _svm(
    size: tuple[int, int, int],
    peers: tuple[str, ...],
    targets: dict[str, float],
    left_out: Mapping[str, str] | None = None,
    norm: str = "fro",
    gap: float = 1e-9,
) -> Row:
    def entries() -> list[Entry]:
        task = random_svm(*size, norm=norm, gap=gap)
        return [Entry("attsvm", task, memory=16 * GIB), *(Entry(peer, task) for peer in peers)]

    n, T, d = size
    name, title = {
        "fro": ("svm", f"Frobenius SVM ({n},{T},{d}), {n * (T - 1):,} constraints"),
        "nuc": ("nuclear", f"nuclear SVM ({n},{T},{d})"),
    }[norm]
    targets, left_out = {**targets, "gap": gap}, left_out or {}
    name = f"{name}-{n}x{T}x{d}"
    return Row(name, title, "problem", entries, targets, gap=gap, left_out=left_out)


def _many_svms() -> list[Entry]:
    task = random_svm(6, 8, 10, batch=1000)
    counts = {"attsvm": 1000, "cvxpy": 4, "cvxpy-scs": 4, "scs": 20, "clarabel": 20}
    names = ("attsvm", *_QP, *_CVXPY)
    return [Entry(name, task.part(slice(counts.get(name, 200)))) for name in names]


def _figure() -> list[Entry]:
    task = random_descent(6, 8, 10, batch=100)
    task = Figure(replace(task, init=_random_start((100,), 10, "WKQ")), 2000)
    published = Entry("published", task.part(slice(1)), title="published code")
    return [Entry("attsvm", task), published]


_QP = ("daqp", "piqp", "proxqp", "osqp", "clarabel", "scs")
_CVXPY = ("cvxpy", "cvxpy-scs")
_BEST_OF = ("piqp", "proxqp", "osqp")
_TOO_SLOW = "over a minute at this size"
_SLOW_TOO = "when it was tried, several times PIQP and ProxQP"
_SLOW_PEERS = {
    "Clarabel": f"23 s {_SLOW_TOO}",
    "SCS": f"27 s {_SLOW_TOO}",
    "DAQP": _TOO_SLOW,
    "cvxpy, as published": _TOO_SLOW,
}
_LARGE_DUAL = dict.fromkeys(("PIQP", "ProxQP", "OSQP"), "the dual's matrix alone is 32 GB")

ROWS = (
    _step(1000, 128, 256, {"limit": 1.25, "jax": 4.0}),
    _step(1000, 64, 128, {"jax": 4.0}),
    _step(200, 64, 1024, {"jax": 4.0}),
    _step(100, 32, 64, {"jax": 2.5}),
    _many("W", "W", 100, {"seconds": 0.11e-6}),
    _many("KQ", "(K,Q)", 50, {}),
    _many("p", "p", 100, {}),
    Row("one-small", "one problem n=6 T=8 d=10", "step", _one_small, {"seconds": 1e-6}, 1e-9, 100),
    Row(
        "flat-d",
        "n=20 T=8, d = 1e3, 1e4, 1e5",
        "step",
        _flat,
        {"flat": 1.10, "peak": 1.0 * GIB},
        check_steps=100,
        left_out={"jax.jit, d = 1e4, 1e5": "W alone is 0.8 and 80 GB"},
        note="Answers compared: the final attention.",
    ),
    Row("float32", "float32 storage, n=1000 T=128 d=256", "step", _float32, {"float64": 1.7}, 1e-4),
    _threads(
        "many",
        "1,024 problems n=6 T=8 d=10",
        "step and problem",
        1.8,
        lambda: random_descent(6, 8, 10, batch=1024),
    ),
    _threads(
        "products", "n=500 T=2 d=1024 (products)", "step", 1.8, lambda: random_descent(500, 2, 1024)
    ),
    _threads(
        "svm", "2 Frobenius SVMs (6,8,10)", "problem", 1.0, lambda: random_svm(6, 8, 10, batch=2)
    ),
    Row(
        "svm-1000x6x8x10",
        "1,000 Frobenius SVMs (6,8,10), 42 constraints each",
        "problem",
        _many_svms,
        {"seconds": 50e-6, "gap": 1e-9},
        gap=1e-9,
    ),
    _svm((6, 8, 10), (*_QP, *_CVXPY), {"seconds": 0.2e-3}),
    _svm((20, 10, 20), (*_QP, *_CVXPY), {}),
    _svm(
        (50, 20, 50),
        _QP,
        {"seconds": 30e-3, "|".join(_BEST_OF): 4.0},
        {"cvxpy, as published": _TOO_SLOW},
    ),
    _svm((200, 20, 100), _BEST_OF, {"seconds": 0.7, "|".join(_BEST_OF): 15.0}, _SLOW_PEERS),
    _svm((500, 128, 256), (), {"seconds": 60.0, "peak": 4.0 * GIB}, _LARGE_DUAL, gap=1e-6),
    _svm((6, 8, 10), _CVXPY, {"cvxpy-scs": 10.0}, norm="nuc", gap=1e-8),
    _svm((30, 10, 40), _CVXPY, {"cvxpy-scs": 10.0}, norm="nuc", gap=1e-6),
    Row(
        "local-convergence",
        "the local-convergence figure: 100 datasets, W and (K,Q), 2,000 steps, 400 SVMs",
        "dataset",
        _figure,
        {"seconds": 2.0 / 100},
        note="The published code runs on one dataset.",
    ),
)
