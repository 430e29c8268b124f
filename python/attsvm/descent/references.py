"""Directions to compare with: their names in a call, and their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeAlias, runtime_checkable

from attsvm._arrays import ArrayLike, Float64Array
from attsvm._validation import require_names


@runtime_checkable
class Factored(Protocol):
    """A matrix W = left' right that is never formed, as an `SVMSolution` is."""

    @property
    def left(self) -> Float64Array | None:
        """([B,] s, d)."""

    @property
    def right(self) -> Float64Array | None:
        """([B,] s, e)."""


Reference: TypeAlias = "ArrayLike | Factored"


def named_references(reference: Reference | Mapping[str, Reference] | None) -> dict[str, Reference]:
    """Return references by name; a single one has the name ""."""
    if reference is None:
        return {}
    if not isinstance(reference, Mapping):
        return {"": reference}
    require_names("reference", reference)
    return dict(reference)


def name_in_call(name: str) -> str:
    """Return what an error calls the reference of this name."""
    return f"reference[{name!r}]" if name != "" else "reference"


def factors_of(argument: str, value: Factored) -> tuple[Float64Array, Float64Array]:
    """Return (left, right) of a solution; `ValueError` for one without a direction."""
    if value.left is None or value.right is None:
        raise ValueError(f"{argument}: expected a feasible solution, got one without a direction")
    return value.left, value.right
