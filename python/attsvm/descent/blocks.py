"""Blocks of trained parameters: those of attention, and perhaps the head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from attsvm import _core
from attsvm._arrays import Float64Array
from attsvm._validation import as_choice, as_positive_float, nearest, require_keys
from attsvm.data import AttentionData

PARAMETERS = tuple(_core.parameterisations)
"""Parameters of attention."""
WITH_HEAD = tuple(f"v+{name}" for name in PARAMETERS)
"""The same, with the linear head trained too."""
STARTS = ("uniform", "balanced", "unbalanced")


@dataclass(frozen=True)
class Blocks:
    """Blocks of parameters that descent moves together, each with a rate of its own."""

    attention: str  # how query directions are made: a name of `_core.parameterisations`
    head: bool = False  # whether the linear head v is trained too

    @property
    def kind(self) -> _core.Parameterisation:
        """The parameterisation of attention."""
        return _core.parameterisations[self.attention]

    @cached_property
    def axes(self) -> tuple[tuple[str, str], ...]:
        """The axes of each block of attention in the core."""
        return tuple(block.axes for block in self.kind.blocks)

    @property
    def has_inner(self) -> bool:
        """Whether a block has an axis of free size m."""
        return any("m" in axes for axes in self.axes)

    def shapes(self, d: int, e: int, m: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of each block of attention as the caller has it."""
        sizes = {"d": d, "e": e, "m": m}
        return {b.name: tuple(sizes[axis] for axis in axes_of(b)) for b in self.kind.blocks}

    @cached_property
    def direction(self) -> str:
        """What multiplies the queries, "W" or "p"; "Wp" where p and W that make it are trained."""
        if self.kind.queries != "one":
            return "W"
        return "p" if self.kind.form == "block" else "Wp"

    @property
    def starts(self) -> tuple[str, ...]:
        """The starts that have a name."""
        if self.direction == "Wp":
            return tuple(start for start in STARTS if start != "balanced")
        return STARTS if self.kind.bilinear else STARTS[:1]

    def lacks_queries(self, data: AttentionData) -> bool:
        """Return whether logits take queries that the data have not."""
        return data.queries is None and self.kind.queries == "data"

    def draws(self, start: str | None) -> bool:
        """Return whether the start of this name, or without one the usual start, is random."""
        return start in STARTS[:2] if start is not None else self.kind.bilinear

    def draw_start(
        self,
        start: str,
        shapes: Mapping[str, tuple[int, ...]],
        generator: np.random.Generator,
        lead: tuple[int, ...] = (),
    ) -> dict[str, Float64Array]:
        """Return a start of each block, with the axes `lead` in front.

        "uniform" is on ±1/sqrt(d), with p = 0 beside W, "balanced" the same with equal blocks, and
        "unbalanced" the identity, or ones, and zero.
        """
        if start == "unbalanced":
            first, second = shapes.values()
            ones = np.eye(*first) if len(first) == 2 else np.ones(first)
            drawn = [
                np.broadcast_to(block, (*lead, *block.shape)) for block in (ones, np.zeros(second))
            ]
        else:
            reach = 1.0 / np.sqrt(next(iter(shapes.values()))[0])
            drawn = [generator.uniform(-reach, reach, (*lead, *shape)) for shape in shapes.values()]
        if start == "balanced":
            drawn = drawn[:1] * len(drawn)
        if self.direction == "Wp":
            drawn[1] = np.zeros_like(drawn[1])
        return dict(zip(shapes, drawn, strict=True))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the blocks, the head's last."""
        return (*(block.name for block in self.kind.blocks), *(("v",) if self.head else ()))

    @property
    def parameter(self) -> str | tuple[str, str]:
        """As the caller writes it."""
        return ("v", self.attention) if self.head else self.attention

    def by_name(self, argument: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return `value`, if the blocks are its keys."""
        require_keys(argument, value, self.names)
        return value

    def rates(self, lr: float | Mapping[str, float]) -> dict[str, float]:
        """Return a positive rate for each block."""
        if isinstance(lr, Mapping):
            named = self.by_name("lr", lr)
            return {name: as_positive_float(f"lr[{name!r}]", named[name]) for name in self.names}
        return dict.fromkeys(self.names, as_positive_float("lr", lr))


def axes_of(block: _core.BlockShape) -> tuple[str, ...]:
    """Return the axes of a block as the caller has it, such as ("d", "m") of K."""
    axes = block.axes[::-1] if block.transposed else block.axes
    return tuple(axis for axis in axes if axis != "1")


def with_head(parameter: str) -> str:
    """Return the name of a parameter that is trained together with v."""
    return f"v+{parameter.removeprefix('v+')}"


def as_blocks(parameter: str | Sequence[str]) -> Blocks:
    """Read ``"W"``, or a pair such as ``("v", "W")`` or ``"v+W"`` in either order."""
    return _named(parameter) if isinstance(parameter, str) else _read(parameter)


def _read(parameter: str | Sequence[str]) -> Blocks:
    known = (*PARAMETERS, *WITH_HEAD)
    if (isinstance(parameter, str) and "+" not in parameter) or not isinstance(parameter, Sequence):
        return Blocks(as_choice("parameter", parameter, known))
    names = [parameter] if isinstance(parameter, str) else parameter
    parts = "+".join(map(str, names)).split("+")
    others = sorted(part for part in parts if part != "v")  # as in the name "W+p"
    attention = "+".join(others)
    if attention not in PARAMETERS or len(parts) - len(others) > 1:
        raise ValueError(
            f"parameter: expected one of {', '.join(map(repr, known))}, got {parameter!r}"
            f"{nearest(parameter, known)}"
        )
    return Blocks(attention, head=len(parts) > len(others))


_named = cache(_read)
