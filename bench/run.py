"""A run of the benchmark: rows measured, results written."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from attsvm.studies.environment import version
from bench.contenders import CONTENDERS, Processes
from bench.hardware import hardware_facts
from bench.measure import Pace, measure
from bench.report import HERE, markdown, write
from bench.rows import ROWS, Row
from bench.unfinished import Unfinished

_QUICK = Pace(rounds=3, run=0.1, budget=2.0)
_BUSY = 0.5
_SIZES = {"n": 256, "T": 64, "d": 128}
_SWEEPS = {
    "n": (4, 16, 64, 256, 1024, 4096),
    "T": (4, 16, 64, 256, 1024),
    "d": (8, 32, 128, 512, 2048),
}
PEERS = [name for name in CONTENDERS if name not in ("attsvm", "limit")]
NAMES = [*ROWS, "scaling"]


def main() -> int:
    """Return 1 if a contender gave another answer than attsvm or broke down."""
    arguments = _parser().parse_args()
    pace = _QUICK if arguments.quick else Pace()
    chosen = arguments.rows or NAMES
    parts = (
        "Quick: fewer and shorter rounds." * arguments.quick,
        f"Some rows: {', '.join(chosen)}." if arguments.rows else "",
        f"Some peers: {', '.join(arguments.peers)}." if arguments.peers else "",
    )
    selection = " ".join(filter(None, parts))
    whole = not (arguments.rows or arguments.peers or arguments.quick)
    folder = arguments.out or (HERE if whole else HERE.parent / "out" / "bench")
    hardware = hardware_facts()
    versions = {name: version(name) for c in CONTENDERS.values() for name in c.packages}
    of_run = {"processor": hardware["processor"], "versions": versions, "selection": selection}
    unfinished = Unfinished(folder, of_run, arguments.resume)
    begin = time.perf_counter()
    with Processes() as processes:

        def measured(name: str, row: Row) -> dict[str, Any]:
            print(f"{name} ...", file=sys.stderr, flush=True)
            return measure(processes, row, pace, arguments.peers)

        rows = [
            unfinished.get(name, partial(measured, name, row))
            for name, row in ROWS.items()
            if name in chosen
        ]
        points = list(_scaling(processes, pace, unfinished)) if "scaling" in chosen else []
    busiest = max((row["processors_busy_with_others"] for row in rows), default=0.0)
    results = {
        "hardware": hardware,
        "versions": versions,
        "date": datetime.now(timezone.utc).isoformat(timespec="minutes"),
        "seconds": time.perf_counter() - begin,
        "selection": selection,
        "load": f"Other programs kept up to {busiest:.2f} processors busy"
        + (", so the times are not reliable." if busiest > _BUSY else " in any row."),
        "rows": rows,
        "scaling": points,
    }
    write(results, folder)
    unfinished.end()
    print(markdown(results))
    failed = [one for row in rows for one in row["contenders"] if one["status"] == "failed"]
    for one in failed:
        print(f"failed: {one['title']}: {one['reason']}", file=sys.stderr)
    return 1 if failed else 0


def _scaling(processes: Processes, pace: Pace, unfinished: Unfinished) -> Iterator[dict[str, Any]]:
    """Measure one step at each value of n, T and d, the others as in the middle of the plot."""
    short = replace(pace, rounds=3, run=min(pace.run, 0.1), budget=1.0)

    def measured(variable: str, sizes: dict[str, int]) -> dict[str, Any]:
        print(f"one step, {sizes} ...", file=sys.stderr, flush=True)
        contenders = ("attsvm", "read", "products", "jax", "torch")
        row = Row("", "", "step", {"kind": "descent", **sizes}, contenders)
        found = measure(processes, row, short)["contenders"]
        times = {one["name"]: one["seconds"] and one["seconds"][1] for one in found}
        return {"variable": variable, **sizes, **times}

    for variable, values in _SWEEPS.items():
        for value in values:
            sizes = {**_SIZES, variable: value}
            yield unfinished.get(f"{variable}={value}", partial(measured, variable, sizes))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Time attsvm beside other libraries."
    )

    def some_of(choices: Collection[str]) -> Callable[[str], list[str]]:
        def names(text: str) -> list[str]:
            for name in (chosen := text.split(",")):
                if name not in choices:
                    expected = ", ".join(choices)
                    raise argparse.ArgumentTypeError(f"{name!r}: expected some of {expected}")
            return chosen

        return names

    for option, choices in (("rows", NAMES), ("peers", PEERS)):
        text = f"only these {option}, of {', '.join(choices)}"
        parser.add_argument(f"--{option}", type=some_of(choices), metavar="NAME,...", help=text)
    parser.add_argument(
        "--resume", action="store_true", help="go on after the last row of a run that was cut off"
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder to write (default: bench; out/bench for anything but a full run)",
    )
    return parser
