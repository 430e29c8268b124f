"""scikit-learn is optional: only the digits and the estimators need it, and they say so."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
sys.modules["sklearn"] = None  # as if it were not installed
import attsvm
attsvm.datasets.unit_sphere(2, 2, 2)
try:
    attsvm.datasets.digits(4, 4)
except ImportError as error:
    print(error)
"""


def test_everything_but_the_digits_works_without_sklearn():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == (
        'attsvm.datasets.digits needs scikit-learn: pip install "attsvm[digits]"'
    )


def test_study_of_the_digits_names_the_extra_that_brings_sklearn():
    program = (
        'import sys; sys.modules["sklearn"] = None; from attsvm.cli import main;'
        'sys.exit(main(["study", "overparam", "--data", "digits", "--out", "never-made"]))'
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        'attsvm: error: attsvm.datasets.digits needs scikit-learn: pip install "attsvm[digits]"\n'
    )


def test_estimators_name_the_extra_that_brings_sklearn():
    program = """
import sys
sys.modules["sklearn"] = None
try:
    import attsvm.sklearn
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == (
        'attsvm.sklearn needs scikit-learn 1.6 or newer: pip install "attsvm[sklearn]"'
    )
