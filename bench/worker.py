"""The process of one contender: it holds a task and times runs of it."""

from __future__ import annotations

import gc
import importlib
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.tasks import map_arrays

_run: Callable[..., Callable[[], Any]]
_result: Callable[[], Any] | None = None


def begin() -> None:
    """Send to the error stream what libraries print."""
    os.dup2(2, 1)


def prepare(module: str, arguments: tuple[str, ...], task: Any, memory: int | None) -> float:
    """Take a task; return the seconds until its runs can start (conversion, compilation)."""
    global _run, _result
    _run, _result = NotImplemented, None
    gc.collect()
    start = getattr(importlib.import_module(f"bench.peers.{module}"), type(task).__name__.lower())
    # In memory of NumPy's own, as the arrays of a user would be.
    task = map_arrays(task, lambda array: np.array(array, order="C"))
    limit = resource.RLIM_INFINITY if memory is None else memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    start_time = time.perf_counter()
    _run = start(task, *arguments)
    return time.perf_counter() - start_time


def seconds(*arguments: int) -> float:
    """Return the seconds of one run."""
    global _result
    _result = None
    start_time = time.perf_counter()
    _result = _run(*arguments)
    return time.perf_counter() - start_time


def result() -> Any:
    """Return the answer of the last run."""
    assert _result is not None
    return _result()


def peak(reset: bool) -> int | None:
    """Return the largest resident bytes since the last reset, None where it is not known."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    if reset:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")
    return 1024 * int(lines["VmHWM"].split()[0])
