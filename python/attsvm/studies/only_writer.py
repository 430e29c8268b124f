"""One process at a time writes the directory of a study."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["LOCK", "only_writer"]

LOCK = ".lock"
"""The file in the directory that is locked while a process writes there."""


@contextmanager
def only_writer(directory: str | os.PathLike[str]) -> Iterator[None]:
    """Lock a directory against other writers; who only reads does not ask.

    The lock is the operating system's and ends with the process, however that ends.

    Parameters
    ----------
    directory : str or path-like
        Made if it does not exist.

    Raises
    ------
    BlockingIOError
        Another process, or another call in this one, is writing there.
    OSError
        It is no directory, or nothing can be written or locked there.
    """
    where = Path(directory)
    if where.exists() and not where.is_dir():
        raise NotADirectoryError(f"{where}: expected a directory, got a file")
    where.mkdir(parents=True, exist_ok=True)
    file = _locked(where)
    try:
        yield
    finally:
        # Removed before it is let go: whoever holds the lock finds its own file in place.
        (where / LOCK).unlink(missing_ok=True)
        os.close(file)


def _locked(directory: Path) -> int:
    """The locked file, open."""
    path = directory / LOCK
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _lies_at(file, path):
                return file
        except BlockingIOError as error:
            os.close(file)
            raise BlockingIOError(
                f"{directory}: expected no other writer, got a study that is running there; wait "
                "until it has ended, or choose another directory (--out)"
            ) from error
        except OSError as error:
            os.close(file)
            raise OSError(error.errno, error.strerror, str(path)) from error
        # The last writer removed it between our opening and our lock.
        os.close(file)


def _lies_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False
