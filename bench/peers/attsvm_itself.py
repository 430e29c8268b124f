"""attsvm, through its public functions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import attsvm
from bench.peers import NotAvailable
from bench.tasks import Array, Descent, Figure, Machine


def version() -> str:
    return f"{attsvm.__version__}, {attsvm._core.isa}"


def descent(task: Descent) -> Callable[[int], Callable[[], Array]]:
    data = _data(task)
    init = task.init or None

    def run(steps: int) -> Callable[[], Array]:
        done = attsvm.train(
            data,
            parameter=task.parameter,
            steps=steps,
            lr=task.lr,
            init=init,
            record_every=steps,
            num_threads=task.threads,
        )
        return lambda: done.attention if task.output == "attention" else done.direction

    _try(lambda: run(1))
    return run


def svm(task: Machine) -> Callable[[], Callable[[], Array]]:
    data = attsvm.AttentionData(task.tokens, np.ones(task.selected.shape), queries=task.queries)

    def run() -> Callable[[], Array]:
        solution = attsvm.att_svm(data, task.selected, norm=task.norm)
        if task.norm == "nuc":
            return lambda: (solution.W, solution.dual[_others(task)])
        return lambda: solution.dual[_others(task)].reshape(*task.selected.shape[:-1], -1)

    tiny = attsvm.datasets.unit_sphere(1, 2, 2, rng=0)
    _try(lambda: attsvm.att_svm(tiny, [0], norm=task.norm))
    return run


def figure(task: Figure) -> Callable[[], Callable[[], Array]]:
    data = _data(task.descent)
    d = data.d
    blocks = task.descent.init or {}

    def run() -> Callable[[], Array]:
        common = {"steps": task.steps, "lr": task.descent.lr, "num_threads": task.descent.threads}
        by_W = attsvm.train(data, parameter="W", init=blocks["W"], **common)
        by_KQ = attsvm.train(
            data, parameter="KQ", init={"K": blocks["K"], "Q": blocks["Q"]}, **common
        )
        for trained in (by_W, by_KQ):
            for norm in ("fro", "nuc"):
                attsvm.att_svm(data, trained.selected, norm=norm)
        return lambda: np.stack([by_W.selected, by_KQ.selected])

    tiny = attsvm.datasets.unit_sphere(1, 2, d, rng=0)
    start = {"K": np.eye(d), "Q": np.eye(d)}
    _try(lambda: attsvm.train(tiny, parameter="KQ", init=start, steps=1))
    _try(lambda: attsvm.att_svm(tiny, [0], norm="nuc"))
    return run


def _data(task: Descent) -> attsvm.AttentionData:
    return attsvm.AttentionData(task.tokens, task.labels, queries=task.queries, value=task.value)


def _others(task: Machine) -> Array:
    """Where an array of shape ([B,] n, T) has its constraints: not at the selected tokens."""
    token = np.arange(task.tokens.shape[-2])
    others: Array = token != task.selected[..., None]
    return others


def _try(small: Callable[[], object]) -> None:
    """Run a small case; an unknown name among its arguments means that the feature is not there."""
    try:
        small()
    except ValueError as error:
        if str(error).startswith(("parameter:", "norm:")):
            raise NotAvailable(f"not in this attsvm ({error})") from error
        raise
    except MemoryError as error:
        raise NotAvailable("not in this attsvm: more memory than the row allows") from error
