"""Studies under kills, signals and faults: the same bytes, or one line and nothing lost.

Every fault meets a study that goes on with what the faults before left. It runs in a fork of one
process that has imported all, so that a thousand of them take minutes:

    ATTSVM_FAULTS=1000 pytest -m slow tests/test_study_faults.py
"""

from __future__ import annotations

import errno
import faulthandler
import importlib
import os
import random
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

COUNT = int(os.environ.get("ATTSVM_FAULTS", "60"))
STUDY = """n = 2
T = 3
d = [2, 3, 4, 5, 6, 7, 8, 9]
problems = 10
steps = 200
measure = ["selected", "optimal", "cosine_history"]
"""
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")
FAULTS = (*SIGNALS, "file system", "file size", "descriptors", "memory")
OF_FILES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.listdir", "shutil.rmtree"}
SECONDS = 300
"""Time after which a study is stopped with its stack: it hangs."""
REASONS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EDQUOT, errno.EROFS, errno.ESTALE)


def refuse(place: str, number: int, reason: int) -> None:
    """Let the operation of this number on a file below a directory fail."""
    left = number

    def hook(event: str, arguments: tuple) -> None:
        nonlocal left
        if event in OF_FILES and isinstance(arguments[0], str) and arguments[0].startswith(place):
            left -= 1
            if left == 0:
                raise OSError(reason, os.strerror(reason), arguments[0])

    sys.addaudithook(hook)


def limit(kind: int, value: int) -> None:
    resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))


def attempt(directory: Path, fault: str | None, chance: random.Random, duration: float) -> tuple:
    """Run the study in a fork, under a fault; return exit status, what it said, and its time."""
    from attsvm.cli import main

    started = time.monotonic()
    said, saying = os.pipe()
    ready, readying = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(saying, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stderr = os.fdopen(2, "w")
        sys.stdout = os.fdopen(1, "w")
        faulthandler.dump_traceback_later(SECONDS, exit=True, file=2)
        if fault == "file system":
            refuse(str(directory), chance.randrange(1, 120), chance.choice(REASONS))
        elif fault == "file size":
            limit(resource.RLIMIT_FSIZE, int(10 ** chance.uniform(0, 4)))
        elif fault == "descriptors":
            limit(resource.RLIMIT_NOFILE, chance.randrange(4, 12))
        elif fault == "memory":
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            room = int(2 ** chance.uniform(18, 22))
            limit(resource.RLIMIT_AS, pages * resource.getpagesize() + room)
        status = 99
        try:
            words = ["study", str(directory.parent / "study.toml"), "--out", str(directory)]
            os.write(readying, b".")
            status = main([*words, "--quiet", "--threads", "1"])
            if fault is None:
                (directory.parent / "modules").write_text("\n".join(sys.modules))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(readying)
    os.read(ready, 1)
    os.close(ready)
    if fault in SIGNALS:
        time.sleep(duration * chance.uniform(0.02, 1.0))
        os.kill(child, getattr(signal, fault))
    os.close(saying)
    with os.fdopen(said) as message:
        words = message.read()
    _, code = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(code), words, time.monotonic() - started


def attempt_with_a_killed_worker(directory: Path, chance: random.Random) -> tuple[int, str]:
    """Run the study on one worker process, and kill it or a process that it needs."""
    command = [sys.executable, "-X", "faulthandler", "-m", "attsvm"]
    command += ["study", str(directory.parent / "study.toml")]
    command += ["--out", str(directory), "--quiet", "--workers", "1"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        others: list[int] = []
        while not others and process.poll() is None:
            time.sleep(0.01)
            others = children(process.pid)
        before = finished_cells(directory)
        if chance.random() < 0.5:
            time.sleep(4.0 * chance.random())
        else:  # in the midst of its work
            while finished_cells(directory) == before and process.poll() is None:
                time.sleep(0.001)
        others = children(process.pid)
        if others:
            os.kill(chance.choice(others), signal.SIGKILL)
        try:
            said = process.communicate(timeout=SECONDS)[1]
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # writes the stacks of its threads
            said = process.communicate()[1]
    return process.returncode, said


def finished_cells(directory: Path) -> int:
    return len([*(directory / "results.zarr" / "finished").glob("[0-9]*")])


def children(pid: int) -> list[int]:
    try:
        return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    except OSError:
        return []


def chunks_of_finished(directory: Path, whole: Path) -> dict[str, bytes]:
    """Every chunk of every cell that is finished, as it is in the whole study, by its path."""
    chunks = {}
    for mark in (whole / "results.zarr" / "finished").glob("[0-9]*"):
        here = directory / "results.zarr"
        own = here / "finished" / mark.name
        if own.is_file() and own.read_bytes() == mark.read_bytes():
            for path in (own, *here.glob(f"*/{mark.name}.*")):
                chunks[str(path.relative_to(here))] = path.read_bytes()
    return chunks


def campaign(place: Path, count: int, seed: int) -> None:
    """Break studies again and again, and compare each with one that nothing has broken."""
    from file_tree import content

    chance = random.Random(seed)
    (place / "study.toml").write_text(STUDY)
    for name in ("first", "whole"):
        status, said, duration = attempt(place / name, None, chance, 0.0)
        assert (status, said) == (0, ""), said
        for module in (place / "modules").read_text().split():  # no child imports them again
            with suppress(ImportError):
                importlib.import_module(module)
    expected = content(place / "whole")
    outcomes: Counter[str] = Counter()
    directory, faults = place / "broken", 0
    while sum(outcomes.values()) < count:
        number = sum(outcomes.values())
        fault = "worker" if number % 50 == 49 else FAULTS[number % len(FAULTS)]
        before = chunks_of_finished(directory, place / "whole")
        if fault == "worker":
            status, said = attempt_with_a_killed_worker(directory, chance)
        else:
            status, said, _ = attempt(directory, fault, chance, 1.2 * duration)
        after = chunks_of_finished(directory, place / "whole")
        lines = said.splitlines()
        case = f"{fault}, status {status}: {said}"
        assert "Traceback" not in said, case
        assert all(line.startswith(("attsvm: ", "Finished cells are kept")) for line in lines), case
        assert len(lines) <= 2, case
        if status == 0:
            ended = "finished"
        elif status < 0:
            assert fault in SIGNALS, case
            assert status == -getattr(signal, fault), case
            ended = "killed"
        else:
            assert status in (1, 2, 130), case
            assert lines, case
            ended = "one line"
        lost = {name for name, x in before.items() if after.get(name) != x}
        assert not lost, f"{lost} by {case}"
        outcomes[f"{fault}: {ended}"] += 1
        print(".", end="", flush=True)
        faults += 1
        if status == 0 or faults == 12:
            status, said, _ = attempt(directory, None, chance, 0.0)
            assert status == 0, said
            assert content(directory) == expected
            subprocess.run(["rm", "-r", str(directory)], check=True)
            faults = 0
    print()
    for outcome, number in sorted(outcomes.items()):
        print(f"{outcome} {number}")


@pytest.mark.slow
def test_faults_leave_the_same_bytes_or_one_line_and_nothing_is_lost(tmp_path):
    command = [sys.executable, __file__, str(tmp_path), str(COUNT), "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)


if __name__ == "__main__":
    import warnings

    sys.path.insert(0, str(Path(__file__).parent / "reference"))
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
    campaign(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
