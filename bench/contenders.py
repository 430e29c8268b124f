"""Contenders by name, and the processes in which they are timed.

Every contender has a process of its own, so that the thread pool, allocator and instruction set
chosen by one library cannot touch the times of another.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, TimeoutError
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any
from unittest.mock import patch

from bench import worker

# Kernels chosen by hand for an older OpenBLAS would slow the peers.
_UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


@dataclass(frozen=True)
class Contender:
    """A module of `bench.peers`, with further arguments of its functions, and its environment."""

    title: str
    module: str
    packages: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


_X64 = {"JAX_ENABLE_X64": "1"}
_DEVICES = f"--xla_force_host_platform_device_count={os.cpu_count()}"

CONTENDERS = {
    "attsvm": Contender("attsvm", "attsvm_itself", ("attsvm",)),
    "limit": Contender("limit", "hardware_limits", ("torch", "numpy")),
    "published": Contender("PyTorch, as published", "torch_published", ("torch",)),
    "torch": Contender("PyTorch, by hand", "torch_by_hand", ("torch",)),
    "numpy": Contender("NumPy, batched", "numpy_batched", ("numpy",)),
    "jax": Contender("jax.jit", "jax_loop", ("jax",), environment=_X64),
    "jax-devices": Contender(
        "jax.jit, a device per core",
        "jax_loop",
        ("jax",),
        environment={**_X64, "XLA_FLAGS": _DEVICES},
    ),
    "cvxpy": Contender("cvxpy, as published", "cvxpy_published", ("cvxpy",)),
    "cvxpy-scs": Contender(
        "cvxpy, as published, with SCS", "cvxpy_published", ("cvxpy", "scs"), ("SCS",)
    ),
    "osqp": Contender("OSQP", "quadratic_programs", ("osqp",), ("osqp",)),
    "piqp": Contender("PIQP", "quadratic_programs", ("piqp",), ("piqp",)),
    "proxqp": Contender("ProxQP", "quadratic_programs", ("proxsuite",), ("proxqp",)),
    "daqp": Contender("DAQP", "quadratic_programs", ("daqp",), ("daqp",)),
    "clarabel": Contender("Clarabel", "quadratic_programs", ("clarabel",), ("clarabel",)),
    "highs": Contender("HiGHS", "cone_programs", ("scipy",), ("highs",)),
    "highs-ipm": Contender("HiGHS, interior point", "cone_programs", ("scipy",), ("highs-ipm",)),
    "clarabel-cones": Contender("Clarabel", "cone_programs", ("clarabel",), ("clarabel",)),
    "scs": Contender("SCS", "quadratic_programs", ("scs",), ("scs",)),
}


class Process:
    """A process that carries out the functions of `bench.worker`."""

    def __init__(self, contender: Contender) -> None:
        self._executor = ProcessPoolExecutor(1, get_context("spawn"), worker.begin)
        environment = {name: value for name, value in os.environ.items() if name not in _UNSET}
        with patch.dict(os.environ, {**environment, **contender.environment}, clear=True):
            self._pid = self._executor.submit(os.getpid).result()

    def ask(self, patience: float, command: Callable[..., Any], *arguments: Any) -> Any:
        """Carry out a function, for `patience` seconds at most."""
        try:
            return self._executor.submit(command, *arguments).result(patience)
        except TimeoutError:
            os.kill(self._pid, signal.SIGKILL)
            raise TimeoutError(f"no answer within {patience:g} s") from None

    def end(self) -> None:
        self._executor.shutdown()


class Processes(contextlib.ExitStack):
    """The processes of a run: started when first needed, ended together."""

    def __init__(self) -> None:
        super().__init__()
        self._running: dict[tuple[str, int], Process] = {}

    def get(self, contender: str, place: int) -> Process:
        """Return the process of a contender; entries of one row have a place each."""
        key = (contender, place)
        try:
            self._running[key].ask(60.0, os.getpid)
        except (KeyError, BrokenExecutor):
            self._running[key] = Process(CONTENDERS[contender])
            self.callback(self._running[key].end)
        return self._running[key]
