"""Figures of problems and of the solutions of their SVMs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from attsvm._validation import as_instance
from attsvm.data import AttentionData, NextTokenData
from attsvm.plots.style import GRID, add_legend, new_figure
from attsvm.studies.reproduce.palette import BLUE, GREY, INK, RED
from attsvm.svm import SVMSolution
from attsvm.theory.token_scores import scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def solution(result: SVMSolution) -> Figure:
    """Draw the margins of an SVM, smallest first, and the multipliers of its constraints.

    Of an infeasible problem the multipliers that prove it are drawn; of a batch the norms of the
    solutions, smallest first, and the certificates of all.
    """
    if not isinstance(as_instance("result", result, SVMSolution).status, str):
        return _solutions(result)
    with new_figure(5.0 if result.feasible else 2.6, 2.5) as figure:
        if result.margins is None or result.dual is None or result.support is None:
            assert result.certificate is not None
            axes = figure.subplots()
            proof = np.sort(result.certificate[result.certificate > 0])[::-1]
            axes.plot(proof, ".", color=RED, markersize=3)
            axes.locator_params(axis="x", integer=True)
            axes.set_ylim(bottom=0.0)
            axes.set(xlabel="constraint, sorted", ylabel="multiplier", title="infeasible: proof")
            return figure
        constraints = np.isfinite(result.margins)
        order = np.argsort(result.margins[constraints], kind="stable")
        place = np.arange(order.size)
        active = result.support[constraints][order]
        panels = figure.subplots(1, 2)
        for axes, values, label in (
            (panels[0], result.margins[constraints][order], "margin"),
            (panels[1], result.dual[constraints][order], "multiplier λ"),
        ):
            for which, colour, name in (
                (~active, GREY, "other constraints"), (active, BLUE, "support vectors"),
            ):  # fmt: skip
                axes.plot(place[which], values[which], ".", color=colour, markersize=3, label=name)
            axes.set(xlabel="constraint, by margin", ylabel=label)
            axes.locator_params(axis="x", integer=True)
            axes.grid(**GRID)
        panels[0].axhline(1.0, color=INK, linewidth=0.6)
        panels[0].set_ylim(bottom=0.0)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def _solutions(result: SVMSolution) -> Figure:
    """Draw the norms of a batch of solutions, and how well each is certified."""
    order = np.argsort(result.norm, kind="stable")  # that of infeasible problems is inf
    place = np.arange(order.size)
    feasible = np.asarray(result.feasible)[order]
    with new_figure(5.0, 2.5) as figure:
        norms, certificates = figure.subplots(1, 2, sharex=True)
        norms.plot(place[feasible], result.norm[order][feasible], ".", color=INK, markersize=3)
        norms.set_ylabel(f"norm of {result.variable}")
        for which, values, colour, name in (
            (feasible, result.kkt, GREY, "optimality residual"),
            (feasible, result.gap, BLUE, "duality gap"),
            (~feasible, result.kkt, RED, "residual of the proof, infeasible"),
        ):
            if which.any():
                certificates.plot(
                    place[which], values[order][which], ".", color=colour, markersize=3, label=name
                )
        certificates.set_yscale("symlog", linthresh=1e-17)
        certificates.set(ylabel="certificate, relative", ylim=(0, None))
        for axes in (norms, certificates):
            axes.set_xlabel("problem, by norm")
            axes.locator_params(axis="x", integer=True)
            axes.grid(**GRID)
        add_legend(figure)
    return figure


def data(problem: AttentionData | NextTokenData) -> Figure:
    """Draw token scores, or norms of tokens where there is no head, or counts of next tokens.

    Of one problem: a map of the scores Y_i v'x_it, or of the norms |x_it|, over inputs and tokens;
    of next-token data, how often each id follows each last id.
    """
    if as_instance("problem", problem, AttentionData, NextTokenData).batch is not None:
        raise ValueError(
            f"problem: expected one problem, got a batch of {problem.batch}, of which "
            "data.problem(b) is one"
        )
    if isinstance(problem, NextTokenData):
        values = np.zeros((problem.K, problem.K))
        np.add.at(values, (problem.last, problem.labels), 1)
        shown = {"xlabel": "next id", "ylabel": "last id"}
        label, colours = "contexts", "Blues"
    else:
        scored = problem.value is not None
        values = scores(problem) if scored else np.linalg.norm(problem.tokens, axis=-1)
        values = np.where(problem.valid, values, np.nan)
        shown = {"xlabel": "token", "ylabel": "input"}
        label = "score $Y_i v'x_{it}$" if scored else "norm $|x_{it}|$"
        colours = "RdBu" if scored else "Blues"
    with new_figure(3.6, 2.8) as figure:
        axes = figure.subplots()
        limit = float(np.nanmax(np.abs(values)))
        lowest = -limit if colours == "RdBu" else 0.0
        image = axes.imshow(values, cmap=colours, vmin=lowest, vmax=limit, aspect="auto")
        axes.set(**shown)
        axes.locator_params(integer=True)
        figure.colorbar(image, ax=axes, label=label)
    return figure
