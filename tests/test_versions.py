"""The version is written once; a core of another state of the sources is refused."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

import attsvm
from attsvm import _core
from attsvm._dispatch import check_core

ROOT = Path(__file__).parent.parent


def stale(**changed):
    built = {"version": _core.version, "interface": _core.interface}
    return SimpleNamespace(__name__="attsvm._core_old", __file__="old.so", **(built | changed))


def test_sources_core_and_distribution_have_one_version():
    assert attsvm.__version__ == _core.version == metadata.version("attsvm")


@pytest.mark.parametrize(
    ("file", "pattern"),
    [("CITATION.cff", r"^version: (.+)$"), ("CHANGELOG.md", r"^## \[(\d.+?)\]")],
)
def test_what_is_written_by_hand_tells_this_version(file, pattern):
    first = re.search(pattern, (ROOT / file).read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert first is not None
    assert first[1] == attsvm.__version__


def test_the_core_in_use_is_accepted():
    check_core(_core)
    check_core(stale())


def test_a_core_of_another_version_is_refused():
    with pytest.raises(ImportError, match=r"version 0\.0\.9 of the core.*build attsvm anew"):
        check_core(stale(version="0.0.9"))


def test_a_core_compiled_to_another_interface_is_refused():
    with pytest.raises(ImportError, match=r"before _core\.pyi was last changed.*build attsvm anew"):
        check_core(stale(interface="0" * 64))


def test_a_core_from_before_versions_is_refused():
    with pytest.raises(ImportError, match="version unknown of the core"):
        check_core(SimpleNamespace(__name__="attsvm._core_old", __file__="old.so"))
