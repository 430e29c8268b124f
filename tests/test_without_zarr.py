"""xarray, zarr and distributed are optional: studies need them, and say so before any work."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(missing: str, words: list[str]) -> subprocess.CompletedProcess[str]:
    program = f"""
import sys
sys.modules[{missing!r}] = None  # as if it were not installed
from attsvm.cli import main
sys.exit(main({words!r}))
"""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("missing", "options", "message"),
    [
        ("zarr", [], 'attsvm.studies needs zarr: pip install "attsvm[study]"'),
        ("xarray", [], 'attsvm.studies needs xarray: pip install "attsvm[study]"'),
        (
            "distributed",
            ["--workers", "2"],
            'a study on a cluster needs distributed: pip install "attsvm[dask]"',
        ),
    ],
)
def test_a_study_names_the_extra_that_it_needs(tmp_path, missing, options, message):
    words = ["study", "overparam", "--set", "d=3", "--set", "problems=5", "--set", "steps=20"]
    done = run(missing, [*words, *options, "--out", str(tmp_path / "out")])
    assert done.returncode == 2
    assert done.stderr == f"attsvm: error: {message}\n"
    assert not list((tmp_path).glob("out/results.zarr/selected/*.*"))


@pytest.mark.parametrize("missing", ["zarr", "xarray", "distributed"])
def test_the_published_figures_do_not_need_it(missing):
    assert run(missing, ["reproduce", "--list"]).returncode == 0


def test_importing_attsvm_imports_none_of_them():
    program = (
        "import sys, attsvm.cli, attsvm.studies;"
        "sys.exit(bool({'zarr', 'xarray', 'distributed', 'pandas'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
