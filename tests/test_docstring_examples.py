"""The examples in the docstrings give the output shown."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest

import attsvm

MODULES = [
    module.name
    for module in pkgutil.walk_packages(attsvm.__path__, "attsvm.")
    if not module.name.rpartition(".")[2].startswith("_")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_the_output_shown(name):
    if name.startswith("attsvm.torch"):
        pytest.importorskip("torch", reason="torch is not installed (NEIGHBOURS)")
    results = doctest.testmod(importlib.import_module(name))
    assert results.failed == 0


@pytest.mark.parametrize("module", [attsvm.svm, attsvm.theory])
def test_public_functions_have_an_example(module):
    functions = {name: getattr(module, name) for name in module.__all__}
    functions = {name: value for name, value in functions.items() if inspect.isfunction(value)}
    assert len(functions) >= 5
    assert [name for name in functions if ">>>" not in (functions[name].__doc__ or "")] == []
