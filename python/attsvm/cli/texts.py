"""``attsvm train --text FILE``."""

from __future__ import annotations

import argparse

import numpy as np

from attsvm import plots
from attsvm._validation import as_float_in, number_text
from attsvm.cli.output import can_draw, say_facts, watched, write_arrays, write_figure
from attsvm.cli.parsing import refuse_unused
from attsvm.cli.problems import output_of_run
from attsvm.cli.training import (
    DRAWN_GRAPHS,
    OF_TEXTS,
    arrays_of_run,
    options_of_training,
    seed_in_words,
    settle_seed,
)
from attsvm.data.whole_file import place_of_directory
from attsvm.datasets import text
from attsvm.descent import train
from attsvm.svm import graph_svm
from attsvm.theory import cosine, cyclic_subspace, predict_next, token_priority_graphs
from attsvm.theory.composition import composition, loss_of_composition


def train_on_text(arguments: argparse.Namespace) -> None:
    """Train on the next tokens of a text, and compare with its Graph-SVM and finite part."""
    refuse_unused(arguments, ("index", "value", "prompt", "init", "test"), "for text")
    settle_seed(arguments, arguments.batch_size is not None, "for text without mini-batches")
    if arguments.graphs is None:
        refuse_unused(arguments, ["format"], "without --graphs")
    for name, only in (("parameter", "W"), ("loss", "log")):
        value = getattr(arguments, name)
        if value not in (None, only):
            raise ValueError(f"--{name}: expected {only} for text, got {value}")
    chosen = {name: getattr(arguments, name) for name in OF_TEXTS}
    options = {name: OF_TEXTS[name] if x is None else x for name, x in chosen.items()}
    share = as_float_in("held_out", options.pop("held_out"), 0, 1, ends="[)")
    graphs_in = options.pop("graphs")
    data = text(arguments.text, **options)
    early = np.arange(data.n) < max(1, round(data.n * (1 - share)))
    seen = data.subset(early)
    training = options_of_training(arguments)
    out = output_of_run(arguments, "W", seen, training)
    if graphs_in is not None:
        place_of_directory("graphs", graphs_in)
    graphs = token_priority_graphs(seen)
    with watched("Graph-SVM", arguments.quiet):
        solution = graph_svm(seen)
    if solution.W is None:
        raise ValueError("data: expected embeddings with a feasible Graph-SVM, got infeasible")
    space = cyclic_subspace(seen)
    composed = composition(space)
    finite = space.lift(composed)
    points = solution if solution.norm > 0 else None
    result = train(seen, reference=points, **training)
    W = result.direction
    svm = {"vocabulary": data.vocabulary, "svm": solution.W, "finite_part": finite}
    write_arrays(out, {**arrays_of_run(arguments, result), **svm})
    components = [len(each) for graph in graphs.values() for each in graph.components]
    loss = result.history["loss"][-1]
    lr = "" if arguments.lr is None else f"lr {number_text(arguments.lr)}, "
    facts = {
        "text": f"{arguments.text}: {data.K} different {options['unit']}s, {data.n} contexts of "
        f"{data.T} with their label",
        "graphs": f"{len(graphs)} last tokens, "
        f"{sum(len(graph.edges) for graph in graphs.values())} priorities, "
        f"{len(components)} components, the largest of {max(components, default=0)}",
        "Graph-SVM": f"norm {solution.norm:.9g}, duality gap {solution.gap:.1e} (relative), KKT "
        f"residual {solution.kkt:.1e}",
        "training": f"W from zero, {result.steps} steps of {result.step_rule.text}, {lr}"
        f"{seen.n} contexts",
        **seed_in_words(arguments),
        "loss": f"{loss:.6g}, {loss - loss_of_composition(space, composed):.3e} above its infimum",
        "norm of W": f"{result.history['norm'][-1]:.6g}",
    }
    inside = space.project(W)
    for name, part in (("cosine with Graph-SVM", W), ("without its finite part", W - inside)):
        if points is not None and part.any():
            facts[name] = f"{cosine(part, solution.W):.6f}"
    away = np.linalg.norm(inside - finite)
    facts["finite part"] = f"norm {np.linalg.norm(finite):.6g}, that of W {away:.3g} away"
    rest = {} if early.all() else {"held out": data.subset(~early)}
    for name, contexts in {"training": seen, **rest}.items():
        prediction = predict_next(contexts, W, training=seen, solution=solution)
        facts[f"automaton, {name}"] = (
            f"same next token as the layer in {100 * prediction.agreement:.2f} % of "
            f"{prediction.ids.size} contexts, attention {prediction.distance:.3g} apart"
        )
    written = [out]
    if graphs_in is not None:
        frequency = np.bincount(seen.last, minlength=seen.K)
        frequent = np.argsort(-frequency, kind="stable")[:DRAWN_GRAPHS].tolist()
        for k in frequent if can_draw("a graph") else ():
            if k in graphs:
                figure = plots.token_priority_graph(graphs[k], seen.vocabulary)
                written += write_figure(graphs_in / f"last-{k}", figure, arguments.format)
    say_facts({**facts, "written": ", ".join(map(str, written))})
