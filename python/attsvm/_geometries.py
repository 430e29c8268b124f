"""Norms of matrices by name."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from attsvm import _core
from attsvm._validation import as_float, nearest

Norm = str | float

NORMS: tuple[str, ...] = tuple(name for name in _core.geometries if name != "lp")
"""Names of the norms that have one; a number p > 1 is the l_p norm of the entries."""


def listed(norms: Norm | Sequence[Norm]) -> list[Norm]:
    """Return one norm, or several, as a list."""
    return list(norms) if isinstance(norms, Sequence) and not isinstance(norms, str) else [norms]


def as_norm(argument: str, norm: Norm, names: Collection[str] = NORMS) -> Norm:
    """Read one of these names or a number p > 1; p = 2 is ``"fro"``."""
    if isinstance(norm, str) and norm in names:
        return norm
    wanted = f"one of {', '.join(map(repr, names))} or a number p > 1"
    p = 0.0 if isinstance(norm, str) else as_float(argument, norm, wanted)
    if p <= 1.0:
        power = re.fullmatch(r"l_?(\d+(\.\d+)?)", str(norm))
        meant = f"; did you mean {power[1]}?" if power and float(power[1]) > 1 else None
        raise ValueError(
            f"{argument}: expected {wanted}, got {norm!r}{meant or nearest(norm, names)}"
        )
    return "fro" if p == 2.0 else p


def as_geometry(argument: str, norm: Norm) -> _core.Geometry:
    """Return the core's geometry of a norm."""
    norm = as_norm(argument, norm)
    return _core.Geometry(norm) if isinstance(norm, str) else _core.Geometry("lp", norm)
