"""Output of commands: lines, facts, figures and arrays."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from attsvm import plots
from attsvm.data.whole_file import whole_file, write_whole
from attsvm.progress import bar, inside


def say(line: str, stream: TextIO | None = None) -> None:
    """Print text, with escapes for control characters and for what the encoding lacks."""
    stream = sys.stdout if stream is None else stream
    if stream is None:  # closed before the program began
        return
    visible = "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in line
    )
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(visible.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def complain(message: str) -> None:
    """Print a message to standard error."""
    if sys.stderr is not None:
        say(f"attsvm: {message}", sys.stderr)


def say_facts(facts: Mapping[str, Any]) -> None:
    """Print facts by name, one a line."""
    width = max(map(len, facts))
    say("\n".join(f"{name:<{width}}   {fact}" for name, fact in facts.items()))


def tokens_in_words(selected: Any) -> str:
    """Write at most twenty selected tokens."""
    shown = " ".join(map(str, selected[:20]))
    return shown if len(selected) <= 20 else f"{shown} ... ({len(selected)} in all)"


def outcomes_in_words(outcomes: Any) -> str:
    """Write the outcomes of at most twenty inputs, or else how many have which, most first."""
    if len(outcomes) <= 20:
        return " ".join(outcomes)
    names, counts = np.unique(outcomes, return_counts=True)
    return ", ".join(f"{counts[k]} {names[k]}" for k in np.argsort(-counts, kind="stable"))


@contextmanager
def watched(label: str, quiet: bool) -> Iterator[None]:
    """Show on a terminal what one long computation is at."""
    with bar(1, label, False if quiet else None) as advance, inside(advance):
        yield


def can_draw(what: str) -> bool:
    """Import matplotlib, or warn that it is not installed."""
    try:
        plots.require_matplotlib()
    except ImportError as error:
        complain(f"{what} is not drawn: {error}")
        return False
    return True


def write_figure(path: Path, figure: Any, formats: Sequence[str] | None) -> list[Path]:
    """Write a figure in these formats, by default PNG; each has the path with its suffix."""
    files = plots.encoded(figure, formats or ("png",))
    return [write_whole(path.with_name(f"{path.name}.{k}"), x) for k, x in files.items()]


def write_arrays(out: Path, arrays: dict[str, Any]) -> None:
    """Write arrays as an .npz file, whole or not at all."""
    with whole_file(out) as file:
        np.savez(file, **arrays)
