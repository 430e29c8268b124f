"""A value of a wrong type is refused by name in every argument of every public function."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest

import attsvm
import attsvm.functional
import attsvm.heads
import attsvm.plots
import attsvm.studies
import attsvm.theory
from attsvm.studies.reproduce.registry import FIGURES
from attsvm.studies.table import Table

OURS = (
    "AttentionData|NextTokenData|Run|SVMSolution|TokenPriorityGraph|Head|Study|Table|Dataset|Figure"
)
DATA = attsvm.datasets.unit_sphere(3, 4, 5, rng=0)
NEXT = attsvm.datasets.next_token(3, 4, 5, 9, rng=0)
RUN = attsvm.train(DATA, steps=5, record="W")
SOLUTION = attsvm.att_svm(DATA, RUN.selected)
STUDY = attsvm.studies.Study(n=2, T=3, d=4, problems=1, steps=1, measure=("selected",))
RIGHT = {
    **{"data": DATA, "run": RUN, "solution": SOLUTION, "dual": SOLUTION, "W": RUN.W, "mu": 0.1},
    **{"selected": RUN.selected, "radii": [1.0], "radius": 1.0, "epsilon": 0.1, "key": DATA.tokens},
    **{"query": DATA.tokens, "value": DATA.tokens, "parameters": {"W": RUN.W}, "study": STUDY},
    **{"attention": RUN.attention, "directory": "never", "path": "never", "figure": FIGURES[0]},
    **{"weight_decay": 0.1, "source": "a b c d" * 9, "A": np.eye(2), "B": np.eye(2), "p": 3.0},
    **{"values": 0.5 ** np.arange(8), "n": 2, "T": 3, "d": 10, "K": 6, "x": np.eye(2)},
    **{"graph": attsvm.theory.token_priority_graphs(NEXT).popitem()[1], "steps": 8},
    "table": Table((), ()),
}
WEIGHTS = attsvm.theory.predict_next(NEXT, np.eye(9)).attention
OF_NEXT_TOKENS = {"data": NEXT, "W": np.eye(9)}
OF_FUNCTION = {
    **dict.fromkeys(("predict_next", "cyclic_subspace", "optimal_loss"), OF_NEXT_TOKENS),
    "graph_svm": {"data": NEXT, "attention": WEIGHTS},
    "finite_part": {"data": DATA, "attention": RUN.attention},
    "fit_rate": {"steps": np.arange(1, 9)},
}
ANYTHING = {("run", "scheduler"), ("heads", "norm")}
"""What a Dask client may be, and what is only looked up in a dataset."""


def cases():
    """Each public function with each of its arguments."""
    seen = set()
    modules = (attsvm, attsvm.theory, attsvm.functional, attsvm.plots, attsvm.studies)
    for module in (*modules, attsvm.datasets):
        for name in module.__all__:
            function = getattr(module, name)
            if not inspect.isfunction(function) or function in seen:
                continue
            seen.add(function)
            for parameter in inspect.signature(function).parameters.values():
                named = parameter.kind is not parameter.VAR_KEYWORD
                if named and (name, parameter.name) not in ANYTHING:
                    yield pytest.param(function, parameter, id=f"{name}-{parameter.name}")


def arguments(function):
    """Right values of the arguments without a default, and of those without which others rest."""
    known = inspect.signature(function).parameters
    needed = [p.name for p in known.values() if p.default is p.empty]
    own = OF_FUNCTION.get(function.__name__, {})
    return {name: RIGHT.get(name) for name in needed} | {
        name: value for name, value in own.items() if name in known
    }


@pytest.mark.parametrize(("function", "parameter"), [*cases()])
def test_another_type_is_refused_by_name(function, parameter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("matplotlib")
    pytest.importorskip("numcodecs")
    RIGHT["results"] = pytest.importorskip("xarray").Dataset()
    annotation = str(parameter.annotation)
    wrong = [object()] if parameter.name == "x" else [object(), 1j]  # softmax of complex numbers
    if re.search(rf"\b({OURS}|Outcome|bool)\b", annotation) and parameter.name != "certify":
        wrong += ["yes", *([1] if "bool" in annotation else [{}, STUDY])]
        if "Study" in annotation:
            wrong.remove(STUDY)
        if not (parameter.default is None or "None" in annotation):
            wrong.append(None)
    for value in wrong:
        with pytest.raises((TypeError, ValueError), match=rf"^{parameter.name}\b.*: expected "):
            function(**{**arguments(function), parameter.name: value})


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: attsvm.StepRule("gd", momentum=0.5, nesterov="yes"), "nesterov"),
        (lambda: attsvm.AttentionData.per_position(np.ones((1, 2, 2)), [[1, 1]], causal=1),
         "causal"),
    ],
)  # fmt: skip
def test_what_is_no_bool_is_refused_in_classes(call, name):
    with pytest.raises(TypeError, match=rf"^{name}: expected True or False, got "):
        call()
