"""The hardware of a run, and the processor time that other programs took meanwhile."""

from __future__ import annotations

import platform
import re
import time
from pathlib import Path
from typing import Any

import psutil

from attsvm.studies.environment import environment


def hardware_facts() -> dict[str, Any]:
    """Return processor and versions."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    model = re.search(r"^model name\s*: (.+)$", text, flags=re.MULTILINE)
    return {
        "processor": model[1].strip() if model else platform.processor() or platform.machine(),
        "processors": len(psutil.Process().cpu_affinity()),
        "attsvm": environment(),
    }


class OtherLoad:
    """Processor time that went to neither this benchmark nor idling, as a number of processors."""

    def __init__(self) -> None:
        self._begin, self._busy = time.perf_counter(), _busy_seconds()

    def processors(self) -> float:
        """Return the number of processors that others kept busy since the start."""
        return max(0.0, (_busy_seconds() - self._busy) / (time.perf_counter() - self._begin))


def _busy_seconds() -> float:
    """Return the processor seconds of the system, less those of this process and its children."""
    total = psutil.cpu_times()
    busy = sum(total) - total.idle - total.iowait - total.guest - total.guest_nice
    this = psutil.Process()
    own = this.cpu_times()
    children = (child.cpu_times() for child in this.children(recursive=True))
    mine = sum(t.user + t.system for t in (own, *children))
    return float(busy - mine - own.children_user - own.children_system)
