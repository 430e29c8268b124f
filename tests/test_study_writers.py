"""One process at a time writes the directory of a study; who reads it does not wait."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest
from file_tree import content

from attsvm.cli import main
from attsvm.studies import Study, open_results, report, run
from attsvm.studies.only_writer import LOCK, only_writer

STUDY = Study(name="small", n=3, T=4, d=(2, 40), problems=10, steps=60)
SLOW = f"""
import sys
from attsvm.studies import engine, Study, run
measure_cell = engine.measure_cell

def measure(study, cell, problems, **options):
    if cell.settings["d"] == 40:
        print("at the second cell", flush=True)
        sys.stdin.read()
    return measure_cell(study, cell, problems, **options)

engine.measure_cell = measure
run({STUDY!r}, sys.argv[1], progress=False)
"""


@pytest.fixture
def writing(tmp_path):
    """A directory, and a process that has written the first of the two cells of its study."""
    directory = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "at the second cell\n"
        yield directory, process
        process.kill()


def test_a_second_writer_is_refused_at_once_and_changes_nothing(writing, capsys):
    directory, process = writing
    before = content(directory)
    for overwrite in (False, True):
        with pytest.raises(BlockingIOError, match=f"^{directory}: expected no other writer"):
            run(STUDY, directory, overwrite=overwrite)
    (directory.parent / "small.toml").write_text(STUDY.toml)
    words = ["study", str(directory.parent / "small.toml"), "--out", str(directory)]
    assert main(words) == 2
    assert f"attsvm: error: {directory}: expected no other writer" in capsys.readouterr().err
    assert content(directory) == before
    process.communicate("")
    assert process.returncode == 0
    assert not (directory / LOCK).exists()
    run(STUDY, directory.parent / "alone")
    assert content(directory) == content(directory.parent / "alone")


def test_reading_needs_no_lock(writing):
    directory, _ = writing
    assert open_results(directory).finished.all("problem").values.tolist() == [True, False]
    pytest.importorskip("plotly")
    assert report(directory).exists()


def test_a_killed_writer_leaves_no_lock(writing):
    directory, process = writing
    process.kill()
    process.wait()
    assert run(STUDY, directory).finished.all()
    assert not (directory / LOCK).exists()


def test_the_lock_keeps_out_another_call_of_the_same_process(tmp_path):
    with only_writer(tmp_path), pytest.raises(BlockingIOError), only_writer(tmp_path):
        pass
    with only_writer(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_directory_that_is_refused_is_left_as_it_was(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="expected a new or empty directory"):
        run(STUDY, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, 524])
def test_a_file_system_without_locks_is_written_with_a_warning(tmp_path, monkeypatch, number):
    def no_locks(*_: object) -> None:
        raise OSError(number, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.warns(RuntimeWarning, match="the file system has no locks .*No locks available"):
        assert run(STUDY, tmp_path).finished.all()
