"""Which of the compiled cores is used: the best that the processor can run, or ``ATTSVM_ISA``."""

from __future__ import annotations

import importlib
import os
from types import ModuleType

from attsvm import _isa

__all__ = ["available_levels", "load_core"]


def available_levels() -> tuple[str, ...]:
    """Instruction-set levels this processor has and a core was compiled for, best first."""
    return tuple(_isa.supported())


def load_core() -> ModuleType:
    """Import the compiled core.

    Raises
    ------
    ImportError
        ``ATTSVM_ISA`` names a level that this processor does not have.
    """
    levels = available_levels()
    wanted = os.environ.get("ATTSVM_ISA") or levels[0]
    if wanted not in levels:
        raise ImportError(
            f"ATTSVM_ISA: expected one of {', '.join(levels)} on this processor, got {wanted!r}"
        )
    return importlib.import_module(f"attsvm._core_{wanted}")
