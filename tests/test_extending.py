"""The four changes that the documentation shows apply; built, they do what they say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHOWN = ROOT / "docs" / "extending"
CORE = "cpp/include/attsvm"
PATCH = SHOWN / "add-norm.patch"
_RULES = [
    ("PolyakGradient, ", "PolyakGradient, SignGradient, "),
    ("PlainUpdate, ", "PlainUpdate, SignUpdate, "),
]
LISTINGS = {
    # listing: the file it goes into, the line it stands before, and the entries of lists
    "sigmoid.hpp": (f"{CORE}/losses.hpp", "using Losses =", [("Squared>", "Squared, Sigmoid>")]),
    "tanh.hpp": (f"{CORE}/heads.hpp", "using Heads =", [("ReluHead,", "ReluHead, TanhHead,")]),
    "tanh.txt": (
        "python/attsvm/heads.py",
        "@dataclass(frozen=True, eq=False, init=False)\nclass Penalised",
        [('"Softmax"]', '"Softmax", "Tanh"]')],
    ),
    "sign.hpp": (
        f"{CORE}/step_rules.hpp",
        "using StepRules =",
        [
            ("PolyakGradient, ", "PolyakGradient, SignGradient, "),
            ("PlainUpdate,", "PlainUpdate, SignUpdate,"),
        ],
    ),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the sources with all four additions."""
    copy = tmp_path_factory.mktemp("extended")
    kept = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True)
    for name in filter(None, kept.stdout.decode().split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy / name)
    subprocess.run(["git", "init", "--quiet"], cwd=copy, check=True)
    subprocess.run(["git", "apply", PATCH], cwd=copy, check=True)
    for listing, (name, place, entries) in LISTINGS.items():
        text = (copy / name).read_text(encoding="utf-8")
        shown = (SHOWN / listing).read_text(encoding="utf-8")
        space = "\n\n" if name.endswith(".py") else "\n"
        for old, new in [(place, shown + space + place), *entries]:
            assert text.count(old) == 1, (listing, old)
            text = text.replace(old, new)
        (copy / name).write_text(text, encoding="utf-8")
    return copy


def test_each_is_shown():
    page = (SHOWN / "index.md").read_text(encoding="utf-8")
    for name in (*LISTINGS, PATCH.name):
        assert f"{{literalinclude}} {name}" in page


def test_they_are_formatted(tree):
    for command in (["ruff", "check"], ["ruff", "format", "--check"]):
        subprocess.run([sys.executable, "-m", *command, "python"], cwd=tree, check=True)


@pytest.mark.slow
def test_they_are_typed(tree):
    subprocess.run([sys.executable, "-m", "mypy"], cwd=tree, check=True)


@pytest.mark.slow
def test_built_they_do_what_they_say(tree, tmp_path):
    """One instruction set that every processor has; some minutes of compiling."""
    install = ["install", "--quiet", "--no-deps", "--target", tmp_path / "site"]
    option = ["-C", "cmake.define.ATTSVM_ISA_LEVELS=baseline"]
    subprocess.run([sys.executable, "-m", "pip", *install, *option, tree], check=True)
    # An editable installation finds its own package before any path does.
    start = (
        "import runpy, sys\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if 'Redirecting' not in type(f).__name__]\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import attsvm; assert attsvm.__file__.startswith(sys.argv[1])\n"
        "runpy.run_path(sys.argv[2])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", start, tmp_path / "site", SHOWN / "check.py"],
        env={**os.environ, "ATTSVM_ISA": "baseline"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "all four hold\n"
