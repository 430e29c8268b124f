"""A pickled run answers as the run does, and holds what was trained, not the data."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import numpy as np
import pytest

import attsvm
from attsvm import AttentionData, Run, StepRule
from attsvm.datasets import next_token, unit_sphere
from attsvm.heads import LinearScores, ReLU, Softmax

RNG = np.random.default_rng(0)
MANY, WIDE, LONG = (  # more inputs than dimensions, more dimensions than tokens, and the same of p
    unit_sphere(60, 12, 20, rng=0),
    unit_sphere(4, 12, 60, rng=1),
    unit_sphere(4, 100, 500, rng=2),
)
BATCH = unit_sphere(4, 12, 60, batch=3, rng=3)
STARTS = RNG.standard_normal((60, 60)), RNG.standard_normal(60)
POSITIONS = AttentionData.per_position(
    RNG.standard_normal((3, 8, 40)), RNG.choice([-1.0, 1.0], (3, 8)), value=RNG.standard_normal(40)
)
# Token ids, which are trained on by themselves where tokens are many.
IDS, FEW_IDS = next_token(1500, 8, 40, 60, rng=4), next_token(40, 8, 12, 60, rng=5)
CASES = {
    "W": (MANY, {}),
    "wide W": (WIDE, {}),
    "wide W and its start": (WIDE, {"init": STARTS[0]}),
    "wide W in a batch": (BATCH, {}),
    "W in float32": (WIDE, {"dtype": "float32"}),
    "W of Adam": (WIDE, {"rule": "adam"}),
    "W of batches": (MANY, {"rule": StepRule("gd", batch_size=7), "rng": 0}),
    "recorded W": (WIDE, {"record": ["W", "attention"], "certify": "max"}),
    "W with a ridge": (WIDE, {"ridge": 1e-3}),
    "W of ReLU": (WIDE, {"head": ReLU(RNG.standard_normal((60, 5)))}),
    "W of scores": (WIDE, {"head": LinearScores(RNG.standard_normal((4, 12)))}),
    "W of classes": (
        WIDE,
        {"head": Softmax(RNG.standard_normal((3, 60)), [0, 1, 2, 0]), "loss": "cross_entropy"},
    ),
    "p": (MANY, {"parameter": "p"}),
    "wide p": (LONG, {"parameter": "p"}),
    "wide p and its start": (WIDE, {"parameter": "p", "init": STARTS[1]}),
    "wide p in a batch": (BATCH, {"parameter": "p"}),
    "KQ": (MANY, {"parameter": "KQ", "rng": 0}),
    "diagonal KQ": (MANY, {"parameter": "diagonal KQ", "rng": 0}),
    "Wp": (WIDE, {"parameter": "Wp", "prompt": STARTS[1]}),
    "Wp of Adam": (WIDE, {"parameter": "Wp", "prompt": STARTS[1], "rule": "adam"}),
    "W+p": (WIDE, {"parameter": "W+p", "rng": 0}),
    "W+p of Adam": (WIDE, {"parameter": "W+p", "rng": 0, "rule": "adam"}),
    "v+W": (MANY, {"parameter": "v+W"}),
    "v+p in a batch": (BATCH, {"parameter": "v+p"}),
    "positions": (POSITIONS, {}),
    "p of positions": (POSITIONS, {"parameter": "p"}),
    "ids": (IDS, {}),
    "tokens of ids": (FEW_IDS, {}),
}


def answers(run: Run, data: AttentionData | attsvm.NextTokenData) -> dict[str, object]:
    """Return every public attribute of a run, and what its methods answer."""
    names = [name for name in dir(run) if not name.startswith("_")]
    said = {name: getattr(run, name) for name in names}
    said = {name: each for name, each in said.items() if not callable(each) and name != "trained"}
    said |= {"summary": run.summary(), "repr": repr(run), "html": run._repr_html_()}
    try:
        evaluation = run.evaluate(data)
        said |= {
            field.name: getattr(evaluation, field.name) for field in dataclasses.fields(evaluation)
        }
    except (TypeError, ValueError) as error:
        said["refused"] = str(error)
    return said


def own_size(run: Run) -> int:
    """Return the bytes of what was trained and recorded."""
    arrays = [*run.parameters.values(), *run.history.values()]
    return sum(array.nbytes for array in (*arrays, run.attention, run.log_attention, run.selected))


@pytest.mark.parametrize("name", CASES)
def test_a_pickled_run_answers_as_the_run_and_has_no_tokens(name):
    data, options = CASES[name]

    def trained() -> Run:
        return attsvm.train(data, **{"steps": 300, "record_every": 50, **options})

    run = trained()
    before = pickle.dumps(run)
    expected = answers(trained(), data)
    assert ("refused" in expected) == (
        name in ("W of ReLU", "W of scores", "W of classes") or data in (IDS, FEW_IDS)
    )
    for other in (run, pickle.loads(before), copy.deepcopy(run)):
        said = answers(other, data)
        assert said.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_equal(said[key], value, err_msg=key)
    after = pickle.dumps(run)
    assert len(after) == len(before)
    np.testing.assert_array_equal(pickle.loads(after).direction, expected["direction"])
    assert len(before) < 3 * own_size(run) + 4000


@pytest.mark.parametrize(("parameter", "d"), [("p", 500), ("p", 40), ("W", 40)])
def test_the_pickle_of_a_run_does_not_grow_with_its_tokens(parameter, d):
    sizes = []
    for T in (10, 400):
        run = attsvm.train(unit_sphere(4, T, d, rng=0), parameter=parameter, steps=2000)
        sizes.append(len(pickle.dumps(run)) - 2 * run.attention.nbytes)
    assert abs(sizes[1] - sizes[0]) < 500
