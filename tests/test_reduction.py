"""Coordinates in the spans of tokens and queries: exact, and W is never formed unasked."""

from __future__ import annotations

import itertools
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

import attsvm
from attsvm._linalg import in_own_span, own_coordinates
from attsvm.descent.blocks import Blocks
from attsvm.descent.problem import CoreProblem


def wide(n, T, d, seed, batch=None):
    return attsvm.datasets.unit_sphere(n, T, d, batch=batch, rng=seed)


def rotated_up(data, d, seed):
    """The same problem in a larger space: every inner product is what it was."""
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, data.d)))[0]
    up = attsvm.AttentionData(
        data.tokens @ basis.T,
        data.labels,
        queries=data.queries @ basis.T,
        value=data.value @ basis.T,
    )
    return up, basis


def test_coordinates_keep_inner_products_and_are_triangular():
    vectors = np.random.default_rng(0).standard_normal((3, 4, 9))
    coordinates, basis = in_own_span(vectors)
    np.testing.assert_allclose(coordinates @ basis, vectors, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(coordinates, np.tril(coordinates))
    assert in_own_span(vectors[:, :, :4])[1] is None


@pytest.mark.parametrize("shape", [(1, 40, 3000), (7, 5, 30)])
def test_coordinates_do_not_depend_on_the_number_of_threads(shape):
    vectors = np.random.default_rng(1).standard_normal(shape)
    one = in_own_span(vectors, num_threads=1)
    for threads in (2, 3):
        for part, same in zip(one, in_own_span(vectors, num_threads=threads), strict=True):
            np.testing.assert_array_equal(part, same)


@pytest.mark.parametrize("parameter", ["W", "p"])
def test_no_basis_is_formed_before_the_parameter_is_asked_for(parameter, monkeypatch):
    data = wide(4, 3, 50, 5)
    bases, formed = attsvm._core.row_bases, []
    monkeypatch.setattr(
        attsvm._core, "row_bases", lambda **given: formed.append(given["rows"]) or bases(**given)
    )
    run = attsvm.train(data, parameter=parameter, steps=2000)
    assert not formed
    assert run.direction.shape[0] == 50
    monkeypatch.undo()
    flat = data.tokens.reshape(1, 12, 50)
    spans = [flat, data.queries[np.newaxis]] if parameter == "W" else [flat]
    for rows, span in zip(formed, spans, strict=True):
        np.testing.assert_array_equal(rows, span)
        np.testing.assert_array_equal(own_coordinates(span), in_own_span(span)[0])


@pytest.mark.parametrize(
    ("options", "in_setup"),
    [
        ({"parameter": "W+p", "rng": 0}, 2),
        ({"parameter": "p", "head": attsvm.heads.ReLU(np.ones((50, 2)))}, 1),
    ],
    ids=["W+p", "hidden units"],
)
def test_no_basis_is_formed_twice(options, in_setup, monkeypatch):
    """W and p trained together need bases in set-up, and so do hidden units."""
    data = wide(4, 3, 50, 5)
    bases, formed = attsvm._core.row_bases, []
    monkeypatch.setattr(
        attsvm._core, "row_bases", lambda **given: formed.append(given["rows"]) or bases(**given)
    )
    run = attsvm.train(data, steps=2000, **options)
    assert len(formed) == in_setup
    assert run.direction.shape == run.left.shape[1:] == (50,)
    assert run.p.shape == (50,)
    assert len(formed) == in_setup


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("n", "options"),
    [
        (4, {"parameter": "W", "steps": 2000}),
        (4, {"parameter": "W", "steps": 1}),  # of the queries alone
        (4, {"parameter": "W", "steps": 2000, "init": np.full((50, 50), 0.01)}),
        (4, {"parameter": "W", "steps": 20, "rule": "adam", "init": np.full((50, 50), 0.01)}),
        (4, {"parameter": "p", "steps": 2000}),
        (4, {"parameter": "W+p", "steps": 2000, "rng": 0}),
        (4, {"parameter": "Wp", "steps": 2000}),
        (1, {"parameter": "Wp", "steps": 20}),
        (1, {"parameter": "Wp", "steps": 20, "rule": "adam"}),
        (1, {"parameter": "KQ", "steps": 20, "rng": 0}),
        (4, {"parameter": "v+p", "steps": 20}),
    ],
)
def test_a_run_does_not_change_with_the_arrays_of_the_caller(n, options, dtype):
    drawn = wide(n, 3, 50, 5)
    arrays = {k: getattr(drawn, k).astype(dtype) for k in ("tokens", "labels", "queries", "value")}
    given = {k: np.copy(x) for k, x in options.items() if k == "init"}
    if options["parameter"] == "Wp":
        given["prompt"] = np.arange(50.0)

    def trained():
        return attsvm.train(attsvm.AttentionData(**arrays), **(options | given))

    run, asked = trained(), trained()
    direction, parameters = asked.direction, asked.parameters
    margins = asked.evaluate(drawn).margins
    for array in (*arrays.values(), *given.values()):
        array[...] = -1.0
    np.testing.assert_array_equal(run.direction, direction)
    for name, block in parameters.items():
        np.testing.assert_array_equal(run.parameters[name], block)
    np.testing.assert_array_equal(run.evaluate(drawn).margins, margins)


def test_threads_that_ask_at_once_get_the_same_bits(monkeypatch):
    data, bases, both = wide(4, 3, 50, 5), attsvm._core.row_bases, Barrier(2)
    run = attsvm.train(data, parameter="p", steps=2000)
    expected = attsvm.train(data, parameter="p", steps=2000).p

    def formed_together(**given):
        both.wait(timeout=60)
        return bases(**given)

    monkeypatch.setattr(attsvm._core, "row_bases", formed_together)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(run.trained.dense) for _ in range(2)]
    for answer in asked:
        np.testing.assert_array_equal(answer.result()[0], expected)
    np.testing.assert_array_equal(run.p, expected)


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_vectors_of_any_length_have_coordinates(size):
    vectors = np.random.default_rng(2).standard_normal((2, 3, 8)) * [[[size], [1.0], [0.0]]]
    coordinates, basis = in_own_span(vectors)
    np.testing.assert_allclose(coordinates @ basis, vectors, rtol=0, atol=1e-14 * max(size, 1.0))
    length = np.linalg.norm(vectors[:, 0] / size, axis=1)
    np.testing.assert_allclose(np.abs(coordinates[:, 0, 0]) / size, length, rtol=1e-14)
    np.testing.assert_allclose(basis @ basis.swapaxes(1, 2), [np.eye(3)] * 2, rtol=0, atol=1e-14)


@pytest.mark.parametrize("parameter", ["W", "p"])
@pytest.mark.parametrize("rule", ["ngd", "gd", "polyak"])
def test_descent_in_a_larger_space_is_the_same_descent(parameter, rule):
    """d = 7 runs as it is, d = 500 in coordinates of the spans: one is a rotation of the other."""
    data = wide(3, 4, 7, 1)
    up, basis = rotated_up(data, 500, 2)
    if rule == "polyak":  # long steps magnify rounding: few of them
        small = attsvm.train(data, parameter=parameter, rule=rule, steps=4)
        large = attsvm.train(up, parameter=parameter, rule=rule, steps=4)
    else:
        small = attsvm.train(data, parameter=parameter, rule=rule, steps=300)
        large = attsvm.train(up, parameter=parameter, rule=rule, steps=300)
        assert large.trained.coordinates.token_basis.shape == (1, 12, 500)
    lifted = basis @ small.W @ basis.T if parameter == "W" else basis @ small.p
    scale = np.abs(lifted).max()
    np.testing.assert_allclose(large.direction, lifted, rtol=0, atol=1e-12 * scale)
    np.testing.assert_allclose(large.history["norm"], small.history["norm"], rtol=1e-12)
    np.testing.assert_allclose(large.attention, small.attention, atol=1e-12)


@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize("parameter", ["W", "p"])
def test_what_a_start_has_outside_the_spans_stays(parameter, batch):
    data = wide(3, 2, 40, 3, batch)
    rng = np.random.default_rng(4)
    lead = () if batch is None else (batch,)
    shape = (*lead, 40, 40) if parameter == "W" else (*lead, 40)
    init, reference = rng.standard_normal(shape), rng.standard_normal(shape)
    run = attsvm.train(
        data, parameter=parameter, init=init, steps=200, reference=reference, record_every=50
    )
    assert run.trained.coordinates.token_basis is not None
    # One step at a time, the reduction does not pay and is not made.
    plain = init
    for _ in range(200):
        step = attsvm.train(data, parameter=parameter, init=plain, steps=1)
        assert step.trained.coordinates.token_basis is None
        plain = step.direction
    np.testing.assert_allclose(run.direction, plain, rtol=0, atol=1e-11)
    axes = tuple(range(len(lead), len(shape)))
    norm = np.sqrt(np.sum(plain**2, axis=axes))
    cosine = np.sum(plain * reference, axis=axes) / norm / np.sqrt(np.sum(reference**2, axis=axes))
    np.testing.assert_allclose(run.history["norm"][..., -1], norm, rtol=1e-12)
    np.testing.assert_allclose(run.history["cosine"][..., -1], cosine, atol=1e-12)
    assert run.left is None


@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize("solve", [attsvm.diagonal_svm, attsvm.prompt_svm])
def test_a_solution_outside_the_spans_is_compared_and_started_from_as_its_array_is(solve, batch):
    """An SVM in the l1 norm has a W or p outside of what descent moves in."""
    data = wide(3, 2, 40, 7, batch)
    solution = solve(data, np.zeros(data.lengths.shape, dtype=np.int64), norm="l1")
    settings = {"parameter": solution.variable, "steps": 200, "record_every": 100}
    runs = [
        attsvm.train(data, init=init, reference=reference, **settings)
        for init, reference in itertools.product((solution, solution.direction), repeat=2)
    ]
    assert runs[0].trained.coordinates.token_basis is not None
    assert runs[0].history["cosine"][..., 0] == pytest.approx(1.0, abs=1e-15)
    for run in runs:
        np.testing.assert_allclose(run.direction, runs[-1].direction, rtol=0, atol=1e-12)
        np.testing.assert_allclose(run.history["cosine"], runs[-1].history["cosine"], atol=1e-14)


def test_a_reference_equal_to_the_start_has_cosine_one():
    data = wide(3, 2, 40, 5)
    init = np.random.default_rng(6).standard_normal((40, 40))
    run = attsvm.train(data, init=init, steps=200, reference=3 * init, record_every=200)
    assert abs(run.history["cosine_gap"][0]) < 1e-28


@pytest.mark.parametrize("parameter", ["W", "p"])
@pytest.mark.parametrize("d", [18, 90])
def test_a_solution_is_a_reference_by_its_factors(parameter, d):
    data = wide(4, 5, d, 7)
    machine = attsvm.att_svm if parameter == "W" else attsvm.prompt_svm
    solution = machine(data, attsvm.optimal_tokens(data))
    dense = solution.W if parameter == "W" else solution.p
    by_factors = attsvm.train(data, parameter=parameter, steps=400, reference=solution)
    by_matrix = attsvm.train(data, parameter=parameter, steps=400, reference=dense)
    np.testing.assert_allclose(
        by_factors.history["cosine_gap"], by_matrix.history["cosine_gap"], rtol=1e-9, atol=1e-14
    )


@pytest.mark.parametrize("parameter", ["W", "p"])
@pytest.mark.parametrize("d", [6, 90])
def test_factors_multiply_to_the_parameter(parameter, d):
    run = attsvm.train(wide(4, 5, d, 8, batch=2), parameter=parameter, steps=400)
    product = np.swapaxes(run.left, 1, 2) @ run.right
    expected = run.W if parameter == "W" else run.p[..., np.newaxis]
    np.testing.assert_allclose(product, expected, rtol=0, atol=1e-12)


def test_a_hundred_thousand_dimensions_train_without_forming_w():
    """W alone would take 80 GB. The tokens take 32 MB; the work is counted in their multiples."""
    data = wide(10, 4, 100_000, 9)
    tracemalloc.start()
    run = attsvm.train(data, steps=2000, record_every=[0])
    solution = attsvm.att_svm(data, run.selected)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert run.left.shape == (10, 100_000)
    assert run.right.shape == (10, 100_000)
    assert peak < 200e6
    again = attsvm.train(data, steps=2000, record_every=[2000], reference=solution)
    assert again.history["cosine_gap"][-1] < 1e-3


def test_reduction_is_made_only_where_it_pays():
    data = wide(5, 4, 30, 10)

    def laid_out(passes):
        problem = CoreProblem.of(
            data, Blocks("W"), None, "logistic", dtype=None, threads=1, passes=passes
        )
        return problem.coordinates

    assert laid_out(1).token_basis is None
    assert laid_out(10_000).token_basis is not None
    assert wide(9, 4, 30, 10).n * 4 > 30
