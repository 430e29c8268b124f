"""How many threads the core uses: the one place where that is decided."""

from __future__ import annotations

import functools
import math
import os
from pathlib import Path

from attsvm import _core
from attsvm._validation import as_positive_int

__all__ = ["processors", "thread_count"]


def thread_count(num_threads: int | None) -> int:
    """Threads for one call.

    Parameters
    ----------
    num_threads : int or None
        None takes OpenMP's own number (``OMP_NUM_THREADS``, or what threadpoolctl has set), but no
        more than `processors`. A number is taken as it is. Either way it is one in a forked process
        whose parent could not let go of its threads, as beside a torch whose OpenMP is too old.

    Raises
    ------
    TypeError, ValueError
        `num_threads` is not a positive integer.
    """
    if num_threads is not None:
        count = as_positive_int("num_threads", num_threads)
    else:
        count = max(1, min(_core.default_threads(), processors()))
    return 1 if _forked_beside_threads else count


def processors() -> int:
    """Processors this process may use: its affinity, and its container's quota if there is one."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = _container_quota()
    return max(1, min(count or 1, math.ceil(quota) if quota is not None else count or 1))


@functools.cache
def _container_quota() -> float | None:
    """Processors' worth of time that control groups (version 2, then 1) allow; None: no limit.

    Read once: these files take longer than a small problem.
    """
    unified = Path("/sys/fs/cgroup/cpu.max")
    quota = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
    try:
        if unified.is_file():
            limit, period = unified.read_text().split()
            return None if limit == "max" else int(limit) / int(period)
        if quota.is_file():
            allowed = int(quota.read_text())
            each = int(quota.with_name("cpu.cfs_period_us").read_text())
            return None if allowed < 0 else allowed / each
    except OSError:
        return None
    return None


_forked_beside_threads = False


def _use_one_thread() -> None:
    global _forked_beside_threads
    _forked_beside_threads = True


# Worker threads do not survive a fork, and a child that waits for them waits for ever.
if hasattr(os, "register_at_fork"):
    if _core.releases_its_threads():
        os.register_at_fork(before=_core.release_threads)
    else:
        os.register_at_fork(after_in_child=_use_one_thread)
