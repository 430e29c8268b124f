"""A study on a Dask cluster: what is sent, how much at a time, and what comes back."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from attsvm.data import AttentionData
from attsvm.progress import bar
from attsvm.studies.compute import batch_size, measure
from attsvm.studies.layout import Part, made_with
from attsvm.studies.measurements import Record
from attsvm.studies.store import Store
from attsvm.studies.study import Cell, Study

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["run_on_cluster"]

_SECONDS_OF_TASK = 1.0
"""What a task should take: scheduling one costs a few milliseconds."""
_IN_FLIGHT = 3
"""Tasks of each worker thread that are submitted ahead of their results."""


@dataclass(frozen=True, eq=False)
class _Batch:
    """Problems that are measured in one call; no task is smaller.

    Attributes
    ----------
    part : int
        Index of the part of the results that they belong to.
    cell : Cell
    problems : range
    given : AttentionData or None
        The problems themselves, where they are read from a file.
    """

    part: int
    cell: Cell
    problems: range
    given: AttentionData | None

    @property
    def work(self) -> float:
        """Multiplications of training, roughly: what tasks are sized by until one has ended."""
        s = self.cell.settings
        return len(self.problems) * float(s["steps"] * (s["n"] * s["T"] * s["d"] + 100))


@dataclass(eq=False)
class _Assembly:
    """The batches of a part as they come, in any order."""

    part: Part
    records: dict[int, Record] = field(default_factory=dict)
    received: int = 0

    def add(self, problems: range, record: Record) -> bool:
        """Take a batch; whether it was the last."""
        self.records[problems.start] = record
        self.received += len(problems)
        return self.received == len(self.part.problems)

    def whole(self) -> Record:
        """The record of the part."""
        parts = [self.records[start] for start in sorted(self.records)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def run_on_cluster(
    study: Study,
    store: Store,
    *,
    scheduler: str | Client | None,
    workers: int | None,
    num_threads: int | None,
    progress: bool | None,
) -> None:
    """Measure what is missing in the store on a Dask cluster.

    Tasks are batches of problems; a declaration goes out and the measured arrays come back, and
    this process alone writes. Whatever computes, a batch is the same call with the same arguments.

    Raises
    ------
    ValueError
        A worker has other versions or another instruction set.
    FloatingPointError, SolverError, ValueError
        A problem has no answer, as in `measure`.
    OSError
        The scheduler is not reached, or several workers died of one task.
    """
    missing = store.missing()
    if not missing:
        return
    with _client(scheduler, workers) as client:
        here = made_with(study)
        _require_same_workers(client, study, here)
        if sys.stderr.isatty() if progress is None else progress:
            print(f"Dask's dashboard: {client.dashboard_link}", file=sys.stderr)
        with bar(sum(len(part.problems) for part in missing), "problems", progress) as advance:
            assemblies: dict[int, _Assembly] = {}
            for batches, records in _computed(client, study, missing, here, num_threads or 1):
                for batch, record in zip(batches, records, strict=True):
                    assembly = assemblies.setdefault(batch.part, _Assembly(missing[batch.part]))
                    if assembly.add(batch.problems, record):
                        store.write(assembly.part, assembly.whole())
                        del assemblies[batch.part]
                    advance(len(batch.problems), batch.cell.name)


def _computed(
    client: Client,
    study: Study,
    missing: Sequence[Part],
    here: Mapping[str, Any],
    num_threads: int,
) -> Iterator[tuple[list[_Batch], list[Record]]]:
    """Batches and their records, as tasks end."""
    from distributed import as_completed

    names = [each.name for each in study.measurements]
    waiting = deque(_batches(study, missing))
    work_left = sum(batch.work for batch in waiting)
    threads = max(1, sum(client.nthreads().values()))
    speed: float | None = None
    flying: dict[Any, list[_Batch]] = {}
    ended = as_completed(loop=client.loop)

    def submit() -> None:
        nonlocal work_left
        # Fewer at a time towards the end, so that all workers end together.
        most = work_left / (2 * threads)
        if speed is not None:
            most = min(most, speed * _SECONDS_OF_TASK)
        task = [waiting.popleft()]
        work = task[0].work
        while speed is not None and waiting and work + waiting[0].work <= most:
            task.append(waiting.popleft())
            work += task[-1].work
        work_left -= work
        future = client.submit(
            _measure, task, names, study.recorded_steps, here, num_threads, pure=False
        )
        flying[future] = task
        ended.add(future)

    try:
        while waiting or flying:
            while waiting and len(flying) < _IN_FLIGHT * threads:
                submit()
            future = next(ended)
            task = flying.pop(future)
            seconds, records = _result(future, task)
            threads = max(1, sum(client.nthreads().values()))
            speed = sum(batch.work for batch in task) / max(seconds, 1e-3)
            future.release()
            yield task, records
    finally:
        with suppress(Exception):
            client.cancel(list(flying), force=True)


def _batches(study: Study, missing: Sequence[Part]) -> Iterator[_Batch]:
    for number, part in enumerate(missing):
        step = batch_size(part.cell.settings)
        for first in range(part.problems.start, part.problems.stop, step):
            problems = range(first, min(first + step, part.problems.stop))
            given = None if study.file is None else study.file.take(problems)
            yield _Batch(number, part.cell, problems, given)


def _measure(
    task: Sequence[_Batch],
    names: Sequence[str],
    record: Sequence[int],
    asked: Mapping[str, Any],
    num_threads: int,
) -> tuple[float, list[Record]]:
    """What a worker does: the seconds it took, and a record for each batch."""
    _require_same("this worker", _made_here(asked), asked)
    started = time.perf_counter()
    records = [
        measure(
            batch.cell,
            names,
            record,
            batch.problems,
            given=batch.given,
            num_threads=num_threads,
        )
        for batch in task
    ]
    return time.perf_counter() - started, records


def _result(future: Any, task: Sequence[_Batch]) -> tuple[float, list[Record]]:
    """What a task gave; its own errors name their cell."""
    from distributed.scheduler import KilledWorker

    try:
        seconds, records = future.result()
    except KilledWorker as error:
        cells = ", ".join(dict.fromkeys(batch.cell.name for batch in task))
        raise ChildProcessError(f"several workers died at {cells}: {error}") from error
    return seconds, records


def _made_here(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What this process would compute with, of what is asked for."""
    from attsvm import _core
    from attsvm.studies.environment import version

    return {name: _core.isa if name == "isa" else version(name) for name in asked}


def _require_same_workers(client: Client, study: Study, here: Mapping[str, Any]) -> None:
    """Before any work: every worker would give the same results."""
    try:
        of_workers = client.run(_made_here, here)
    except ImportError as error:
        raise ValueError(f"workers: expected attsvm on every worker, got {error}") from error
    if not of_workers:
        raise ValueError("workers: expected one or more on the cluster, got none")
    for worker, there in of_workers.items():
        _require_same(f"worker {worker}", there, here)


def _require_same(worker: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    different = [
        f"{name} is {there[name]} there and {here[name]} here"
        for name in here
        if there[name] != here[name]
    ]
    if different:
        raise ValueError(
            f"workers: expected the versions and instruction set of this process, but of {worker} "
            f"{'; '.join(different)}"
        )


@contextmanager
def _client(scheduler: str | Client | None, workers: int | None) -> Iterator[Client]:
    import distributed

    if isinstance(scheduler, distributed.Client):
        yield scheduler
        return
    if scheduler is not None:
        with distributed.Client(scheduler, set_as_default=False) as client:
            yield client
        return
    with _ctrl_c_later():
        cluster = distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=":0"
        )
        client = distributed.Client(cluster, set_as_default=False)
    log = logging.getLogger("distributed")
    level = log.level
    try:
        yield client
    except BaseException:
        # A worker in the midst of a long task would not hear that it is over.
        log.setLevel(logging.CRITICAL)
        for process in list(_processes(cluster)):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        raise
    finally:
        client.close()
        cluster.close()
        log.setLevel(level)


@contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Hold Ctrl-C back: a cluster that is half started cannot be closed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def remember(*_: Any) -> None:
        nonlocal asked
        asked = True

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
    if asked:
        raise KeyboardInterrupt


def _processes(cluster: Any) -> Iterator[int]:
    """Process ids of the workers of a local cluster."""
    for nanny in cluster.workers.values():
        if nanny.pid is not None:
            yield nanny.pid
