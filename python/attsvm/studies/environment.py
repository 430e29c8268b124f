"""What results are made with: versions, instruction set, machine."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

from attsvm import _core
from attsvm._dispatch import available_levels
from attsvm.threads import thread_count

__all__ = ["DEPENDENCIES", "environment", "version"]

DEPENDENCIES = (
    *("numpy", "scipy", "osqp"),
    *("scikit-learn", "matplotlib", "xarray", "zarr", "distributed"),
)
"""Distributions attsvm works with; those of the second line come with its extras."""


def version(distribution: str) -> str | None:
    """Version of an installed distribution, None if it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def environment() -> dict[str, Any]:
    """What computes here: processor and core, interpreter, and what attsvm builds on.

    ``isa`` is the instruction-set level of the core in use; ``threads`` is what a call uses.
    """
    return {
        "platform": platform.platform(),
        "isa": _core.isa,
        "isa_available": list(available_levels()),
        "openmp": _core.openmp,
        "threads": thread_count(None),
        "python": platform.python_version(),
        **{name: version(name) for name in DEPENDENCIES},
    }
