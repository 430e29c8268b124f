"""Environment of results: versions, instruction set, computer."""

from __future__ import annotations

import platform
from functools import cache
from typing import Any

from attsvm import _core
from attsvm._dispatch import available_levels
from attsvm.extras import dependencies
from attsvm.threads import thread_count


@cache
def version(distribution: str) -> str | None:
    """Return the version of an installed distribution, None if it is not installed."""
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def environment() -> dict[str, Any]:
    """Return the environment: processor and core, interpreter, and what attsvm builds on.

    ``isa`` is the instruction-set level of the core in use; ``threads`` is what a call uses.
    """
    return {
        "platform": platform.platform(),
        "isa": _core.isa,
        "isa_available": list(available_levels()),
        "openmp": _core.openmp,
        "threads": thread_count(None),
        "python": platform.python_version(),
        **{name: version(name) for name in dependencies()},
    }
