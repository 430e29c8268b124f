"""The rows of the speed tables: what is measured, against whom, and what is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

import attsvm
from bench.rounds import Entry
from bench.tasks import Array, Descent, Figure, Machine, Products, Read

__all__ = ["ROWS", "Ask", "Row", "limit_entries", "random_descent"]

GIB = 2**30


@dataclass(frozen=True)
class Ask:
    """A bound on one of a row's figures.

    Attributes
    ----------
    figure : {"seconds", "limit", "speedup", "flat", "gap", "kkt", "peak"}
        Seconds of a unit; times the machine's limit; how many times faster than the fastest of
        `against`; longest over shortest of attsvm's settings; of attsvm's answer; bytes.
    bound : float
        Most, or for "speedup" least.
    against : tuple of str
        Keys of entries.
    """

    figure: str
    bound: float
    against: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    name, title : str
    unit : str
        What the seconds are of.
    entries : callable
        Draws the data and gives the entries; the one with role "ours" comes first.
    asks : tuple of Ask
    tolerance : float
        Largest relative difference between the answers of descent after `check_steps` steps.
    check_steps : int
    gap : float or None
        Relative duality gap that a machine must reach to count.
    left_out : dict
        Peers that would belong here, and why they are not run.
    note : str
    """

    name: str
    title: str
    unit: str
    entries: Callable[[], list[Entry]]
    asks: tuple[Ask, ...]
    tolerance: float = 1e-9
    check_steps: int = 10
    gap: float | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def random_descent(
    n: int,
    T: int,
    d: int,
    *,
    batch: int | None = None,
    parameter: str = "W",
    dtype: type = np.float64,
) -> Descent:
    """A task on random data; (K, Q) starts at small random blocks, the others at zero."""
    data = attsvm.datasets.unit_sphere(n, T, d, batch=batch, rng=0, dtype=dtype)
    init = _random_start(data.tokens.shape[:-3], d, ("K", "Q")) if parameter == "KQ" else None
    return Descent(data.tokens, data.labels, data.queries, data.value, parameter, init)


def limit_entries(task: Descent) -> list[Entry]:
    """The least a step can take: one read of the tokens, and its two products at peak.

    Both in the coordinates of the spans of tokens and queries, min(nT, d) and min(n, d) of them.
    """
    n, T, d = task.tokens.shape
    key, query = min(n * T, d), min(n, d)
    read = Read(n * T * key * task.tokens.itemsize, task.threads)
    products = Products(4.0 * n * key * query, (n, d), task.threads)
    return [
        Entry("read", "limit", "read", read, "limit", "one read of the tokens"),
        Entry("products", "limit", "products", products, "limit", "matrix products at peak"),
    ]


def _random_start(lead: tuple[int, ...], d: int, names: tuple[str, ...]) -> dict[str, Array]:
    rng = np.random.default_rng(1)
    reach = 1.0 / np.sqrt(d)
    return {name: rng.uniform(-reach, reach, (*lead, d, d)) for name in names}


def _step(n: int, T: int, d: int) -> list[Entry]:
    task = random_descent(n, T, d)
    return [
        Entry("attsvm", "attsvm", "descent", task, "ours"),
        *limit_entries(task),
        Entry("jax", "jax", "descent", task),
        Entry("torch", "torch", "descent", task),
        Entry("numpy", "numpy", "descent", task),
        Entry("published", "published", "descent", task),
    ]


def _many(parameter: str) -> list[Entry]:
    B = 1024
    # Factors at the usual 0.1 are unstable: there rounding decides where a run goes.
    lr = 0.05 if parameter == "KQ" else 0.1
    task = replace(random_descent(6, 8, 10, batch=B, parameter=parameter), lr=lr)
    one = task.part(0)
    return [
        Entry("attsvm", "attsvm", "descent", task, "ours", problems=B, most_steps=2000),
        Entry(
            "jax",
            "jax",
            "descent",
            task,
            title="jax.jit(vmap(loop))",
            problems=B,
            most_steps=2000,
        ),
        Entry(
            "jax-devices",
            "jax-devices",
            "descent",
            task,
            title="jax.jit(vmap(loop)), a device per core",
            problems=B,
            most_steps=2000,
        ),
        Entry("numpy", "numpy", "descent", task, problems=B, most_steps=2000),
        Entry("torch", "torch", "descent", task, problems=B, most_steps=2000),
        Entry("published", "published", "descent", one, most_steps=2000),
    ]


def _one_small() -> list[Entry]:
    task = random_descent(6, 8, 10)
    return [
        Entry(key, key, "descent", task, "ours" if key == "attsvm" else "peer", most_steps=20_000)
        for key in ("attsvm", "jax", "numpy", "torch", "published")
    ]


def _flat() -> list[Entry]:
    entries = []
    for d in (1000, 10_000, 100_000):
        task = replace(random_descent(20, 8, d), output="attention")
        role = "other" if entries else "ours"
        entries.append(
            Entry(
                f"d={d}",
                "attsvm",
                "descent",
                task,
                role,
                f"attsvm, d = {d:,}",
                steps=(1000, 51_000),  # for fewer the tokens are not reduced
                memory=12 * GIB,
            )
        )
        if d == 1000:
            small = task
    return [
        *entries,
        Entry(
            "reduced",
            "numpy",
            "descent",
            _reduced(small),
            title="NumPy, d = 1,000 reduced by hand to 160 x 20",
        ),
        Entry(
            "jax", "jax", "descent", replace(small, output="attention"), title="jax.jit, d = 1,000"
        ),
    ]


def _reduced(task: Descent) -> Descent:
    """The same logits and scores in coordinates of the spans of tokens and queries (thin QR)."""
    n, T, d = task.tokens.shape
    basis, triangle = np.linalg.qr(task.tokens.reshape(n * T, d).T)
    query_triangle = np.linalg.qr(task.queries.T, mode="r")
    return replace(
        task,
        tokens=np.ascontiguousarray(triangle.T).reshape(n, T, -1),
        queries=np.ascontiguousarray(query_triangle.T),
        value=basis.T @ task.value,
    )


def _float32() -> list[Entry]:
    full = random_descent(1000, 128, 256)
    half = random_descent(1000, 128, 256, dtype=np.float32)
    return [
        Entry("float32", "attsvm", "descent", half, "ours", "attsvm, float32 tokens"),
        Entry("float64", "attsvm", "descent", full, "other", "attsvm, float64 tokens"),
    ]


def _threads(task: Callable[[], Descent], problems: int = 1) -> Callable[[], list[Entry]]:
    def entries() -> list[Entry]:
        drawn = task()
        return [
            Entry(
                f"{threads} thread{'s' * (threads > 1)}",
                "attsvm",
                "descent",
                replace(drawn, threads=threads),
                "ours" if threads == 2 else "other",
                f"attsvm, {threads} thread{'s' * (threads > 1)}",
                problems,
            )
            for threads in (2, 1)
        ]

    return entries


def random_machine(
    n: int, T: int, d: int, *, batch: int | None = None, norm: str = "fro", gap: float = 1e-9
) -> Machine:
    """The machine of the optimal tokens of random data."""
    data = attsvm.datasets.unit_sphere(n, T, d, batch=batch, rng=0)
    return Machine(data.tokens, data.queries, attsvm.optimal_tokens(data), norm, gap)


def _machines(
    n: int, T: int, d: int, peers: tuple[str, ...], *, norm: str = "fro", gap: float = 1e-9
) -> Callable[[], list[Entry]]:
    def entries() -> list[Entry]:
        task = random_machine(n, T, d, norm=norm, gap=gap)
        return [
            Entry(key, key, "svm", task, "ours" if key == "attsvm" else "peer", memory=memory)
            for key, memory in (("attsvm", 16 * GIB), *((peer, None) for peer in peers))
        ]

    return entries


def _many_machines() -> list[Entry]:
    task = random_machine(6, 8, 10, batch=1000)
    counts = {"attsvm": 1000, "cvxpy": 4, "cvxpy-scs": 4, "scs": 20, "clarabel": 20}
    entries = []
    for key in ("attsvm", *_QP_PEERS, "cvxpy", "cvxpy-scs"):
        count = counts.get(key, 200)
        part = task.part(slice(count))
        role = "ours" if key == "attsvm" else "peer"
        entries.append(Entry(key, key, "svm", part, role, problems=count))
    return entries


def _figure() -> list[Entry]:
    B, d = 100, 10
    task = random_descent(6, 8, d, batch=B)
    task = replace(task, init=_random_start((B,), d, ("W", "K", "Q")))
    published = Figure(task.part(slice(1)), 2000)
    return [
        Entry("attsvm", "attsvm", "figure", Figure(task, 2000), "ours", problems=B),
        Entry("published", "published", "figure", published, title="published code"),
    ]


_QP_PEERS = ("daqp", "piqp", "proxqp", "osqp", "clarabel", "scs")
_BEST_OF = ("piqp", "proxqp", "osqp")
_STEP = "step"
_STEP_AND_PROBLEM = "step and problem"
_TOO_SLOW = "over a minute at this size"

ROWS = (
    Row(
        "step-1000x128x256",
        "one step, n=1000 T=128 d=256",
        _STEP,
        lambda: _step(1000, 128, 256),
        (
            Ask("limit", 1.25),
            Ask("speedup", 4.0, ("jax",)),
        ),
    ),
    Row(
        "step-1000x64x128",
        "one step, n=1000 T=64 d=128",
        _STEP,
        lambda: _step(1000, 64, 128),
        (Ask("speedup", 4.0, ("jax",)),),
    ),
    Row(
        "step-200x64x1024",
        "one step, n=200 T=64 d=1024",
        _STEP,
        lambda: _step(200, 64, 1024),
        (Ask("speedup", 4.0, ("jax",)),),
    ),
    Row(
        "step-100x32x64",
        "one step, n=100 T=32 d=64",
        _STEP,
        lambda: _step(100, 32, 64),
        (Ask("speedup", 2.5, ("jax",)),),
    ),
    Row(
        "many-W",
        "1,024 problems n=6 T=8 d=10, W",
        _STEP_AND_PROBLEM,
        lambda: _many("W"),
        (Ask("seconds", 0.11e-6), Ask("speedup", 12.0, ("jax", "jax-devices"))),
        check_steps=100,
    ),
    Row(
        "many-KQ",
        "1,024 problems n=6 T=8 d=10, (K,Q)",
        _STEP_AND_PROBLEM,
        lambda: _many("KQ"),
        (Ask("speedup", 12.0, ("jax", "jax-devices")),),
        check_steps=50,
    ),
    Row(
        "many-p",
        "1,024 problems n=6 T=8 d=10, p",
        _STEP_AND_PROBLEM,
        lambda: _many("p"),
        (Ask("speedup", 12.0, ("jax", "jax-devices")),),
        check_steps=100,
    ),
    Row(
        "one-small",
        "one problem n=6 T=8 d=10",
        _STEP,
        _one_small,
        (Ask("seconds", 1e-6),),
        check_steps=100,
    ),
    Row(
        "flat-d",
        "n=20 T=8, d = 1e3, 1e4, 1e5",
        _STEP,
        _flat,
        (Ask("flat", 1.10), Ask("peak", 1.0 * GIB)),
        check_steps=100,
        left_out={"jax.jit, d = 1e4, 1e5": "W alone is 0.8 and 80 GB"},
        note="Answers compared: the final attention.",
    ),
    Row(
        "float32",
        "float32 storage, n=1000 T=128 d=256",
        _STEP,
        _float32,
        (Ask("speedup", 1.7, ("float64",)),),
        tolerance=1e-4,
    ),
    Row(
        "threads-many",
        "1 to 2 threads, 1,024 problems n=6 T=8 d=10",
        _STEP_AND_PROBLEM,
        _threads(lambda: random_descent(6, 8, 10, batch=1024), 1024),
        (Ask("speedup", 1.8, ("1 thread",)),),
        tolerance=0.0,
    ),
    Row(
        "threads-products",
        "1 to 2 threads, n=500 T=2 d=1024 (products)",
        _STEP,
        _threads(lambda: random_descent(500, 2, 1024)),
        (Ask("speedup", 1.8, ("1 thread",)),),
        tolerance=0.0,
    ),
    Row(
        "svm-1000x(6,8,10)",
        "1,000 Frobenius SVMs (6,8,10), 42 constraints each",
        "problem",
        _many_machines,
        (Ask("seconds", 50e-6), Ask("gap", 1e-9)),
        gap=1e-9,
    ),
    Row(
        "svm-20x10x20",
        "Frobenius SVM (20,10,20), 180 constraints",
        "problem",
        _machines(20, 10, 20, (*_QP_PEERS, "cvxpy", "cvxpy-scs")),
        (Ask("gap", 1e-9),),
        gap=1e-9,
    ),
    Row(
        "svm-50x20x50",
        "Frobenius SVM (50,20,50), 950 constraints",
        "problem",
        _machines(50, 20, 50, _QP_PEERS),
        (Ask("seconds", 30e-3), Ask("speedup", 4.0, _BEST_OF), Ask("gap", 1e-9)),
        gap=1e-9,
        left_out={"cvxpy, as published": _TOO_SLOW},
    ),
    Row(
        "svm-200x20x100",
        "Frobenius SVM (200,20,100), 3,800 constraints",
        "problem",
        _machines(200, 20, 100, ("piqp", "proxqp", "osqp")),
        (Ask("seconds", 0.7), Ask("speedup", 15.0, _BEST_OF), Ask("gap", 1e-9)),
        gap=1e-9,
        left_out={
            "Clarabel": "23 s when it was tried, several times PIQP and ProxQP",
            "SCS": "27 s when it was tried, several times PIQP and ProxQP",
            "DAQP": _TOO_SLOW,
            "cvxpy, as published": _TOO_SLOW,
        },
    ),
    Row(
        "svm-500x128x256",
        "Frobenius SVM (500,128,256), 63,500 constraints",
        "problem",
        _machines(500, 128, 256, (), gap=1e-6),
        (Ask("seconds", 60.0), Ask("gap", 1e-6), Ask("peak", 4.0 * GIB)),
        gap=1e-6,
        left_out=dict.fromkeys(("PIQP", "ProxQP", "OSQP"), "the dual's matrix alone is 32 GB"),
    ),
    Row(
        "nuclear-6x8x10",
        "nuclear SVM (6,8,10)",
        "problem",
        _machines(6, 8, 10, ("cvxpy", "cvxpy-scs"), norm="nuc", gap=1e-8),
        (Ask("speedup", 10.0, ("cvxpy-scs",)), Ask("gap", 1e-8)),
        gap=1e-8,
    ),
    Row(
        "nuclear-30x10x40",
        "nuclear SVM (30,10,40)",
        "problem",
        _machines(30, 10, 40, ("cvxpy", "cvxpy-scs"), norm="nuc", gap=1e-6),
        (Ask("speedup", 10.0, ("cvxpy-scs",)), Ask("gap", 1e-6)),
        gap=1e-6,
    ),
    Row(
        "local-convergence",
        "the local-convergence figure: 100 datasets, W and (K,Q), 2,000 steps, 400 SVMs",
        "dataset",
        _figure,
        (Ask("seconds", 2.0 / 100),),
        note="The published code runs on one dataset.",
    ),
)
