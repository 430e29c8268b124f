"""`attsvm info` says what is installed of what attsvm can use, and which extra brings the rest."""

from __future__ import annotations

import re
from email.message import Message
from importlib import metadata
from types import SimpleNamespace

import numpy as np
import pytest

from attsvm.cli import main
from attsvm.extras import dependencies

REQUIREMENTS = [
    "numpy>=1.26",
    "no-such-thing>=2; extra == 'first'",
    'no-such-thing>=2; python_version >= "3.11" and extra == "second"',
    "attsvm[first,second]; extra == 'all'",
    'needed-once>=1; python_version < "3.10" and extra == "first"',
    'needed-later>=1; python_version < "4.0" and extra == "first"',
]


@pytest.fixture
def required(monkeypatch):
    headers = Message()
    for extra in ("first", "second", "all"):
        headers["Provides-Extra"] = extra
    installed = SimpleNamespace(requires=REQUIREMENTS, metadata=headers)
    real = metadata.distribution
    monkeypatch.setattr(
        metadata, "distribution", lambda name: installed if name == "attsvm" else real(name)
    )


@pytest.mark.usefixtures("required")
def test_every_dependency_is_named_with_its_extras():
    assert dependencies() == {
        "numpy": (),
        "no-such-thing": ("first", "second"),
        "needed-later": ("first",),
    }


@pytest.mark.usefixtures("required")
def test_info_names_the_extra_that_brings_what_is_missing(capsys):
    assert main(["info"]) == 0
    shown = capsys.readouterr().out
    assert f"numpy             {np.__version__}\n" in shown
    assert "no-such-thing     not installed (comes with attsvm[first,second])\n" in shown


def test_all_brings_every_extra():
    (bundle,) = (
        re.search(r"\[(.*?)\]", requirement)
        for requirement in metadata.requires("attsvm") or ()
        if re.search(r"""extra == ['"]all['"]""", requirement)
    )
    assert bundle is not None
    extras = {extra for brought_by in dependencies().values() for extra in brought_by}
    assert extras <= set(bundle[1].split(","))
