"""The choice of the compiled core: the best that the processor can run, or ``ATTSVM_ISA``."""

from __future__ import annotations

import importlib
import os
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from attsvm import _isa
from attsvm._version import __version__


def available_levels() -> tuple[str, ...]:
    """Return the instruction sets of this processor that a core was compiled for, best first."""
    return tuple(level for level in _isa.supported() if find_spec(f"attsvm._core_{level}"))


def load_core() -> ModuleType:
    """Import the compiled core, or raise `ImportError`, which says why none can be used."""
    if not _isa.in_main_interpreter():
        raise ImportError(
            "attsvm: cannot be imported in a subinterpreter; import it in the main one"
        )
    levels = available_levels()
    if not levels:
        raise ImportError(
            "attsvm: no core was compiled that this processor can run (it has the levels "
            f"{', '.join(_isa.supported())}); build attsvm with one of them in ATTSVM_ISA_LEVELS"
        )
    wanted = os.environ.get("ATTSVM_ISA") or levels[0]
    if wanted not in levels:
        raise ImportError(f"ATTSVM_ISA: expected one of {', '.join(levels)} here, got {wanted!r}")
    core = importlib.import_module(f"attsvm._core_{wanted}")
    check_core(core)
    return core


def check_core(core: ModuleType) -> None:
    """Refuse a core that is not of these Python sources, as of a stale editable build."""
    interface = Path(__file__).with_name("_core.pyi")
    version = getattr(core, "version", "unknown")
    if version != __version__:
        found = f"version {version} of the core with version {__version__} of the Python sources"
    elif interface.is_file() and core.interface != sha256(interface.read_bytes()).hexdigest():
        found = f"a core of version {version} compiled before {interface.name} was last changed"
    else:
        return
    raise ImportError(
        f"{core.__name__}: {found}; build attsvm anew: 'make install', or 'pip install -e .' in "
        f"its sources ({core.__file__} is the old one)"
    )
