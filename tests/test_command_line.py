"""The command line, as a user meets it."""

from __future__ import annotations

import argparse
import csv
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
import warnings
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray

import attsvm
from attsvm.cli import main
from attsvm.studies import OUTCOMES, Study
from attsvm.studies.declarations import read_toml
from attsvm.svm import att_svm, label_svm, prompt_svm


def changed(**fields: object) -> list[str]:
    """Options that change fields of a study."""
    return [word for name, value in fields.items() for word in ("--set", f"{name}={value}")]


STUDY = ["study", "overparam", *changed(n=3, T=4, d="3,6", problems=12)]
QUICK_STUDY = [*STUDY, *changed(steps=200)]
WITHOUT_FIGURE = [*QUICK_STUDY, *changed(measure="feasible")]


@pytest.fixture(autouse=True)
def _working_directory(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def problem(tmp_path) -> Path:
    """A problem in another directory than the working directory."""
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "problem.npz"
    attsvm.save(path, attsvm.datasets.unit_sphere(3, 4, 9, rng=0))
    return path


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "attsvm", *map(str, words)]


def facts(text: str) -> dict[str, str]:
    """Lines ``name   fact`` by their names."""
    pairs = [line.split("   ", 1) for line in text.splitlines()]
    return {name.strip(): fact.strip() for name, fact in pairs}


class TestStudy:
    def test_figures_are_written_in_the_formats_that_are_asked_for(self, tmp_path, capsys):
        pytest.importorskip("matplotlib")
        pytest.importorskip("plotly")
        out = tmp_path / "out"
        assert main([*QUICK_STUDY, "--out", str(out), "--format", "svg,pdf"]) == 0
        assert {path.name for path in out.glob("figure.*")} == {"figure.svg", "figure.pdf"}
        assert (out / "figure.pdf").read_bytes().startswith(b"%PDF")
        (out / "figure.svg").unlink()
        assert main(["report", str(out), "--format", "png,svg"]) == 0
        shown = capsys.readouterr()
        assert f"Written: {out / 'report.html'}, {out / 'figure.png'}" in shown.out
        assert {path.name for path in out.glob("figure.*")} == {
            *("figure.svg", "figure.pdf", "figure.png")
        }
        with pytest.raises(SystemExit):
            main(["study", "--help"])
        assert "with commas between (default: png)" in " ".join(capsys.readouterr().out.split())
        with pytest.raises(SystemExit):
            main([*QUICK_STUDY, "--format", "png,gif"])
        assert "expected some of png, pdf, svg with commas between" in capsys.readouterr().err

    def test_study_prints_its_table_and_writes_table_figure_and_results(self, tmp_path, capsys):
        pytest.importorskip("matplotlib")
        out = tmp_path / "out"
        assert main([*QUICK_STUDY, "--out", str(out)]) == 0
        shown = capsys.readouterr()
        assert shown.err == ""
        assert "12 problems of each size, seed 0" in " ".join(shown.out.split())
        heading = "n   T   d   global %"
        assert heading in shown.out
        assert "In brackets: 95 % confidence intervals" in shown.out
        assert "d >= max(T-1, n) makes the SVM feasible" in shown.out
        assert {path.name for path in out.iterdir()} == {"table.csv", "figure.png", "results.zarr"}
        rows = list(csv.DictReader((out / "table.csv").read_text().splitlines()))
        assert [row["d"] for row in rows] == ["3", "6"]
        assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")
        outcome = xarray.open_zarr(out / "results.zarr").outcome.sel(n=3, T=4, d=6)
        share = 100 * np.mean(outcome == OUTCOMES.index("global"))
        assert float(rows[1]["global_percent"]) == pytest.approx(float(share))

    def test_study_runs_from_where_one_stands_to_out(self, tmp_path):
        assert main(WITHOUT_FIGURE) == 0
        assert (tmp_path / "out" / "overparam" / "table.csv").exists()

    def test_study_of_the_digits_has_a_directory_of_its_own(self, tmp_path, capsys):
        pytest.importorskip("sklearn")
        words = changed(d="4,8", problems=6, steps=50, classes="0,1")
        assert main(["study", "overparam-digits", *words]) == 0
        assert "digits 0 and 1" in capsys.readouterr().out
        results = xarray.open_zarr(tmp_path / "out" / "overparam-digits" / "results.zarr")
        assert dict(results.outcome.sizes) == {"n": 1, "T": 1, "d": 2, "problem": 6}

    def test_study_of_the_prompt(self, tmp_path, capsys):
        assert main([*WITHOUT_FIGURE, *changed(parameter="p"), "--out", str(tmp_path)]) == 0
        assert "p trained from zero by 200 normalised steps" in capsys.readouterr().out

    def test_an_empty_value_takes_back_what_a_file_declares(self, tmp_path, capsys):
        (tmp_path / "mine.toml").write_text("n = 3\nT = 4\nd = 5\nproblems = 2\nlr = 0.5\n")
        assert main(["study", "mine.toml", *changed(lr="", steps=2, rule="polyak")]) == 0
        assert "trained from zero by 2 Polyak steps, logistic" in capsys.readouterr().out

    def test_study_of_ones_own_file_and_problems(self, problem, tmp_path, capsys):
        (tmp_path / "mine.toml").write_text(
            'title = "Rates"\ndata = "data/problem.npz"\nlr = [0.1, 0.5]\nsteps = 50\n'
            'measure = ["selected", "outcome", "cosine"]\n'
        )
        out = tmp_path / "out"
        assert main(["study", str(tmp_path / "mine.toml"), "--out", str(out)]) == 0
        shown = capsys.readouterr().out
        assert shown.startswith("Rates\nproblem.npz; W trained from zero by 50 normalised steps of")
        results = xarray.open_zarr(out / "results.zarr")
        for lr in (0.1, 0.5):
            run = attsvm.train(attsvm.load(problem), steps=50, lr=lr)
            assert np.array_equal(results.selected.sel(lr=lr)[0], run.selected)

    def test_studies_are_listed_and_printed(self, tmp_path, monkeypatch, capsys):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, "sklearn", None)  # whose digits one of them draws
            assert main(["study", "--list"]) == 0
        listed = facts(capsys.readouterr().out)
        assert set(listed) == {"geometries", "label-noise", "overparam", "overparam-digits"}
        for name in listed:
            assert main(["study", name, "--print"]) == 0
            printed = capsys.readouterr().out
            copy = tmp_path / f"{name}.toml"
            copy.write_text(printed)
            assert Study.load(copy).settings == Study.load(name).settings
        assert main([*QUICK_STUDY, "--print"]) == 0
        copy.write_text(capsys.readouterr().out)
        assert Study.load(copy).d == (3, 6)
        words = ["name=2026", "title=A study, of mine", "measure=cosine"]
        assert main(["study", "overparam", *(f"--set={word}" for word in words), "--print"]) == 0
        copy.write_text(capsys.readouterr().out)
        changed_study = Study.load(copy)
        assert (changed_study.name, changed_study.title) == ("2026", "A study, of mine")
        assert changed_study.measure == ("cosine",)

    @pytest.mark.parametrize(
        ("text", "words", "error"),
        [
            ("", {"d": "0"}, "--set d=0: d: expected a positive integer, got 0"),
            ("", {"steps": "5", "stpes": "3"}, "--set stpes=3: stpes: expected one of the fields"),
            ("", {"steps": "5", "lr": "fast"}, "--set lr=fast: lr: expected a positive number"),
            ("measure = ['W']\n", {"parameter": "p"}, "--set parameter=p: measure: 'W' needs the"),
            ("rule = 'adam'\n", {"lr": 1, "decay": 1, "momentum": 0.5}, "--set momentum=0.5: mom"),
            ("momentum = 0.5\n", {"lr": 1, "rule": "adam"}, "--set rule=adam: momentum"),
            ("", {"rule": "adam", "momentum": 1 / 2}, "--set rule=adam --set momentum=0.5: momen"),
            ("d = 0\n", {"d": "3", "steps": "-1"}, "--set steps=-1: steps: expected a positive"),
            ("steps = 0\n", {"lr": "2"}, "{file}: steps: expected a positive integer, got 0"),
            ("stpes = 3\n", {"lr": "2"}, "{file}: stpes: expected one of the fields"),
            ("", {"title": "a b", "problems": "0.5"}, "--set problems=0.5: problems: expected a"),
        ],
    )
    def test_errors_of_changed_fields_name_the_words_that_changed_them(
        self, tmp_path, capsys, text, words, error
    ):
        file = tmp_path / "mine.toml"
        rest = {"n": 3, "T": 4, "d": 5, "problems": 2}
        given = "".join(f"{k} = {x}\n" for k, x in rest.items() if f"{k} =" not in text)
        file.write_text(text + given)
        assert main(["study", str(file), *changed(**words), "--print"]) == 2
        assert capsys.readouterr().err.startswith(f"attsvm: error: {error.format(file=file)}")

    def test_changes_are_written_as_in_the_file_or_with_commas(self, tmp_path, capsys):
        def printed(word: str) -> str:
            assert main(["study", "overparam", "--set", word, "--print"]) == 0
            return capsys.readouterr().out

        assert printed("d=[2, 4]") == printed("d=2,4")
        assert printed("parameter=['W', 'p']") == printed("parameter=W,p")
        assert printed('rule="gd"') == printed("rule=gd")
        assert "\n[rules]\nsign = { lr = 0.2, ema = 0.5 }\n" in printed(
            "rules={sign = {lr = 0.2, ema = 0.5}}"
        )

    def test_measures_that_were_not_asked_for_fit_what_is_trained(self, problem, capsys):
        assert main(["study", str(problem), "--set", "parameter=KQ", "--print"]) == 0
        measure = read_toml(capsys.readouterr().out)["measure"]
        assert {"outcome", "svm_selected"} <= set(measure)
        assert "history" in measure

    def test_the_last_of_two_changes_of_a_field_is_named(self, capsys):
        assert main(["study", "overparam", "--set", "d=3", "--set", "d=0"]) == 2
        assert "error: --set d=0: d: expected" in capsys.readouterr().err

    def test_finished_study_is_shown_again_without_being_run(self, tmp_path, capsys):
        def stamps() -> dict[Path, int]:
            files = (tmp_path / "results.zarr").rglob("*")
            return {path: path.stat().st_mtime_ns for path in files}

        words = [*QUICK_STUDY, "--out", str(tmp_path)]
        assert main(words) == 0
        first, before = capsys.readouterr().out, stamps()
        assert main(words) == 0
        assert capsys.readouterr().out == first
        assert stamps() == before

    def test_a_study_of_which_no_figure_can_be_drawn_has_its_table(self, tmp_path, capsys):
        words = [*QUICK_STUDY, "--set=measure=feasible", "--out", str(tmp_path)]
        assert main(words) == 0
        assert "feasible %" in capsys.readouterr().out
        assert {path.name for path in tmp_path.iterdir()} == {"results.zarr", "table.csv"}

    def test_other_settings_need_another_directory_or_overwrite(self, tmp_path, capsys):
        words = [*WITHOUT_FIGURE, "--out", str(tmp_path)]
        assert main(words) == 0
        capsys.readouterr()
        assert main([*words, *changed(seed=3)]) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert "seed is 0 there and 3 here" in shown.err
        assert "--overwrite" in shown.err
        assert main([*words, *changed(seed=3), "--overwrite"]) == 0
        assert xarray.open_zarr(tmp_path / "results.zarr").attrs["seed"] == 3

    def test_ctrl_c_is_not_lost_in_imports_that_it_breaks(self, tmp_path, capsys, monkeypatch):
        def interrupted(name):
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt as error:
                raise ImportError(name) from error

        monkeypatch.setattr("attsvm.cli.studies.import_module", interrupted)
        assert main([*QUICK_STUDY, "--out", str(tmp_path)]) == 130
        assert capsys.readouterr().err.startswith("attsvm: stopped\n")

    def test_ctrl_c_keeps_finished_cells_and_says_how_to_go_on(self, tmp_path):
        out = tmp_path / "my out"
        words = [*STUDY, *changed(steps=20000000), "--out", out, "--overwrite"]
        with subprocess.Popen(
            command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            while process.poll() is None and not (out / "results.zarr").exists():
                time.sleep(0.01)
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            shown, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert shown == ""
        again = f"attsvm {' '.join(STUDY)} --set steps=20000000 --out '{out}'"
        assert errors == (f"attsvm: stopped\nFinished cells are kept. To continue: {again}\n")

    def test_ctrl_c_in_the_midst_of_an_exec_has_the_same_status(self, tmp_path):
        interrupted = "import argparse\nparse = lambda *_: exec('raise KeyboardInterrupt')\n"
        interrupted += "argparse.ArgumentParser.parse_args = parse\n"
        (tmp_path / "sitecustomize.py").write_text(interrupted)
        env = {**os.environ, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(command("svm"), env=env, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (130, "attsvm: stopped\n")

    def test_progress_is_shown_on_a_terminal_and_silenced_by_quiet(self, tmp_path):
        def seen(*words: str) -> str:
            leader, follower = pty.openpty()
            with subprocess.Popen(
                command(*WITHOUT_FIGURE, "--out", tmp_path / str(len(words)), *words),
                stdout=subprocess.DEVNULL,
                stderr=follower,
            ) as process:
                os.close(follower)
                parts = []
                while True:
                    try:
                        part = os.read(leader, 1024)
                    except OSError:  # Linux: the other side is closed
                        part = b""
                    if not part:
                        break
                    parts.append(part)
            os.close(leader)
            assert process.returncode == 0
            return b"".join(parts).decode()

        assert re.search(r"problems   0%\|.*\| 0/24 \[", seen())
        assert seen("--quiet") == ""


class TestTrain:
    def test_train_writes_what_training_gives(self, problem, tmp_path, capsys):
        out = tmp_path / "result.npz"
        words = ["--steps", "400", "--record-every", "100", "--lr", "0.2", "--loss", "exponential"]
        assert main(["train", str(problem), "--out", str(out), *words]) == 0
        result = attsvm.train(
            attsvm.load(problem), steps=400, record_every=100, lr=0.2, loss="exponential"
        )
        with np.load(out, allow_pickle=False) as file:
            assert np.array_equal(file["W"], result.W)
            assert np.array_equal(file["selected"], result.selected)
            assert np.array_equal(file["attention"], result.attention)
            assert np.array_equal(file["log_attention"], result.log_attention)
            assert str(file["loss"]) == "exponential"
            assert (file["lr"], file["steps"]) == (0.2, 400)
            assert file["history_step"].tolist() == [0, 100, 200, 300, 400]
            for key, array in result.history.items():
                assert np.array_equal(file[f"history_{key}"], array)
        shown = facts(capsys.readouterr().out)
        assert shown["problem"] == "n=3 T=4 d=9"
        assert shown["selected tokens"] == " ".join(map(str, result.selected))
        assert shown["optimal tokens"] == " ".join(
            map(str, attsvm.optimal_tokens(attsvm.load(problem)))
        )
        assert shown["outcome"].split(":")[0] == attsvm.classify(attsvm.load(problem), result)
        solution = att_svm(attsvm.load(problem), result.selected)
        assert float(shown["cosine with its SVM"]) == pytest.approx(
            attsvm.cosine(result.W, solution.W), abs=1e-6
        )
        assert shown["written"] == str(out)

    def test_results_are_written_where_one_stands_under_their_settings(self, problem, capsys):
        words = ["train", str(problem), "--parameter", "p", "--rule", "gd"]
        assert main(words) == 0
        result = attsvm.train(attsvm.load(problem), parameter="p", rule="gd")
        with np.load("problem-run-p-gd-lr0.1-1000.npz", allow_pickle=False) as file:
            assert np.array_equal(file["p"], result.p)
        assert list(problem.parent.iterdir()) == [problem]
        before = Path("problem-run-p-gd-lr0.1-1000.npz").read_bytes()
        assert main(words) == 2
        assert "problem-run-p-gd-lr0.1-1000.npz exists: --overwrite" in capsys.readouterr().err
        assert Path("problem-run-p-gd-lr0.1-1000.npz").read_bytes() == before
        assert main([*words, "--overwrite"]) == 0
        assert main([*words, "--out", "/dev/null"]) == 0

    def test_settings_of_a_step_rule_are_options_and_named(self, problem, capsys):
        steps = ["train", str(problem), "--steps", "30"]
        assert main([*steps, "--rule", "mirror", "--norm", "3", "--momentum", "0.5"]) == 0
        shown = facts(capsys.readouterr().out)
        assert shown["training"].startswith("W, 30 steps of mirror, momentum 0.5, norm 3, lr 0.1")
        assert shown["SVM"] == "att, l_3 norm: optimal"
        written = "problem-run-W-mirror-lr0.1-30-norm3-momentum0.5.npz"
        rule = attsvm.StepRule("mirror", norm=3, momentum=0.5)
        with np.load(written) as file:
            run = attsvm.train(attsvm.load(problem), rule=rule, steps=30)
            assert np.array_equal(file["W"], run.W)
        assert main(["svm", str(problem), "--run", written]) == 0
        assert facts(capsys.readouterr().out)["SVM"] == "att, l_3 norm"
        rest = ["--decay", "0.5", "--weight-decay", "0.1", "--batch-size", "2", "--seed", "4"]
        assert main([*steps, *rest, "--out", "rest.npz"]) == 0
        rule = attsvm.StepRule(decay=0.5, weight_decay=0.1, batch_size=2)
        with np.load("rest.npz") as file:
            run = attsvm.train(attsvm.load(problem), rule=rule, steps=30, rng=4)
            assert np.array_equal(file["W"], run.W)

    def test_mini_batches_of_a_text_are_drawn_with_a_seed(self, tmp_path):
        Path("text").write_text("abcabdac" * 9)
        words = ["train", "--text", "text", "--steps", "9", "--batch-size", "2", "--seed"]
        runs = []
        for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
            assert main([*words, seed, "--out", f"{name}.npz"]) == 0
            with np.load(f"{name}.npz") as file:
                runs.append(file["W"])
        assert np.array_equal(runs[0], runs[1])
        assert not np.array_equal(runs[0], runs[2])

    def test_polyak_steps_have_no_step_size(self, problem, capsys):
        text = problem.with_name("text")
        text.write_text("abcabdac" * 9)
        steps = ["--rule", "polyak", "--steps", "9"]
        for words, name in (([str(problem)], "problem"), (["--text", str(text)], "text")):
            assert main(["train", *words, *steps]) == 0
            assert "lr" not in facts(capsys.readouterr().out)["training"]
            with np.load(f"{name}-run-W-polyak-9.npz") as file:
                assert "lr" not in file.files
        run = attsvm.train(attsvm.load(problem), rule="polyak", steps=9)
        assert "lr" not in repr(run)

    @pytest.mark.parametrize(
        ("names", "parameter"),
        [((), "v+W"), (("queries",), "v+W"), (("value",), "W"), (("queries", "value"), "W")],
    )
    def test_what_is_trained_by_default_fits_the_arrays(self, problem, capsys, names, parameter):
        data = attsvm.load(problem)
        arrays = {name: getattr(data, name) for name in ("tokens", "labels", *names)}
        np.savez("own.npz", **arrays)
        assert main(["train", "own.npz", "--steps", "50"]) == 0
        assert facts(capsys.readouterr().out)["training"].startswith(f"{parameter}, 50 steps")
        assert Study.load("own.npz").parameter == parameter

    @pytest.mark.parametrize("parameter", ["KQ", "v+W", "W+p"])
    def test_other_parameters_are_trained_and_compared_with_their_svm(
        self, problem, capsys, parameter
    ):
        assert main(["train", str(problem), "--parameter", parameter, "--out", "run.npz"]) == 0
        shown = facts(capsys.readouterr().out)
        assert -1 <= float(shown["cosine with its SVM"]) <= 1
        names = {"KQ": {"W", "K", "Q"}, "v+W": {"W", "v"}, "W+p": {"W", "p", "Wp"}}[parameter]
        with np.load("run.npz") as file:
            assert names <= set(file.files)
            assert str(file["parameter"]) == parameter

    @pytest.mark.parametrize("words", [["--parameter", "KQ"], ["--batch-size", "2"]])
    def test_what_is_drawn_without_a_seed_is_that_of_the_seed_0_and_says_so(
        self, problem, capsys, words
    ):
        for out, seed in (("a.npz", []), ("b.npz", ["--seed", "0"])):
            assert main(["train", str(problem), *words, *seed, "--steps", "9", "--out", out]) == 0
            assert facts(capsys.readouterr().out)["seed"] == "0"
        with np.load("a.npz") as one, np.load("b.npz") as other:
            assert one["seed"] == other["seed"] == 0
            np.testing.assert_array_equal(one["W"], other["W"])

    def test_runs_with_other_options_have_files_of_other_names(self, problem):
        data = attsvm.load(problem)
        np.save("ones.npy", np.ones(data.d))
        attsvm.save("other.npz", data)
        words = (
            [], ["--init", "uniform", "--seed", "1"], ["--init", "uniform", "--seed", "2"],
            ["--value", "ones.npy"],
            ["--test", "other.npz"], ["--record-every", "2"],
            ["--parameter", "Wp", "--prompt", "ones.npy"],
        )  # fmt: skip
        for options in words:
            assert main(["train", str(problem), "--steps", "3", *options]) == 0
        of_text = [
            *([], ["--context", "4"], ["--unit", "word", "--context", "4"], ["--vocabulary", "2"]),
            *(["--most", "9"], ["--held-out", "0.5"]),
        ]
        Path("text").write_text("a b c a b c a a b b c c " * 9)
        for options in of_text:
            assert main(["train", "--text", "text", "--steps", "3", *options]) == 0
        names = {one.name for one in Path().glob("*-run-*.npz")}
        assert len(names) == len(words) + len(of_text)
        ones = "-".join("1" * data.d)
        assert f"problem-run-Wp-ngd-lr0.1-3-prompt-{ones}.npz" in names
        assert "text-run-W-ngd-lr0.1-3-context4-word.npz" in names

    @pytest.mark.parametrize(
        "words", [["--threads=0"], ["--record-every=0"], ["--lr=0"], ["--test={test}"]]
    )
    def test_what_is_wrong_is_said_before_that_the_results_exist(self, problem, capsys, words):
        Path("run.npz").write_bytes(b"")
        Path("text").write_text("abcabcaabbcc" * 9)
        np.savez("test.npz", tokens=np.ones((2, 3, 99)), labels=[1, -1])
        options = [word.format(test="test.npz") for word in words] + ["--out", "run.npz"]
        name = words[0].split("=")[0]
        assert main(["train", str(problem), *options]) == 2
        assert f"error: {name}: " in capsys.readouterr().err
        text = ["--context=0"] if name == "--test" else words
        assert main(["train", "--text", "text", *text, "--out", "run.npz"]) == 2
        assert f"error: {text[0].split('=')[0]}: " in capsys.readouterr().err
        if name == "--threads":
            for wrong in (words, ["--selected", "99"]):
                assert main(["svm", str(problem), *wrong, "--out", "run.npz"]) == 2
                assert "exists" not in capsys.readouterr().err

    def test_what_the_file_lacks_is_chosen_and_said(self, problem, capsys):
        data = attsvm.load(problem)
        np.savez("own.npz", tokens=data.tokens, labels=data.labels)
        assert main(["train", "own.npz", "--steps", "50"]) == 0
        shown = facts(capsys.readouterr().out)
        assert shown["queries"].startswith("the first token of each input")
        assert shown["head"].startswith("v is trained too")
        assert shown["training"].startswith("v+W, 50 steps")
        own = attsvm.AttentionData(data.tokens, data.labels, queries=data.tokens[:, 0])
        result = attsvm.train(own, parameter="v+W", steps=50)
        with np.load(shown["written"]) as file:
            assert np.array_equal(file["W"], result.W)
        value = ",".join(map(str, data.value.tolist()))
        words = ["--parameter", "KQ", "--init", "balanced", "--seed", "3", "--steps", "20"]
        assert main(["train", "own.npz", f"--value={value}", *words]) == 0
        shown = facts(capsys.readouterr().out)
        assert "head" not in shown
        valued = attsvm.load(problem).with_first_queries()
        result = attsvm.train(valued, parameter="KQ", init="balanced", rng=3, steps=20)
        with np.load(shown["written"]) as file:
            assert np.array_equal(file["K"], result.K)

    @pytest.mark.parametrize(
        ("parameter", "rule", "svm", "norm"),
        [
            ("W", "ngd", "att", "Frobenius"),
            ("W", "sign", "att", "max"),
            ("W", "adam", "att", "max"),
            ("p", "coordinate", "prompt", "l1"),
            ("KQ", "ngd", "att", "nuclear"),
            ("KQ", "spectral", "att", "spectral"),
            ("v+W", "spectral", "att", "spectral"),
            ("W+p", "ngd", "prompt", "Frobenius"),
            ("diagonal KQ", "ngd", "diagonal", "l1"),
            ("Wp", "ngd", "prompt", "Frobenius"),
            ("v+Wp", "sign", "prompt", "max"),
        ],
    )
    def test_a_run_is_compared_with_the_svm_of_its_parameter_and_steps(
        self, problem, capsys, parameter, rule, svm, norm
    ):
        prompt = np.arange(1.0, 1 + attsvm.load(problem).d) if "Wp" in parameter else None
        given = [] if prompt is None else ["--prompt", ",".join(map(str, prompt))]
        words = ["--parameter", parameter, "--rule", rule, "--steps", "200", *given]
        assert main(["train", str(problem), *words, "--out", "run.npz"]) == 0
        trained = facts(capsys.readouterr().out)
        assert trained["SVM"].startswith(f"{svm}, {norm} norm: ")
        assert main(["svm", str(problem), "--run", "run.npz", "--threads", "1"]) == 0
        solved = facts(capsys.readouterr().out)
        assert f"{solved['SVM']}: {solved['status']}" == trained["SVM"]
        assert solved["selected tokens"] == trained["selected tokens"]
        assert solved.get("cosine of the run") == trained.get("cosine with its SVM")
        options = {"rule": rule, "steps": 200, "rng": 0, "prompt": prompt}
        run = attsvm.train(attsvm.load(problem), parameter=parameter, **options)
        names = {"Frobenius": "fro", "nuclear": "nuc", "spectral": "spec"}
        outcome = attsvm.classify(attsvm.load(problem), run, norm=names.get(norm, norm))
        assert trained["outcome"].split(":")[0] == outcome

    def test_svm_of_a_run_can_be_another(self, problem, capsys):
        words = ["--parameter", "diagonal KQ", "--steps", "9", "--out", "run.npz"]
        assert main(["train", str(problem), *words]) == 0
        assert main(["svm", str(problem), "--run", "run.npz", "--problem", "att"]) == 0
        assert facts(capsys.readouterr().out)["SVM"] == "att, Frobenius norm"

    @pytest.mark.parametrize("parameter", ["W", "KQ", "diagonal KQ", "p"])
    def test_svm_of_a_run_takes_the_queries_that_the_run_took(self, problem, capsys, parameter):
        data = attsvm.load(problem)
        np.savez("own.npz", tokens=data.tokens, labels=data.labels, value=data.value)
        words = ["--parameter", parameter, "--steps", "200", "--out", "run.npz"]
        assert main(["train", "own.npz", *words]) == 0
        trained = facts(capsys.readouterr().out)
        assert main(["svm", "own.npz", "--run", "run.npz"]) == 0
        solved = facts(capsys.readouterr().out)
        assert solved.get("queries") == trained.get("queries")
        assert ("queries" in solved) == (parameter != "p")
        assert solved.get("cosine of the run") == trained.get("cosine with its SVM")
        assert solved["written"].startswith("run-")  # beside that of the optimal tokens

    @pytest.mark.parametrize(
        ("words", "solve"),
        [
            ([], attsvm.att_svm),
            (["--problem", "diagonal"], partial(attsvm.diagonal_svm, norm="l1")),
            (["--problem", "prompt"], attsvm.prompt_svm),
        ],
    )
    def test_svm_without_queries_takes_first_tokens_and_says_so(
        self, problem, capsys, words, solve
    ):
        data = attsvm.load(problem)
        np.savez("own.npz", tokens=data.tokens, labels=data.labels, value=data.value)
        assert main(["svm", "own.npz", *words]) == 0
        solved = facts(capsys.readouterr().out)
        said = "the first token of each input, as the file has none"
        assert solved.get("queries") == (None if "prompt" in words else said)
        expected = solve(data.with_first_queries(), attsvm.optimal_tokens(data)).norm
        assert float(solved["norm"]) == pytest.approx(expected, rel=1e-8)

    def test_a_run_on_another_problem_is_refused(self, problem, capsys):
        assert main(["train", str(problem), "--steps", "9", "--out", "run.npz"]) == 0
        data = attsvm.load(problem)
        for n, d in ((data.n + 1, data.d), (data.n, data.d + 1)):
            attsvm.save("other.npz", attsvm.datasets.unit_sphere(n, data.T, d, rng=0))
            assert main(["svm", "other.npz", "--run", "run.npz"]) == 2
            expected = f"run.npz: expected a run on n={n} d={d}, got n={data.n} d={data.d}"
            assert expected in capsys.readouterr().err
        heads = {"queries": data.queries, "value": data.value}
        short = attsvm.AttentionData(data.tokens[:, :1], data.labels, **heads)
        attsvm.save("short.npz", short)
        assert main(["svm", "short.npz", "--run", "run.npz"]) == 2
        assert "error: run.npz: selected: expected 0..0, got " in capsys.readouterr().err

    @pytest.mark.parametrize("parameter", ["W", "p", "KQ", "v+W", "Wp", "W+p", "diagonal KQ"])
    def test_a_run_on_another_problem_of_its_sizes_is_refused(self, problem, capsys, parameter):
        data = attsvm.load(problem)
        prompt = ["--prompt", ",".join(["1"] * data.d)] if parameter == "Wp" else []
        words = ["train", str(problem), "--parameter", parameter, *prompt, "--steps", "30"]
        assert main([*words, "--lr", "1e6", "--out", "run.npz"]) == 0
        labels = ["--problem", "label"]
        assert main(["svm", str(problem), "--run", "run.npz", *labels]) == 0
        heads = {"queries": data.queries, "value": data.value}
        longer = np.concatenate([data.tokens, data.tokens[:, :1]], axis=1)
        for tokens in (data.tokens[::-1], longer):
            attsvm.save("other.npz", attsvm.AttentionData(tokens, data.labels, **heads))
            capsys.readouterr()
            assert main(["svm", "other.npz", "--run", "run.npz", *labels]) == 2
            wrong = "expected a run on the tokens and queries of the problem, got one on others"
            assert capsys.readouterr().err == f"attsvm: error: run.npz: {wrong}\n"

    def test_a_place_without_a_directory_is_refused_before_training(
        self, problem, monkeypatch, capsys
    ):
        monkeypatch.setattr("attsvm.cli.training.train", lambda *_, **__: pytest.fail("trained"))
        here = Path.cwd()
        for out, wrong in (
            ("none/run.npz", f"expected an existing directory, got {here / 'none'}"),
            (".", f"expected a file, got the directory {here}"),
        ):
            assert main(["train", str(problem), "--out", out]) == 2
            assert capsys.readouterr().err == f"attsvm: error: --out: {wrong}\n"

    def test_a_result_without_a_suffix_gets_its_own(self, problem, capsys):
        for command in ("train", "svm"):
            assert main([command, str(problem), "--out", command]) == 0
            assert facts(capsys.readouterr().out)["written"] == f"{command}.npz"
            with np.load(f"{command}.npz") as file:
                assert "W" in file.files

    def test_a_file_that_is_no_run_is_refused(self, problem, capsys):
        np.savez("other.npz", selected=[0, 0, 0], parameter="V", rule="ngd")
        for name in ("other.npz", str(problem)):
            assert main(["svm", str(problem), "--run", name]) == 2
            error = f"attsvm: error: {name}: expected the results of attsvm train\n"
            assert capsys.readouterr().err == error

    @pytest.mark.parametrize("parameter", ["W", "v+W", "W+p"])
    def test_a_test_is_evaluated_with_the_head_of_the_problem(self, problem, capsys, parameter):
        data = attsvm.load(problem)
        other = attsvm.datasets.unit_sphere(50, 6, data.d, attention="self", rng=5)
        np.savez("test.npz", tokens=other.tokens, labels=other.labels)
        words = ["--parameter", parameter, "--steps", "100", "--out", "run.npz"]
        assert main(["train", str(problem), "--test", "test.npz", *words]) == 0
        shown = facts(capsys.readouterr().out)
        test = other.with_value(data.value)
        result = attsvm.train(data, parameter=parameter, steps=100, rng=0, test=test)
        evaluation = result.evaluate(test)
        assert float(shown["test accuracy"]) == evaluation.accuracy
        assert float(shown["test loss"]) == pytest.approx(evaluation.loss, rel=1e-3)
        assert float(shown["accuracy"]) == pytest.approx(result.evaluate(data).accuracy, rel=1e-3)
        with np.load("run.npz") as file:
            history = file["history_test_loss"]
        np.testing.assert_array_equal(history, result.history["test_loss"])

    def test_diagonal_factors_are_compared_with_the_diagonal_svm(self, tmp_path, capsys):
        """One constraint w_1 + w_2 / 2 >= 1: the smallest |w_1| + |w_2| is at w = (1, 0)."""
        path, out = tmp_path / "two.npz", tmp_path / "run.npz"
        tokens = [[[1.0, 0.5], [0.0, 0.0]]]
        np.savez(path, tokens=tokens, labels=[1], queries=[[1.0, 1.0]], value=[1.0, 0.0])
        words = ["--parameter", "diagonal KQ", "--init", "balanced", "--seed", "0"]
        assert main(["train", str(path), *words, "--out", str(out)]) == 0
        with np.load(out) as run:
            w = run["k"] * run["q"]
        shown = float(facts(capsys.readouterr().out)["cosine with its SVM"])
        assert shown == pytest.approx(w[0] / np.hypot(*w), abs=1e-6)
        assert main(["svm", str(path), "--run", str(out), "--out", "svm.npz"]) == 0
        with np.load("svm.npz") as solved:
            np.testing.assert_allclose(solved["W"], [[1, 0], [0, 0]], atol=1e-9)

    def test_a_test_of_another_dimension_is_refused(self, problem, capsys):
        d = attsvm.load(problem).d
        np.savez("test.npz", tokens=np.ones((2, 3, d + 1)), labels=[1, -1])
        assert main(["train", str(problem), "--test", "test.npz"]) != 0
        expected = f"--test: test.npz: expected tokens of dimension {d}, got {d + 1}"
        assert expected in capsys.readouterr().err

    def test_outcomes_of_many_inputs_are_counted(self, tmp_path, capsys):
        data = attsvm.datasets.unit_sphere(30, 4, 3, rng=0)
        attsvm.save(tmp_path / "many.npz", data)
        assert main(["train", str(tmp_path / "many.npz"), "--steps", "100"]) == 0
        shown = facts(capsys.readouterr().out)["inputs"].split(", ")
        inputs = attsvm.classify(data, attsvm.train(data, steps=100)).inputs.tolist()
        counts = {name: int(count) for count, name in (each.split(" ") for each in shown)}
        assert counts == {name: inputs.count(name) for name in set(inputs)}
        assert list(counts.values()) == sorted(counts.values(), reverse=True)

    def test_tokens_of_zero_weights_are_said_to_be_the_first(self, problem, capsys):
        assert main(["train", str(problem), "--steps", "0"]) == 0
        selected = facts(capsys.readouterr().out)["selected tokens"]
        assert selected == "0 0 0, the first of each input, as all weights are equal"

    def test_large_svm_is_left_to_its_own_command(self, tmp_path, capsys):
        path = tmp_path / "large.npz"
        attsvm.save(path, attsvm.datasets.unit_sphere(1001, 11, 3, rng=0))
        assert main(["train", str(path), "--steps", "2"]) == 0
        shown = facts(capsys.readouterr().out)
        assert "10010 constraints" in shown["SVM"]
        assert shown["selected tokens"].endswith("... (1001 in all)")
        assert shown["outcome"] == "local or neither, which the SVM decides"
        data = attsvm.load(path)
        best = attsvm.optimal_tokens(data)
        tokens = data.tokens[np.arange(data.n), best][:, np.newaxis].repeat(11, axis=1)
        arrays = {"queries": data.queries, "value": data.value}
        attsvm.save(path, attsvm.AttentionData(tokens, data.labels, **arrays))
        assert main(["train", str(path), "--steps", "2", "--overwrite"]) == 0
        assert facts(capsys.readouterr().out)["outcome"].startswith("global")

    def test_training_that_stays_at_zero_has_no_cosine(self, tmp_path, capsys):
        path = tmp_path / "equal.npz"
        attsvm.save(
            path,
            attsvm.AttentionData(
                np.ones((2, 3, 2)), [1, -1], queries=np.ones((2, 2)), value=[1, 0]
            ),
        )
        assert main(["train", str(path), "--steps", "5"]) == 0
        assert "infeasible" in facts(capsys.readouterr().out)["SVM"]

    def test_text_is_trained_on_and_compared_with_theory(self, tmp_path, capsys):
        path = tmp_path / "text"
        path.write_text("the cat sat on the mat and the dog sat on the cat. " * 6)
        words = ["--unit", "word", "--context", "7", "--rule", "gd", "--lr", "1", "--steps", "5000"]
        out = tmp_path / "result.npz"
        assert main(["train", "--text", str(path), "--out", str(out), "--quiet", *words]) == 0
        data = attsvm.datasets.text(path, unit="word", context=7)
        seen = data.subset(np.arange(data.n) < round(0.9 * data.n))
        run = attsvm.train(seen, rule="gd", lr=1.0, steps=5000)
        with np.load(out, allow_pickle=False) as file:
            assert file["W"] == pytest.approx(run.W, abs=1e-10)
            assert file["svm"] == pytest.approx(attsvm.graph_svm(seen).W, abs=1e-12)
            assert np.array_equal(file["finite_part"], attsvm.finite_part(seen))
            assert file["vocabulary"].tolist() == data.vocabulary.tolist()
        shown = facts(capsys.readouterr().out)
        assert (
            shown["text"] == f"{path}: 8 different words, {data.n} contexts of 7 with their label"
        )
        cosine = attsvm.cosine(run.W, attsvm.graph_svm(seen).W)
        assert float(shown["cosine with Graph-SVM"]) == pytest.approx(cosine, abs=1e-6)
        assert shown["automaton, held out"].startswith("same next token as the layer in 100.00 %")

    def test_graphs_of_a_text_are_drawn_and_listed(self, tmp_path, capsys):
        pytest.importorskip("matplotlib")
        path = tmp_path / "text"
        path.write_text("abcabcaabbcc" * 3)
        words = ["--context", "4", "--steps", "5", "--held-out", "0"]
        assert main(["train", "--text", str(path), "--graphs", str(tmp_path / "g"), *words]) == 0
        graphs = [tmp_path / "g" / f"last-{k}.png" for k in range(3)]
        assert {*(tmp_path / "g").iterdir()} == {*graphs}
        first, *others = facts(capsys.readouterr().out)["written"].split(", ")
        assert first == "text-run-W-ngd-lr0.1-5-context4-held-out0.npz"
        assert {*others} == {str(each) for each in graphs}

    def test_solutions_of_other_tokens_have_files_of_other_names(self, problem, tmp_path):
        path = tmp_path / "many.npz"
        attsvm.save(path, attsvm.datasets.unit_sphere(30, 2, 40, rng=0))
        for tokens in ("1,0,3", "optimal"):
            assert main(["svm", str(problem), "--selected", tokens]) == 0
        for tokens in (["0"] * 30, ["1"] * 30):
            assert main(["svm", str(path), "--selected", ",".join(tokens)]) == 0
        written = {one.name for one in Path().glob("*-svm*.npz")}
        start = problem.stem
        assert {f"{start}-att-svm-tokens-1-0-3.npz", f"{start}-att-svm.npz"} < written
        assert len(written) == 4

    def test_problem_of_a_batch_is_chosen_by_its_index(self, tmp_path, capsys):
        path = tmp_path / "batch.npz"
        batch = attsvm.datasets.unit_sphere(3, 4, 6, batch=5, rng=0)
        attsvm.save(path, batch)
        assert main(["svm", str(path), "--index", "2"]) == 0
        with np.load("batch-2-att-svm.npz", allow_pickle=False) as file:
            expected = att_svm(batch.problem(2), attsvm.optimal_tokens(batch.problem(2)))
            assert np.array_equal(file["W"], expected.W)
        capsys.readouterr()
        for words in ([], ["--index", "5"], ["--index", "-1"]):
            assert main(["svm", str(path), *words]) == 2
            assert "--index" in capsys.readouterr().err


class TestSVM:
    @pytest.mark.parametrize(
        ("kind", "name", "solve"),
        [("att", "W", att_svm), ("prompt", "p", prompt_svm), ("label", "v", label_svm)],
    )
    def test_svm_writes_the_certified_solution(self, problem, capsys, kind, name, solve):
        assert main(["svm", str(problem), "--selected", "1,0,3", "--problem", kind]) == 0
        solution = solve(attsvm.load(problem), [1, 0, 3])
        assert solution.feasible
        with np.load(f"problem-{kind}-svm-tokens-1-0-3.npz", allow_pickle=False) as file:
            assert np.array_equal(file[name], getattr(solution, name))
            assert file["selected"].tolist() == [1, 0, 3]
            assert np.array_equal(file["dual"], solution.dual)
            assert np.array_equal(file["margins"], solution.margins)
            assert np.array_equal(file["support"], solution.support)
            assert file["norm"] == solution.norm
            assert file["gap"] == solution.gap < 1e-9
            assert file["kkt"] == solution.kkt < 1e-9
            assert str(file["status"]) == "optimal"
            assert set(file.files) - {name} == set(file.files) - {"W", "p", "v"}
        shown = facts(capsys.readouterr().out)
        assert shown["status"] == "optimal"
        assert float(shown["norm"]) == pytest.approx(solution.norm, rel=1e-8)
        constraints = 3 if kind == "label" else 9
        assert shown["active constraints"] == f"{solution.support.sum()} of {constraints}"

    def test_svm_of_the_tokens_of_a_run_is_compared_with_it(self, problem, capsys):
        assert main(["train", str(problem), "--out", "run.npz"]) == 0
        cosine = facts(capsys.readouterr().out)["cosine with its SVM"]
        assert main(["svm", str(problem), "--selected", "run.npz"]) == 0
        assert facts(capsys.readouterr().out)["cosine of the run"] == cosine
        np.save("array.npy", np.ones(3))
        assert main(["train", str(problem), "--rule", "spectral", "--out", "spectral.npz"]) == 0
        ratio = facts(capsys.readouterr().out)["margin ratio with its SVM"]
        with np.load("spectral.npz") as file:
            expected = attsvm.margin_ratio(
                attsvm.load(problem), file["W"], file["selected"], "spec"
            )
        assert float(ratio) == pytest.approx(expected, abs=1e-6)
        assert main(["svm", str(problem), "--run", "spectral.npz"]) == 0
        assert facts(capsys.readouterr().out)["margin ratio of the run"] == ratio
        assert main(["svm", str(problem), "--run", "run.npz", "--problem", "diagonal"]) == 0
        assert "margin ratio of the run" not in facts(capsys.readouterr().out)  # W is not diagonal
        for wrong in (str(problem), "array.npy"):
            assert main(["svm", str(problem), "--run", wrong, "--out", "o.npz"]) == 2
            assert f"{wrong}: expected the results of attsvm train" in capsys.readouterr().err

    def test_svm_of_the_nuclear_norm(self, problem, capsys):
        assert main(["svm", str(problem), "--selected", "1,0,3", "--norm", "nuc"]) == 0
        solution = att_svm(attsvm.load(problem), [1, 0, 3], norm="nuc")
        shown = facts(capsys.readouterr().out)
        assert float(shown["norm"]) == pytest.approx(solution.norm, rel=1e-8)

    def test_svm_of_any_norm(self, problem, capsys):
        for norm, unique in (("max", True), ("2.5", None)):
            assert main(["svm", str(problem), "--selected", "1,0,3", "--norm", norm]) == 0
            named = float(norm) if unique is None else norm
            solution = att_svm(attsvm.load(problem), [1, 0, 3], norm=named)
            shown = facts(capsys.readouterr().out)
            assert float(shown["norm"]) == pytest.approx(solution.norm, rel=1e-8)
            assert shown.get("unique") == (unique and "yes")
            name = norm if unique else "l2.5"
            with np.load(f"problem-att-{name}-svm-tokens-1-0-3.npz") as file:
                assert file["W"] == pytest.approx(solution.W)
        with pytest.raises(SystemExit):
            main(["svm", str(problem), "--norm", "0.5"])
        assert "'spec', 'cut' or a number p > 1, got 0.5" in capsys.readouterr().err

    def test_infeasible_is_a_result_with_its_proof(self, tmp_path, capsys):
        path = tmp_path / "hard.npz"
        data = attsvm.AttentionData(
            [[[1.0], [2.0]], [[1.0], [2.0]]], [1, 1], queries=[[1.0], [1.0]], value=[1.0]
        )
        attsvm.save(path, data)
        assert main(["svm", str(path), "--selected", "0,1"]) == 0
        assert facts(capsys.readouterr().out)["status"] == "infeasible"
        with np.load("hard-att-svm-tokens-0-1.npz", allow_pickle=False) as file:
            assert "W" not in file.files
            assert file["certificate"].shape == (2, 2)
            assert np.isinf(file["norm"])


def test_info_says_what_runs_here(capsys):
    assert main(["info"]) == 0
    shown = facts(capsys.readouterr().out)
    assert shown["attsvm"] == attsvm.__version__
    level, available = shown["instruction set"].split(" (available: ")
    assert level in available.rstrip(")").split(", ")
    assert int(shown["threads"].split(" (")[0]) >= 1
    assert shown["numpy"] == np.__version__
    assert {"python", "scipy", "osqp", "scikit-learn", "matplotlib", "platform"} <= set(shown)


def test_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"attsvm {attsvm.__version__}\n"


@pytest.mark.parametrize("command", ["study", "train", "svm", "reproduce"])
def test_options_of_running_are_those_of_every_long_command(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    (running,) = re.findall(r"^running:\n((?:  .*\n)+)", capsys.readouterr().out, re.MULTILINE)
    assert re.findall(r"--\w+", running) == ["--threads", "--quiet"]


@pytest.mark.parametrize("words", [[], ["study"], ["train"], ["svm"], ["info"]], ids=" ".join)
def test_every_command_explains_itself(words, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--help"])
    shown = capsys.readouterr().out
    assert shown.startswith(" ".join(["usage: attsvm", *words]))
    assert "None" not in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: COMMAND"),
        (["fly"], "COMMAND: expected one of study, report, train, svm, reproduce, info, got 'fly'"),
        (["trian"], r"got 'trian'; did you mean 'train'\?"),
        (["study"], "one of the arguments STUDY --list is required"),
        (
            ["study", "overparm"],
            "expected a TOML file, an .npz file of problems or one of geometries, label-noise, "
            r"overparam, overparam-digits; there is no such file; did you mean 'overparam'\?",
        ),
        (
            ["study", "overparam", "--set", "problems=0"],
            "attsvm: error: --set problems=0: problems: exp",
        ),
        (["study", "{text}"], "expected TOML"),
        (["study", "{directory}"], "or one of .*; that is a directory"),
        (["reproduce", "rank", "--threads", "0"], "^attsvm: error: --threads: expected a positive"),
        (["study", "overparam", "--set", "d"], "--set: expected FIELD=VALUE, got 'd'"),
        (["study", "overparam", "--set", "d=3,x"], "d: expected a positive integer, got 'x'"),
        (["study", "overparam", "--set", "d=3,-1"], "d: expected a positive integer, got -1"),
        (
            ["study", "overparam", "--set", "steps=-5"],
            "error: --set steps=-5: steps: expected a positive integer",
        ),
        (["study", "overparam", "--set", "lr=nan"], "lr: expected"),
        (["study", "overparam", "--set", "seed=-1"], "seed: expected a non-negative integer"),
        (["study", "overparam", "--set", "data=words"], "data: expected one of 'sphere', "),
        (
            ["study", "{file}", "--set", "data="],
            "n, T, d, problems: .* for data 'sphere', got none",
        ),
        (["study", "overparam", "--set", "step=5"], "did you mean 'steps'"),
        (["study", "geometries", "--set", "rules={}"], "--set 'rules={}': rules: expected tables"),
        (["study", "overparam", "--threads", "0"], "error: --threads: expected a positive integer"),
        (["study", "overparam", "--workers", "0"], "error: --workers: expected a positive integer"),
        (["study", "overparam", "--workers", "1", "--scheduler", "x"], "not allowed with"),
        (["study", "overparam", "--lr", "5"], "--lr 5; --set lr=VALUE changes a field of"),
        (["study", "overparam", "--step", "5"], "error: .*: --step 5 .see 'attsvm study --help'"),
        (["study", "overparam", "--out", "{file}"], "--out: expected a directory, got the file"),
        (["reproduce", "rank", "--out", "{file}"], "--out: expected a directory, got the file"),
        (["train", "--text", "{abc}", "--graphs", "{file}"], "--graphs: expected a directory"),
        (["study", "overparam", "--out", "{file}/below"], "Not a directory"),
        (["train"], "one of the arguments FILE.npz --text is required"),
        (["train", "{no file}"], "No such file or directory"),
        (["train", "{directory}"], "Is a directory"),
        (["train", "{text}"], "expected an .npz file"),
        (["train", "{unlabelled}"], "labels"),
        (["train", "{file}", "--steps", "-1"], "error: --steps: expected a non-negative integer"),
        (["train", "{file}", "--lr=0"], "error: --lr: expected a positive number"),
        (["train", "{file}", "--record-every", "0"], "--record-every: expected a positive"),
        (["train", "{file}", "--out", "{file}"], "is the problem itself"),
        (["train", "{file}", "--out", "{directory}/none/x.npz"], "--out: expected an existing dir"),
        (["svm", "{file}", "--out", "{directory}"], "--out: expected a file, got the directory"),
        (["train", "{file}", "--out", "x.txt"], "--out: .* path of a .npz file, got 'x.txt'"),
        (["svm", "{no file}", "--out", "x.npy"], "--out: .* path of a .npz file, got 'x.npy'"),
        (["train", "{file}", "--out", "x/"], "--out: .* path of a .npz file, got 'x/'"),
        (["train", "{file}", "--out", "x."], "--out: .* path of a .npz file, got 'x.'"),
        (["report", "{directory}", "--out", "x.pdf"], "--out: .* a .html file, got 'x.pdf'"),
        (["train", "{file}", "--index", "0"], "--index: .* holds a single problem, got 0$"),
        (["train", "{file}", "--rule", "ndg"], r"error: --rule: .*, got 'ndg'; .* 'ngd'\?"),
        (["train", "{file}", "--steps", "1e3"], "--steps: expected an integer, got '1e3'"),
        (["train", "{file}", "--lr", "fast"], "--lr: expected a number, got 'fast'"),
        (["train", "{file}", "--value", "none.npy"], "--value: none.npy: No such file"),
        (["train", "{file}", "--loss", "log"], r"value: .* or more with the log loss, got -"),
        (["train", "{file}", "--init", "uniform", "--seed", "-1"], "--seed: expected a non-neg"),
        (["train", "{file}", "--norm", "cut"], "error: --norm: .* 'nuc' or .*, got 'cut'"),
        (["train", "{file}", "--rule", "adam", "--momentum", "0.5"], "--momentum: .*'adam', got"),
        (["svm", "{file}", "--norm", "frobenius"], r"got 'frobenius'; did you mean 'fro'\?"),
        (["train", "{file}", "--value", "1,x"], "--value: expected a .npy file or numbers"),
        (["train", "{file}", "--value", "1,2"], "error: --value: expected shape"),
        (["train", "{file}", "--seed", "-1"], "--seed: expected"),
        (["train", "{file}", "--parameter", "Wp"], "--prompt: needed for --parameter Wp"),
        (["train", "{file}", "--prompt", "1,2"], "--prompt: expected none with --parameter W$"),
        (["train", "--text", "{text}", "--prompt", "1,2"], "--prompt: expected none for text"),
        (
            ["train", "{file}", "--parameter", "v+Wp", "--prompt", "1,2"],
            r"--prompt: expected shape \(d,\) = ",
        ),
        (["train", "{file}", "--unit", "word"], "--unit: expected none without --text, got word"),
        (["train", "{file}", "--held-out", "0"], "--held-out: expected none without --text, got 0"),
        (["train", "--text", "{text}", "--seed", "3"], "--seed: expected none for text"),
        (["train", "--text", "{text}", "--test", "{file}"], "--test: expected none for text"),
        (["train", "--text", "{text}", "--value", "1,2"], "--value: expected none for text"),
        (["train", "{file}", "--test", "{batch}"], "--test: .*: expected .*, got a batch of"),
        (["train", "{file}", "--text", "{text}"], "not allowed with argument"),
        (["train", "--text", "{no file}"], "No such file or directory"),
        (["train", "--text", "{file}"], r"expected UTF-8 text, got byte 0x[0-9a-f]{2} at \d+$"),
        (["train", "--text", "{text}", "--parameter", "p"], "--parameter: expected W for text"),
        (["train", "--text", "{text}", "--loss", "logistic"], "--loss: expected log for text"),
        (["train", "--text", "{text}", "--index", "0"], "--index: expected none for text"),
        (["train", "--text", "{text}", "--context", "0"], "error: --context: expected a positive"),
        (["train", "--text", "{text}"], "/text: expected text of more than 16 characters"),
        (["svm", "{file}", "--selected", "1,0"], "error: --selected: expected shape"),
        (["svm", "{file}", "--selected", "1,0,9"], "error: --selected: expected "),
        (["svm", "{file}", "--selected", "best"], "--selected: expected integers"),
        (["svm", "{no value}"], "--selected: needed for a problem without a value"),
        (["svm", "{no value}", "--selected", "optimal"], "--selected: expected a token of every "),
        (["study", "--list", "--print"], "--print: expected none with --list$"),
        (["study", "--list", "--set", "d=3"], "--set: expected none with --list$"),
        (["study", "--list", "--format", "png"], "--format: expected none with --list$"),
        (["study", "overparam", "--print", "--out", "x"], "--out: expected none with .*, got x$"),
        (["study", "overparam", "--print", "--quiet"], "--quiet: expected none with --print$"),
        (["reproduce", "--list", "--quick"], "--quick: expected none with --list$"),
        (["reproduce", "--list", "--out", "x"], "--out: expected none with --list, got x$"),
        (["train", "{file}", "--format", "pdf"], "--format: expected none without --text$"),
        (["train", "--text", "{text}", "--format", "pdf"], "--format: .* without --graphs$"),
        (["train", "{file}", "--rule", "polyak", "--lr", "1"], "--lr: .* polyak, got 1.0$"),
        (
            ["train", "{file}", "--seed", "3"],
            "--seed: .* where the start of W is not drawn, got 3$",
        ),
        (
            ["train", "{file}", "--parameter", "KQ", "--init", "unbalanced", "--seed", "3"],
            "--seed: expected none where the start of KQ is not drawn, got 3$",
        ),
        (
            ["study", "{file}", "--set", "measure=selected", "--format", "pdf"],
            "--format: expected none where nothing is drawn: ",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistake_is_answered_by_one_line_and_status_2(words, message, problem, tmp_path, capsys):
    data = attsvm.load(problem)
    (tmp_path / "text").write_text("not an archive")
    (tmp_path / "abc").write_text("abcabcaabbcc" * 3)
    np.savez(tmp_path / "unlabelled.npz", tokens=data.tokens)
    attsvm.save(
        tmp_path / "b.npz", attsvm.AttentionData(data.tokens, data.labels, queries=data.queries)
    )
    attsvm.save(tmp_path / "c.npz", data.batched())
    places = {
        "file": problem,
        "batch": tmp_path / "c.npz",
        "no file": tmp_path / "none.npz",
        "directory": tmp_path,
        "text": tmp_path / "text",
        "abc": tmp_path / "abc",
        "unlabelled": tmp_path / "unlabelled.npz",
        "no value": tmp_path / "b.npz",
    }
    for name, place in places.items():
        words = [word.replace(f"{{{name}}}", str(place)) for word in words]
    try:
        status = main(words)
    except SystemExit as stop:  # argparse stops by itself
        status = stop.code
    shown = capsys.readouterr()
    assert status == 2
    assert shown.out == ""
    assert shown.err.startswith("attsvm: error: ")
    assert shown.err.count("\n") == 1
    assert re.search(message, shown.err)


def test_overflow_is_a_failure_of_the_run_not_of_its_input(tmp_path, capsys):
    path = tmp_path / "steep.npz"
    attsvm.save(path, attsvm.datasets.unit_sphere(4, 5, 2, rng=1))
    assert main(["train", str(path), "--rule", "polyak", "--steps", "2000"]) == 1
    assert "overflowed" in capsys.readouterr().err
    assert not (tmp_path / "steep-run.npz").exists()


class TestStreams:
    """Nothing that was computed is lost over how it can be shown."""

    @pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-", "</dev/null"])
    def test_closed_streams_are_no_obstacle(self, tmp_path, redirection):
        study = QUICK_STUDY if redirection == ">&- 2>&-" else WITHOUT_FIGURE
        words = shlex.join(command(*study, "--out", tmp_path))
        done = subprocess.run(f"{words} {redirection}", shell=True, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert (tmp_path / "table.csv").exists()

    def test_a_stream_without_isatty_is_no_terminal(self, tmp_path, monkeypatch):
        written = []
        monkeypatch.setattr(sys, "stdout", SimpleNamespace(write=written.append, flush=bool))
        assert main([*WITHOUT_FIGURE, "--out", str(tmp_path)]) == 0
        assert "feasible %" in "".join(written)

    def test_characters_that_cannot_be_shown_are_escaped(self, tmp_path):
        title = "α \x1b[31mred \u2028"
        words = command(*WITHOUT_FIGURE, f"--set=title={title}", "--out", tmp_path)
        done = subprocess.run(
            words, capture_output=True, check=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}
        )
        assert done.stdout.startswith(rb"\u03b1 \x1b[31mred \u2028" + b"\n")

    @pytest.mark.parametrize("backend", ["nonsense", "module://matplotlib_inline.backend_inline"])
    def test_the_figure_needs_no_backend(self, tmp_path, backend):
        pytest.importorskip("matplotlib")
        (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")
        words = command(*QUICK_STUDY, "--out", "out")
        environment = {**os.environ, "MPLBACKEND": backend}
        subprocess.run(words, check=True, cwd=tmp_path, env=environment)
        assert (tmp_path / "out" / "figure.png").exists()

    def test_a_warning_is_one_line(self, tmp_path, capsys):
        assert main([*QUICK_STUDY, "--out", str(tmp_path)]) == 0
        (damaged,) = (tmp_path / "results.zarr" / "cosine").glob("0.0.0.*")
        damaged.unlink()
        capsys.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            assert main([*QUICK_STUDY, "--out", str(tmp_path)]) == 0
        error = f"attsvm: warning: {damaged}: missing; n=3, T=4, d=3 is computed again\n"
        assert capsys.readouterr().err == error


def test_ctrl_c_is_answered_from_the_first_word_on(monkeypatch, capsys):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", interrupted)
    assert main(["info"]) == 130
    assert capsys.readouterr().err == "attsvm: stopped\n"


def test_traceback_is_shown_when_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError):
        main(["--traceback", "train", str(tmp_path / "none.npz")])


def test_module_runs_as_a_program():
    done = subprocess.run(command("info"), capture_output=True, text=True, check=True)
    assert facts(done.stdout)["attsvm"] == attsvm.__version__


def test_reader_that_leaves_early_gets_no_traceback():
    with subprocess.Popen(
        command("info"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


@pytest.mark.parametrize("command", ["study", "reproduce", "train"])
def test_help_says_a_default_once(capsys, command):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "between (default: png) --" in shown
    assert "(default: ngd, normalised steps) (default" not in shown
