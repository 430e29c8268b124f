"""Names of the reference: what its pages document, and single backticks in docstrings as links."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from docutils import nodes
from sphinx.ext.autodoc.mock import mock
from sphinx.roles import XRefRole

import attsvm

MOCKED = [] if importlib.util.find_spec("torch") else ["torch"]
"""Imported by `attsvm.torch`, and too large to install for its documentation."""

INDEX = Path(__file__).parents[1] / "api" / "index.md"


def documented(module: ModuleType) -> dict[str, str]:
    """Return the directive that documents each name of `__all__`, by its shortest full name."""
    found = {}
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.ismodule(value) or name.startswith("_"):
            continue
        public = name in attsvm.__all__ and getattr(attsvm, name) is value
        source = attsvm if public else module
        directive = "autoclass" if inspect.isclass(value) else "autofunction"
        found[f"{source.__name__}.{name}"] = directive if callable(value) else "autodata"
    return found


with mock(MOCKED):
    REFERENCE = {
        name: documented(importlib.import_module(name))
        for name in re.findall(
            r"^ +(attsvm\.\w+)$", INDEX.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
LINKS = {full.rpartition(".")[2]: full for names in REFERENCE.values() for full in names}


class PublicName(XRefRole):
    """A link to a public name, and code for any other text."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        full = LINKS.get(self.text.rpartition(".")[2])
        of_package = self.text.startswith("attsvm.")
        if not of_package and (full is None or "." in self.text):
            return [nodes.literal(self.rawtext, self.text)], []
        self.title, self.target = self.text, full or self.text
        self.refdomain, self.reftype, self.classes = "py", "obj", ["xref", "py", "py-obj"]
        return self.create_xref_node()


def of_others(app: Any, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what a class inherits from other packages or from Python itself."""
    inner = getattr(member, "fget", getattr(member, "func", member))
    inner = getattr(inner, "__func__", inner)
    owner = type(inner) if inspect.isbuiltin(inner) else getattr(inner, "__objclass__", inner)
    module = getattr(owner, "__module__", None) or "attsvm"
    return None if module.partition(".")[0] == "attsvm" else True


def setup(app: Any) -> dict[str, bool]:
    app.add_role("public", PublicName())
    app.connect("autodoc-skip-member", of_others)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
