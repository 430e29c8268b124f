"""Who runs: each contender by name, and the process it lives in."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing import Pipe
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["CONTENDERS", "Contender", "ContenderError", "Team"]

ROOT = Path(__file__).resolve().parent.parent

# Kernels chosen by hand for an older OpenBLAS would slow the peers.
_UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


class ContenderError(Exception):
    """A contender cannot do what it was asked; `missing`: for lack of a package or feature."""

    def __init__(self, kind: str, message: str, text: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message
        self.text = text

    @property
    def missing(self) -> bool:
        return self.kind in ("ModuleNotFoundError", "NotAvailable", "MemoryError")


@dataclass(frozen=True)
class Contender:
    """A module of `bench.peers`, and the environment of its process."""

    title: str
    module: str
    environment: Mapping[str, str] = field(default_factory=dict)


_X64 = {"JAX_ENABLE_X64": "1"}

CONTENDERS = {
    "attsvm": Contender("attsvm", "attsvm_itself"),
    "limit": Contender("limit", "machine_limits"),
    "published": Contender("PyTorch, as published", "torch_published"),
    "torch": Contender("PyTorch, by hand", "torch_by_hand"),
    "numpy": Contender("NumPy, batched", "numpy_batched"),
    "jax": Contender("jax.jit", "jax_loop", _X64),
    "jax-devices": Contender(
        "jax.jit, a device per core",
        "jax_loop",
        {**_X64, "XLA_FLAGS": f"--xla_force_host_platform_device_count={os.cpu_count()}"},
    ),
    "cvxpy": Contender("cvxpy, as published", "cvxpy_published"),
    "cvxpy-scs": Contender("cvxpy, as published, with SCS", "cvxpy_with_scs"),
    "osqp": Contender("OSQP", "osqp_dual"),
    "piqp": Contender("PIQP", "piqp_dual"),
    "proxqp": Contender("ProxQP", "proxqp_dual"),
    "daqp": Contender("DAQP", "daqp_dual"),
    "clarabel": Contender("Clarabel", "clarabel_dual"),
    "scs": Contender("SCS", "scs_dual"),
}


class Process:
    """The other end of a `bench.worker`."""

    def __init__(self, contender: Contender) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in _UNSET}
        environment.update(contender.environment)
        self._connection, theirs = Pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", str(theirs.fileno()), contender.module],
            pass_fds=[theirs.fileno()],
            env=environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
        )
        theirs.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, patience: float, command: str, *arguments: Any) -> Any:
        """Have the worker carry out a command, and wait for its answer `patience` seconds."""
        try:
            self._connection.send((command, arguments))
            if not self._connection.poll(patience):
                self._process.kill()
                raise ContenderError("TimedOut", f"no answer within {patience:g} s", "")
            good, answer = self._connection.recv()
        except (EOFError, OSError) as error:
            code = self._process.wait()
            raise ContenderError("Died", f"the process ended with status {code}", "") from error
        if not good:
            raise ContenderError(*answer)
        return answer

    def end(self) -> None:
        self._connection.close()
        self._process.wait()


class Team:
    """The processes of a run: started when first needed, ended together."""

    def __init__(self) -> None:
        self._processes: dict[tuple[str, str], Process] = {}

    def __enter__(self) -> Team:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes.values():
            process.end()

    def ask(
        self, contender: str, place: str, patience: float, command: str, *arguments: Any
    ) -> Any:
        """Ask the process of `contender` at `place`: entries of one row have one each."""
        key = (contender, place)
        if key not in self._processes:
            self._processes[key] = Process(CONTENDERS[contender])
        try:
            return self._processes[key].ask(patience, command, *arguments)
        except ContenderError as error:
            if error.kind in ("Died", "TimedOut"):
                self._processes.pop(key).end()
            raise

    def pids(self) -> list[int]:
        return [process.pid for process in self._processes.values()]

    def versions(self) -> dict[str, str]:
        """What the contenders that were started call themselves; not those that are missing."""
        versions = {}
        for (name, _), process in self._processes.items():
            with contextlib.suppress(ContenderError):
                versions[CONTENDERS[name].title] = process.ask(10.0, "version")
        return versions
