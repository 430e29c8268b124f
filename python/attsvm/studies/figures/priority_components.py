"""Strongly connected components of token-priority graphs: the more data, the fewer."""

from __future__ import annotations

import numpy as np

from attsvm.data import NextTokenData
from attsvm.data.token_priorities import label_preferences, token_priorities
from attsvm.datasets import next_token
from attsvm.studies.reproduce.drawing import Canvas, band
from attsvm.studies.reproduce.figure import Array, Data, Figure, Task
from attsvm.studies.reproduce.palette import CYCLE, INK

FIGURE = Figure.of(__name__)
_K = FIGURE.settings["K"]
_SIZES, _LENGTHS = FIGURE.settings["sizes"], FIGURE.settings["lengths"]


def components(data: NextTokenData) -> Array:
    """Compute the mean number of components of the graphs of all K last tokens, (B,).

    A token without edges is a component of its own, so a graph of no edges has K.
    """
    graphs = token_priorities(data, label_preferences(data))
    total = len(data.contexts) * data.K
    of_nodes = np.bincount(graphs.graph_of_component, minlength=total)
    single = data.K - np.bincount(graphs.graph, minlength=total)
    return np.asarray((of_nodes + single).reshape(-1, data.K).mean(axis=1))


def of_pairs(n: float, K: int = _K) -> float:
    """Compute the expected number of components where contexts are pairs (j, k), T = 2.

    All edges of the graph of k are between k and another token, which is in the component of k once
    both have been the label. n contexts are one given pair with one given label with probability
    1 / 2K(K-1) each.
    """
    share = 1 / (2 * K * (K - 1))
    both = 1 - 2 * (1 - share) ** n + (1 - 2 * share) ** n
    return float(K - (K - 1) * both)


def of_permutations(n: float, K: int = _K) -> float:
    """Compute the expected number where contexts hold the whole vocabulary, T = K.

    A label has an edge to every other token: in the graph of k the labels are one component, and
    every other token is one by itself. Each of K² pairs of label and last token is equally likely.
    """
    never_label, no_context = (1 - 1 / K**2) ** n, (1 - 1 / K) ** n
    return float(K * never_label + 1 - no_context)


_EXPECTED = {2: of_pairs, _K: of_permutations}


def compute(task: Task) -> Data:
    """Count components for all numbers of contexts and all lengths."""
    options = {"batch": task["instances"], "rng": task["seed"]}

    def count(n: int, T: int) -> Array:
        return components(next_token(n, T, _K, _K, **options))

    counts = np.array([[count(n, T) for n in _SIZES] for T in _LENGTHS])
    mean, error = counts.mean(axis=2), counts.std(axis=2, ddof=1) / np.sqrt(counts.shape[2])
    for T, exact in _EXPECTED.items():
        expected = [exact(n) for n in task["compared"]]
        task.check(f"mean {T}", counts[_LENGTHS.index(T)], _SIZES, expected=expected)
    task.check("first", mean[:, 0])
    task.check("falls", (np.diff(mean) <= 0).all(axis=1))
    task.check("last", mean[:, -1])
    for n in task["by_length"]:
        column, errors = (table[:, _SIZES.index(n)] for table in (mean, error))
        rise = (np.diff(column) / np.hypot(errors[1:], errors[:-1])).max()
        task.check("rise", [rise], at=[n])
        task.check("fewer", [column[-1]], at=[n], expected=column[0])
    return {"counts": counts}


def draw(canvas: Canvas, data: Data) -> None:
    """Plot against the number of contexts for every length, and the other way round."""
    counts = data["counts"]
    by_size, by_length = canvas.subplots(1, 2, sharey=True)
    for T, of_length, colour in zip(_LENGTHS, counts, CYCLE, strict=False):
        band(by_size, _SIZES, of_length.T, colour, f"T = {T}", within=(1, _K),
             marker="o", markersize=4)  # fmt: skip
    n = np.geomspace(_SIZES[0], _SIZES[-1], 200)
    for T, exact in _EXPECTED.items():
        label = "closed form" if T == _K else None
        by_size.plot(n, [exact(x) for x in n], "--", color=INK, linewidth=1, label=label)
    by_size.set(title="(a)", xlabel="contexts n", ylabel="components of a graph, ± 1 std")
    by_size.set_xscale("log", base=2)
    by_size.set_xticks(_SIZES[::2], [str(size) for size in _SIZES[::2]])
    for size, colour in zip(FIGURE.settings["by_length"], CYCLE, strict=False):
        of_size = counts[:, _SIZES.index(size)]
        by_length.errorbar(_LENGTHS, of_size.mean(axis=1), of_size.std(axis=1), fmt="o-",
                           color=colour, markersize=4, capsize=3, label=f"n = {size}")  # fmt: skip
    by_length.set(title="(b)", xlabel="tokens of a context T", ylim=(0.6, _K + 0.4),
                  xticks=_LENGTHS)  # fmt: skip
    for axes in (by_size, by_length):
        axes.legend()
