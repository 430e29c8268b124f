"""The gallery: every reproduced figure with its expected numbers, computed where it is missing.

A figure is computed again when a file of the installed package has changed since.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from sphinx.errors import ExtensionError
from sphinx.util import logging

import attsvm
from attsvm import _core
from attsvm.plots.published_figures import published_files
from attsvm.studies.reproduce.check import SOURCES, Check, counted
from attsvm.studies.reproduce.figure import PAPERS, Figure, Settings
from attsvm.studies.reproduce.registry import FIGURES, named
from attsvm.studies.reproduce.runner import reproduce

CACHE = Path(__file__).parents[2] / "out" / "docs-figures"
"""Outside the built pages, so that a clean build need not compute the figures again."""

TEMPLATES = Path(__file__).parents[1] / "_templates"

logger = logging.getLogger(__name__)


def digest() -> str:
    """Hash all files of the package, the compiled core among them."""
    found = hashlib.sha256()
    package = Path(attsvm.__file__).parent
    sources = sorted(f for f in package.rglob("*") if f.suffix in (".py", ".toml"))
    for file in (*sources, Path(_core.__file__)):
        found.update(file.read_bytes())
    return found.hexdigest()


def results(chosen: list[Figure], quick: bool) -> Iterator[tuple[Figure, dict[str, Any]]]:
    """Yield every chosen figure with its numbers, as `attsvm reproduce` writes them."""
    state = f"{digest()} {quick}"
    for figure in chosen:
        stamp = CACHE / f"{figure.name}.of"
        if not stamp.exists() or stamp.read_text() != state:
            logger.info("computing the figure %s", figure.name)
            if reproduce(figure, CACHE, Settings(quick=quick), published_files).error is None:
                stamp.write_text(state)
        yield figure, json.loads((CACHE / f"{figure.name}.json").read_text(encoding="utf-8"))


def cell(text: str) -> str:
    """Escape what Markdown would read in the text of a table."""
    return re.sub(r"([|*_$])", r"\\\1", text)


def write(page: Path, template: str, **values: Any) -> None:
    """Write a page, unless it stands there already: Sphinx reads again what is new."""
    environment = Environment(
        trim_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["cell"] = cell
    text = environment.from_string((TEMPLATES / template).read_text("utf-8")).render(values)
    page.parent.mkdir(parents=True, exist_ok=True)
    if not page.exists() or page.read_text(encoding="utf-8") != text:
        page.write_text(text, encoding="utf-8")


def installed() -> list[Figure]:
    """Return the figures whose modules are installed."""
    return [figure for figure in FIGURES if all(map(find_spec, figure.needs))]


def write_pages(app: Any) -> None:
    folder = Path(app.srcdir) / "gallery"
    names = app.config.gallery_figures
    chosen = [named(name) for name in names.split(",")] if names != "all" else installed()
    shown: dict[str, list[Figure]] = {}
    verdicts: list[bool] = []
    fields = [field.name for field in dataclasses.fields(Check)]
    for figure, found in results(chosen, quick=names != "all"):
        if found["error"] is not None:
            raise ExtensionError(f"the figure {figure.name} failed: {found['error']}")
        checks = [
            # JSON has no NaN.
            Check(**{name: math.nan if written[name] is None else written[name] for name in fields})
            for written in found["checks"]
        ]
        good = [check.passed for check in checks]
        sources = counted(check.source for check in checks)
        page = {"figure": figure, "found": found, "checks": checks, "sources": sources}
        write(folder / f"{figure.name}.md", "figure.md", good=sum(good), **page)
        shutil.copyfile(CACHE / f"{figure.name}.png", folder / f"{figure.name}.png")
        shown.setdefault(figure.papers[0], []).append(figure)
        verdicts += good
    for page_of in folder.glob("*.md"):
        if page_of.stem not in {"index", *(figure.name for figure in chosen)}:
            page_of.unlink()
    values = {"count": len(verdicts), "passed": sum(verdicts), "sources": SOURCES}
    index = {"papers": PAPERS, "shown": shown, "chosen": chosen}
    write(folder / "index.md", "gallery.md", **values, **index)


def setup(app: Any) -> dict[str, bool]:
    app.add_config_value("gallery_figures", "all", "env", [str])
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
