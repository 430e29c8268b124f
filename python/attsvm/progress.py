"""A one-line progress bar for the terminal."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Advance", "bar"]


class Advance(Protocol):
    """What `bar` hands out."""

    def __call__(self, count: int = 1, note: str = "") -> None:
        """`count` more of the total are done; `note` says what is worked at now."""


_SECONDS_BETWEEN_DRAWINGS = 0.1
_ERASE_LINE = "\r\x1b[K"


@contextmanager
def bar(total: int, label: str, enabled: bool | None = None) -> Iterator[Advance]:
    """Show how far a loop is, at what rate, and how long it will still take.

    The line is drawn on standard error, at most ten times a second, and is erased at the end,
    whether the loop came through or not.

    Parameters
    ----------
    total : int
        How many things there are to do.
    label : str
        What they are, in front of the bar: ``"problems"``.
    enabled : bool, optional
        By default the bar is drawn if standard error is a terminal.

    Yields
    ------
    Advance
        To be called as things get done; its note is shown behind the bar.

    Examples
    --------
    >>> with bar(3, "problems") as advance:
    ...     for _ in range(3):
    ...         advance(1, "")
    """
    if not (sys.stderr.isatty() if enabled is None else enabled):
        yield _stand_still
        return
    started = time.monotonic()
    last_drawn = started - _SECONDS_BETWEEN_DRAWINGS
    done = 0

    def advance(count: int = 1, note: str = "") -> None:
        nonlocal done, last_drawn
        done += count
        now = time.monotonic()
        if now - last_drawn >= _SECONDS_BETWEEN_DRAWINGS:
            last_drawn = now
            columns = shutil.get_terminal_size().columns
            line = progress_line(done, total, now - started, label, note, columns)
            sys.stderr.write(_ERASE_LINE + line)
            sys.stderr.flush()

    try:
        advance(0)
        yield advance
    finally:
        sys.stderr.write(_ERASE_LINE)
        sys.stderr.flush()


def progress_line(
    done: int, total: int, seconds: float, label: str, note: str, columns: int
) -> str:
    """One line of at most `columns` - 1 characters: label, bar, counts, rate, time left, note.

    The time left is taken from the mean rate since the start; both are left out until something is
    done.
    """
    share = done / total if total else 1.0
    filled = round(24 * share)
    parts = [f"{label} [{'#' * filled}{'.' * (24 - filled)}] {done}/{total}"]
    if done and seconds > 0:
        rate = done / seconds
        parts += [f"{rate:.3g}/s", f"{_clock((total - done) / rate)} left"]
    if note:
        parts.append(note)
    return "  ".join(parts)[: columns - 1]


def _stand_still(count: int = 1, note: str = "") -> None:
    """Advance nothing: no bar is drawn."""


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
