"""attsvm, through its public functions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

import attsvm
from bench.peers import NotAvailable, Run
from bench.tasks import SVM, Array, Descent, Figure


def descent(task: Descent) -> Run:
    data, init = _data(task), task.init or None

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

    try:
        run(1)
    except MemoryError as error:
        raise NotAvailable("more memory than the row allows") from error
    return run


def svm(task: SVM) -> Run:
    threadpool_limits(task.threads)
    is_vector = task.queries.shape[-1] == 1
    queries = None if is_vector else task.queries
    data = attsvm.AttentionData(task.tokens, np.ones(task.selected.shape), queries=queries)
    others = np.arange(task.tokens.shape[-2]) != task.selected[..., None]

    def run() -> Callable[[], Array]:
        if is_vector:
            solution = attsvm.prompt_svm(data, task.selected)
        else:
            solution = attsvm.att_svm(data, task.selected, norm=task.norm)
        lead = task.selected.shape[:-1]
        if task.norm != "fro":
            return lambda: (solution.W, solution.dual[others].reshape(*lead, -1))
        return lambda: solution.dual[others].reshape(*lead, -1)

    return run


def figure(task: Figure) -> Run:
    data, init = _data(task.descent), task.descent.init or {}

    def run() -> Callable[[], Array]:
        options = {"steps": task.steps, "lr": task.descent.lr, "num_threads": task.descent.threads}
        selected = []
        for parameter, blocks in (("W", "W"), ("KQ", "KQ")):
            start = {block: init[block] for block in blocks}
            trained = attsvm.train(data, parameter=parameter, init=start, **options)
            selected.append(trained.selected)
            for norm in ("fro", "nuc"):
                attsvm.att_svm(data, trained.selected, norm=norm)
        return lambda: np.stack(selected)

    return run


def _data(task: Descent) -> attsvm.AttentionData:
    return attsvm.AttentionData(task.tokens, task.labels, queries=task.queries, value=task.value)
