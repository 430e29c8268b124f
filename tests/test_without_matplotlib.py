"""matplotlib is optional: only figures need it, and they say so."""

from __future__ import annotations

import subprocess
import sys

WITHOUT = 'import sys; sys.modules["matplotlib"] = None  # as if it were not installed\n'


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + program], capture_output=True, text=True, check=True
    )


def test_figures_name_the_extra_that_brings_matplotlib():
    done = run("""
from attsvm import plots
from attsvm.studies.table import Table
try:
    plots.study(Table((), ()))
except ImportError as error:
    print(error)
""")
    assert done.stdout == 'attsvm.plots needs matplotlib: pip install "attsvm[plot]"\n'


def test_study_does_everything_but_its_figure_without_matplotlib(tmp_path):
    words = [
        "study",
        "overparam",
        "--set",
        "d=3",
        "--set",
        "problems=5",
        "--set",
        "steps=20",
        "--out",
    ]
    done = run(f"from attsvm.cli import main; sys.exit(main({[*words, str(tmp_path)]!r}))")
    assert "mean cosine" in done.stdout
    assert done.stderr == (
        "attsvm: figure.png is not drawn: "
        'attsvm.plots needs matplotlib: pip install "attsvm[plot]"\n'
    )
    assert {path.name for path in tmp_path.iterdir()} == {"results.zarr", "table.csv"}


def test_importing_attsvm_does_not_import_matplotlib():
    program = "import sys, attsvm.cli; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
