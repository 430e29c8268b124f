"""Lock of the directory of a study against other writers."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from attsvm.data.whole_file import place_of_directory

LOCK = ".lock"
"""Name of the file in the directory that is locked while a process writes there."""

_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, 524}
"""Errors of file systems without locks; 524 is Linux's ENOTSUPP."""


@contextmanager
def only_writer(directory: str | os.PathLike[str]) -> Iterator[None]:
    """Lock a directory against other writers; readers need no lock.

    The lock is the operating system's and ends with the process, however that ends. Where the file
    system has no locks a warning is given and nothing is locked. The directory is created if it
    does not exist. It is a `BlockingIOError` if another process, or another call in this one, is
    writing there.
    """
    from filelock import FileLock, Timeout

    where = place_of_directory("directory", directory)
    lock = FileLock(where / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise BlockingIOError(
            f"{where}: expected no other writer, got a study that is running there; wait until it "
            "has ended, or choose another directory (--out)"
        ) from error
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        warnings.warn(
            f"{where}: the file system has no locks ({error}); run one study there at a time",
            RuntimeWarning,
            stacklevel=4,
        )
    try:
        yield
    finally:
        # Removed before it is released: the next holder finds its own file in place.
        (where / LOCK).unlink(missing_ok=True)
        lock.release()
