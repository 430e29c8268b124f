"""Studies as declarations: what is refused, which problems are drawn, and what is measured."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

import attsvm
from attsvm import StepRule, classify, cosine, optimal_tokens, train
from attsvm.studies import MEASUREMENTS, OUTCOMES, Study, compute, describe, run, tabulate
from attsvm.studies.compute import measure_cell
from attsvm.studies.declarations import read_toml
from attsvm.studies.measurements import measurable
from attsvm.studies.problems import draw, start_of_factors
from attsvm.studies.solved_svms import SolvedSVMs
from attsvm.studies.study import OverrideError
from attsvm.svm import SolverError, att_svm, prompt_svm

EVERY = measurable(MEASUREMENTS, ["W", "p"], {"value", "queries"})
SMALL = Study(n=3, T=4, d=(2, 5), problems=10, steps=60, measure=EVERY)


def cell_of(study: Study, **axes):
    (cell,) = (cell for cell in study.cells if axes.items() <= cell.axes.items())
    return cell


class TestDeclaration:
    def test_a_field_of_several_values_is_an_axis_and_cells_are_their_combinations(self):
        study = evolve(SMALL, loss=["logistic", "exponential"], lr=0.2)
        assert study.axes == {"d": (2, 5), "loss": ("logistic", "exponential")}
        assert [cell.name for cell in study.cells] == [
            "d=2, loss=logistic",
            "d=2, loss=exponential",
            "d=5, loss=logistic",
            "d=5, loss=exponential",
        ]
        assert study.cells[2].index == (1, 0)
        assert study.cells[2].settings["d"] == 5
        assert study.cells[2].settings["lr"] == 0.2

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"n": ()}, "n: expected one or more different values"),
            ({"d": (3, 3)}, "d: expected one or more different values"),
            ({"d": (0,)}, "d: .*positive"),
            ({"d": None}, "d: expected numbers for data 'sphere', got none"),
            ({"T": (5, 1)}, "T: expected two tokens or more"),
            ({"problems": 0}, "problems: .*positive"),
            ({"problems": None}, "problems: expected numbers for data 'sphere', got none"),
            ({"steps": 0}, "steps: .*positive"),
            ({"steps": (5, 6)}, "steps: expected one value"),
            ({"steps": 10**30}, r"steps: expected an integer below 2\*\*63"),
            ({"lr": 0.0}, "lr: .*positive"),
            ({"lr": math.nan}, "lr: .*number"),
            ({"momentum": 1.0}, r"momentum: expected a number in \[0, 1\)"),
            (
                {"momentum": 0.5, "rule": "adam"},
                "momentum: expected no value for kind='adam', got 0.5",
            ),
            ({"rule": "newton"}, "rule: expected one of 'gd', .*, got 'newton'"),
            ({"rules": {"a": {"kind": "sign"}}, "rule": "b"}, "rule: expected one of 'a', 'gd', "),
            ({"rules": {"a": {}}, "rule": "a"}, "rules.a: kind: expected one of 'gd', .* got 'a'"),
            ({"rules": {"sign": {"rate": 1}}}, "rules.sign: expected one of 'lr', 'kind', .* got"),
            ({"rules": {"ngd": {"lr": 0.1}}}, r"lr: expected none where rules.ngd states it"),
            (
                {"rule": "polyak", "lr": (0.1, 1)},
                r"lr: expected none where no step takes a rate, got \[0.1, 1.0\]",
            ),
            ({"rule": "polyak", "lr": 0.1}, "lr: expected none where .* rate, got 0.1"),
            ({"rule": "polyak", "lr": None, "lr_factor": 2}, "lr_factor: expected none where .* 2"),
            (
                {"rules": {"a": {"kind": "adam", "norm": 3}}, "rule": "a"},
                "rules.a: norm: expected no value for kind='adam', got 3",
            ),
            (
                {"rules": {"a": {"kind": "polyak", "lr": 2}}, "rule": "a", "lr": None},
                "rules.a: lr: expected none for kind='polyak', got 2.0",
            ),
            (
                {"init": "unbalanced"},
                "init: expected none where nothing starts at random, got 'unb",
            ),
            ({"test": 50}, "test: expected none where data have no test, got 50"),
            ({"lr": 10.0, "weight_decay": 0.2}, r"weight_decay: expected at most 0.1 \(1/lr\)"),
            ({"lr_factor": 0.0}, "lr_factor: .*positive"),
            (
                {"parameter": "p", "measure": ("W",)},
                "'W' needs .*, got p; choose of .*history, p .where",
            ),
            ({"norms": ("fro", 1)}, "norms: expected one of 'fro', .* or a number p > 1, got 1"),
            ({"norms": ("fro", 2)}, "norms: expected different norms, got .'fro', 'fro'."),
            ({"norm": ("fro", "nuc")}, "norm: expected one value where SVMs in all `norms`"),
            ({"seed": -1}, "seed: .*non-negative"),
            ({"seed": (0, -1)}, "seed: .*non-negative"),
            ({"seed": 2**64}, r"seed: expected an integer below 2\*\*64, got 18446744073709551616"),
            ({"seed": (0, 2**64)}, r"seed: expected an integer below 2\*\*64"),
            ({"parameter": "Q"}, "parameter: expected one of"),
            ({"parameter": ("v", "Wp")}, r"parameter: expected one of 'W', .*, got 'v\+Wp'"),
            (
                {"parameter": ("W", "p"), "measure": ("W",)},
                r"measure: 'W' needs .* \(where .*parameter=p",
            ),
            ({"parameter": "p", "norm": "nuc"}, "norm: expected 'auto' or 'fro'"),
            ({"data": "words"}, "data: expected one of 'sphere', .* or an .npz file, got 'words'"),
            ({"attention": "soft"}, "attention: expected one of"),
            ({"noise": 0.1}, "noise: expected none for data 'sphere', got 0.1"),
            ({"data": "digits", "T": 5}, "T: expected 4, 9 or 25"),
            ({"data": "digits", "T": 9, "attention": "self"}, "attention: expected none for"),
            ({"data": "near_orthogonal", "d": 1}, "d: expected more than 1"),
            (
                {"data": "gaussian_classes", "parameter": "v+W", "measure": ("feasible",)},
                "measure: 'feasible' needs data with a value",
            ),
            ({"measure": ("cosines",)}, "measure: expected one of 'selected', "),
            ({"measure": ("cosine", "cosine")}, "measure: expected different names"),
            ({"name": "a/b"}, "name: expected a name for a directory"),
            ({"title": "\ud800"}, "title: expected Unicode text, got '.ud800'"),
        ],
    )
    def test_what_makes_no_study_is_refused(self, settings, message):
        with pytest.raises(ValueError, match=message):
            evolve(SMALL, **settings)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"n": 2.5}, "n: expected a positive integer, got 2.5"),
            ({"parameter": 3}, "parameter: expected one of .*, got 3"),
            ({"d": ("2",)}, "d: expected a positive integer, got '2'"),
            ({"lr": "fast"}, "lr: expected a positive number"),
            ({"d": ([2, 3],)}, r"d: expected a positive integer, got \[2, 3\]"),
            ({"title": 3}, "title: expected text, got 3"),
            ({"measure": "cosine"}, "measure: expected a list of names"),
            ({"norms": "fro"}, "norms: expected a list of norms, got 'fro'"),
            ({"rules": "sign"}, "rules: expected tables of settings by name, got 'sign'"),
            ({"rules": {}}, "rules: expected tables of settings by name, got {}"),
            ({"rules": {"sign": 0.1}}, "rules.sign: expected a table of settings, got 0.1"),
        ],
    )
    def test_the_wrong_kind_of_value_is_refused(self, settings, message):
        with pytest.raises(TypeError, match=message):
            evolve(SMALL, **settings)

    def test_digits_that_make_no_problem_are_refused(self):
        pytest.importorskip("sklearn")
        study = evolve(SMALL, data="digits", T=9)
        with pytest.raises(ValueError, match="classes: expected two different digits"):
            evolve(study, classes=(3, 3))
        with pytest.raises(ValueError, match="n: expected at most"):
            evolve(study, n=(5, 5000))

    @pytest.mark.parametrize(
        ("settings", "measured"),
        [
            ({"parameter": "W"}, ("selected", "outcome", "cosine")),
            ({"parameter": "p"}, ("selected", "outcome", "cosine")),
            ({"parameter": "KQ"}, ("selected", "outcome", "cosine")),
            ({"parameter": "v+W"}, ("selected", "outcome", "cosine")),
            ({"parameter": ("W", "v+p")}, ("selected", "outcome", "cosine")),
            ({"parameter": "v+p", "data": "gaussian_classes"}, ("selected", "outcome", "cosine")),
        ],
    )
    def test_what_can_be_measured_of_every_cell_is_by_default(self, settings, measured):
        study = Study(n=3, T=4, d=5, problems=2, steps=9, **settings)
        assert study.measure == measured
        assert {"selected", "cosine"} <= set(measure_cell(study, study.cells[0], range(2)))

    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            (("v", "W"), "v+W"),
            (["v", "p"], "v+p"),
            ((("v", "W"), "v+p", "W"), ("v+W", "v+p", "W")),
        ],
    )
    def test_a_trained_head_is_written_as_train_has_it_or_in_one_word(self, given, kept, tmp_path):
        study = Study(n=3, T=4, d=5, problems=2, steps=9, parameter=given)
        assert study.parameter == kept
        written = study.toml.replace('"v+W"', '["v", "W"]').replace('"v+p"', '["v", "p"]')
        (tmp_path / "study.toml").write_text(written)
        assert Study.load(tmp_path / "study.toml").settings == study.settings

    def test_rules_with_settings_are_an_axis_of_their_names(self):
        rules = {"sign": {"lr": 0.02}, "by rows": {"kind": "ngd", "norm": 3, "momentum": 0.5}}
        study = Study(n=3, T=4, d=5, problems=2, rules=rules, lr_factor=(1.0, 2.0))
        assert study.axes == {"rule": ("sign", "by rows"), "lr_factor": (1.0, 2.0)}
        steps = [(cell.settings["step_rule"], cell.settings["lr"]) for cell in study.cells]
        in_l3 = StepRule("ngd", norm=3, momentum=0.5)
        assert steps == [
            *((StepRule("sign"), lr) for lr in (0.02, 0.04)),
            *((in_l3, lr) for lr in (0.1, 0.2)),
        ]

    def test_fields_of_step_rules_are_axes_and_by_default_those_of_the_rule(self):
        decays = evolve(SMALL, d=2, weight_decay=(0.1, 0.3), decay=0.5, rule="sign")
        assert [cell.settings["step_rule"] for cell in decays.cells] == [
            StepRule("sign", weight_decay=x, decay=0.5) for x in (0.1, 0.3)
        ]
        assert evolve(SMALL, rule="adamw").cells[0].settings["step_rule"] == StepRule("adamw")

    def test_numbers_of_numpy_are_those_of_python(self):
        sizes = {"n": np.int64(3), "T": np.int64(4), "d": np.arange(2, 4)}
        of_numpy = Study(**sizes, problems=np.int64(5), steps=np.int64(60))
        assert of_numpy.toml == Study(n=3, T=4, d=(2, 3), problems=5, steps=60).toml


class TestFile:
    def test_toml_is_read_back_as_it_was_written(self, tmp_path):
        rules = {
            "by rows": {"kind": "ngd", "norm": 3, "nesterov": True, "momentum": 0.5},
            "adam": {"betas": (0.5, 0.9), "lr": 1e-3},
            "KQ": {"kind": "gd", "norm": {"K": 3}},
        }
        for study in (
            SMALL,
            evolve(SMALL, name="named", title='é "\\', lr=(0.1, 1e-05), seed=7),
            Study(name="rules", n=3, T=4, d=5, problems=2, rules=rules, rule=("by rows", "adam")),
        ):
            path = tmp_path / f"{study.name}.toml"
            path.write_text(study.toml, encoding="utf-8")
            assert Study.load(path).settings == study.settings

    @given(st.text(st.characters(exclude_categories=("Cs",))))
    def test_any_title_survives(self, title):
        assert read_toml(evolve(SMALL, title=title).toml)["title"] == title

    def test_a_byte_order_mark_is_no_part_of_the_declaration(self, tmp_path):
        path = tmp_path / "mine.toml"
        path.write_text(SMALL.toml, encoding="utf-8-sig")
        assert Study.load(path).settings == SMALL.settings
        path.write_text(SMALL.toml, encoding="utf-16")
        with pytest.raises(ValueError, match=r"mine\.toml: expected TOML in UTF-8"):
            Study.load(path)

    @pytest.mark.parametrize(
        ("file", "name"), [("UPPER.NPZ", "UPPER"), (".hidden.npz", "hidden"), (b"\xff.npz", "\xff")]
    )
    def test_problems_have_files_of_any_name(self, tmp_path, file, name):
        path = tmp_path / os.fsdecode(file)
        attsvm.save(path, attsvm.datasets.unit_sphere(3, 4, 5, rng=0))
        study = Study.load(path, {"steps": 20} if file != b"\xff.npz" else {"name": name})
        assert study.name == name
        results = run(study, tmp_path / "out", progress=False)
        assert Study.from_results(results).settings == study.settings
        assert tabulate(study, results).rows

    @pytest.mark.parametrize("rule", ["polyak", ("polyak",)])
    def test_polyak_results_of_version_0_1_0_are_read_without_the_default_rate(
        self, tmp_path, rule
    ):
        results = run(evolve(SMALL, rule=rule, lr=None, steps=5), tmp_path, progress=False)
        table, declaration = tabulate(results).csv(), results.attrs["declaration"]
        results.attrs["declaration"] = f"{declaration}lr = 0.1\n"
        assert tabulate(results).csv() == table
        results.attrs["declaration"] = f"{declaration}lr = 0.2\n"
        with pytest.raises(ValueError, match="lr: expected none where no step takes a rate"):
            tabulate(results)

    def test_a_file_of_problems_that_is_a_pipe_is_refused(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path / "pipe", "/dev/zero"):
            with pytest.raises(ValueError, match="expected a file, got a device or a pipe"):
                evolve(SMALL, data=str(path), n=None, T=None, d=None, problems=None)

    def test_name_is_that_of_the_file_unless_it_says_one(self, tmp_path):
        path = tmp_path / "mine.toml"
        path.write_text("n = 3\nT = 4\nd = 5\nproblems = 2\n")
        assert Study.load(path).name == "mine"
        assert Study.load(path, {"name": "other"}).name == "other"

    def test_rules_of_a_file_are_chosen_and_replaced(self, tmp_path):
        (tmp_path / "mine.toml").write_text(
            "n = 3\nT = 4\nd = 5\nproblems = 2\n[rules]\nsign = { lr = 0.2 }\nmuon = {}\n"
        )
        assert Study.load(tmp_path / "mine.toml").axes == {"rule": ("sign", "muon")}
        assert Study.load(tmp_path / "mine.toml", {"rule": "muon"}).axes == {"rule": ("muon",)}
        other = Study.load(tmp_path / "mine.toml", {"rules": {"lion": {}}, "lr": 0.3})
        assert other.axes == {"rule": ("lion",)}
        assert other.cells[0].settings["lr"] == 0.3
        with pytest.raises(OverrideError, match=r"lr: expected none where rules\.sign states it"):
            Study.load(tmp_path / "mine.toml", {"lr": 0.3})
        for rules, reason in (({}, "expected tables"), ({1: {}}, "expected text, got 1")):
            with pytest.raises(OverrideError, match=f"^overrides .rules.: rules: {reason}"):
                Study.load(tmp_path / "mine.toml", {"rules": rules})
        with pytest.raises(TypeError, match=r"^overrides: expected names as keys, got 1$"):
            Study.load(tmp_path / "mine.toml", {1: 2})
        with pytest.raises(TypeError, match=r"^overrides: expected a dict, got list$"):
            Study.load(tmp_path / "mine.toml", ["d"])
        with pytest.raises(
            TypeError, match=r"^source: expected a str or a path-like, got NoneType$"
        ):
            Study.load(None)

    def test_one_value_for_an_axis_leaves_it_an_axis(self):
        assert Study.load("overparam", {"d": 3, "lr": 0.2}).axes["d"] == (3,)
        assert Study.load("overparam", {"d": 3, "lr": 0.2}).lr == 0.2

    def test_no_value_takes_back_what_is_declared(self, tmp_path):
        text = "n = 3\nT = 4\nd = [5, 6]\nproblems = 2\nlr = 0.3\nsteps = 7\nattention = 'self'"
        (tmp_path / "mine.toml").write_text(text)
        changes = {"lr": None, "steps": None, "attention": None, "rule": "polyak"}
        study = Study.load(tmp_path / "mine.toml", changes)
        assert (study.lr, study.steps, study.settings["attention"]) == (None, 1000, "cross")
        with pytest.raises(OverrideError, match=r"^overrides \(rule\): lr: expected none where no"):
            Study.load(tmp_path / "mine.toml", {"rule": "polyak"})
        with pytest.raises(
            OverrideError,
            match=r"^overrides \(d\): d: expected numbers for data 'sphere', got none",
        ):
            Study.load(tmp_path / "mine.toml", {"d": None})
        of_signals = {"data": "signal_noise", "parameter": "p", "attention": None}
        assert Study.load(tmp_path / "mine.toml", of_signals).data == "signal_noise"
        assert Study.load("overparam", {"rule": "polyak"}).lr is None
        assert Study.load("overparam").lr == 0.1

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("n = [", "mine.toml: expected TOML: "),
            ("stpes = 3", r"mine.toml: stpes: expected one of .*; did you mean 'steps'\?"),
            ("n = 3", "mine.toml: T, d, problems: expected numbers for data 'sphere', got none"),
            ("n = 0\nT = 4\nd = 5\nproblems = 2", "mine.toml: n: expected a positive integer"),
            (f"n = {'[' * 10**5}{']' * 10**5}", "mine.toml: expected TOML: "),
            (
                f"n = 3\nT = 4\nd = {[*range(1, 10**5 + 2)]}\nproblems = 1",
                "mine.toml: d: expected at most 100000 combinations of values, got 100001",
            ),
        ],
        ids=lambda text: text[:20],
    )
    def test_mistakes_name_the_file_and_the_field(self, tmp_path, text, message):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            Study.load(path)

    def test_built_in_studies_are_valid_and_say_what_they_are(self):
        geometries = Study.load("geometries")
        assert (geometries.name, len(geometries.cells)) == ("geometries", 11)
        assert geometries.title.startswith("Geometries")
        for name in ("overparam", "overparam-digits"):
            study = Study.load(name)
            assert study.name == name
            assert study.title.startswith("Over-parameterisation")
            assert [len(values) for values in study.axes.values()] == [1, 1, 10]
        assert Study.load("over-parameterisation") == Study.load("overparam")


class TestProblems:
    def test_problem_depends_on_seed_sizes_and_number_only(self):
        study = evolve(SMALL, n=(3,), T=(4,), d=(5,))
        whole = draw(study.cells[0].settings, range(10))
        assert np.array_equal(whole.tokens[7:], draw(study.cells[0].settings, range(7, 10)).tokens)
        wider = evolve(study, d=(5, 9), problems=20, steps=7, lr=(0.3, 0.4), parameter="p")
        again = draw(cell_of(wider, d=5, lr=0.4).settings, range(10))
        assert np.array_equal(whole.queries, again.queries)

    def test_problems_of_different_numbers_sizes_and_seeds_differ(self):
        settings = SMALL.cells[1].settings

        def value(problems=range(1), **changes):
            return tuple(draw({**settings, **changes}, problems).value.ravel())

        drawn = {value(), value(range(1, 2)), value(n=4), value(T=5), value(seed=1)}
        assert len(drawn) == 5

    def test_self_attention_queries_are_the_first_tokens(self):
        data = draw(evolve(SMALL, attention="self").cells[0].settings, range(2))
        assert np.array_equal(data.queries, data.tokens[:, :, 0])

    def test_digits_have_the_asked_number_of_patches_and_the_asked_classes(self):
        pytest.importorskip("sklearn")
        study = evolve(SMALL, n=5, d=6, data="digits", T=(4, 9, 25), classes=(0, 1))
        for T in study.T:
            data = draw(cell_of(study, T=T).settings, range(2))
            assert data.tokens.shape == (2, 5, T, 6)
        other = draw(cell_of(evolve(study, classes=(0, 7)), T=25).settings, range(2))
        assert not np.array_equal(data.tokens, other.tokens)

    def test_problems_of_a_file_are_those_of_the_file(self, tmp_path):
        data = attsvm.datasets.unit_sphere(3, 4, 5, batch=6, rng=0)
        attsvm.save(tmp_path / "mine.npz", data)
        study = Study(data=str(tmp_path / "mine.npz"), steps=60, measure=EVERY)
        assert (study.n, study.T, study.d, study.problems) == (3, 4, 5, 6)
        record = measure_cell(study, study.cells[0], range(2, 6))
        selected = train(data, steps=60).selected
        assert np.array_equal(record["selected"], selected[2:])
        with pytest.raises(ValueError, match="problems: expected at most the 6 of "):
            evolve(study, problems=7)
        with pytest.raises(ValueError, match="d: expected none or the 5 of the file"):
            evolve(study, d=4)
        with pytest.raises(ValueError, match=r"n, d: expected none or the 3, 5 .* got \[3\], 4"):
            evolve(study, n=[3], d=4)

    def test_without_queries_and_value_it_takes_first_tokens_and_trains_the_head(self, tmp_path):
        data = attsvm.datasets.unit_sphere(3, 4, 5, rng=0)
        data = attsvm.AttentionData(data.tokens, data.labels)
        attsvm.save(tmp_path / "mine.npz", data)
        study = Study.load(tmp_path / "mine.npz", {"parameter": ["W", "v+W", "p"], "steps": 30})
        assert study.parameter == ("v+W", "v+p")
        results = run(study, tmp_path / "out")
        for parameter in study.parameter:
            own = train(data.with_first_queries(), parameter=parameter, steps=30)
            assert results.selected.sel(parameter=parameter)[0].values.tolist() == [*own.selected]
        for declared in (study, Study.from_results(results)):
            words = "mine.npz; queries are the first tokens; v+W/v+p trained from zero by 30 "
            assert describe(declared).startswith(words)
        run(study, tmp_path / "out")
        usual = Study.load(tmp_path / "mine.npz")
        assert (usual.parameter, usual.takes_first_queries) == ("v+W", True)

    @pytest.mark.parametrize(
        ("left_out", "parameter"),
        [
            ((), "W"),
            (("queries",), "W"),
            (("value",), "v+W"),
            (("queries", "value"), "v+W"),
        ],
    )
    def test_a_file_of_problems_is_a_study_of_what_it_allows(self, left_out, parameter, tmp_path):
        data = attsvm.datasets.unit_sphere(3, 4, 5, batch=6, rng=0)
        names = [name for name in ("tokens", "labels", "queries", "value") if name not in left_out]
        np.savez(tmp_path / "mine.npz", **{name: getattr(data, name) for name in names})
        study = Study.load(tmp_path / "mine.npz", {"steps": 20})
        assert (study.name, study.parameter, study.problems) == ("mine", parameter, 6)
        assert set(measure_cell(study, study.cells[0], range(6))) >= {"selected", "cosine"}
        with pytest.raises(ValueError, match=r"^overrides \(parameter\): parameter: expected"):
            Study.load(tmp_path / "mine.npz", {"parameter": "w"})
        of_prompt = Study.load(tmp_path / "mine.npz", {"steps": 20, "parameter": "p"})
        assert not of_prompt.takes_first_queries
        of_results = Study.from_results(run(of_prompt, tmp_path / "out"))
        assert of_results.has == of_prompt.has
        assert {*of_results.has} == {"queries", "value"} - {*left_out}


class TestRecord:
    def test_an_error_names_the_batch_that_it_is_of(self, monkeypatch):
        """That is measured while the next one is trained."""
        study = evolve(SMALL, d=3, problems=24, steps=2000)
        monkeypatch.setattr(compute, "_MOST_PROBLEMS", 8)

        class Failing(SolvedSVMs):
            def solve(self, problems, numbers, *rest):
                if numbers.start == 8:
                    raise SolverError("not certified")
                return super().solve(problems, numbers, *rest)

        done: list[int] = []
        message = "^the only cell, counted from problem 8: not certified$"
        with pytest.raises(SolverError, match=message):
            measure_cell(study, study.cells[0], range(24), done=done.append, solved=Failing())
        assert done == [8]

    @pytest.mark.parametrize("parameter", ["W", "p"])
    @pytest.mark.parametrize("d", [2, 5])
    def test_record_is_what_training_and_the_svms_of_each_problem_give(self, parameter, d):
        study = evolve(SMALL, parameter=parameter, steps=300)
        cell = cell_of(study, d=d)
        record = measure_cell(study, cell, range(10))
        batch = draw(cell.settings, range(10))
        result = train(batch, parameter=parameter, steps=300, record_every=1)
        assert np.array_equal(record["selected"], result.selected)
        assert np.array_equal(record["optimal"], optimal_tokens(batch))
        assert np.array_equal(np.array(OUTCOMES)[record["outcome"]], classify(batch, result))
        recorded = list(study.recorded_steps)
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
                assert record["cosine_gap"][k] == pytest.approx(1 - expected, rel=1e-9)
            else:
                assert math.isnan(record["cosine"][k])
                assert math.isnan(record["cosine_gap"][k])

    @pytest.mark.parametrize("parameter", ["W", "p", "v+W"])
    def test_what_was_trained_and_its_way_to_the_svm_are_kept_where_asked(self, parameter):
        kept, steps = parameter.split("+"), (1, 7, 40)
        names = ("selected", "cosine", "cosine_history", *kept)
        study = evolve(SMALL, d=5, parameter=parameter, measure=names, record=steps, steps=40)
        record = measure_cell(study, study.cells[0], range(10))
        batch = draw(study.cells[0].settings, range(10))
        solve = prompt_svm if parameter == "p" else att_svm
        trained = tuple(kept) if len(kept) > 1 else parameter
        for k, data in enumerate(batch.problems()):
            svm = solve(data, record["selected"][k])
            reference = svm.p if parameter == "p" else svm.W
            references = {kept[-1]: reference} if len(kept) > 1 else reference
            run = train(data, parameter=trained, steps=40, record_every=steps, reference=references)
            name = "cosine_gap:W" if len(kept) > 1 else "cosine_gap"
            assert record["history_cosine_gap"][k] == pytest.approx(run.history[name], rel=1e-8)
            for block in kept:
                assert record[block][k] == pytest.approx(run.parameters[block], rel=1e-9, abs=1e-12)
        assert np.array_equal(record["history_cosine_gap"][:, -1], record["cosine_gap"])

    @pytest.mark.parametrize(
        ("parameter", "kept"), [("KQ", "W"), ("v+KQ", "W"), ("diagonal KQ", "W"), ("W+p", "p")]
    )
    def test_what_several_parameters_make_is_kept(self, parameter, kept):
        names = ("cosine", "cosine_history", kept)
        study = evolve(SMALL, d=5, parameter=parameter, measure=names, record=(1, 40), steps=40)
        record = measure_cell(study, study.cells[0], range(10))
        assert np.array_equal(
            record["history_cosine_gap"][:, -1], record["cosine_gap"], equal_nan=True
        )
        assert record[kept].shape == ((10, 5, 5) if kept == "W" else (10, 5))

    @pytest.mark.parametrize(
        ("steps", "message"),
        [
            ((5, 5), "record: expected increasing steps"),
            ((0, 61), "record: expected steps up to 60"),
            ((), "record: expected a list of steps"),
            ((-1, 3), "record: expected a non-negative integer"),
        ],
    )
    def test_steps_to_record_are_checked(self, steps, message):
        with pytest.raises((TypeError, ValueError), match=message):
            evolve(SMALL, record=steps)

    def test_the_gap_of_a_cosine_that_rounds_to_one_is_kept(self):
        """With a single constraint every step goes along the solution, but for rounding."""
        study = evolve(SMALL, n=1, T=2, d=6, problems=20, rule="gd", measure=("cosine",))
        record = measure_cell(study, study.cells[0], range(20))
        assert np.all(1 - record["cosine"] < 1e-15)
        assert np.all(record["cosine_gap"] < 1e-29)
        assert np.any(record["cosine_gap"] > 0)

    def test_keys_and_queries_are_compared_with_the_nuclear_norm(self):
        measures = ("selected", "cosine", "svm_selected")
        study = evolve(SMALL, parameter="KQ", steps=300, measure=measures, init="balanced")
        cell = cell_of(study, d=5)
        record = measure_cell(study, cell, range(10))
        batch = draw(cell.settings, range(10))
        solution = att_svm(batch, record["selected"], norm="nuc")
        assert np.array_equal(record["svm_selected_norm"], solution.norm)
        assert record["cosine"].max() > 0.9

    def test_steps_in_another_norm_decay_on_keys_and_queries_by_default(self):
        study = evolve(SMALL, d=5, parameter="KQ", rule="spectral", measure=("history",))
        record = measure_cell(study, study.cells[0], range(10))
        batch = draw(study.cells[0].settings, range(10))
        start = start_of_factors(study.cells[0].settings, range(10), 5)
        norms = [
            train(batch, parameter="KQ", rule=rule, steps=60, init=start).history["norm"][:, -1]
            for rule in ("spectral", StepRule("spectral", decay=0.75))
        ]
        assert np.array_equal(*norms)
        assert np.array_equal(record["history_norm"][:, -1], norms[0])

    def test_mini_batches_are_those_of_the_seed(self):
        rules = {"sgd": {"kind": "gd", "batch_size": 1}}
        study = Study(n=3, T=4, d=5, problems=9, steps=20, rules=rules, measure=("history",))
        whole, again = (measure_cell(study, study.cells[0], range(9)) for _ in range(2))
        other = evolve(study, seed=1)
        assert np.array_equal(whole["history_norm"], again["history_norm"])
        some = measure_cell(study, study.cells[0], range(2, 4))["history_norm"]
        assert np.array_equal(some, whole["history_norm"][2:4])
        assert not np.array_equal(
            measure_cell(other, other.cells[0], range(9))["history_norm"], whole["history_norm"]
        )

    @pytest.mark.parametrize("parameter", ["W", "p", "KQ"])
    def test_margin_ratios_and_cosines_in_norms_are_those_of_each_problem(self, parameter):
        norms = ("fro", "max", "l1", "spec", "nuc", 3.0)
        names = ("margin_ratio", "cosine_in_norm", "svm_in_norm", "selected")
        study = evolve(SMALL, d=5, parameter=parameter, norms=norms, measure=names)
        record = measure_cell(study, study.cells[0], range(10))
        settings = study.cells[0].settings
        start = start_of_factors(settings, range(10), 5) if parameter == "KQ" else None
        batch = draw(settings, range(10))
        result = train(batch, parameter=parameter, steps=60, init=start)
        solve = prompt_svm if parameter == "p" else att_svm
        for k, data in enumerate(batch.problems()):
            for j, norm in enumerate(norms):
                svm = solve(data, record["selected"][k], norm=norm)
                here = {name: record[f"svm_in_norm_{name}"][k, j] for name in ("norm", "gap")}
                assert here["norm"] == pytest.approx(svm.norm, rel=1e-8)
                assert here["gap"] < 1e-8
                ratio, angle = record["margin_ratio"][k, j], record["cosine_in_norm"][k, j]
                if not svm.feasible:
                    assert np.isnan([ratio, angle]).all()
                    continue
                direction = result.direction[k]
                ratio_expected = attsvm.margin_ratio(data, direction, result.selected[k], norm)
                assert ratio == pytest.approx(ratio_expected, rel=1e-8)
                of_svm = svm.p if parameter == "p" else svm.W
                assert angle == pytest.approx(cosine(direction, of_svm), rel=1e-6)

    def test_a_trained_head_needs_no_value(self):
        measures = ("selected", "cosine", "history")
        study = evolve(
            SMALL, data="gaussian_classes", d=60, parameter="v+W", steps=500, measure=measures
        )
        record = measure_cell(study, study.cells[0], range(8))
        batch = draw(study.cells[0].settings, range(8))
        run = train(batch, parameter=("v", "W"), steps=500)
        assert np.array_equal(record["selected"], run.selected)
        assert np.array_equal(record["history_norm"][:, -1], run.history["norm"][:, -1])

    @pytest.mark.parametrize(
        "changes",
        [{}, {"parameter": "p"}, {"rule": "gd", "lr": 1.0}, {"n": 2, "d": 300, "problems": 10}],
        ids=str,
    )
    def test_bits_of_a_problem_do_not_depend_on_its_batch_or_on_threads(self, changes):
        study = evolve(SMALL, **{"problems": 40, **changes})
        count = study.problems
        for cell in study.cells:
            whole = measure_cell(study, cell, range(count), num_threads=2)
            for some in (range(1), range(count - 1, count), range(5, 8), range(3, count - 1)):
                part = measure_cell(study, cell, some, num_threads=1)
                for name, values in part.items():
                    assert np.array_equal(
                        values, whole[name][some.start : some.stop], equal_nan=values.dtype == float
                    ), (cell.name, some, name)

    def test_history_is_recorded_at_the_start_in_decades_and_at_the_end(self):
        steps = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 3000)
        assert evolve(SMALL, steps=3000).recorded_steps == steps
        assert evolve(SMALL, steps=1).recorded_steps == (0, 1)

    def test_all_support_means_that_every_constraint_is_active(self):
        study = evolve(SMALL, steps=1, n=2, T=3, d=10, problems=40)
        record = measure_cell(study, study.cells[0], range(40))
        for k, data in enumerate(draw(study.cells[0].settings, range(40)).problems()):
            margins = att_svm(data, optimal_tokens(data)).margins
            assert record["all_support"][k] == np.all(margins[np.isfinite(margins)] < 1 + 1e-6)
        assert 0 < record["all_support"].sum() < 40

    def test_trained_zero_has_no_cosine(self):
        # One dimension and one input: where all its tokens agree, attention changes nothing.
        study = evolve(SMALL, n=1, T=2, d=1, problems=20, steps=5)
        record = measure_cell(study, study.cells[0], range(20))
        still = record["history_norm"][:, -1] == 0
        assert 0 < still.sum() < 20
        assert np.isnan(record["cosine"][still]).all()
        assert np.isnan(record["cosine_gap"][still]).all()
        assert np.array_equal(np.isnan(record["margin_ratio"]).all(axis=1), still)
        assert np.isnan(record["cosine_in_norm"][still]).all()
