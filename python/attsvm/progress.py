"""Progress bars of tqdm, on a terminal or in a notebook; work beside the core; Ctrl-C held back."""

from __future__ import annotations

import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

Advance: TypeAlias = Callable[..., None]
"""Function that `bar` yields: (count=1, note="") counts as done, and names what is under way."""

_INTERVAL = 0.1
_SHOW: ContextVar[Callable[[str], None] | None] = ContextVar("_SHOW", default=None)
_MEANWHILE: ContextVar[Callable[[], None] | None] = ContextVar("_MEANWHILE", default=None)


@contextmanager
def inside(advance: Advance, note: str = "") -> Iterator[None]:
    """Show what long calls of the core are at as the note of a bar, behind the given note.

    SVMs and training runs that have no bar of their own say so about ten times a second.
    """
    token = _SHOW.set(lambda words: advance(0, ", ".join(filter(None, (note, words)))))
    try:
        yield
    finally:
        _SHOW.reset(token)


@contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[None]:
    """Do this work within the first long call of the core inside, or else at the end.

    The calling thread does it while the others of the call go on, after the work of a `meanwhile`
    around this one. What it raises, that call raises.
    """
    left, around = [work], _MEANWHILE.get()

    def once() -> None:
        if around is not None:
            around()
        if left:
            left.pop()()

    token = _MEANWHILE.set(once)
    try:
        yield
    finally:
        _MEANWHILE.reset(token)
    once()


@contextmanager
def ctrl_c_held_back() -> Iterator[None]:
    """Hand on SIGINT at the end: imports and starts of processes that it interrupts may lose it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
    if received:
        signal.raise_signal(signal.SIGINT)


def reporter(what: Callable[[], str]) -> Callable[..., None] | None:
    """Return a function of the share that is done, which the core is to call; None if none watches.

    It does what is to be done `meanwhile`, then shows `what` is under way, the share where the call
    has several parts, and the time. Of the SVM that the calling thread solves the core also tells
    the relative duality gap and the number of active constraints, or -1, which are shown where it
    is the only one.
    """
    show, work = _SHOW.get(), _MEANWHILE.get()
    if show is None and work is None:
        return None
    words, started = what(), time.monotonic()

    def report(share: float, gap: float | None = None, active: int = -1) -> None:
        if work is not None:
            work()
        if show is None:
            return
        known = [words if not share else f"{words} {share:.0%}"]
        known += [] if gap is None else [f"gap {gap:.0e}"]
        known += [] if active < 0 else [f"{active} active"]
        show(f"{', '.join(known)}, {time.monotonic() - started:.0f} s")

    return report


def watcher() -> Callable[[Callable[[], str]], None] | None:
    """Return a function that shows words, ten times a second at most; None if none watches."""
    show = _SHOW.get()
    if show is None:
        return None
    last = time.monotonic()

    def tell(words: Callable[[], str]) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _INTERVAL:
            last = now
            show(words())

    return tell


@contextmanager
def bar(total: int, label: str, enabled: bool | None = None) -> Iterator[Advance]:
    """Show a progress bar on standard error, and erase it at the end.

    By default it is shown if standard error is a terminal, and in a Jupyter notebook. The function
    that is yielded is called as things get done; its note is shown behind the bar.
    """
    if not (_is_watched() if enabled is None else enabled) or sys.stderr is None:
        yield lambda count=1, note="": None
        return
    from tqdm.auto import tqdm

    class Bar(tqdm):  # type: ignore[misc, type-arg, unused-ignore]
        monitor_interval = 0  # no thread that watches the bar
        _lock = threading.RLock()  # no semaphore shared with other processes

    # The note before the times, so that a narrow terminal does not cut it.
    layout = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix} [{elapsed}<{remaining}]"
    layout = layout if total != 1 else "{desc}{postfix} [{elapsed}]"
    columns, lines = shutil.get_terminal_size()
    with Bar(
        total=total,
        desc=label,
        bar_format=layout,
        miniters=1,
        leave=False,
        ncols=columns,
        nrows=lines,
        file=sys.stderr,
    ) as shown:

        def advance(count: int = 1, note: str = "") -> None:
            shown.set_postfix_str(note, refresh=count == 0)
            shown.update(count)

        yield advance


def _is_watched() -> bool:
    """Return whether standard error is a terminal, or this runs in a Jupyter notebook."""
    is_terminal = getattr(sys.stderr, "isatty", None)
    if is_terminal is not None and is_terminal():
        return True
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config
