"""``python -m bench``: run the rows, write ``results.json``, ``results.md`` and ``scaling.png``."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Collection
from datetime import datetime, timezone
from pathlib import Path

from bench.contenders import CONTENDERS, Team
from bench.machine import machine_facts
from bench.measure import Measured, measure
from bench.report import markdown, row_line
from bench.rounds import Pace
from bench.rows import ROWS
from bench.scaling import SWEEPS, draw, sweep

_FULL = Pace()
_QUICK = Pace(rounds=3, run=0.1, budget=2.0)
_BUSY = 0.5
HERE = Path(__file__).resolve().parent


def main() -> int:
    """Exit status 1 if a contender gave an answer of its own or broke down."""
    arguments = _parser().parse_args()
    pace = _QUICK if arguments.quick else _FULL
    names = arguments.rows or [*(row.name for row in ROWS), "scaling"]
    how = "Quick: fewer and shorter rounds. " if arguments.quick else ""
    how += f"Some rows: {', '.join(names)}. " if arguments.rows else ""
    how += f"Some peers: {', '.join(arguments.peers)}. " if arguments.peers else ""
    machine = machine_facts()
    warnings = []
    if machine["load_before"] > _BUSY:
        warnings.append(
            f"The load was {machine['load_before']:.1f} before it began: others were computing, "
            "and the figures are not to be trusted."
        )
    began = time.perf_counter()
    rows: list[Measured] = []
    curves = []
    with Team() as team:
        for row in ROWS:
            if row.name in names:
                print(f"{row.name} ...", file=sys.stderr, flush=True)
                rows.append(measure(team, row, pace, arguments.peers))
                print(row_line(rows[-1]), file=sys.stderr, flush=True)
        if "scaling" in names:
            for variable in SWEEPS:
                print(f"scaling with {variable} ...", file=sys.stderr, flush=True)
                curves.append(sweep(team, variable, pace))
        versions = team.versions()
    others = [row.others for row in rows if row.others is not None]
    if others and max(others) > _BUSY:
        warnings.append(
            f"Others kept up to {max(others):.1f} processors busy while rows were measured."
        )
    facts = {
        "machine": machine,
        "versions": versions,
        "date": datetime.now(timezone.utc).isoformat(timespec="minutes"),
        "seconds": time.perf_counter() - began,
        "how": how.strip(),
        "warnings": warnings,
    }
    whole = not (arguments.rows or arguments.peers or arguments.quick)
    out: Path = arguments.out or (HERE if whole else HERE.parent / "out" / "bench")
    out.mkdir(parents=True, exist_ok=True)
    record = {
        **facts,
        "rows": [row.record() for row in rows],
        "scaling": [curve.record() for curve in curves],
    }
    (out / "results.json").write_text(json.dumps(record, indent=1) + "\n")
    page = markdown(facts, rows)
    (out / "results.md").write_text(page)
    if curves:
        draw(curves, out / "scaling.png")
    print(page)
    broken = [one for row in rows for one in row.timed if one.status == "failed"]
    for one in broken:
        print(f"failed: {one.entry.name}: {one.reason}", file=sys.stderr)
    return 1 if broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Time attsvm next to its peers."
    )

    def some_of(choices: Collection[str]) -> Callable[[str], list[str]]:
        def names(text: str) -> list[str]:
            chosen = _split(text)
            for name in chosen:
                if name not in choices:
                    expected = ", ".join(choices)
                    raise argparse.ArgumentTypeError(f"{name!r}: expected some of {expected}")
            return chosen

        return names

    peers = [name for name in CONTENDERS if name not in ("attsvm", "limit")]
    rows = [*(row.name for row in ROWS), "scaling"]
    parser.add_argument("--rows", type=some_of(rows), metavar="NAME,...", help="only these rows")
    parser.add_argument(
        "--peers",
        type=some_of(peers),
        metavar="NAME,...",
        help=f"only these peers, of {', '.join(peers)}",
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder to write (default: bench; out/bench for anything but a full run)",
    )
    return parser


def _split(text: str) -> list[str]:
    """Names between commas; those within brackets belong to a name."""
    names, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            names.append("")
        else:
            names[-1] += letter
    return names


if __name__ == "__main__":
    sys.exit(main())
