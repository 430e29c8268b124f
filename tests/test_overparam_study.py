"""The study of over-parameterisation: what it draws, measures, keeps and concludes."""

from __future__ import annotations

import csv
import json
import math
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from attsvm import classify, cosine, optimal_tokens, train
from attsvm.studies import overparam
from attsvm.studies.intervals import proportion
from attsvm.studies.overparam import REFERENCE, Overparam, OverparamCell
from attsvm.studies.runner import run
from attsvm.studies.store import Store
from attsvm.studies.table import Measure, Row, Table
from attsvm.svm import att_svm, prompt_svm

SMALL = Overparam(n=(3,), T=(4,), d=(2, 5), problems=10, steps=60)


def store_of(study: Overparam, directory: Path, **options) -> Store:
    return Store(directory, study.settings, {"grid": {"d": study.d}}, **options)


def finished(study: Overparam, directory: Path, num_threads: int = 1) -> Store:
    store = store_of(study, directory)
    run(study, store, num_threads=num_threads, progress=False)
    return store


def content(store: Store) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(store.runs.iterdir())}


class TestProblems:
    def test_problem_depends_on_seed_cell_and_number_only(self):
        cell = OverparamCell(3, 4, 5)
        whole = SMALL.draw(cell, range(10))
        assert np.array_equal(whole.tokens[7:], SMALL.draw(cell, range(7, 10)).tokens)
        wider = replace(SMALL, d=(5, 9), problems=20, steps=7, lr=0.3, parameter="p")
        assert np.array_equal(whole.queries, wider.draw(cell, range(10)).queries)

    def test_problems_of_different_numbers_cells_and_seeds_differ(self):
        def value(cell, problems=range(1), **settings):
            return tuple(replace(SMALL, **settings).draw(cell, problems).value.ravel())

        cell = OverparamCell(3, 4, 5)
        drawn = {
            value(cell),
            value(cell, range(1, 2)),
            value(OverparamCell(4, 4, 5)),
            value(OverparamCell(3, 5, 5)),
            value(cell, seed=1),
        }
        assert len(drawn) == 5

    def test_self_attention_queries_are_the_first_tokens(self):
        data = replace(SMALL, attention="self").draw(OverparamCell(3, 4, 5), range(2))
        assert np.array_equal(data.queries, data.tokens[:, :, 0])

    def test_digits_have_the_asked_number_of_patches_and_the_asked_classes(self):
        pytest.importorskip("sklearn")
        study = Overparam(data="digits", T=(4, 9, 25), classes=(0, 1))
        for T in study.T:
            data = study.draw(OverparamCell(5, T, 6), range(2))
            assert data.tokens.shape == (2, 5, T, 6)
        other = replace(study, classes=(0, 7)).draw(OverparamCell(5, 25, 6), range(2))
        assert not np.array_equal(data.tokens, other.tokens)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"n": ()}, "n: expected one or more different sizes"),
            ({"d": (3, 3)}, "d: expected one or more different sizes"),
            ({"d": (0,)}, "d: .*positive"),
            ({"T": (5, 1)}, "T: expected two tokens or more"),
            ({"problems": 0}, "problems: .*positive"),
            ({"steps": 0}, "steps: .*positive"),
            ({"lr": 0.0}, "lr: .*positive"),
            ({"lr": math.nan}, "lr: .*number"),
            ({"seed": -1}, "seed: .*non-negative"),
            ({"parameter": "KQ"}, "parameter: expected one of"),
            ({"data": "words"}, "data: expected one of"),
            ({"attention": "soft"}, "attention: expected one of"),
            ({"data": "digits", "T": (5,)}, "T: expected 4, 9 or 25"),
            ({"data": "digits", "T": (9,), "attention": "self"}, "attention: expected 'cross'"),
        ],
    )
    def test_settings_that_make_no_study_are_refused(self, settings, message):
        with pytest.raises(ValueError, match=message):
            Overparam(**settings)

    def test_digits_that_make_no_problem_are_refused(self):
        pytest.importorskip("sklearn")
        with pytest.raises(ValueError, match="classes: expected two different digits"):
            Overparam(data="digits", T=(9,), classes=(3, 3))
        with pytest.raises(ValueError, match="n: expected at most"):
            Overparam(data="digits", T=(9,), n=(5, 5000))


class TestRecord:
    @pytest.mark.parametrize("parameter", ["W", "p"])
    @pytest.mark.parametrize("d", [2, 5])
    def test_record_is_what_training_and_the_svms_of_each_problem_give(self, parameter, d):
        study = replace(SMALL, parameter=parameter, steps=300)
        cell = OverparamCell(3, 4, d)
        record = study.measure(cell, range(10))
        batch = study.draw(cell, range(10))
        result = train(batch, parameter=parameter, steps=300, record_every=1)
        recorded = record["history_step"][0]
        assert np.array_equal(record["problem"], np.arange(10))
        assert np.array_equal(record["selected"], result.selected)
        assert np.array_equal(record["optimal"], optimal_tokens(batch))
        assert np.array_equal(record["outcome"], classify(batch, result))
        assert np.array_equal(record["history_norm"], result.history["norm"][:, recorded])
        solve = att_svm if parameter == "W" else prompt_svm
        for k, data in enumerate(batch.problems()):
            optimal, own = solve(data, record["optimal"][k]), solve(data, record["selected"][k])
            assert record["feasible"][k] == optimal.feasible
            for name, solution in (("svm_optimal", optimal), ("svm_selected", own)):
                assert record[f"{name}_norm"][k] == pytest.approx(solution.norm, rel=1e-9)
                assert record[f"{name}_gap"][k] < 1e-9
                assert record[f"{name}_kkt"][k] < 1e-9
            if own.feasible:
                expected = cosine(result.direction[k], own.W if parameter == "W" else own.p)
                assert record["cosine"][k] == pytest.approx(expected, rel=1e-9)
            else:
                assert math.isnan(record["cosine"][k])

    def test_history_is_recorded_at_the_start_in_decades_and_at_the_end(self):
        record = replace(SMALL, steps=3000).measure(OverparamCell(3, 4, 5), range(2))
        steps = [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 3000]
        assert record["history_step"].tolist() == [steps, steps]
        for key in ("loss", "loss_gap", "norm", "grad_norm", "log_grad_norm", "max_attention"):
            assert record[f"history_{key}"].shape == (2, len(steps))
        assert replace(SMALL, steps=1).measure(OverparamCell(3, 4, 5), range(1))[
            "history_step"
        ].tolist() == [[0, 1]]

    def test_all_support_means_that_every_constraint_is_active(self):
        study, cell = replace(SMALL, steps=1), OverparamCell(2, 3, 10)
        record = study.measure(cell, range(40))
        for k, data in enumerate(study.draw(cell, range(40)).problems()):
            margins = att_svm(data, optimal_tokens(data)).margins
            assert record["all_support"][k] == np.all(margins[np.isfinite(margins)] < 1 + 1e-6)
        assert 0 < record["all_support"].sum() < 40

    def test_trained_zero_has_no_cosine(self):
        # One dimension and one input: where all its tokens agree, attention changes nothing.
        study = Overparam(n=(1,), T=(2,), d=(1,), problems=20, steps=5)
        record = study.measure(OverparamCell(1, 2, 1), range(20))
        still = record["history_norm"][:, -1] == 0
        assert 0 < still.sum() < 20
        assert np.isnan(record["cosine"][still]).all()


class TestStore:
    def test_results_do_not_depend_on_threads(self, tmp_path):
        one = finished(SMALL, tmp_path / "one", num_threads=1)
        two = finished(SMALL, tmp_path / "two", num_threads=2)
        assert content(one) == content(two)
        assert set(content(one)) == {"n3-T4-d2.npz", "n3-T4-d5.npz"}

    def test_interrupted_study_goes_on_and_ends_with_the_same_bytes(self, tmp_path, monkeypatch):
        expected = content(finished(SMALL, tmp_path / "whole"))
        measured = []

        def measure(self, cell, problems, *, num_threads):
            measured.append(cell.name)
            if len(measured) == 2:
                raise KeyboardInterrupt
            return original(self, cell, problems, num_threads=num_threads)

        original = Overparam.measure
        monkeypatch.setattr(Overparam, "measure", measure)
        with pytest.raises(KeyboardInterrupt):
            finished(SMALL, tmp_path / "stopped")
        assert content(finished(SMALL, tmp_path / "stopped")) == expected
        assert measured == ["n3-T4-d2", "n3-T4-d5", "n3-T4-d5"]

    def test_killed_study_goes_on_and_ends_with_the_same_bytes(self, tmp_path):
        study = ["overparam", "--n", "3", "--T", "4", "--d", "2,3,4,5,6,7", "--problems", "24"]
        command = [sys.executable, "-m", "attsvm", "study", *study, "--steps", "2000", "--quiet"]

        def attempt(directory: Path) -> subprocess.Popen:
            return subprocess.Popen(
                [*command, "--out", str(directory)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )

        def cells(directory: Path) -> int:
            return len(list(directory.glob("runs/*.npz")))

        whole, killed = tmp_path / "whole", tmp_path / "killed"
        with attempt(whole) as process:
            assert process.wait() == 0
        delays = random.Random(0)
        for wanted in (1, 4):
            with attempt(killed) as process:
                while process.poll() is None and cells(killed) < wanted:
                    time.sleep(0.001)
                time.sleep(0.03 * delays.random())
                process.kill()
        assert cells(killed) > 0
        with attempt(killed) as process:
            message = process.stderr.read()
            assert process.wait() == 0, message
        for name in ("table.csv", *(f"runs/{path.name}" for path in whole.glob("runs/*"))):
            assert (killed / name).read_bytes() == (whole / name).read_bytes()
        assert not list(killed.rglob(".*"))

    def test_larger_grid_keeps_the_cells_that_are_there(self, tmp_path):
        before = content(finished(SMALL, tmp_path))
        stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").iterdir()}
        after = content(finished(replace(SMALL, d=(2, 5, 7)), tmp_path))
        assert {name: after[name] for name in before} == before
        assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())

    def test_directory_of_another_study_is_refused_and_kept(self, tmp_path):
        before = content(finished(SMALL, tmp_path))
        with pytest.raises(
            ValueError, match=r"settings.json .*lr is 0.1 there and 0.2 here; steps is 60 .* 70"
        ) as error:
            store_of(replace(SMALL, lr=0.2, steps=70), tmp_path)
        assert "--overwrite" in str(error.value)
        assert "--out" in str(error.value)
        assert "seed" not in str(error.value)
        assert content(finished(SMALL, tmp_path)) == before

    def test_cell_of_another_study_is_refused(self, tmp_path):
        one, other = tmp_path / "one", tmp_path / "other"
        finished(SMALL, one)
        store = finished(replace(SMALL, seed=1), other)
        (one / "runs" / "n3-T4-d2.npz").replace(other / "runs" / "n3-T4-d2.npz")
        with pytest.raises(ValueError, match=r"n3-T4-d2.npz .* seed is 0 there and 1 here"):
            overparam.tabulate(replace(SMALL, seed=1), store)

    def test_overwrite_starts_afresh_and_leaves_other_files_alone(self, tmp_path):
        finished(SMALL, tmp_path)
        (tmp_path / "notes.txt").write_text("mine")
        other = replace(SMALL, seed=1)
        store = store_of(other, tmp_path, overwrite=True)
        assert content(store) == {}
        assert (tmp_path / "notes.txt").read_text() == "mine"
        run(other, store, progress=False)
        assert content(store) == content(finished(other, tmp_path / "other"))

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_directory_with_files_that_are_no_study_is_refused(self, tmp_path, overwrite):
        (tmp_path / "table.csv").write_text("mine")
        with pytest.raises(ValueError, match=r"got one with files but without settings.json"):
            store_of(SMALL, tmp_path, overwrite=overwrite)
        assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]

    def test_file_in_place_of_the_directory_is_refused(self, tmp_path):
        (tmp_path / "out").write_text("mine")
        with pytest.raises(NotADirectoryError, match="expected a directory"):
            store_of(SMALL, tmp_path / "out")

    @pytest.mark.parametrize("text", ["", "[]", '{"study": 3}', '{"steps": 3}'])
    def test_settings_that_cannot_be_read_are_refused(self, tmp_path, text):
        finished(SMALL, tmp_path)
        (tmp_path / "settings.json").write_text(text)
        with pytest.raises(ValueError, match=r"settings.json: expected the settings of a study"):
            store_of(SMALL, tmp_path)

    def test_what_a_killed_writer_left_is_removed(self, tmp_path):
        store = finished(SMALL, tmp_path)
        left = [tmp_path / ".table.csv.0011aabb.part", store.runs / ".n3-T4-d2.npz.0011aabb.part"]
        for path in left:
            path.write_bytes(b"half")
        store_of(SMALL, tmp_path)
        assert not any(path.exists() for path in left)

    @pytest.mark.parametrize("keep", [0, 100, 5000])
    def test_damaged_cell_is_named(self, tmp_path, keep):
        store = finished(SMALL, tmp_path)
        path = store.runs / "n3-T4-d5.npz"
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(ValueError, match=r"n3-T4-d5.npz: damaged .* remove this file"):
            overparam.tabulate(SMALL, store)

    def test_cells_are_npz_files_that_say_what_they_are(self, tmp_path):
        store = finished(SMALL, tmp_path)
        with np.load(store.runs / "n3-T4-d5.npz", allow_pickle=False) as file:
            assert json.loads(str(file["identity"])) == SMALL.settings
            assert file["selected"].shape == (10, 3)
        assert json.loads((tmp_path / "settings.json").read_text()) == {
            "study": SMALL.settings,
            "grid": {"d": [2, 5]},
        }


RECORD = {
    "outcome": np.array(["global", "local", "neither", "global"]),
    "feasible": np.array([True, True, False, True]),
    "all_support": np.zeros(4, bool),
    "cosine": np.array([1.0, 0.9, math.nan, 0.8]),
}


class TestTable:
    def row(self, record=RECORD, **axes) -> Row:
        return Row(axes, {m.name: m.estimate(record) for m in overparam.MEASURES})

    def test_measures_of_a_record(self):
        estimates = self.row(n=3).estimates
        assert {name: estimate.value for name, estimate in estimates.items()} == {
            "global_percent": 50.0,
            "local_percent": 75.0,
            "neither_percent": 25.0,
            "feasible_percent": 75.0,
            "all_support_percent": 0.0,
            "cosine_mean": pytest.approx(0.9),
        }
        assert estimates["cosine_mean"].size == 3
        assert estimates["cosine_mean"].high == 1.0
        expected = proportion(np.array([True, True, False, False]))
        assert estimates["global_percent"].low == pytest.approx(100 * expected.low)

    def test_csv_holds_every_digit_and_nothing_where_there_is_no_number(self):
        nothing = {**RECORD, "cosine": np.full(4, math.nan)}
        table = Table(overparam.MEASURES, (self.row(n=3, d=2), self.row(nothing, n=3, d=5)))
        first, second = csv.DictReader(table.csv().splitlines())
        assert (first["n"], first["d"]) == ("3", "2")
        estimate = table.rows[0].estimates["global_percent"]
        assert float(first["global_percent_low"]) == estimate.low
        assert float(first["global_percent_high"]) == estimate.high
        assert first["global_percent_runs"] == "4"
        assert second["cosine_mean"] == second["cosine_mean_low"] == ""
        assert second["cosine_mean_runs"] == "0"

    def test_text_is_aligned_and_rounds_intervals_outwards(self):
        share = Measure("share", "share %", "of heads", lambda record: record["heads"])
        rows = [
            Row({"n": 5, "d": d}, {"share": share.estimate({"heads": np.arange(300) < heads})})
            for d, heads in ((2, 3), (50, 300))
        ]
        assert Table((share,), tuple(rows)).text() == (
            "n    d   share %\n5    2     1.0 (0-3)\n5   50   100.0 (98-100)\n"
        )

    def test_text_without_a_number_shows_a_dash(self):
        nothing = {**RECORD, "cosine": np.full(4, math.nan)}
        lines = Table(overparam.MEASURES, (self.row(nothing, n=3),)).text().splitlines()
        assert lines[1].endswith(" -")

    @pytest.mark.parametrize("width", [40, 60, 80, 100])
    def test_text_wider_than_the_terminal_is_broken_into_blocks(self, width):
        table = Table(overparam.MEASURES, (self.row(n=3, d=2), self.row(n=3, d=50)))
        blocks = table.text(width).split("\n\n")
        assert len(blocks) > 1
        assert all(len(line) <= width for line in table.text(width).splitlines())
        assert all(block.splitlines()[2].startswith("3   50   ") for block in blocks)
        words = table.text(width).split()
        assert all(heading in " ".join(words) for heading in ("global %", "mean cosine"))


class TestExpectations:
    def sentences(self, study: Overparam, directory: Path) -> list[str]:
        return overparam.expectations(study, finished(study, directory))

    def test_feasibility_is_counted_where_the_theorem_holds(self, tmp_path):
        assert self.sentences(SMALL, tmp_path)[0] == (
            "d >= max(T-1, n) makes the SVM feasible for almost all data: "
            "seen in 10 of 10 problems."
        )
        assert self.sentences(replace(SMALL, d=(2,)), tmp_path) == []

    def test_feasibility_of_the_prompt_needs_more_dimensions(self, tmp_path):
        study = replace(SMALL, parameter="p", d=(5, 8, 9))
        assert self.sentences(study, tmp_path)[0] == (
            "d >= n (T-1) makes the SVM feasible for almost all data: seen in 10 of 10 problems."
        )

    def test_global_selection_is_counted_where_all_tokens_are_support_vectors(self, tmp_path):
        study = Overparam(n=(2,), T=(3,), d=(40,), problems=20, steps=1000)
        store = finished(study, tmp_path)
        saturated = store.read_cell("n2-T3-d40")["all_support"].sum()
        assert saturated > 0
        assert overparam.expectations(study, store)[1] == (
            "Where all tokens are support vectors training is expected to go global: "
            f"seen in {saturated} of {saturated} problems."
        )

    def test_reference_is_compared_where_the_settings_are_its_own(self, tmp_path):
        study = Overparam(d=(8, 9), problems=8)
        last = self.sentences(study, tmp_path / "same")[-1]
        assert last.startswith("Largest difference from an independent computation at n = T = 5")
        assert "(d=8)" in last
        assert "(d=9)" not in last
        for change in ({"steps": 5}, {"attention": "self"}, {"n": (4,)}):
            sentences = self.sentences(replace(study, **change), tmp_path / str(change))
            assert not any("independent" in sentence for sentence in sentences)


def test_over_parameterised_training_is_local_and_the_global_share_grows(tmp_path):
    study = Overparam(d=(5, 10, 50), problems=100, steps=1500)
    table = overparam.tabulate(study, finished(study, tmp_path, num_threads=2))
    shares = [row.estimates["global_percent"].value for row in table.rows]
    assert shares == sorted(shares)
    for row in table.rows:
        d = row.axes["d"]
        assert row.estimates["local_percent"].value >= 98
        assert row.estimates["feasible_percent"].value == 100
        for name in ("global_percent", "all_support_percent"):
            wide = proportion(np.arange(100) < round(row.estimates[name].value), level=0.999)
            assert 100 * wide.low <= REFERENCE[name][d] <= 100 * wide.high, (name, d)


@pytest.fixture(scope="module")
def default_study(tmp_path_factory) -> Store:
    return finished(Overparam(), tmp_path_factory.mktemp("overparam"), num_threads=2)


@pytest.mark.slow
def test_percentages_by_dimension_are_those_of_an_independent_program(default_study):
    table = overparam.tabulate(Overparam(), default_study)
    for row in table.rows:
        d = row.axes["d"]
        for name, by_d in REFERENCE.items():
            assert row.estimates[name].value == pytest.approx(by_d[d], abs=8), (name, d)
        if d >= 5:
            assert row.estimates["local_percent"].value >= 98
            assert row.estimates["feasible_percent"].value == 100
    shares = [row.estimates["global_percent"].value for row in table.rows]
    assert shares == sorted(shares)


@pytest.mark.slow
def test_where_all_tokens_are_support_vectors_training_is_global(default_study):
    records = [default_study.read_cell(f"n5-T5-d{d}") for d in (20, 30, 50)]
    outcomes = np.concatenate([record["outcome"][record["all_support"]] for record in records])
    assert outcomes.size > 100
    assert np.mean(outcomes == "global") >= 0.98


@pytest.mark.slow
def test_over_parameterised_prompt_is_local_and_its_global_share_grows(tmp_path):
    study = Overparam(parameter="p", n=(4,), T=(6,), d=(10, 20, 40, 160), problems=150)
    rows = overparam.tabulate(study, finished(study, tmp_path, num_threads=2)).rows
    shares = [row.estimates["global_percent"].value for row in rows]
    assert shares == sorted(shares)
    assert shares[-1] > 90
    assert all(row.estimates["local_percent"].value >= 98 for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["cross", "self"])
@pytest.mark.parametrize("sizes", [{"n": (5, 10, 15)}, {"T": (5, 10, 15)}])
def test_global_share_falls_with_inputs_and_with_tokens(tmp_path, attention, sizes):
    study = Overparam(**sizes, d=(15,), problems=150, attention=attention)
    rows = overparam.tabulate(study, finished(study, tmp_path, num_threads=2)).rows
    shares = [row.estimates["global_percent"].value for row in rows]
    assert shares == sorted(shares, reverse=True)
    assert all(row.estimates["local_percent"].value >= 98 for row in rows)
