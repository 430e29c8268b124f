"""Pages that are written before the others are read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def write(page: Path, lines: Iterable[str]) -> None:
    """Write a page, unless it stands there already: Sphinx reads again what is new."""
    text = "\n".join(lines) + "\n"
    page.parent.mkdir(parents=True, exist_ok=True)
    if not page.exists() or page.read_text(encoding="utf-8") != text:
        page.write_text(text, encoding="utf-8")


def cell(text: str) -> str:
    """Text in a table."""
    return text.replace("|", r"\|").replace("*", r"\*").replace("_", r"\_").replace("$", r"\$")
