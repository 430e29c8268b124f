"""What a wheel must be before it is uploaded; `make wheel` asks it of the one it has repaired.

    python tests/check_wheel.py FILE.whl

Needs pyelftools (auditwheel brings it) and, on x86-64, objdump.
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

LEVELS = {"x86_64": ("baseline", "avx2", "avx512")}
VEX = re.compile(
    r"^\s+[0-9a-f]+:\s+v(?!err|erw|m(call|launch|resume|xo|read|write))\w+", re.MULTILINE
)
"""An instruction of AVX or later, as objdump writes it; what virtual machines use is not."""


def main(file: Path) -> None:
    machine = platform.machine()
    if not re.search(rf"-manylinux_2_\d+_{machine}(\.manylinux\w+)*\.whl$", file.name):
        raise SystemExit(f"{file.name}: expected a manylinux_2_*_{machine} tag")
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(file).extractall(folder)
        root = Path(folder)
        _check_contents(root, machine)
        binaries = sorted(root.rglob("*.so*"))
        for binary in binaries:
            _check_binary(binary, root)
        print(f"{file.name}: {file.stat().st_size / 1e6:.2f} MB")
        for binary in binaries:
            print(f"    {binary.stat().st_size / 1e6:6.2f} MB  {binary.relative_to(root)}")


def _check_contents(root: Path, machine: str) -> None:
    package = root / "attsvm"
    cores = [f"_core_{level}.*.so" for level in LEVELS.get(machine, ("generic",))]
    for wanted in ("__init__.py", "py.typed", "_core.pyi", "_isa.*.so", *cores):
        if not list(package.glob(wanted)):
            raise SystemExit(f"attsvm/{wanted}: not in the wheel")
    if not list(root.glob("*.dist-info/licenses/LICENSE")):
        raise SystemExit("LICENSE: not in the wheel")
    foreign = {path.name for path in root.iterdir()} - {"attsvm", "attsvm.libs"}
    if any(not name.endswith(".dist-info") for name in foreign):
        raise SystemExit(f"expected the package alone in the wheel, got {sorted(foreign)}")
    if sources := [path.name for path in root.rglob("*.[ch]pp")]:
        raise SystemExit(f"expected no C++ sources in the wheel, got {sources}")


def _check_binary(binary: Path, root: Path) -> None:
    name = binary.relative_to(root)
    with binary.open("rb") as file:
        elf = ELFFile(file)
        if elf.get_section_by_name(".symtab") is not None:
            raise SystemExit(f"{name}: not stripped")
        paths = [
            getattr(tag, "runpath", None) or getattr(tag, "rpath", None)
            for section in elf.iter_sections()
            if isinstance(section, DynamicSection)
            for tag in section.iter_tags()
            if tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH")
        ]
    if foreign := [path for path in paths if path != "$ORIGIN/../attsvm.libs"]:
        raise SystemExit(f"{name}: looks for libraries in {foreign}")
    # What is imported before the processor is known, or on the oldest one, must run on all of them.
    if platform.machine() == "x86_64" and binary.name.startswith(("_isa.", "_core_baseline.")):
        code = subprocess.run(
            ["objdump", "-d", "--no-show-raw-insn", str(binary)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        if found := VEX.search(code):
            raise SystemExit(f"{name}: {found[0].strip()} is not an instruction of every x86-64")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
