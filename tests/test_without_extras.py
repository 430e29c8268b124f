"""Optional packages are optional: what needs one that is missing names the extra that brings it."""

from __future__ import annotations

import subprocess
import sys

import pytest

STUDY = ["study", "overparam", "--set", "d=3", "--set", "problems=5", "--set", "steps=20"]


def run(program: str, *missing: str) -> subprocess.CompletedProcess[str]:
    """Run Python; importing what is `missing` fails as if it were not installed."""
    block = f"import sys; sys.modules.update(dict.fromkeys({missing!r}))\n"
    return subprocess.run(
        [sys.executable, "-c", block + program], capture_output=True, text=True, check=False
    )


def command(words: list[str], *missing: str) -> subprocess.CompletedProcess[str]:
    return run(f"from attsvm.cli import main; sys.exit(main({words!r}))", *missing)


def test_importing_attsvm_imports_no_optional_package():
    done = run("""
optional = {"torch", "sklearn", "matplotlib", "numcodecs", "xarray", "distributed"}
optional |= {"pandas", "plotly"}
import attsvm.cli, attsvm.studies
print(sorted(optional & set(sys.modules)))
""")
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_attsvm_and_data_import_no_part_of_scipy():
    done = run("""
import attsvm
attsvm.datasets.unit_sphere(2, 3, 2)
print([name for name in ("linalg", "sparse", "special", "stats") if f"scipy.{name}" in sys.modules])
""")
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_subpackages_are_imported_when_they_are_used():
    done = run("""
import attsvm
names = ("plots", "sklearn", "studies", "torch")
print([name for name in names if f"attsvm.{name}" in sys.modules])
print(attsvm.plots.run.__name__, attsvm.studies.Study.__name__, hasattr(attsvm, "study"))
""")
    assert (done.stdout, done.stderr) == ("[]\nrun Study False\n", "")


@pytest.mark.parametrize(
    ("missing", "use", "message"),
    [
        (
            "torch",
            "from attsvm import torch",
            'attsvm.torch needs PyTorch: pip install "attsvm[torch]"',
        ),
        ("torch", "import attsvm.torch", 'attsvm.torch needs PyTorch: pip install "attsvm[torch]"'),
        (
            "sklearn",
            "import attsvm.sklearn",
            'attsvm.sklearn needs scikit-learn 1.6 or newer: pip install "attsvm[sklearn]"',
        ),
        (
            "sklearn",
            "attsvm.datasets.unit_sphere(2, 2, 2); attsvm.datasets.digits(4, 4)",
            'attsvm.datasets.digits needs scikit-learn: pip install "attsvm[digits]"',
        ),
        (
            "matplotlib",
            "from attsvm import plots, studies; plots.study(studies.table.Table((), ()))",
            'attsvm.plots needs matplotlib: pip install "attsvm[plot]"',
        ),
    ],
)
def test_what_needs_a_package_names_its_extra(missing, use, message):
    done = run(
        f"import attsvm, attsvm.studies.table\ntry: {use}\nexcept ImportError as e: print(e)",
        missing,
    )
    assert (done.stdout, done.stderr) == (f"{message}\n", "")


def test_hasattr_tells_whether_the_package_of_an_extra_is_there():
    done = run("""
import attsvm
print(hasattr(attsvm, "torch"), hasattr(attsvm, "studies"))
try: attsvm.torch
except AttributeError as e: print(e)
""", "torch")  # fmt: skip
    message = 'attsvm.torch needs PyTorch: pip install "attsvm[torch]"'
    assert (done.stdout, done.stderr) == (f"False True\n{message}\n", "")


@pytest.mark.parametrize(
    ("missing", "words", "message"),
    [
        ("numcodecs", STUDY, 'attsvm.studies needs numcodecs: pip install "attsvm[study]"'),
        (
            "distributed",
            [*STUDY, "--workers", "2"],
            'a study on a cluster needs distributed: pip install "attsvm[dask]"',
        ),
        (
            "sklearn",
            ["study", "overparam-digits"],
            'a study of the digits needs sklearn: pip install "attsvm[digits]"',
        ),
    ],
)
def test_a_study_names_the_extra_that_it_needs_before_any_work(tmp_path, missing, words, message):
    done = command([*words, "--out", str(tmp_path / "out")], missing)
    assert (done.returncode, done.stderr) == (2, f"attsvm: error: {message}\n")
    assert not list((tmp_path).glob("out/results.zarr/selected/*.*"))


def test_a_study_imports_nothing_that_takes_long_and_that_it_does_not_need(tmp_path):
    done = run(f"""
from attsvm.cli import main
assert main({[*STUDY, "--out", str(tmp_path)]!r}) == 0
print([name for name in ("xarray", "pandas", "dask", "scipy.sparse") if name in sys.modules])
""")
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_results_of_a_study_need_xarray(tmp_path):
    done = run(f"""
from attsvm.studies import Study, run
try: run(Study(n=2, T=2, d=2, problems=1, steps=1), {str(tmp_path / "out")!r})
except ImportError as e: print(e)
""", "xarray")  # fmt: skip
    message = 'attsvm.studies needs xarray: pip install "attsvm[study]"\n'
    assert (done.stdout, done.stderr) == (message, "")
    assert not (tmp_path / "out").exists()


def test_a_study_without_matplotlib_does_everything_but_its_figure(tmp_path):
    done = command([*STUDY, "--out", str(tmp_path)], "matplotlib")
    assert "mean cosine" in done.stdout
    assert done.stderr == (
        "attsvm: the figure is not drawn: "
        'attsvm.plots needs matplotlib: pip install "attsvm[plot]"\n'
    )
    assert {path.name for path in tmp_path.iterdir()} == {"results.zarr", "table.csv"}


def test_the_published_figures_need_no_package_of_studies():
    words = ["reproduce", "--list"]
    assert command(words, "numcodecs", "xarray", "distributed").returncode == 0


def test_a_package_that_cannot_be_imported_is_not_called_missing(tmp_path):
    (tmp_path / "broken.py").write_text("raise ImportError('no memory for this library')")
    done = run(f"""
sys.path.insert(0, {str(tmp_path)!r})
from attsvm.extras import require_extra
try: require_extra("a study", "study", "broken")
except ImportError as e: print(e)
""")
    assert (done.stdout, done.stderr) == ("no memory for this library\n", "")
