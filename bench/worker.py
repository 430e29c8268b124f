"""The process of one contender: it holds a task and times runs of it.

Each contender has a process of its own, so that thread pools, allocators and instruction-set
choices of one library cannot touch another's figures. Started by `bench.contenders`.
"""

from __future__ import annotations

import gc
import importlib
import resource
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.tasks import settled


class Worker:
    """What the commands of the other end act on."""

    def __init__(self, module: str) -> None:
        self._module = importlib.import_module(f"bench.peers.{module}")
        self._run: Callable[..., Callable[[], Any]] | None = None
        self._result: Callable[[], Any] | None = None

    def version(self) -> str:
        return str(self._module.version())

    def prepare(self, kind: str, task: Any, memory: int | None) -> float:
        """Hand over a task; seconds until its runs can start (conversion, compilation)."""
        self._run = self._result = None
        gc.collect()
        task = settled(task)
        limit = resource.RLIM_INFINITY if memory is None else memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        begin = time.perf_counter()
        self._run = getattr(self._module, kind)(task)
        return time.perf_counter() - begin

    def time(self, *arguments: int) -> float:
        """Seconds of one run."""
        assert self._run is not None
        self._result = None
        begin = time.perf_counter()
        self._result = self._run(*arguments)
        return time.perf_counter() - begin

    def result(self) -> Any:
        assert self._result is not None
        return self._result()

    def peak(self, reset: bool) -> int | None:
        """Largest resident bytes since the last reset; None where the kernel does not say."""
        status = Path("/proc/self/status")
        if not status.is_file():
            return None
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        kibibytes = int(lines["VmHWM"].split()[0])
        if reset:
            gc.collect()
            Path("/proc/self/clear_refs").write_text("5")
        return kibibytes * 1024


def main(descriptor: str, module: str) -> None:
    connection = Connection(int(descriptor))
    worker: Worker | None = None
    while True:
        try:
            command, arguments = connection.recv()
        except EOFError:
            return
        try:
            worker = worker or Worker(module)
            answer = getattr(worker, command)(*arguments)
        except Exception as error:
            connection.send((False, (type(error).__name__, str(error), traceback.format_exc())))
        else:
            connection.send((True, answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
