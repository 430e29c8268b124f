"""Tables that notebooks show in place of a value's text."""

from __future__ import annotations

import re

import numpy as np
import pytest

from attsvm import (
    NextTokenData,
    att_svm,
    decompose,
    fit_rate,
    plots,
    regularization_path,
    token_priority_graphs,
    train,
)
from attsvm.datasets import unit_sphere
from attsvm.theory import optimal_tokens, predict_next

bs4 = pytest.importorskip("bs4")


def rows(value):
    """Caption and rows of the table of a value."""
    table = bs4.BeautifulSoup(value._repr_html_(), "html.parser").table
    cells = {row.th.text: row.td.text for row in table.find_all("tr")}
    return table.caption.text, cells


def test_a_solution_shows_its_certificate():
    data = unit_sphere(6, 8, 10, rng=0)
    solution = att_svm(data, optimal_tokens(data))
    caption, cells = rows(solution)
    assert caption == "SVMSolution"
    assert cells["status"] == "optimal, certified"
    assert float(cells["norm of W"]) == pytest.approx(solution.norm, rel=1e-5)
    assert float(cells["relative duality gap"]) == pytest.approx(solution.gap, rel=0.1)
    assert int(cells["support vectors"]) == solution.support.sum()


def test_an_infeasible_solution_shows_that_it_is_proved():
    _, cells = rows(att_svm(unit_sphere(20, 6, 3, rng=0), np.zeros(20, dtype=int)))
    assert cells["status"] == "infeasible, certified"
    assert "norm of W" not in cells


def test_a_batch_of_solutions_shows_counts():
    data = unit_sphere(6, 8, 10, batch=5, rng=0)
    _, cells = rows(att_svm(data, optimal_tokens(data)))
    assert cells["problems"] == cells["optimal"] == "5"


def test_a_run_shows_how_it_was_trained_and_is_drawn():
    run = train(unit_sphere(6, 8, 10, rng=0), steps=20)
    caption, cells = rows(run)
    assert caption == "Run"
    assert cells["training"].startswith("W, 20 steps of ngd, lr 0.1")
    pytest.importorskip("matplotlib")
    assert len(run.plot().axes) == len(plots.run(run).axes)


def test_an_evaluation_shows_numbers_and_no_arrays():
    data = unit_sphere(6, 8, 10, rng=0)
    evaluation = train(data, steps=20).evaluate(data)
    _, cells = rows(evaluation)
    assert cells["accuracy"] == f"{evaluation.accuracy:.4g}"
    assert repr(evaluation).startswith("Evaluation(inputs 6, loss ")
    assert "array" not in repr(evaluation)


def test_a_path_shows_how_well_it_converged_and_where_it_ended():
    data = unit_sphere(3, 4, 5, rng=0)
    solution = att_svm(data, optimal_tokens(data))
    path = regularization_path(data, [1.0, 50.0], reference={"best": solution})
    caption, cells = rows(path)
    assert caption == "RegularizationPath"
    assert cells["path"] == "W, logistic loss, 2 radii from 1 to 50"
    assert cells["converged"] == f"{path.converged.sum()} radii"
    assert float(cells["cosine with best, at the end"]) == pytest.approx(path.cosines["best"][-1])


def test_a_priority_graph_shows_its_sizes_and_is_drawn():
    data = NextTokenData(np.eye(3), [[0, 1], [2, 1]], [1, 1])
    graph = token_priority_graphs(data)[1]
    _, cells = rows(graph)
    assert [cells[name] for name in ("last token", "tokens", "edges", "components")] == [
        "1", "3 of 3", "2", "3",
    ]  # fmt: skip
    pytest.importorskip("matplotlib")
    assert graph.plot().axes


def test_data_show_their_sizes():
    caption, cells = rows(unit_sphere(6, 8, 10, batch=3, rng=0))
    assert caption == "AttentionData"
    assert [cells[name] for name in ("problems", "inputs n", "tokens T", "dimension d")] == [
        "3", "6", "8", "10",
    ]  # fmt: skip
    data = NextTokenData(np.eye(3), [[0, 1], [2, 2]], [1, 0], lengths=[2, 1])
    caption, cells = rows(data)
    assert caption == "NextTokenData"
    assert cells["lengths"] == "1 to 2"
    assert cells["labels not in their context"] == "1"


def test_a_prediction_shows_its_agreement_and_markup_is_escaped():
    data = NextTokenData(np.eye(3), [[0, 1], [2, 0]], [1, 0])
    prediction = predict_next(data, np.zeros((3, 3)))
    _, cells = rows(prediction)
    assert cells["contexts"] == "2"
    assert cells["same id as the layer"] == f"{prediction.agreement:.2%}"


def test_a_rate_shows_its_interval():
    caption, cells = rows(fit_rate([1, 2, 4, 8], [1.0, 0.26, 0.0625, 0.0151]))
    assert caption == "Rate"
    exponent, low, high = map(float, re.findall(r"-[0-9.]+", cells["exponent"]))
    assert low < exponent < high < -1.9
    assert cells["points"] == "4"


def test_a_decomposition_shows_its_radius_and_how_far_it_is_from_the_matrix():
    data = unit_sphere(3, 4, 5, rng=0)
    parts = decompose(train(data, steps=200), data)
    _, cells = rows(parts)
    assert float(cells["radius R"]) == pytest.approx(parts.radius, rel=1e-5)
    assert float(cells["1 - cosine"]) == pytest.approx(parts.cosine_gap, rel=0.1)
    batch = unit_sphere(3, 4, 5, batch=2, rng=0)
    assert rows(decompose(train(batch, steps=200), batch))[1]["problems"] == "2"
