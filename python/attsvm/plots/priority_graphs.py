"""Figures of token-priority graphs."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attsvm._arrays import IndexArray
from attsvm._validation import as_instance, as_positive_int
from attsvm.plots.style import add_caption, new_figure
from attsvm.studies.reproduce.palette import INK, SAND
from attsvm.theory.priority_graphs import TokenPriorityGraph

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TOKENS_OF_BOX = 24
_BOXES_OF_LINE = 8


def token_priority_graph(
    graph: TokenPriorityGraph,
    vocabulary: Sequence[str] | NDArray[np.str_] | None = None,
    *,
    most: int = 40,
) -> Figure:
    """Draw the token-priority graph of one last token: components as boxes, priorities as arrows.

    Priorities go down. Arrows that follow from others are left out; so are tokens without an edge.
    A coloured box is a component of several tokens. A dashed box holds single tokens with the same
    priorities, each a component by itself.

    Parameters
    ----------
    graph : TokenPriorityGraph
        One of `attsvm.token_priority_graphs`.
    vocabulary : sequence of str, optional
        Names of the ids, such as ``data.vocabulary``; by default the ids themselves.
    most : int
        Boxes drawn, those of highest priority.
    """
    groups = _alike(as_instance("graph", graph, TokenPriorityGraph))
    if vocabulary is not None:
        as_instance("vocabulary", vocabulary, list, tuple, np.ndarray)
        ids = max([graph.last, *(int(tokens.max()) for tokens in graph.components)]) + 1
        if (names := len(vocabulary)) < ids:
            raise ValueError(f"vocabulary: expected names of {ids} ids or more, got {names}")
    as_positive_int("most", most)
    drawn = groups[:most]
    lines = _lines(graph, drawn)
    places = {
        box: ((k + 0.5) / len(line), -float(at))
        for at, line in enumerate(lines)
        for k, box in enumerate(line)
    }
    box_of = {c: box for box, group in enumerate(drawn) for c in group}
    height = max(len(lines), 1)
    width = max(3.2, 1.6 * max((len(line) for line in lines), default=1))
    with new_figure(width, 0.8 + 0.95 * height) as figure:
        axes = figure.add_subplot()
        axes.set_axis_off()
        axes.set_xlim(0, 1)
        axes.set_ylim(0.5 - height, 0.5)
        patches = {}
        for box, place in places.items():
            group = drawn[box]
            tokens = np.concatenate([graph.components[c] for c in group])
            style: dict[str, Any] = {
                "boxstyle": "round,pad=0.35",
                "facecolor": SAND if len(tokens) > len(group) else "white",
                "edgecolor": INK,
                "linewidth": 0.7,
                "linestyle": "--" if len(group) > 1 else "-",
            }
            label = _box_text(tokens, vocabulary)
            text = axes.text(*place, label, ha="center", va="center", zorder=2, bbox=style)
            patches[box] = text.get_bbox_patch()
        arrows = {
            (box_of[above], box_of[below])
            for above, below in graph.condensation.tolist()
            if above in box_of and below in box_of
        }
        for above, below in sorted(arrows):
            ends = {"patchA": patches[above], "patchB": patches[below], "shrinkA": 2, "shrinkB": 2}
            style = {"arrowstyle": "-|>", "color": INK, "linewidth": 0.6, **ends}
            # After the boxes, whose places at the time cut the arrows off.
            axes.annotate("", places[below], places[above], zorder=3, arrowprops=style)
        left_out = sum(len(group) for group in groups[most:])
        more = f"; {left_out} components of lower priority are not drawn" if left_out else ""
        axes.set_title(f"last token {_token_name(graph.last, vocabulary)}{more}", loc="left")
        legend = "yellow: component of several tokens; dashed: tokens with the same priorities"
        add_caption(figure, legend)
    return figure


def _alike(graph: TokenPriorityGraph) -> list[list[int]]:
    """Group single tokens that have the same arrows to and from them; other components alone."""
    above: dict[int, set[int]] = {}
    below: dict[int, set[int]] = {}
    for upper, lower in graph.condensation.tolist():
        above.setdefault(lower, set()).add(upper)
        below.setdefault(upper, set()).add(lower)
    groups: dict[Any, list[int]] = {}
    for c, tokens in enumerate(graph.components):
        arrows = (frozenset(above.get(c, ())), frozenset(below.get(c, ())))
        groups.setdefault(arrows if len(tokens) == 1 else c, []).append(c)
    return list(groups.values())


def _lines(graph: TokenPriorityGraph, groups: list[list[int]]) -> list[list[int]]:
    """Sort groups by the levels of their components, at most eight groups in a line."""
    level = np.zeros(len(graph.components), dtype=np.int64)
    level[graph.component] = graph.level
    boxes = sorted(range(len(groups)), key=lambda box: level[groups[box][0]])
    levels = itertools.groupby(boxes, key=lambda box: level[groups[box][0]])
    lines = [list(line) for _, line in levels]
    size = _BOXES_OF_LINE
    return [line[k : k + size] for line in lines for k in range(0, len(line), size)]


def _box_text(tokens: IndexArray, vocabulary: Sequence[str] | NDArray[np.str_] | None) -> str:
    shown = ", ".join(_token_name(int(token), vocabulary) for token in tokens[:_TOKENS_OF_BOX])
    left_out = len(tokens) - _TOKENS_OF_BOX
    return textwrap.fill(shown if left_out <= 0 else f"{shown}, … {left_out} more", 28)


def _token_name(token: int, vocabulary: Sequence[str] | NDArray[np.str_] | None) -> str:
    word = str(token) if vocabulary is None else str(vocabulary[token])
    printed = repr(word)[1:-1] if word.strip() else repr(word)
    return printed.replace("$", r"\$")
