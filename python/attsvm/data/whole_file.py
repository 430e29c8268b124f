"""Files that appear whole or not at all."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from attsvm._validation import as_path


def place_of_file(argument: str, path: str | os.PathLike[str]) -> Path:
    """Follow the symbolic links of `path` to a file that is there, or can be made there."""
    target = Path(os.path.realpath(as_path(argument, path)))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{argument}: expected an existing directory, got {target.parent}")
    if target.is_dir():
        raise IsADirectoryError(f"{argument}: expected a file, got the directory {target}")
    if not is_written_as_is(target) and not os.access(target.parent, os.W_OK):
        raise PermissionError(
            f"{argument}: expected a directory that can be written to, got {target.parent}"
        )
    return target


def place_of_directory(argument: str, path: str | os.PathLike[str]) -> Path:
    """Return the directory `path`, made if nothing is there."""
    where = Path(as_path(argument, path))
    if where.exists() and not where.is_dir():
        raise NotADirectoryError(f"{argument}: expected a directory, got the file {where}")
    where.mkdir(parents=True, exist_ok=True)
    return where


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Write a file beside `path` under a hidden name, and move it there once it is complete.

    After a crash or a kill, `path` holds either the old file or the whole new one, and perhaps
    ``.NAME.XXXXXXXX.part`` is left beside it. If the block raises, the new file is removed and
    `path` is left as it was. A symbolic link is followed; a device or a pipe is written to in one
    piece, and never replaced. An `OSError` says that the directory is missing, that `path` is one,
    or that the file cannot be written.
    """
    target = place_of_file("path", path)
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        if is_written_as_is(target):
            buffer = io.BytesIO()
            yield buffer
            target.write_bytes(buffer.getvalue())
            return
        with beside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(beside)):
            error.filename = str(target)
        raise


def is_written_as_is(target: Path) -> bool:
    """Return whether a device or a pipe is there, or another thing that is no file."""
    return target.exists() and not target.is_file()


def write_whole(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write a file as `whole_file` does. Return its path."""
    with whole_file(path) as file:
        file.write(content)
    return Path(path)
