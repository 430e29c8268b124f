"""What a caller can get wrong in training and the SVMs: an error that names the argument."""

from __future__ import annotations

import numpy as np
import pytest

import attsvm
from attsvm import AttentionData, att_svm, label_svm, prompt_svm, train
from attsvm.functional import loss_and_grad
from attsvm.heads import LinearScores, Softmax

ONE = attsvm.datasets.unit_sphere(3, 4, 5, rng=0)
BATCH = attsvm.datasets.unit_sphere(3, 4, 5, batch=2, rng=0)
BARE = AttentionData(ONE.tokens, ONE.labels)
NO_VALUE = AttentionData(ONE.tokens, ONE.labels, queries=ONE.queries)
LOUD = AttentionData(ONE.tokens, ONE.labels, queries=ONE.queries, value=1e4 * ONE.value)
RAGGED = AttentionData(
    ONE.tokens, ONE.labels, queries=ONE.queries, value=ONE.value, lengths=[4, 2, 1]
)

TRAIN = [
    ("data", {"data": "problem.npz"}, TypeError, "data: expected AttentionData, got str"),
    ("queries", {"data": BARE}, ValueError, "queries: needed for training W"),
    (
        "value",
        {"data": NO_VALUE},
        ValueError,
        "value: needed for the linear head, got data without a value; data.with_value(v) gives one",
    ),
    ("loud value", {"data": LOUD}, ValueError, "value: expected token scores up to 300"),
    ("loud head", {"head": LinearScores(np.full((3, 4), -301.0))}, ValueError, "head: expected"),
    (
        "parameter",
        {"parameter": "V"},
        ValueError,
        "parameter: expected one of 'W', 'p', 'KQ', 'Wp', 'W+p', 'diagonal KQ', 'v+W', "
        "'v+p', 'v+KQ', 'v+Wp', 'v+W+p', 'v+diagonal KQ', got 'V'",
    ),
    ("parameter type", {"parameter": 3}, TypeError, "parameter: expected one of"),
    ("rule", {"rule": "newton"}, ValueError, "rule: expected one of"),
    ("loss", {"loss": "hinge"}, ValueError, "loss: expected one of"),
    ("steps negative", {"steps": -1}, ValueError, "steps: expected a non-negative integer"),
    ("steps huge", {"steps": 2**53 + 1}, ValueError, "steps: expected at most 2**53"),
    ("steps float", {"steps": 1.5}, TypeError, "steps: expected a non-negative integer"),
    ("lr zero", {"lr": 0.0}, ValueError, "lr: expected a positive number"),
    ("lr nan", {"lr": np.nan}, ValueError, "lr: expected a positive number"),
    ("lr text", {"lr": "fast"}, TypeError, "lr: expected a positive number"),
    ("lr block", {"lr": {"p": 0.1}}, ValueError, "lr: expected the key 'W'"),
    ("init shape", {"init": np.zeros((5, 4))}, ValueError, "init: expected shape (d, d)"),
    ("init axes", {"init": np.zeros(5)}, ValueError, "init: expected shape (d, d)"),
    ("init nan", {"init": np.full((5, 5), np.nan)}, ValueError, "init: expected finite"),
    ("inner", {"inner": 3}, ValueError, "inner: expected None where K and Q are not"),
    (
        "inner huge",
        {"parameter": "KQ", "inner": 2**40},
        ValueError,
        "inner: expected K and Q of at most 8589934592 numbers together, got 1099511627776 columns",
    ),
    ("inner zero", {"parameter": "KQ", "inner": 0}, ValueError, "inner: expected a positive"),
    ("K alone", {"parameter": "KQ", "init": {"K": np.ones((5, 2))}}, ValueError, "init: expected"),
    ("K array", {"parameter": "KQ", "init": np.ones((5, 2))}, TypeError, "init: expected a dict"),
    (
        "K beside another Q",
        {"parameter": "KQ", "init": {"K": np.ones((5, 2)), "Q": np.ones((5, 3))}},
        ValueError,
        "init: expected K and Q with one inner size",
    ),
    (
        "Q of another size",
        {"parameter": "KQ", "init": {"K": np.ones((5, 2)), "Q": np.ones((4, 2))}},
        ValueError,
        "init['Q']: expected shape",
    ),
    ("init name", {"init": "xavier"}, ValueError, "init: expected one of 'uniform'"),
    ("record zero", {"record_every": 0}, ValueError, "record_every: expected a positive"),
    (
        "records huge",
        {"steps": 10**9, "record_every": 1},
        ValueError,
        "record_every: expected at most 100000000 records, got 1 for 1000000000 steps",
    ),
    ("record none", {"record_every": []}, TypeError, "record_every: expected integers"),
    ("record late", {"record_every": [0, 11]}, ValueError, "record_every: expected increasing"),
    ("record back", {"record_every": [3, 2]}, ValueError, "record_every: expected increasing"),
    ("record early", {"record_every": [-1, 2]}, ValueError, "record_every: expected increasing"),
    ("record floats", {"record_every": [0.5]}, TypeError, "record_every: expected integers"),
    ("reference zero", {"reference": np.zeros((5, 5))}, ValueError, "reference: expected a dir"),
    ("reference shape", {"reference": np.ones(5)}, ValueError, "reference: expected shape"),
    ("named reference", {"reference": {"mm": np.ones((4, 5))}}, ValueError, "reference['mm']: "),
    ("dtype", {"dtype": np.float16}, TypeError, "dtype: expected float64 or float32"),
    (
        "float32 range",
        {
            "data": AttentionData(
                np.full((1, 2, 2), 1e39), [1], queries=[[1.0, 0.0]], value=[1e-39, 0]
            )
        }
        | {"dtype": "float32"},
        ValueError,
        "dtype: expected numbers that float32 can hold, got 1e+39 at [0, 0, 0]",
    ),
    ("threads", {"num_threads": 0}, ValueError, "num_threads: expected a positive integer"),
    ("rng", {"rng": -1}, ValueError, "rng: expected None, a non-negative integer"),
    (
        "head",
        {"head": "linear"},
        TypeError,
        "head: expected None, LinearScores, ReLU, Penalised or Softmax, got str",
    ),
    ("record key", {"record": lambda run: {1: 0.0}}, TypeError, "record: <lambda>: expected names"),
    ("reference key", {"reference": {1: np.eye(5)}}, TypeError, "reference: expected names as"),
    (
        "certify",
        {"certify": "l7"},
        ValueError,
        "certify: expected one of 'fro', 'max', 'l1', 'spec', 'nuc' or a number p > 1, got 'l7'",
    ),
    ("head shape", {"head": LinearScores(np.ones((3, 5)))}, ValueError, "head: expected shape"),
]


@pytest.mark.parametrize(
    ("changes", "error", "start"), [case[1:] for case in TRAIN], ids=[case[0] for case in TRAIN]
)
def test_training_refuses_what_it_cannot_use(changes, error, start):
    with pytest.raises(error) as raised:
        train(**{"data": ONE, "steps": 10, **changes})
    assert str(raised.value).startswith(start)


NORMS = "norm: expected one of 'fro', 'nuc', 'max', 'l1', 'spec', 'cut' or a number p > 1, got "
SVMS = [
    ("att data", lambda: att_svm(ONE.tokens, [0, 0, 0]), TypeError, "data: "),
    ("att queries", lambda: att_svm(BARE, [0, 0, 0]), ValueError, "queries: "),
    ("att selected shape", lambda: att_svm(ONE, [0, 0]), ValueError, "selected: "),
    ("att selected range", lambda: att_svm(ONE, [0, 4, 0]), ValueError, "selected: "),
    ("att selected padding", lambda: att_svm(RAGGED, [0, 2, 0]), ValueError, "selected: "),
    ("att selected negative", lambda: att_svm(ONE, [0, -1, 0]), ValueError, "selected: "),
    ("att selected floats", lambda: att_svm(ONE, [0.0, 1.0, 0.0]), TypeError, "selected: "),
    ("att selected bools", lambda: att_svm(ONE, [True, False, True]), TypeError, "selected: "),
    ("att selected batch", lambda: att_svm(BATCH, [0, 0, 0]), ValueError, "selected: "),
    ("att norm", lambda: att_svm(ONE, [0, 0, 0], norm="l7"), ValueError, NORMS + "'l7'"),
    ("att norm 1", lambda: att_svm(ONE, [0, 0, 0], norm=1), ValueError, NORMS + "1"),
    ("att norm none", lambda: att_svm(ONE, [0, 0, 0], norm=None), TypeError, NORMS + "None"),
    ("att solver", lambda: att_svm(ONE, [0, 0, 0], solver="gurobi"), ValueError, "solver: "),
    (
        "prompt required",
        lambda: prompt_svm(ONE, [0, 0, 0], required=[1, 0, 1]),
        TypeError,
        "required: ",
    ),
    (
        "prompt required shape",
        lambda: prompt_svm(ONE, [0, 0, 0], required=[True]),
        ValueError,
        "required: ",
    ),
    ("label selected", lambda: label_svm(ONE, 0), ValueError, "selected: "),
    ("scores", lambda: LinearScores([[np.inf, 0.0]]), ValueError, "scores: expected finite"),
    ("scores axes", lambda: LinearScores([0.0, 1.0]), ValueError, "scores: expected shape"),
    (
        "gradient keys",
        lambda: loss_and_grad(ONE, {}),
        ValueError,
        "parameters: expected the keys 'W', or",
    ),
    (
        "gradient key",
        lambda: loss_and_grad(ONE, {"Q": 0}),
        ValueError,
        "parameters: expected the keys 'W', or",
    ),
    (
        "gradient shape",
        lambda: loss_and_grad(ONE, {"W": np.ones((5, 6))}),
        ValueError,
        "parameters['W']: expected shape",
    ),
]


NEXT = attsvm.datasets.next_token(3, 4, 5, 9, rng=0)
SEVERAL = attsvm.datasets.next_token(3, 4, 5, 9, batch=2, rng=0)
LAW = attsvm.fit_rate([1, 2, 3, 4], [1.0, 0.5, 0.3, 0.25])
SPACE = attsvm.theory.cyclic_subspace(NEXT)
METHODS = [
    (
        "v of another shape",
        lambda: loss_and_grad(ONE, {"W": np.eye(5), "v": np.eye(5)}),
        ValueError,
        "parameters['v']: expected shape (d,), got (5, 5)",
    ),
    (
        "v of None",
        lambda: loss_and_grad(ONE, {"W": np.eye(5), "v": None}),
        TypeError,
        "parameters['v']: expected an array, got NoneType",
    ),
    (
        "another batch",
        lambda: loss_and_grad(BATCH, {"W": np.zeros((3, 5, 5))}),
        ValueError,
        "parameters['W']: expected shape (B, d, d) = (2, 5, 5), got (3, 5, 5)",
    ),
    ("copies 0", lambda: ONE.repeated(0), ValueError, "count: expected a positive integer"),
    ("copies text", lambda: ONE.repeated("2"), TypeError, "count: expected a positive integer"),
    ("copies list", lambda: ONE.repeated([2]), TypeError, "count: expected a positive integer"),
    ("ids negative", lambda: NEXT.look_up([0, -1]), ValueError, "ids: expected 0..4, got -1 at"),
    ("ids beyond", lambda: NEXT.look_up(5), ValueError, "ids: expected 0..4, got 5 at"),
    ("ids floats", lambda: NEXT.look_up([0.0]), TypeError, "ids: expected integers, got"),
    ("ids none", lambda: NEXT.look_up(None), TypeError, "ids: expected an array, got NoneType"),
    ("ids batch", lambda: SEVERAL.look_up([0]), ValueError, "ids: expected shape (B, ...) = (2,)"),
    ("law text", lambda: LAW.at("a"), TypeError, "steps: expected"),
    ("law zero", lambda: LAW.at([1, 0]), ValueError, "steps: expected positive steps"),
    ("lift", lambda: SPACE.lift([1.0]), ValueError, "values: expected shape (nodes,) = (0,)"),
    ("schedule", lambda: attsvm.log_schedule(10**30), ValueError, "steps: expected at most 2**53"),
    (
        "bandwidth",
        lambda: attsvm.datasets.digits(4, 5, bandwidth=1e-320),
        ValueError,
        "bandwidth: expected numbers of tokens that float64 holds, got bandwidth=1e-320",
    ),
]


@pytest.mark.parametrize(
    ("call", "error", "start"), [case[1:] for case in METHODS], ids=[case[0] for case in METHODS]
)
@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
def test_methods_refuse_what_they_cannot_use(call, error, start):
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value).startswith(start)


@pytest.mark.parametrize(
    ("call", "error", "start"), [case[1:] for case in SVMS], ids=[case[0] for case in SVMS]
)
def test_svms_and_functions_refuse_what_they_cannot_use(call, error, start):
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value).startswith(start)


def test_overflowing_descent_is_an_error_and_says_when():
    """A wrong token with a logit 1,200 above the right one: gap / |gradient| is about e^1200."""
    data = AttentionData([[[1.0], [-1.0]]], [1.0], value=[1.0])
    with pytest.raises(FloatingPointError, match="train: problem 0 overflowed by step 1 "):
        train(data, parameter="p", rule="polyak", init=[-600.0], steps=10, record_every=1)
    rng = np.random.default_rng(0)
    data = AttentionData(rng.normal(size=(3, 4, 5)), [1, -1, 1], queries=rng.normal(size=(3, 5)))
    head = Softmax(rng.normal(size=(3, 5)), np.array([0, 1, 2]))
    with pytest.raises(FloatingPointError, match="train: problem 0 overflowed by step 1 "):
        train(data, head=head, loss="cross_entropy", rule="gd", lr=1e308, steps=1)


@pytest.mark.parametrize("size", [1e-155, 1e-200])
def test_tokens_whose_products_underflow_are_an_error_that_says_so(size):
    """Of 1e-155 a normalised step was infinite; of 1e-200 the gradient is 0, and W stayed."""
    data = attsvm.datasets.unit_sphere(6, 8, 10, batch=2, rng=0)
    data = AttentionData(
        data.tokens * np.array([1.0, size])[:, np.newaxis, np.newaxis, np.newaxis],
        data.labels,
        queries=data.queries,
        value=data.value,
    )
    with pytest.raises(FloatingPointError, match="train: products of two tokens of problem 1 "):
        train(data, steps=3)


@pytest.mark.parametrize(
    ("n", "error", "start"),
    [
        (3, ValueError, "init: expected entries whose sums float64 holds, got one of 1e+308"),
        (8, FloatingPointError, "train: problem 0 overflowed by step 0 (its start is beyond"),
    ],
)
def test_a_start_beyond_float64_is_an_error_in_reduced_coordinates_and_in_others(n, error, start):
    data = attsvm.datasets.unit_sphere(n, 10 if n == 8 else 4, 5, rng=0)
    with pytest.raises(error) as raised:
        train(data, init=np.full((5, 5), 1e308), steps=2)
    assert str(raised.value).startswith(start)


@pytest.mark.parametrize("parameter", ["W", "p"])
@pytest.mark.parametrize(
    "make",
    [
        lambda X: np.asfortranarray(X),
        lambda X: np.repeat(X, 2, axis=-1)[..., ::2],
        lambda X: X[::-1][::-1],
        lambda X: X.tolist(),
        lambda X: X.astype(">f8"),
    ],
    ids=["Fortran order", "strided", "reversed", "lists", "byte order"],
)
def test_memory_layout_changes_no_bit(make, parameter):
    other = AttentionData(make(ONE.tokens), ONE.labels, queries=ONE.queries, value=ONE.value)
    first = train(ONE, parameter=parameter, steps=50)
    second = train(other, parameter=parameter, steps=50)
    np.testing.assert_array_equal(first.direction, second.direction)


def test_caller_arrays_are_left_alone():
    init = np.ones((5, 5))
    reference = np.full((5, 5), 3.0)
    tokens = ONE.tokens.copy()
    train(ONE, steps=5, init=init, reference=reference)
    np.testing.assert_array_equal(init, np.ones((5, 5)))
    np.testing.assert_array_equal(reference, np.full((5, 5), 3.0))
    np.testing.assert_array_equal(ONE.tokens, tokens)


@pytest.mark.parametrize(("n", "T", "d"), [(1, 1, 1), (1, 5, 1), (4, 1, 3), (1, 2, 40)])
def test_smallest_problems_work(n, T, d):
    data = attsvm.datasets.unit_sphere(n, T, d, rng=1)
    for parameter in ("W", "p"):
        run = train(data, parameter=parameter, steps=20)
        assert run.direction.shape == ((d, d) if parameter == "W" else (d,))
        np.testing.assert_allclose(run.attention.sum(axis=1), 1.0, rtol=1e-12)
        if T == 1:
            np.testing.assert_array_equal(run.direction, 0.0)


def test_no_steps_leave_the_start():
    init = np.arange(25.0).reshape(5, 5)
    run = train(ONE, steps=0, init=init)
    np.testing.assert_array_equal(run.W, init)
    assert run.history["step"].tolist() == [0]


@pytest.mark.parametrize(
    ("steps", "record_every", "recorded"),
    [
        (0, None, [0]),
        (0, 7, [0]),
        (0, [0], [0]),
        (1, None, [0, 1]),
        (5, 7, [0, 5]),
        (6, 3, [0, 3, 6]),
        (7, 3, [0, 3, 6, 7]),
        (7, [2], [2]),
        (7, [0, 7], [0, 7]),
    ],
)
def test_the_first_and_last_steps_that_are_recorded(steps, record_every, recorded):
    run = train(ONE, steps=steps, record_every=record_every)
    assert run.history["step"].tolist() == recorded
    assert run.history["loss"].shape == (len(recorded),)
