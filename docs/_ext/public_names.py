"""The reference: a page for each room, of the names in its `__all__`.

Single backticks in docstrings are links where they hold a public name, and code otherwise.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import generated
from docutils import nodes
from sphinx.roles import XRefRole

ROOMS = {
    "attsvm.data": "Problems",
    "attsvm.datasets": "Generated problems",
    "attsvm.descent": "Descent",
    "attsvm.heads": "Heads",
    "attsvm.svm": "Support vector machines",
    "attsvm.theory": "Theory",
    "attsvm.functional": "Functions on arrays",
    "attsvm.sklearn": "Estimators for scikit-learn",
    "attsvm.torch": "A module for PyTorch",
    "attsvm.plots": "Drawing",
    "attsvm.studies": "Studies",
}
"""In the order of the pages. One that is not there, or lacks its extra, is left out."""


def rooms() -> Iterator[tuple[str, str, ModuleType]]:
    """Name, title and module of every room that can be imported."""
    for name, title in ROOMS.items():
        if importlib.util.find_spec(name) is None:
            continue
        try:
            yield name, title, importlib.import_module(name)
        except ImportError as error:
            if "pip install" not in str(error):  # not for lack of its extra
                raise


def full_names(source: ModuleType) -> list[str]:
    """What the module names, each by the one name it has here: the shortest."""
    top = importlib.import_module("attsvm")
    return [
        f"{(top if name in top.__all__ else source).__name__}.{name}"
        for name in source.__all__
        if not (inspect.ismodule(getattr(source, name)) or name.startswith("_"))
    ]


def page(title: str, module: ModuleType) -> list[str]:
    """The room in reStructuredText."""
    found = list(sources(module))
    lines = [title, "=" * len(title), "", *about(module)]
    for source in found:
        if len(found) > 1:
            lines += [f"``{source.__name__}``", "-" * (len(source.__name__) + 4), ""]
            lines += about(source)
        names = full_names(source)
        lines += [".. autosummary::", "   :nosignatures:", "", *(f"   {name}" for name in names)]
        for name in names:
            lines += ["", *directive(name)]
        lines += [""]
    return lines


def about(module: ModuleType) -> list[str]:
    """The module and its docstring; names that follow are given in full."""
    return [f".. automodule:: {module.__name__}", "", ".. py:currentmodule:: None", ""]


def sources(module: ModuleType) -> Iterator[ModuleType]:
    """The module, or if it names nothing, those right below that do."""
    if getattr(module, "__all__", None):
        yield module
        return
    for below in pkgutil.iter_modules(module.__path__, f"{module.__name__}."):
        inner = importlib.import_module(below.name)
        if getattr(inner, "__all__", None):
            yield inner


def directive(name: str) -> list[str]:
    room, _, last = name.rpartition(".")
    value = getattr(importlib.import_module(room), last)
    if inspect.isclass(value):
        return [f".. autoclass:: {name}", "   :members:", "   :inherited-members:"]
    if callable(value):
        return [f".. autofunction:: {name}"]
    return [f".. autodata:: {name}", "   :no-value:"]


class PublicName(XRefRole):
    """A link to a public name, or code."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        full = self.names().get(self.text.rpartition(".")[2], "")
        if self.text.startswith("attsvm."):
            self.title, self.target = self.text, full or self.text
        elif full and "." not in self.text:
            self.title, self.target = self.text, full
        else:
            return [nodes.literal(self.rawtext, self.text)], []
        self.refdomain, self.reftype = "py", "obj"
        self.classes = ["xref", "py", "py-obj"]
        return self.create_xref_node()

    @staticmethod
    @functools.cache
    def names() -> dict[str, str]:
        """Full names by their last part."""
        full = [
            name
            for _, _, room in rooms()
            for module in sources(room)
            for name in full_names(module)
        ]
        return {name.rpartition(".")[2]: name for name in full}


def write_pages(app: Any) -> None:
    folder = Path(app.srcdir) / "api"
    written = []
    for name, title, module in rooms():
        written.append(name.rpartition(".")[2])
        generated.write(folder / f"{written[-1]}.rst", page(title, module))
    for left_over in set(folder.glob("*.rst")) - {folder / f"{name}.rst" for name in written}:
        left_over.unlink()
    generated.write(
        folder / "index.md",
        [
            "# Reference",
            "",
            "What is public is named here. All of it that does not name its room is in `attsvm` "
            "itself.",
            "",
            "```{toctree}",
            *written,
            "command-line",
            "```",
        ],
    )


def of_others(app: Any, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what a class inherits from another package, such as scikit-learn."""
    inner = getattr(member, "fget", getattr(member, "func", member))
    module = getattr(inner, "__module__", None) or "attsvm"
    return None if module.partition(".")[0] == "attsvm" else True


def setup(app: Any) -> dict[str, bool]:
    app.add_role("public", PublicName())
    app.connect("builder-inited", write_pages)
    app.connect("autodoc-skip-member", of_others)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
