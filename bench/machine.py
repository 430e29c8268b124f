"""What the figures were measured on, and who else was computing meanwhile."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

from attsvm.studies.environment import environment

__all__ = ["Bystanders", "machine_facts"]


def machine_facts() -> dict[str, Any]:
    """Processor, memory, and attsvm's own account of itself."""
    facts = {
        "processor": platform.processor() or platform.machine(),
        "processors": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "load_before": os.getloadavg()[0],
    }
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = (line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
        facts["processor"] = next(
            (value.strip() for name, value in lines if name.strip() == "model name"),
            facts["processor"],
        )
    return {**facts, "attsvm": environment()}


class Bystanders:
    """Processor time that went to neither this benchmark nor idling, as a number of processors.

    A figure taken while others compute is not to be trusted; `share` says how many did, None where
    the system does not tell.
    """

    def __init__(self, pids: list[int]) -> None:
        self._began = time.perf_counter()
        self._busy = _busy_seconds()
        self._own = _own_seconds(pids)

    def share(self, pids: list[int]) -> float | None:
        """Processors that others kept busy since the start; `pids`: the workers by now."""
        busy = _busy_seconds()
        if self._busy is None or busy is None:
            return None
        own = _own_seconds(pids) - self._own
        return max(0.0, (busy - self._busy - own) / (time.perf_counter() - self._began))


def _busy_seconds() -> float | None:
    stat = Path("/proc/stat")
    if not stat.is_file():
        return None
    user, nice, system, _, _, interrupt, soft, steal = map(
        int, stat.read_text().splitlines()[0].split()[1:9]
    )
    return (user + nice + system + interrupt + soft + steal) / os.sysconf("SC_CLK_TCK")


def _own_seconds(pids: list[int]) -> float:
    """Processor seconds of this process and of the given ones; dead ones count as children."""
    own = os.times()
    total = own.user + own.system + own.children_user + own.children_system
    for pid in pids:
        stat = Path(f"/proc/{pid}/stat")
        if stat.is_file():
            columns = stat.read_text().rsplit(")", 1)[1].split()
            total += (int(columns[11]) + int(columns[12])) / os.sysconf("SC_CLK_TCK")
    return total
