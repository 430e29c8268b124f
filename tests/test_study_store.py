"""Zarr store of a study: its content, its checksums, and that it can be left at any moment."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numcodecs.zstd
import numpy as np
import pytest
import xarray
import zarr
from attrs import evolve
from file_tree import content

import attsvm
from attsvm import _core
from attsvm.studies import MEASUREMENTS, Study, engine, layout, open_results, run, solved_svms
from attsvm.studies.compute import measure_cell
from attsvm.studies.layout import Layout
from attsvm.studies.measurements import measurable
from attsvm.studies.store import RESULTS, DamageWarning, Store

EVERY = measurable(MEASUREMENTS, ["W", "p"], {"value", "queries"})
SMALL = Study(name="small", n=3, T=4, d=(2, 5), problems=10, steps=60, measure=EVERY)


def finished(study: Study, directory: Path, **options) -> Path:
    run(study, directory, progress=False, **options)
    return directory / RESULTS


@pytest.fixture(scope="module")
def finished_once(tmp_path_factory) -> Path:
    return finished(SMALL, tmp_path_factory.mktemp("small"))


@pytest.fixture
def small(finished_once, tmp_path) -> Path:
    """Store in `tmp_path`, as `finished(SMALL, tmp_path)` leaves it there."""
    return shutil.copytree(finished_once, tmp_path / RESULTS)


class TestDataset:
    def test_dimensions_are_the_axes_and_those_of_a_problem(self, tmp_path):
        study = evolve(SMALL, loss=("logistic", "exponential"))
        results = xarray.open_zarr(finished(study, tmp_path))
        assert results.selected.dims == ("d", "loss", "problem", "input")
        assert results.history_norm.dims == ("d", "loss", "problem", "step")
        assert results.d.values.tolist() == [2, 5]
        assert results.loss.values.tolist() == ["logistic", "exponential"]
        assert results.step.values.tolist() == list(study.recorded_steps)
        for name, variable in results.variables.items():
            assert variable.attrs["long_name"], name

    def test_values_are_those_that_were_measured_with_their_types(self, tmp_path, small):
        results = xarray.open_zarr(small).load()
        for cell in SMALL.cells:
            for name, values in measure_cell(SMALL, cell, range(10)).items():
                kept = results[name].sel(cell.axes).values
                assert np.array_equal(kept, values, equal_nan=values.dtype == float), name
        kinds = {name: results[name].dtype.kind for name in ("selected", "outcome", "feasible")}
        assert kinds == {"selected": "i", "outcome": "i", "feasible": "b"}
        assert results.finished.dtype == bool
        assert results.finished.all()
        assert results.outcome.attrs["flag_meanings"].split() == ["neither", "local", "global"]

    def test_the_largest_seeds_are_coordinates_like_others(self, tmp_path):
        seeds = (0, 2**63, 2**64 - 1)
        study = evolve(SMALL, seed=seeds, d=5, measure=("history",))
        results = xarray.open_zarr(finished(study, tmp_path))
        assert results.seed.values.tolist() == list(seeds)
        last = results.history_norm.sel(seed=2**64 - 1)
        record = measure_cell(study, study.cells[2], range(10))
        assert np.array_equal(last.values, record["history_norm"])

    def test_a_kept_W_is_padded_to_the_largest_dimension(self, tmp_path):
        study = evolve(SMALL, measure=("W",), record=(30, 60))
        results = xarray.open_zarr(finished(study, tmp_path)).load()
        assert results.W.dims == ("d", "problem", "row", "column")
        small = results.W.sel(d=2)
        assert np.array_equal(small[:, :2, :2], measure_cell(study, study.cells[0], range(10))["W"])
        assert small[:, 2:].isnull().all()
        assert small[:, :, 2:].isnull().all()
        assert "rows and columns" in results.W.attrs["padding"]

    def test_inputs_that_a_cell_does_not_have_are_padded(self, tmp_path):
        study = evolve(SMALL, n=(2, 4))
        results = xarray.open_zarr(finished(study, tmp_path))
        assert results.selected.sizes["input"] == 4
        assert (results.selected.sel(n=2)[..., 2:] == -1).all()
        assert (results.selected.sel(n=4) >= 0).all()
        assert "-1" in results.selected.attrs["padding"]

    def test_attributes_say_what_the_results_were_made_with(self, tmp_path):
        attributes = xarray.open_zarr(finished(SMALL, tmp_path)).attrs
        assert attributes["attsvm"] == attsvm.__version__
        assert attributes["isa"] == _core.isa
        assert attributes["numpy"] == np.__version__
        assert {"scipy", "osqp", "python"} <= set(attributes)
        for name, value in SMALL.settings.items():
            if name != "title":
                assert attributes[name] == value
        assert attributes["axes"] == ["d"]
        (tmp_path / "again.toml").write_text(attributes["declaration"])
        assert Study.load(tmp_path / "again.toml").settings == SMALL.settings

    def test_a_file_of_problems_is_named_with_its_hash(self, tmp_path):
        path = tmp_path / "mine.npz"
        attsvm.save(path, attsvm.datasets.unit_sphere(3, 4, 5, batch=6, rng=0))
        study = Study(data=str(path), steps=60, rule=("ngd", "gd"))
        attributes = xarray.open_zarr(finished(study, tmp_path / "out")).attrs
        assert attributes["data"] == str(path)
        assert attributes["data_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert (attributes["n"], attributes["T"], attributes["d"]) == (3, 4, 5)

    def test_chunks_hold_one_cell_and_a_bounded_number_of_problems(self, tmp_path, monkeypatch):
        assert Layout(SMALL).part_size == 10
        huge = Layout(evolve(SMALL, problems=10**7))
        assert 10**4 < huge.part_size < 10**6
        monkeypatch.setattr(layout, "_MOST_BYTES", 3500)
        split = Layout(SMALL)
        assert [part.problems for part in split.parts][:3] == [range(4), range(4, 8), range(8, 10)]
        results = xarray.open_zarr(finished(SMALL, tmp_path), chunks={}).load()
        record = measure_cell(SMALL, SMALL.cells[1], range(10))
        assert np.array_equal(results.selected.sel(d=5), record["selected"])


class TestGoingOn:
    def test_results_do_not_depend_on_threads(self, tmp_path):
        one = finished(SMALL, tmp_path / "one", num_threads=1)
        two = finished(SMALL, tmp_path / "two", num_threads=2)
        assert content(one) == content(two)

    def test_order_of_cells_does_not_matter(self, tmp_path):
        whole = content(finished(SMALL, tmp_path / "whole"))
        store = Store(tmp_path / "backwards", SMALL)
        for part in reversed(store.missing()):
            store.write(part, measure_cell(SMALL, part.cell, part.problems))
        assert content(store.path) == whole

    def test_interrupted_study_goes_on_and_ends_with_the_same_bytes(self, tmp_path, monkeypatch):
        expected = content(finished(SMALL, tmp_path / "whole"))
        measured = []

        def measure(study, cell, problems, **options):
            measured.append(cell.name)
            if len(measured) == 2:
                raise KeyboardInterrupt
            return measure_cell(study, cell, problems, **options)

        monkeypatch.setattr(engine, "measure_cell", measure)
        with pytest.raises(KeyboardInterrupt):
            finished(SMALL, tmp_path / "stopped")
        partly = open_results(tmp_path / "stopped")
        assert partly.finished.all("problem").values.tolist() == [True, False]
        assert content(finished(SMALL, tmp_path / "stopped")) == expected
        assert measured == ["d=2", "d=5", "d=5"]

    def test_a_study_of_rules_in_norms_goes_on_with_the_same_bytes(self, tmp_path, monkeypatch):
        """Cells share solved SVMs, and what is shared differs where a run goes on."""
        study = Study(
            n=3, T=4, d=4, problems=6, steps=200, measure=("margin_ratio", "svm_in_norm"),
            rules={"ngd": {}, "signs": {"kind": "sign", "lr": 0.02}, "spectral": {"lr": 0.05}},
        )  # fmt: skip
        whole = content(finished(study, tmp_path / "whole"))
        parts = Layout(study).parts
        store = Store(tmp_path / "parts", study)
        store.write(parts[1], measure_cell(study, parts[1].cell, parts[1].problems))
        solved: list[int] = []

        def counted(data, *arguments, **options):
            solved.append(data.batch)
            return attsvm.att_svm(data, *arguments, **options)

        monkeypatch.setitem(solved_svms.SVMS, "W", counted)
        assert content(finished(study, tmp_path / "parts")) == whole
        shared = np.unique(open_results(tmp_path / "whole").svm_in_norm_norm[[0, 2], :, 0]).size
        assert sum(solved) == len(study.norms) * shared < len(study.norms) * 12

    def test_a_part_that_is_half_written_is_written_again(self, tmp_path, monkeypatch):
        expected = content(finished(SMALL, tmp_path / "whole"))
        store = Store(tmp_path / "half", SMALL)
        part = store.missing()[0]
        with monkeypatch.context() as patch:
            patch.setitem(vars(store.layout), "variables", store.layout.variables[:5])
            store.write(part, measure_cell(SMALL, part.cell, part.problems))
        for place in ("selected/0.0.0", "all_support/0.0"):
            folder, chunk = place.split("/")
            left = store.path / folder / f".{chunk}.01234567.part"
            left.write_bytes(b"half")
        assert len(store.missing()) == 2
        assert content(finished(SMALL, tmp_path / "half")) == expected

    def test_what_a_killed_process_left_aside_is_removed(self, tmp_path):
        (tmp_path / f".{RESULTS}.0011aabb.part" / "selected").mkdir(parents=True)
        (tmp_path / ".table.csv.0011aabb.part").write_bytes(b"half")
        others = {".mine.part", ".notes.txt.0011aabb.part", ".gitignore"}
        for name in others:
            (tmp_path / name).mkdir()
        finished(SMALL, tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {RESULTS, *others}


def attempt(study: list[str], directory: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "attsvm", "study", *study, "--quiet", "--threads", "1"]
    return subprocess.Popen(
        [*command, "--out", str(directory)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def written(directory: Path) -> int:
    """Cells of which something is written; every study here measures the outcome."""
    return len(list((directory / RESULTS / "outcome").glob("[0-9]*")))


def require_same_after_kills(tmp_path: Path, study: list[str], kills: int, seed: int) -> None:
    """Kill at random moments, spread over the cells, at least one of them in the middle."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with attempt(study, whole) as process:
        assert process.wait() == 0, process.stderr.read()
    cells = written(whole)
    delays = random.Random(seed)
    left = []
    for kill in range(kills):
        with attempt(study, killed) as process:
            while process.poll() is None and written(killed) < (kill + 1) * cells // (kills + 1):
                time.sleep(0.002)
            time.sleep(0.02 * delays.random())
            process.kill()
        left.append(written(killed))
    assert any(0 < count < cells for count in left), left
    with attempt(study, killed) as process:
        message = process.stderr.read()
        assert process.wait() == 0, message
    assert content(killed) == content(whole)


def changed(**fields: object) -> list[str]:
    return [f"--set={name}={value}" for name, value in fields.items()]


def test_killed_study_goes_on_and_ends_with_the_same_bytes(tmp_path):
    study = ["overparam", *changed(n=3, T=4, d="2,3,4,5,6,7", problems=400, steps=1000)]
    require_same_after_kills(tmp_path, study, kills=2, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_study_killed_five_times_ends_with_the_same_bytes(tmp_path, seed):
    study = ["overparam", *changed(problems=400)]
    require_same_after_kills(tmp_path, study, kills=5, seed=seed)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


class TestDamage:
    @pytest.mark.parametrize("damage", [cut, flip, Path.unlink, lambda file: file.write_bytes(b"")])
    @pytest.mark.parametrize("name", ["cosine", "selected", "finished"])
    def test_a_damaged_chunk_is_named_and_its_cell_computed_again(
        self, tmp_path, small, name, damage
    ):
        whole = content(small)
        (file,) = small.glob(f"{name}/1.0*")
        damage(file)
        with pytest.raises(ValueError, match=f"damaged results: {file}.*run the study again"):
            open_results(tmp_path)
        with pytest.warns(DamageWarning, match=f"{file}: .*; d=5 is computed again"):
            finished(SMALL, tmp_path)
        assert content(small) == whole

    def test_no_flipped_bit_goes_unseen(self, tmp_path, small):
        (file,) = small.glob("history_loss/1.0*")
        whole = file.read_bytes()
        for position in range(0, 8 * len(whole), 61):
            damaged = bytearray(whole)
            damaged[position // 8] ^= 1 << position % 8
            file.write_bytes(damaged)
            with pytest.raises(ValueError, match="damaged results"):
                open_results(tmp_path)

    @pytest.mark.parametrize("reason", [errno.EMFILE, errno.EACCES, errno.ENOMEM, errno.ESTALE])
    def test_what_cannot_be_read_now_is_not_called_damaged(
        self, tmp_path, small, monkeypatch, reason
    ):
        before = content(tmp_path)
        read = Path.read_bytes

        def refused(path: Path) -> bytes:
            if path.parent.name == "cosine" and path.name[0].isdigit():
                raise OSError(reason, os.strerror(reason), str(path))
            return read(path)

        monkeypatch.setattr(Path, "read_bytes", refused)
        for again in (lambda: run(SMALL, tmp_path, progress=False), lambda: open_results(tmp_path)):
            with pytest.raises(OSError, match=os.strerror(reason)):
                again()
        monkeypatch.undo()
        assert content(tmp_path) == before

    def test_too_little_memory_is_not_called_damage(self, tmp_path, small, monkeypatch):
        before = content(tmp_path)

        def refused(*_, **__):
            raise RuntimeError("Zstd decompression error: b'Allocation error : not enough memory'")

        monkeypatch.setattr(numcodecs.zstd, "decompress", refused)
        for again in (lambda: run(SMALL, tmp_path, progress=False), lambda: open_results(tmp_path)):
            with pytest.raises(MemoryError, match="not enough memory"):
                again()
        monkeypatch.undo()
        assert content(tmp_path) == before

    def test_a_chunk_that_claims_to_be_huge_is_damaged(self, tmp_path, small):
        """The size of its content is that of 2^40 bytes, in the header of the frame."""
        chunk = small / "cosine" / "0.0"
        before = chunk.read_bytes()
        frame = bytes.fromhex("28b52ffd") + bytes([0b11100100]) + (2**40).to_bytes(8, "little")
        chunk.write_bytes(frame + b"0")
        with pytest.warns(DamageWarning, match="cosine.0.0: .*d=2 is computed again"):
            run(SMALL, tmp_path, progress=False)
        assert chunk.read_bytes() == before

    @pytest.mark.parametrize(
        "name", [".zmetadata", ".zgroup", "cosine/.zarray", "cosine/.zattrs", "d/0", "d/.zarray"]
    )
    def test_damaged_metadata_and_coordinates_are_written_again(self, tmp_path, small, name):
        whole = content(small)
        cut(small / name)
        with pytest.warns(DamageWarning, match=f"{small / name}: not as this study writes it"):
            finished(SMALL, tmp_path)
        assert content(small) == whole

    def test_a_variable_that_is_gone_is_measured_again(self, tmp_path, small):
        whole = content(small)
        shutil.rmtree(small / "cosine_gap")
        with pytest.warns(DamageWarning, match="cosine_gap"):
            finished(SMALL, tmp_path)
        assert content(small) == whole

    def test_unfinished_parts_need_no_chunks(self, tmp_path):
        store = Store(tmp_path, SMALL)
        part = store.missing()[1]
        store.write(part, measure_cell(SMALL, part.cell, part.problems))
        assert open_results(tmp_path).finished.all("problem").values.tolist() == [False, True]


def test_values_are_read_as_zarr_reads_them(tmp_path, monkeypatch):
    """Part of the chunks is missing: their values are the fill value."""
    monkeypatch.setattr(layout, "_MOST_BYTES", 3500)
    study = evolve(SMALL, d=(2, 5, 6), seed=(0, 2**64 - 1), loss=("logistic", "exponential"))
    store = Store(tmp_path, study)
    for part in store.missing()[1::2]:
        store.write(part, measure_cell(study, part.cell, part.problems))
    results, same = open_results(tmp_path), xarray.open_zarr(tmp_path / RESULTS, chunks=None)
    assert results.identical(same)
    keys = (
        {},
        {"d": 1, "problem": slice(3, 9)},
        {"problem": slice(None, None, 3), "loss": 1},
        {"problem": slice(8, 1, -2), "seed": slice(0, 0)},
        {"problem": [7, 0, 7], "d": np.array([True, False, True])},
        {
            "d": xarray.DataArray([0, 2], dims="place"),
            "seed": xarray.DataArray([1, 0], dims="place"),
        },
    )
    for key in keys:
        assert results.isel(key).identical(same.isel(key)), key
    assert pickle.loads(pickle.dumps(open_results(tmp_path))).identical(same)
    assert results.chunk().load().identical(same.load())


def test_a_place_beyond_the_results_is_an_error(tmp_path, small):
    with pytest.raises(IndexError):
        open_results(tmp_path).history_norm.isel(problem=10).load()


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize(("name", "value"), [("order", "F"), ("dimension_separator", "/")])
def test_arrays_of_another_layout_are_not_read_as_if_they_were_ours(
    tmp_path, small, name, value, verify
):
    array = small / "history_norm/.zarray"
    array.write_text(json.dumps(json.loads(array.read_text()) | {name: value}))
    everything = json.loads((small / ".zmetadata").read_text())
    everything["metadata"]["history_norm/.zarray"][name] = value
    (small / ".zmetadata").write_text(json.dumps(everything))
    wrong = rf"^\S+history_norm: expected {name} .*xarray.open_zarr reads a copy"
    with pytest.raises(ValueError, match=wrong):
        open_results(tmp_path, verify=verify)


def test_a_study_starts_no_thread(tmp_path):
    """Where memory runs out while one starts, Python waits for it for ever."""
    program = f"""
import threading
def refused(thread): raise AssertionError(thread)
threading.Thread.start = refused
from attsvm.cli import main
study = ["study", "overparam", "--set", "d=3", "--set", "problems=5", "--set", "steps=20"]
assert main([*study, "--out", {str(tmp_path / "out")!r}]) == 0
assert main(["report", {str(tmp_path / "out")!r}]) == 0
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


@pytest.mark.filterwarnings("ignore")  # of format 3 about text
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_results_can_be_copied(tmp_path, zarr_format):
    if zarr_format == 3 and int(zarr.__version__.split(".")[0]) < 3:
        pytest.skip("Zarr 2 knows no format 3")
    study = evolve(SMALL, loss=("logistic", "exponential"), seed=(0, 2**64 - 1))
    finished(study, tmp_path)
    results = open_results(tmp_path).load()
    chunks = {"cosine": {"chunks": (1,) * results.cosine.ndim}}
    chunks["finished"] = {"chunks": results.finished.shape}
    results.to_zarr(tmp_path / "copy", zarr_format=zarr_format, encoding=chunks)
    with pytest.raises(ValueError, match=r"^\S+: expected .*; xarray.open_zarr reads a copy"):
        open_results(tmp_path / "copy")
    copied = xarray.open_zarr(tmp_path / "copy").load()
    assert copied.equals(results)
    assert copied.loss.values.tolist() == ["logistic", "exponential"]


class TestDirectory:
    def test_directory_of_another_study_is_refused_and_kept(self, tmp_path, small):
        before = content(small)
        with pytest.raises(
            ValueError, match=r"results.zarr .*lr is 0.1 there and 0.2 here; steps is 60 .* 70"
        ) as error:
            Store(tmp_path, evolve(SMALL, lr=0.2, steps=70))
        assert "--overwrite" in str(error.value)
        assert "--out" in str(error.value)
        assert "seed" not in str(error.value)
        assert content(finished(SMALL, tmp_path)) == before

    def test_a_file_of_problems_may_move_but_not_change(self, tmp_path):
        def study(seed: int, name: str) -> Study:
            data = attsvm.datasets.unit_sphere(3, 4, 5, batch=10, rng=seed)
            attsvm.save(tmp_path / name, data)
            return Study(data=str(tmp_path / name), steps=60)

        finished(study(0, "mine.npz"), tmp_path / "out")
        assert not Store(tmp_path / "out", study(0, "moved.npz")).missing()
        with pytest.raises(ValueError, match="data_sha256 is"):
            Store(tmp_path / "out", study(1, "mine.npz"))

    @pytest.mark.parametrize("name", ["isa", "attsvm", "numpy"])
    def test_results_of_another_version_or_instruction_set_are_not_gone_on_with(
        self, tmp_path, small, monkeypatch, name
    ):
        there = layout.made_with
        monkeypatch.setattr(layout, "made_with", lambda study: {**there(study), name: "other"})
        with pytest.raises(ValueError, match=f'{name} is .* there and "other" here'):
            Store(tmp_path, SMALL)

    def test_overwrite_starts_afresh_and_leaves_other_files_alone(self, tmp_path, small):
        (tmp_path / "notes.txt").write_text("mine")
        other = evolve(SMALL, seed=1)
        store = Store(tmp_path, other, overwrite=True)
        assert len(store.missing()) == 2
        assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", RESULTS}
        assert content(finished(other, tmp_path)) == content(finished(other, tmp_path / "other"))

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_directory_with_files_that_are_no_study_is_refused(self, tmp_path, overwrite):
        (tmp_path / "table.csv").write_text("mine")
        with pytest.raises(ValueError, match=r"got one with files but without results.zarr"):
            Store(tmp_path, SMALL, overwrite=overwrite)
        assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_results_of_another_program_are_refused_and_kept(self, tmp_path, overwrite):
        (tmp_path / RESULTS).mkdir()
        (tmp_path / RESULTS / "zarr.json").write_text("{}")
        with pytest.raises(ValueError, match="expected the results of a study"):
            Store(tmp_path, SMALL, overwrite=overwrite)
        assert (tmp_path / RESULTS / "zarr.json").read_text() == "{}"

    def test_file_in_place_of_the_directory_is_refused(self, tmp_path):
        (tmp_path / "out").write_text("mine")
        with pytest.raises(NotADirectoryError, match="expected a directory"):
            run(SMALL, tmp_path / "out")

    @pytest.mark.parametrize("text", ["", "[]", '{"study": 3}'])
    def test_a_store_that_is_not_that_of_a_study_is_refused(self, tmp_path, small, text):
        (tmp_path / RESULTS / ".zattrs").write_text(text)
        for reading in (lambda: Store(tmp_path, SMALL), lambda: open_results(tmp_path)):
            with pytest.raises(ValueError, match=r"results.zarr: expected the results of a study"):
                reading()

    def test_results_that_are_not_there_are_not_opened(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            open_results(tmp_path / "none")

    def test_hidden_files_make_no_study_and_stay(self, tmp_path):
        (tmp_path / ".DS_Store").write_bytes(b"mine")
        finished(SMALL, tmp_path)
        assert (tmp_path / ".DS_Store").read_bytes() == b"mine"

    def test_more_chunks_than_a_directory_holds_are_refused_before_any_work(self, tmp_path):
        with pytest.raises(ValueError, match=r"problems: expected at most \d+ of each cell"):
            run(evolve(SMALL, problems=2**62), tmp_path / "out")
        assert not list(tmp_path.glob("out/*"))

    def test_a_directory_that_is_removed_during_a_run_can_be_used_again(self, tmp_path):
        store = Store(tmp_path / "out", SMALL)
        part = store.missing()[0]
        record = measure_cell(SMALL, part.cell, part.problems)
        shutil.rmtree(tmp_path / "out")
        with pytest.raises(FileNotFoundError):
            store.write(part, record)
        finished(SMALL, tmp_path / "out")

    def test_metadata_are_consolidated(self, tmp_path, small):
        consolidated = json.loads((small / ".zmetadata").read_text())["metadata"]
        assert consolidated[".zattrs"] == json.loads((small / ".zattrs").read_text())
        assert len([name for name in consolidated if name.endswith(".zarray")]) == 31
