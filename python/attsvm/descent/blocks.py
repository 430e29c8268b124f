"""What is trained: the attention parameter, and with it perhaps the head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attsvm._validation import as_choice, as_positive_float

__all__ = ["PARAMETERS", "Blocks", "as_blocks"]

PARAMETERS = ("p", "W", "KQ", "Wp")
_NAMES = {"p": ("p",), "W": ("W",), "KQ": ("K", "Q"), "Wp": ("W",)}


@dataclass(frozen=True)
class Blocks:
    """Blocks of parameters that descent moves together, each with a rate of its own.

    Attributes
    ----------
    attention : {"p", "W", "KQ", "Wp"}
        How query directions are made.
    head : bool
        Whether the linear head v is trained too.
    """

    attention: str
    head: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the blocks, the head's last."""
        return _NAMES[self.attention] + (("v",) if self.head else ())

    @property
    def parameter(self) -> str | tuple[str, str]:
        """As the caller writes it."""
        return ("v", self.attention) if self.head else self.attention

    def by_name(self, argument: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
        """`value`, if the blocks are its keys."""
        if set(value) != set(self.names):
            wanted = " and ".join(repr(block) for block in self.names)
            raise ValueError(
                f"{argument}: expected the key {wanted}, got {sorted(map(str, value))}"
            )
        return value

    def rates(self, lr: float | Mapping[str, float]) -> dict[str, float]:
        """A positive rate for each block."""
        if isinstance(lr, Mapping):
            named = self.by_name("lr", lr)
            return {name: as_positive_float(f"lr[{name!r}]", named[name]) for name in self.names}
        return dict.fromkeys(self.names, as_positive_float("lr", lr))


def as_blocks(parameter: str | Sequence[str]) -> Blocks:
    """Read ``"W"``, or a pair such as ``("v", "W")`` or ``"v+W"`` in either order."""
    pair = parameter.split("+") if isinstance(parameter, str) and "+" in parameter else parameter
    if isinstance(pair, str) or not isinstance(pair, Sequence):
        return Blocks(as_choice("parameter", pair, PARAMETERS))
    others = [name for name in pair if name != "v"]
    if len(pair) != 2 or len(others) != 1:
        raise ValueError(
            f"parameter: expected one of {', '.join(map(repr, PARAMETERS))}, or a pair of it and "
            f"'v', got {parameter!r}"
        )
    return Blocks(as_choice("parameter", others[0], PARAMETERS), head=True)
