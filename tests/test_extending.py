"""The listings of the page on extending attsvm go into the sources; built, they are right."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
CORE = "cpp/include/attsvm"
LISTINGS = {
    # what a listing defines: its file, the text it stands before, and the entries of lists
    "struct Sigmoid": (f"{CORE}/losses.hpp", "using Losses =", [("Squared>", "Squared, Sigmoid>")]),
    "struct TanhHead": (
        f"{CORE}/heads.hpp",
        "using Heads =",
        [("ReluHead,", "ReluHead, TanhHead,")],
    ),
    "class Tanh": (
        "python/attsvm/heads.py",
        "@dataclass(frozen=True, eq=False, init=False)\nclass Penalised",
        [('"Softmax"]', '"Softmax", "Tanh"]')],
    ),
    "struct RowGeometry": (
        f"{CORE}/geometries.hpp",
        "using Geometries =",
        [("LpGeometry, ", "LpGeometry, RowGeometry, ")],
    ),
    "struct ClippedGradient": (
        f"{CORE}/step_rules.hpp",
        "using Updates =",
        [("PolyakGradient, ", "PolyakGradient, ClippedGradient, ")],
    ),
    "struct Diagonal": (
        f"{CORE}/parameterisation.hpp",
        "using Parameterisations =",
        [("DiagonalFactors>", "DiagonalFactors, Diagonal>")],
    ),
}
CHECK = """
import numpy as np
import attsvm
from attsvm.functional import loss_and_grad
from attsvm.heads import Tanh
from attsvm.studies.measurements import PARAMETERS

data = attsvm.datasets.unit_sphere(4, 5, 6, rng=0)
rng = np.random.default_rng(1)
W, V, w = (rng.standard_normal(shape) for shape in ((6, 6), (6, 3), 3))
logits = np.einsum("itd,id->it", data.tokens, data.queries @ W.T)
s = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
mixtures = np.einsum("it,itd->id", s, data.tokens)


def check(margins, formula, **options):
    value, gradient = loss_and_grad(data, {"W": W}, **options)
    assert abs(float(value) - np.mean(formula(margins))) < 1e-14
    units = 1e-5 * np.eye(36).reshape(36, 6, 6)
    differences = [
        float(loss_and_grad(data, {"W": W + e}, **options)[0])
        - float(loss_and_grad(data, {"W": W - e}, **options)[0])
        for e in units
    ]
    assert np.allclose(gradient["W"].ravel(), np.array(differences) / 2e-5, rtol=1e-6, atol=1e-9)


check(data.labels * (mixtures @ data.value), lambda m: 1 / (1 + np.exp(m)), loss="sigmoid")
check(data.labels * (np.tanh(mixtures @ V) @ w), lambda m: np.log1p(np.exp(-m)), head=Tanh(V, w))

run = attsvm.train(data, loss="sigmoid", steps=5000)
assert attsvm.cosine(run.W, attsvm.att_svm(data, run.selected).W) > 0.999
assert run.history["loss_gap"][-1] < 1e-30

few = attsvm.datasets.unit_sphere(2, 3, 8, rng=2)
run = attsvm.train(few, rule=attsvm.StepRule("ngd", norm="row"), lr=0.25, steps=3)
W = np.zeros((8, 8))
for _ in range(3):
    G = loss_and_grad(few, {"W": W})[1]["W"]
    W -= 0.25 * G / np.linalg.norm(G, axis=0)
assert np.allclose(run.W, W, rtol=1e-12)

run = attsvm.train(few, rule="clipped", lr=2.0, steps=3)
W = np.zeros((8, 8))
for _ in range(3):
    G = loss_and_grad(few, {"W": W})[1]["W"]
    W -= 2.0 * G * min(1.0, 1.0 / np.linalg.norm(G))
assert np.allclose(run.W, W, rtol=1e-12)

w = rng.standard_normal(6)
value, gradient = loss_and_grad(data, {"w": w})
expected, by_w = loss_and_grad(data, {"W": np.diag(w)})
assert abs(value - expected) < 1e-15
assert np.allclose(gradient["w"], np.diag(by_w["W"]), rtol=1e-12, atol=1e-16)
many = attsvm.datasets.unit_sphere(4, 5, 6, batch=12, rng=3)
for problem in (data, many):
    run = attsvm.train(problem, parameter="diagonal", reference=np.eye(6), steps=500, certify=True)
    w = run.parameters["w"]
    assert np.array_equal(run.W, w[..., np.newaxis] * np.eye(6)) and run.W.any()
    axes = np.broadcast_to(np.eye(6), run.W.shape)
    assert np.allclose(attsvm.cosine(run.W, axes, axis=(-2, -1)), run.history["cosine"][..., -1])
    assert np.allclose(run.history["norm"][..., -1], np.linalg.norm(w, axis=-1))
joint = attsvm.train(data, parameter="v+diagonal", init={"w": w[0], "v": np.ones(6)}, steps=3)
assert joint.parameters.keys() == {"w", "v"}
try:
    attsvm.train(data, parameter="diag")
except ValueError as error:
    assert "'diagonal'" in str(error)
assert "diagonal" in PARAMETERS
print("all hold")
"""


def listing(definition):
    """Return the code block of the page that has the definition."""
    blocks = re.findall(r"^```(?:cpp|python)\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    (found,) = [block for block in blocks if re.search(rf"^{definition}\b", block, re.MULTILINE)]
    return found


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Return a copy of the sources with all listings in it."""
    copy = tmp_path_factory.mktemp("extended")
    kept = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True)
    for name in filter(None, kept.stdout.decode().split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, copy / name)
    for definition, (name, place, entries) in LISTINGS.items():
        text = (copy / name).read_text(encoding="utf-8")
        space = "\n\n" if name.endswith(".py") else "\n"
        for old, new in [(place, listing(definition) + space + place), *entries]:
            assert text.count(old) == 1, (definition, old)
            text = text.replace(old, new)
        (copy / name).write_text(text, encoding="utf-8")
    return copy


def test_listings_are_formatted(tree):
    for command in (["ruff", "check"], ["ruff", "format", "--check"]):
        subprocess.run(
            [sys.executable, "-m", *command, "python/attsvm/heads.py"], cwd=tree, check=True
        )


@pytest.mark.slow
def test_built_listings_are_right(tree, tmp_path):
    """One instruction set that every processor has; some minutes of compiling."""
    install = ["install", "--quiet", "--no-deps", "--target", tmp_path / "site"]
    option = ["-C", "cmake.define.ATTSVM_ISA_LEVELS=baseline"]
    subprocess.run([sys.executable, "-m", "pip", *install, *option, tree], check=True)
    # An editable installation finds its own package before any path does.
    start = (
        "import sys\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if 'Redirecting' not in type(f).__name__]\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import attsvm; assert attsvm.__file__.startswith(sys.argv[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", start + CHECK, tmp_path / "site"],
        env={**os.environ, "ATTSVM_ISA": "baseline"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "all hold\n"
