"""torch is optional: only attsvm.torch needs it, and says so."""

from __future__ import annotations

import subprocess
import sys


def test_module_names_the_extra_that_brings_torch():
    program = """
import sys
sys.modules["torch"] = None  # as if it were not installed
import attsvm
try:
    import attsvm.torch
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == 'attsvm.torch needs PyTorch: pip install "attsvm[torch]"\n'


def test_importing_attsvm_does_not_import_torch_or_sklearn():
    program = "import sys, attsvm.cli; sys.exit(not {'torch', 'sklearn'}.isdisjoint(sys.modules))"
    subprocess.run([sys.executable, "-c", program], check=True)
