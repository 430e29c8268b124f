"""Problems in files: NumPy's ``.npz``, never unpickled."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from dataclasses import fields
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from attsvm._validation import as_instance, as_path, nearest
from attsvm.data.attention_data import AttentionData
from attsvm.data.next_token_data import NextTokenData
from attsvm.data.whole_file import whole_file

_KINDS: tuple[tuple[type[AttentionData] | type[NextTokenData], set[str]], ...] = (
    (AttentionData, {"tokens", "labels"}),
    (NextTokenData, {"embeddings", "contexts", "labels"}),
)
"""Kinds of data that a file may hold, and the fields that it must have then."""

_AXES = {
    **{"tokens": 3, "labels": 1, "queries": 2, "value": 1, "lengths": 1, "sequence": 1},
    **{"embeddings": 2, "contexts": 2, "last": 1, "vocabulary": 1},
}
"""Number of axes of each field, without that of a batch."""


def load(path: str | os.PathLike[str]) -> AttentionData | NextTokenData:
    """Read a problem, or a batch of them, from an ``.npz`` file.

    The file holds the arrays ``tokens`` and ``labels``, and if wanted ``queries``, ``value``,
    ``lengths`` and ``sequence``, with the shapes and meaning of `AttentionData`; or the arrays
    ``embeddings``, ``contexts`` and ``labels``, and if wanted ``lengths``, ``last`` and
    ``vocabulary``, of `NextTokenData`. Any program may have written it
    (``numpy.savez(path, tokens=..., labels=...)``); nothing in it is ever unpickled.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    AttentionData or NextTokenData

    Raises
    ------
    OSError
        The file is missing or cannot be opened.
    TypeError, ValueError
        The file is not an ``.npz`` or is damaged, a field is missing, unknown or holds objects, or
        the arrays do not make a problem (the checks of `AttentionData` and `NextTokenData`).
    """
    where = as_path("path", path)
    if where.exists() and not (where.is_file() or where.is_dir()):
        raise ValueError(f"{path}: expected a file, got a device or a pipe")
    with where.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError(f"{path}: expected an .npz file of NumPy arrays, got another format")
        try:
            kind, arrays = _read_fields(file)
            return kind(**arrays)
        except (TypeError, ValueError) as error:
            raised = TypeError if isinstance(error, TypeError) else ValueError
            raise raised(f"{path}: {error}") from error


def save(path: str | os.PathLike[str], data: AttentionData | NextTokenData) -> None:
    """Write `data` to exactly `path` as an ``.npz`` file that `load` reads back bit for bit.

    The file is written beside `path` under a hidden name and then renamed, so that after a crash
    `path` holds either the old file or the whole new one. No suffix is added to `path`.

    Parameters
    ----------
    path : str or path-like
        Replaced if it exists.
    data : AttentionData or NextTokenData

    Raises
    ------
    TypeError
        `data` is neither.
    OSError
        The directory is missing, `path` is a directory, or the file cannot be written.
    """
    as_instance("data", data, AttentionData, NextTokenData)
    arrays = {field.name: getattr(data, field.name) for field in fields(data)}
    with whole_file(path) as file:
        np.savez(file, **{name: array for name, array in arrays.items() if array is not None})


def _read_fields(
    file: BinaryIO,
) -> tuple[type[AttentionData] | type[NextTokenData], dict[str, npt.NDArray[Any]]]:
    """Read the arrays of an open ``.npz`` file, each to its end, where zip checks them.

    All headers are checked before the first array is unpacked.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members: dict[str, zipfile.ZipInfo] = {}
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if name in members:
                    raise ValueError(f"expected every array once, got {name!r} twice")
                members[name] = member
            kind, required = _KINDS["contexts" in members or "embeddings" in members]
            known = [field.name for field in fields(kind)]
            unknown, missing = members.keys() - known, required - members.keys()
            if unknown:
                raise ValueError(
                    f"expected the fields {', '.join(known)}, got {min(unknown)!r}"
                    f"{nearest(min(unknown), known)}"
                )
            if missing:
                raise ValueError(f"expected the field {max(missing)}, got {sorted(members)}")
            sizes = {name: _size(archive, name, member) for name, member in members.items()}
            largest, memory = max(sizes, key=lambda name: sizes[name]), memory_size()
            if sum(sizes.values()) > memory:
                raise ValueError(
                    f"{largest}: expected arrays that fit into the memory of {memory / 1e9:.1f} "
                    f"GB, got {sum(sizes.values()) / 1e9:.1f} GB"
                )
            arrays = {}
            for name, member in members.items():
                with archive.open(member) as stream:
                    arrays[name] = np.lib.format.read_array(stream, allow_pickle=False)
                    if stream.read(1):
                        raise ValueError(f"{name}: expected the end of the array, got more bytes")
            return kind, arrays
    except MemoryError as error:
        raise ValueError("expected arrays that fit into memory, got larger ones") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise ValueError(f"expected an .npz file, got a damaged one: {error}") from error


def _size(archive: zipfile.ZipFile, name: str, member: zipfile.ZipInfo) -> int:
    """Return the number of bytes of an array, by its header, which is checked."""
    with archive.open(member) as stream:
        try:
            version = np.lib.format.read_magic(stream)
            read_header = np.lib.format.read_array_header_1_0
            if version != (1, 0):
                read_header = np.lib.format.read_array_header_2_0
            shape, _, dtype = read_header(stream)
        except ValueError as error:
            raise ValueError(f"{name}: expected an array of numbers or text: {error}") from error
        rest = member.file_size - stream.tell()
    if dtype.hasobject:
        raise ValueError(f"{name}: expected an array of numbers or text, got objects")
    if len(shape) not in (_AXES[name], _AXES[name] + 1):
        raise ValueError(
            f"{name}: expected {_AXES[name]} axes, or one more of a batch, got the shape {shape}"
        )
    size = math.prod(shape) * dtype.itemsize
    if size != rest:
        raise ValueError(f"{name}: expected {size} bytes for the shape {shape}, got {rest}")
    return size


def memory_size() -> int:
    """Return the size of the memory of this computer, in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
