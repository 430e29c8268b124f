"""The number of threads of the core: the one place where it is decided."""

from __future__ import annotations

import functools
import math
import os
from pathlib import Path, PurePosixPath

from attsvm import _core
from attsvm._validation import as_positive_int

_MOST_THREADS = 4096


def thread_count(num_threads: int | None) -> int:
    """Return the number of threads of one call.

    None takes OpenMP's own number (``OMP_NUM_THREADS``, or what threadpoolctl has set), but no more
    than `processors`. A number is taken as it is, up to 4096; fewer threads run where the system
    cannot start as many, where the work is not worth them, or while it is done faster without, on a
    busy computer.
    """
    if num_threads is None:
        return max(1, min(_core.default_threads(), processors()))
    count = as_positive_int("num_threads", num_threads)
    if count > _MOST_THREADS:
        raise ValueError(f"num_threads: expected 1..{_MOST_THREADS}, got {count}")
    return count


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
