"""Declarations of studies as TOML: the files that come with attsvm, reading and writing."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from attsvm._validation import as_path, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FOLDER = Path(str(resources.files("attsvm.studies"))) / "declared"
_ALIASES = {"over-parameterisation": "overparam", "over-parameterization": "overparam"}
"""The figure of that study has these names too."""


def built_in() -> dict[str, Path]:
    """Return the files of the studies that come with attsvm, by their names."""
    files = {path.stem: path for path in _FOLDER.glob("*.toml")}
    return {name: files[name] for name in sorted(files)}


def declared(source: str | os.PathLike[str]) -> Path:
    """Return the file of a declaration: of a name that comes with attsvm, or the path itself."""
    path = as_path("source", source)
    if path.is_file():
        return path
    files = built_in()
    name = _ALIASES.get(source, source) if isinstance(source, str) else None
    if name in files:
        return files[name]
    missing = "that is a directory" if path.is_dir() else "there is no such file"
    raise FileNotFoundError(
        f"{os.fspath(source)}: expected a TOML file, an .npz file of problems or one of "
        f"{', '.join(files)}; {missing}{nearest(source, files)}"
    )


def read_toml_file(path: Path) -> str:
    """Return the text of a TOML file in UTF-8, without a byte order mark."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"expected TOML in UTF-8: {error}") from error


def read_toml(text: str) -> dict[str, Any]:
    """Parse TOML; what is none is a `ValueError`."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"expected TOML: {error}") from error


def write_toml(settings: Mapping[str, Any]) -> str:
    """Format text, numbers and lists of them as TOML, one line for each, and then the tables."""
    tables = {name: value for name, value in settings.items() if isinstance(value, Mapping)}
    lines = [_pair(name, value) for name, value in settings.items() if name not in tables]
    for name, table in tables.items():
        lines += ["", f"[{_key(name)}]", *(_pair(key, value) for key, value in table.items())]
    return "".join(f"{line}\n" for line in lines)


def _pair(name: str, value: Any) -> str:
    return f"{_key(name)} = {_value(value)}"


def _key(name: str) -> str:
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(_pair(key, each) for key, each in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    # What JSON writes of text and numbers is TOML, but for DEL, which TOML requires escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
