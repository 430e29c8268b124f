"""An object of another type, or what is no bool, is refused by name in every public function."""

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
    **{"weight_decay": 0.1, "source": "a b c"},
}
OF_NEXT_TOKENS = ("graph_svm", "predict_next", "cyclic_subspace", "optimal_loss")


def cases():
    """Each public function with each argument of a type of this package, and each bool."""
    seen = set()
    modules = (attsvm, attsvm.theory, attsvm.functional, attsvm.plots, attsvm.studies)
    for module in (*modules, attsvm.datasets):
        for name in module.__all__:
            function = getattr(module, name)
            if not inspect.isfunction(function) or function in seen:
                continue
            seen.add(function)
            for parameter in inspect.signature(function).parameters.values():
                annotation = str(parameter.annotation)
                if re.search(rf"\b({OURS}|Outcome|bool)\b", annotation):
                    yield pytest.param(function, parameter, id=f"{name}-{parameter.name}")


def arguments(function):
    """Right values of the arguments without a default."""
    needed = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    right = {p.name: RIGHT.get(p.name) for p in needed}
    if function.__name__ in OF_NEXT_TOKENS:
        right.update({name: value for name, value in {"data": NEXT, "W": np.eye(9)}.items()
                      if name in right})  # fmt: skip
    return right


@pytest.mark.parametrize(("function", "parameter"), [*cases()])
def test_another_type_is_refused_by_name(function, parameter):
    pytest.importorskip("matplotlib")
    pytest.importorskip("zarr")
    wrong = [object(), "yes", *([1] if "bool" in str(parameter.annotation) else [{}, STUDY])]
    if not (parameter.default is None or "None" in str(parameter.annotation)):
        wrong.append(None)
    if parameter.name == "certify":  # a name of a norm, or a bool
        wrong = [object(), None]
    if "Study" in str(parameter.annotation):
        wrong.remove(STUDY)
    for value in wrong:
        with pytest.raises((TypeError, ValueError), match=rf"^{parameter.name}\b"):
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
