"""The gallery: every reproduced figure with its expected numbers, computed where it is missing.

A figure is computed again when a file of the installed package has changed since.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import generated
from sphinx.errors import ExtensionError
from sphinx.util import logging

from attsvm import _core, plots
from attsvm.studies.reproduce.check import SOURCES, Check, counted
from attsvm.studies.reproduce.figure import PAPERS, Figure, Settings
from attsvm.studies.reproduce.registry import FIGURES, named
from attsvm.studies.reproduce.runner import reproduce

CACHE = Path(__file__).parents[2] / "out" / "docs-figures"
"""Outside the built pages, so that a clean build need not compute the figures again."""

logger = logging.getLogger(__name__)


def digest() -> str:
    """Hash all files of the package, the compiled core among them."""
    found = hashlib.sha256()
    package = Path(plots.__file__).parent
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
            if reproduce(figure, CACHE, Settings(quick=quick), plots.published_png).error is None:
                stamp.write_text(state)
        yield figure, json.loads((CACHE / f"{figure.name}.json").read_text(encoding="utf-8"))


def page(figure: Figure, found: dict[str, Any]) -> list[str]:
    names = [field.name for field in dataclasses.fields(Check)]
    checks = [
        # JSON has no NaN.
        Check(**{name: math.nan if written[name] is None else written[name] for name in names})
        for written in found["checks"]
    ]
    good = sum(check.passed for check in checks)
    lines = [
        f"# {figure.title}",
        "",
        f"{figure.source}.",
        "",
        f"![{figure.title}]({figure.name}.png)",
        "",
        f"    attsvm reproduce {figure.name}{' --quick' if found['settings']['quick'] else ''}",
        "",
        f"{good} of {len(checks)} numbers as expected "
        f"({counted(check.source for check in checks)}); computed in {found['seconds']:.2g} s.",
        "",
        *(line for note in found["notes"] for line in (generated.cell(note), "")),
        "| number | expected | obtained | tolerance | | source | tolerance is |",
        "|---|--:|--:|--:|---|---|---|",
    ]
    return lines + [
        f"| {' | '.join(map(generated.cell, (*check.cells, check.reason)))} |" for check in checks
    ]


def installed() -> list[Figure]:
    """Return the figures whose modules are installed."""
    return [figure for figure in FIGURES if all(map(find_spec, figure.needs))]


def write_pages(app: Any) -> None:
    folder = Path(app.srcdir) / "gallery"
    names = app.config.gallery_figures
    chosen = [named(name) for name in names.split(",")] if names != "all" else installed()
    quick = names != "all"
    shown: dict[str, list[Figure]] = {}
    count = passed = 0
    for figure, found in results(chosen, quick):
        if found["error"] is not None:
            raise ExtensionError(f"the figure {figure.name} failed: {found['error']}")
        count += len(found["checks"])
        passed += sum(check["passed"] for check in found["checks"])
        generated.write(folder / f"{figure.name}.md", page(figure, found))
        shutil.copyfile(CACHE / f"{figure.name}.png", folder / f"{figure.name}.png")
        shown.setdefault(figure.papers[0], []).append(figure)
    for page_of in folder.glob("*.md"):
        if page_of.stem not in {"index", *(figure.name for figure in chosen)}:
            page_of.unlink()
    lines = [
        "# Gallery",
        "",
        "The published figures, computed anew. Each page has the figure, the command that makes "
        "it, and every number that was compared: what was expected and where that is from, what "
        "was obtained, and how far they may be apart. Of "
        f"{count} numbers, {passed} are where they should be.",
        "",
        *(f"- *{source}*: {meaning}" for source, meaning in SOURCES.items()),
        "- *not comparable*: the tolerance is larger than the expected number",
        "",
    ]
    for paper, figures in shown.items():
        lines += [
            f"## {PAPERS[paper].title}",
            "",
            f"{PAPERS[paper]}",
            "",
            "::::{grid} 1 1 2 2",
            ":gutter: 3",
            "",
        ]
        for figure in figures:
            lines += [
                f":::{{grid-item-card}} {figure.title}",
                f":link: {figure.name}",
                ":link-type: doc",
                f":img-bottom: {figure.name}.png",
                ":::",
                "",
            ]
        lines += ["::::", ""]
    lines += ["```{toctree}", ":hidden:", "", *(figure.name for figure in chosen), "```"]
    generated.write(folder / "index.md", lines)


def setup(app: Any) -> dict[str, bool]:
    app.add_config_value("gallery_figures", "all", "env", [str])
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
