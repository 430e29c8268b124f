"""The figures that can be reproduced, in the order of the papers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attsvm._validation import nearest
from attsvm.studies import figures
from attsvm.studies.reproduce.figure import PAPERS, Figure

FIGURES: tuple[Figure, ...] = tuple(
    sorted(
        (
            Figure.of(f"{figures.__name__}.{file.stem}")
            for file in Path(figures.__path__[0]).glob("*.toml")
        ),
        key=lambda figure: (list(PAPERS).index(figure.papers[0]), figure.position),
    )
)


def named(name: str, figures: Sequence[Figure] = FIGURES) -> Figure:
    """Return the figure of this name or raise ValueError, which lists the names."""
    for figure in figures:
        if name in (figure.name, *figure.aliases):
            return figure
    known = [figure.name for figure in figures]
    hint = nearest(name, [*known, *(a for f in figures for a in f.aliases), *PAPERS])
    raise ValueError(f"NAME: expected one of {', '.join(known)}, got {name!r}{hint}")


def matching(name: str, figures: Sequence[Figure] = FIGURES) -> tuple[Figure, ...]:
    """Return the figure of this name, or all figures of the paper of this arXiv number."""
    of_paper = tuple(figure for figure in figures if name in figure.papers)
    return of_paper or (named(name, figures),)
