"""The number of threads of the core: the one place where it is decided."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path, PurePosixPath
from typing import Any, ParamSpec, TypeVar

from attsvm import _core
from attsvm._validation import as_int, as_positive_int

_MOST_THREADS = 4096
_Options = ParamSpec("_Options")
_Answer = TypeVar("_Answer")
_THREADS: ContextVar[int | None] = ContextVar("_THREADS", default=None)


@contextmanager
def core_threads(num_threads: int | None) -> Iterator[None]:
    """Let calls of the core inside take so many threads where they are given none."""
    token = _THREADS.set(_THREADS.get() if num_threads is None else thread_count(num_threads))
    try:
        yield
    finally:
        _THREADS.reset(token)


def takes_threads(function: Callable[_Options, _Answer]) -> Callable[_Options, _Answer]:
    """Let the argument `num_threads` of a function hold for all calls of the core inside it."""

    @functools.wraps(function)
    def call(*args: _Options.args, **options: _Options.kwargs) -> _Answer:
        num_threads: Any = options.get("num_threads")
        if num_threads is None:
            return function(*args, **options)
        with core_threads(num_threads):
            return function(*args, **options)

    return call


def thread_count(num_threads: int | None) -> int:
    """Return the number of threads of one call.

    None takes the number of `core_threads` around the call, or else OpenMP's own
    (``OMP_NUM_THREADS``, or what threadpoolctl has set), but no more than `processors`. A number is
    taken as it is, up to 4096; fewer threads run where the system cannot start as many, where the
    work is not worth them, or while it is done faster without, on a busy computer.
    """
    num_threads = _THREADS.get() if num_threads is None else num_threads
    if num_threads is None:
        return max(1, min(_core.default_threads(), processors()))
    count = as_positive_int("num_threads", num_threads)
    if count > _MOST_THREADS:
        raise ValueError(f"num_threads: expected 1..{_MOST_THREADS}, got {count}")
    return count


def threads_of_jobs(n_jobs: int | None) -> int | None:
    """Return the `num_threads` of scikit-learn's `n_jobs`: -1 is all `processors`, -2 one less."""
    if n_jobs is None:
        return None
    count = as_int("n_jobs", n_jobs)
    if not 0 < abs(count) <= _MOST_THREADS:
        raise ValueError(f"n_jobs: expected ±1..{_MOST_THREADS}, got {count}")
    return count if count > 0 else max(1, processors() + 1 + count)


def processors() -> int:
    """Return how many processors this process may use: its affinity and its container's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = _container_quota()
    return max(1, min(count or 1, math.ceil(quota) if quota is not None else count or 1))


@functools.cache
def _container_quota() -> float | None:
    """Return the processor time that control groups (version 2, then 1) allow; None: no limit.

    Read once: these files take longer than a small problem.
    """
    return quota_of_groups(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))


def quota_of_groups(groups: Path, root: Path) -> float | None:
    """Return the smallest quota of a process's control group and those around it, in processors.

    `groups` lists the groups, as ``/proc/self/cgroup``; `root` is where their file systems are
    mounted. None where no group that can be read sets a limit.
    """
    quotas = []
    for line in _lines(groups):
        _, controllers, name, *_ = *line.split(":", 2), "", ""
        version_1 = "cpu" in controllers.split(",")
        if controllers and not version_1:
            continue
        top = root / "cpu" if version_1 else root
        group = PurePosixPath("/", name)
        for level in (group, *group.parents):
            quotas.append(_quota(top / level.relative_to("/"), version_1))
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota(group: Path, version_1: bool) -> float | None:
    if version_1:
        words = _lines(group / "cpu.cfs_quota_us") + _lines(group / "cpu.cfs_period_us")
    else:
        words = " ".join(_lines(group / "cpu.max")).split()
    try:
        allowed, period = (float(word) for word in words)
    except ValueError:  # no such file, "max", or what this kernel writes otherwise
        return None
    return allowed / period if allowed > 0 and period > 0 else None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="replace").splitlines()
    except OSError:
        return []
