"""The layers of the package layout: imports never climb, and have no circles."""

from __future__ import annotations

import ast
import graphlib
from functools import cache
from pathlib import Path

import pytest

import attsvm

ROOT = Path(attsvm.__file__).parent
BASE = {
    "_arrays", "_core", "_dispatch", "_display", "_geometries", "_isa", "_linalg", "_softmax",
    "_validation", "_version",
    "extras", "progress", "threads",
}  # fmt: skip
DATA = BASE | {"data"}
DESCENT = DATA | {"heads"}
FUNCTIONAL = DESCENT | {"descent"}
THEORY = FUNCTIONAL | {"functional", "svm"}
STUDIES = THEORY | {"datasets", "theory"}
EVERYTHING = STUDIES | {"studies", "plots", "cli"}
MAY_IMPORT = {
    **dict.fromkeys(BASE, BASE),
    "data": BASE,
    "datasets": DATA,
    "heads": DATA,
    "descent": DESCENT,
    "functional": FUNCTIONAL,
    "svm": DATA,
    "theory": THEORY,
    "studies": STUDIES | {"torch"},
    "torch": STUDIES,
    **dict.fromkeys(("", "__main__", "cli", "plots", "sklearn"), EVERYTHING),
}


def module_of(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = [path for path in sorted(ROOT.rglob("*.py*")) if path.suffix in (".py", ".pyi")]
MODULES = {module_of(path) for path in SOURCES}


def layer_of(module):
    """Name of the subpackage, or of the module beside them; "" for the package itself."""
    return module.split(".")[1] if "." in module else ""


def imported(path):
    """Modules of the package that a source imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [(str(node.module), alias.name) for alias in node.names]
        else:
            continue
        for module, name in names:
            if module.split(".")[0] == "attsvm":
                inner = f"{module}.{name}"
                yield inner if inner in MODULES else module


@cache
def graph():
    """Modules that each module imports."""
    found = {module: set() for module in MODULES}
    for path in SOURCES:
        found[module_of(path)].update(set(imported(path)) - {module_of(path)})
    return found


def test_the_sources_were_read():
    assert {"attsvm.descent", "attsvm.svm"} <= graph()["attsvm"]
    assert len(graph()) > 50


@pytest.mark.parametrize("layer", sorted({layer_of(module) for module in MODULES}))
def test_imports_do_not_climb(layer):
    allowed = MAY_IMPORT[layer] | {layer}
    climbing = [
        f"{module} imports {target}"
        for module, targets in graph().items()
        if layer_of(module) == layer
        for target in sorted(targets)
        if layer_of(target) not in allowed
    ]
    assert not climbing


def test_imports_have_no_circles():
    graphlib.TopologicalSorter(graph()).prepare()
