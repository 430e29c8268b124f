"""Study on a Dask cluster: its tasks, and the assembly of their results."""

from __future__ import annotations

import ast
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any

import dask
from distributed import Client, LocalCluster, as_completed
from distributed.comm import resolve_address
from distributed.scheduler import KilledWorker, NoWorkerError
from distributed.system import MEMORY_LIMIT

from attsvm import _core
from attsvm.data import AttentionData
from attsvm.progress import bar, ctrl_c_held_back
from attsvm.studies.compute import batch_size, joined, measure, memory_of_problem
from attsvm.studies.environment import version
from attsvm.studies.layout import Part, made_with
from attsvm.studies.measurements import Record
from attsvm.studies.store import Store
from attsvm.studies.study import Cell, Study

_IN_FLIGHT = 4
"""Tasks of each worker thread that are submitted ahead of their results."""
_STARTS = 3
"""Attempts to start a cluster on this computer."""
_MEMORY_OF_WORKER = 160 * 2**20
"""Memory of a worker that computes nothing, in bytes."""
_UNSPILLED = 0.6
"""Share of its memory up to which a worker of Dask writes nothing to disk, nor pauses."""
_SECONDS_TO_CONNECT = 10
_SECONDS_WITHOUT_WORKERS = 60


@dataclass(frozen=True, eq=False)
class _Task:
    """Problems that are measured in one call."""

    part: int  # index of the part of the results that they belong to
    cell: Cell
    problems: range
    data: AttentionData | None  # the problems themselves, where they are read from a file


def run_on_cluster(
    study: Study,
    store: Store,
    missing: Sequence[Part],
    scheduler: str | Client | None,
    workers: int | None,
    num_threads: int | None,
    progress: bool | None,
) -> None:
    """Measure the missing parts of the results on a Dask cluster.

    A task is a batch of problems; its declaration is sent and the measured arrays come back, and
    this process alone writes. Wherever it is computed, a batch is the same call with the same
    arguments. Errors are those of `attsvm.studies.run`.
    """
    if not missing:
        return
    with _client(scheduler, workers) as client:
        _require_same_workers(client, made_with(study))
        memory = _memory_of_batch(client)
        _require_memory_of_tokens(missing, memory)
        _warn_of_small_batches(study, missing, memory)
        if sys.stderr.isatty() if progress is None else progress:
            print(f"Dask's dashboard: {client.dashboard_link}", file=sys.stderr)
        with bar(sum(len(part.problems) for part in missing), "problems", progress) as advance:
            records: dict[int, dict[int, Record]] = {}
            for task, record in _computed(client, study, missing, num_threads or 1, memory):
                part, received = missing[task.part], records.setdefault(task.part, {})
                received[task.problems.start] = record
                advance(len(task.problems), task.cell.name)
                if len(received) == len(_batches(study, part, memory)):
                    del records[task.part]
                    in_order = [received[first] for first in sorted(received)]
                    store.write(part, joined(in_order))


def _computed(
    client: Client,
    study: Study,
    missing: Sequence[Part],
    num_threads: int,
    memory: int | None,
) -> Iterator[tuple[_Task, Record]]:
    """Yield tasks and their records, as they end."""
    names = [each.name for each in study.measurements]
    versions = made_with(study)
    waiting = _tasks(study, missing, memory)
    tasks: dict[Any, _Task] = {}

    def submit(count: int) -> list[Any]:
        futures = {
            client.submit(
                _measure, task, names, study.recorded_steps, versions, num_threads, pure=False
            ): task
            for task in islice(waiting, count)
        }
        tasks.update(futures)
        return list(futures)

    ended = as_completed(loop=client.loop)
    ended.update(submit(_IN_FLIGHT * max(1, sum(client.nthreads().values()))))
    try:
        for future in ended:
            task = tasks.pop(future)
            try:
                record = future.result()
            except (KilledWorker, NoWorkerError) as error:
                need = memory_of_problem(task.cell.settings, names, len(study.recorded_steps))
                reason = f"{error}; fewer have more memory each"
                if memory is not None and need > memory:
                    reason = (
                        f"a problem takes up to {_in_gb(need)} there, and each worker has "
                        f"{_in_gb(memory)} for it: take fewer"
                    )
                raise ChildProcessError(f"workers died at {task.cell.name}: {reason}") from error
            future.release()
            ended.update(submit(1))
            yield task, record
    finally:
        with suppress(Exception):
            client.cancel(list(tasks), force=True)


def _memory_of_batch(client: Client) -> int | None:
    """Return the memory that a worker has for its task, in bytes; None where it has no limit."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    limits = [each["memory_limit"] / each["nthreads"] for each in workers if each["memory_limit"]]
    return min(map(_spare_memory, limits), default=None)


def _spare_memory(limit: float) -> int:
    """Return what a worker with this limit has beyond its own; `ValueError` if there is nothing."""
    spare = int(_UNSPILLED * limit) - _MEMORY_OF_WORKER
    if spare <= 0:
        least = _MEMORY_OF_WORKER / _UNSPILLED
        raise ValueError(
            f"workers: expected more than {least / 1e9:.2f} GB of memory for each thread, got "
            f"{_in_gb(limit)}: take fewer"
        )
    return spare


def _require_memory_of_tokens(missing: Sequence[Part], memory: int | None) -> None:
    """Raise `ValueError` where a worker cannot even hold the tokens of one problem."""
    for part in missing:
        n, T, d = (int(part.cell.settings[size]) for size in ("n", "T", "d"))
        if memory is not None and 8 * n * T * d > memory:
            raise ValueError(
                f"workers: expected {_in_gb(8 * n * T * d)} of memory for the tokens of a problem "
                f"at {part.cell.name}, got {_in_gb(memory)} of each worker: take fewer"
            )


def _in_gb(size: float) -> str:
    return f"{size / 1e9:.2g} GB"


def _warn_of_small_batches(study: Study, missing: Sequence[Part], memory: int | None) -> None:
    sizes = {(_batch_size(study, p, memory), _batch_size(study, p, None)) for p in missing}
    smaller = {(given, usual) for given, usual in sizes if given < usual}
    if memory is not None and smaller:
        given, usual = min(smaller)
        warnings.warn(
            f"batches of {given} problems, where there would be {usual}: each worker has "
            f"{_in_gb(memory)} of memory for them",
            UserWarning,
            stacklevel=4,
        )


def _batch_size(study: Study, part: Part, memory: int | None) -> int:
    names = [each.name for each in study.measurements]
    return batch_size(part.cell.settings, names, len(study.recorded_steps), memory)


def _batches(study: Study, part: Part, memory: int | None) -> list[range]:
    """Return the problems of each task of a part."""
    step = _batch_size(study, part, memory)
    return [part.problems[k : k + step] for k in range(0, len(part.problems), step)]


def _tasks(study: Study, missing: Sequence[Part], memory: int | None) -> Iterator[_Task]:
    for number, part in enumerate(missing):
        for problems in _batches(study, part, memory):
            data = None if study.file is None else study.file.take(problems)
            yield _Task(number, part.cell, problems, data)


def _measure(
    task: _Task,
    names: Sequence[str],
    record: Sequence[int],
    versions: Mapping[str, Any],
    num_threads: int,
) -> Record:
    """Measure the problems of a task, on a worker."""
    _require_same("this worker", _installed(versions), versions)
    return measure(task.cell, names, record, task.problems, data=task.data, num_threads=num_threads)


def _installed(names: Mapping[str, Any]) -> dict[str, Any]:
    """Return what this process would compute with, of the same things as `names`."""
    return {name: _core.isa if name == "isa" else version(name) for name in names}


def _require_same_workers(client: Client, versions: Mapping[str, Any]) -> None:
    """Raise `ValueError` unless every worker would give the same results."""
    client.wait_for_workers(1, timeout=_SECONDS_WITHOUT_WORKERS)
    answers = client.run(_installed, versions, on_error="return")
    for worker, answer in answers.items():
        if isinstance(answer, BaseException):
            raise ValueError(
                f"workers: expected attsvm {versions['attsvm']} on every worker, got "
                f"{type(answer).__name__}: {answer} on {worker}"
            ) from answer
        _require_same(f"worker {worker}", answer, versions)


def _require_same(worker: str, remote: Mapping[str, Any], local: Mapping[str, Any]) -> None:
    different = [
        f"{name} is {remote[name]} there and {local[name]} here"
        for name in local
        if remote[name] != local[name]
    ]
    if different:
        raise ValueError(
            f"workers: expected the versions and instruction set of this process, but of {worker} "
            f"{'; '.join(different)}"
        )


@contextmanager
def _client(scheduler: str | Client | None, workers: int | None) -> Iterator[Client]:
    if isinstance(scheduler, Client):
        yield scheduler
    elif scheduler is not None:
        with _quiet(), _connected(scheduler) as client:
            yield client
    else:
        assert workers is not None
        cluster: Any = None
        with _quiet(), ExitStack() as running:
            try:
                with ctrl_c_held_back():
                    cluster = _local_cluster(workers)
                    running.callback(cluster.close)
                    client = Client(cluster, set_as_default=False)
                    running.callback(client.close)
                yield client
            except BaseException:
                # A worker in the midst of a long task would not hear that it is over.
                for nanny in () if cluster is None else cluster.workers.values():
                    if nanny.pid is not None:
                        with suppress(ProcessLookupError):
                            os.kill(nanny.pid, signal.SIGKILL)
                raise


def _connected(scheduler: str) -> Client:
    try:
        # A client that raises while it is made is closed by its finalizer, for 20 s in vain.
        resolve_address(scheduler)
        return Client(scheduler, set_as_default=False, timeout=_SECONDS_TO_CONNECT)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise ConnectionError(
            f"scheduler: expected the address of a Dask scheduler, such as tcp://host:8786, got "
            f"{scheduler!r}: {error}"
        ) from error


def _local_cluster(workers: int) -> Any:
    """Start a cluster on this computer, again where a worker was killed while it started.

    Workers and this process have equal shares of the memory that this process may use.
    """
    share = MEMORY_LIMIT // (workers + 1)
    _spare_memory(share)
    limit = {"distributed.scheduler.no-workers-timeout": f"{_SECONDS_WITHOUT_WORKERS}s"}
    for attempt in range(_STARTS):
        try:
            with dask.config.set(limit):
                return LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    memory_limit=share,
                    dashboard_address=":0",
                    silence_logs=logging.CRITICAL,
                )
        except RuntimeError as error:
            if attempt == _STARTS - 1:
                raise ChildProcessError(
                    f"workers: expected {workers} processes to start, but they ended {_STARTS} "
                    f"times: {error}"
                ) from error
    raise AssertionError


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask's log off standard error: what it reports is raised here."""
    log = logging.getLogger("distributed")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def require_guard() -> None:
    """Raise `RuntimeError` unless processes can be started from where this is called.

    Each of them imports the script that is running, so that one which starts them outside of
    ``if __name__ == "__main__":`` would do it again and again.
    """
    script = getattr(sys.modules["__main__"], "__file__", None)
    if script is None:
        return
    if not Path(script).is_file():
        raise RuntimeError("workers: expected a script in a file, got one from standard input")
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_code.co_filename == script:
            guards = [
                node
                for node in ast.parse(Path(script).read_bytes()).body
                if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)
            ]
            if not any(node.lineno <= frame.f_lineno <= (node.end_lineno or 0) for node in guards):
                raise RuntimeError(
                    'workers: expected the call under `if __name__ == "__main__":`, since every '
                    f"worker imports the script; got it at line {frame.f_lineno} of {script}"
                )
        frame = frame.f_back
