"""Tables of the results: ``python -m bench.report`` writes results.md and scaling.png again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from attsvm.studies.reproduce.palette import BLUE, GREY, INK, ORANGE
from bench.contenders import CONTENDERS
from bench.measure import best_peer
from bench.rows import ROWS

HERE = Path(__file__).resolve().parent
_GIB = 2**30
_RATES = {"bytes_per_second": "GB/s", "flops_per_second": "GFLOP/s"}

_INTRODUCTION = """\
Every time is compared with those of other libraries in the same run, after a check that the answers
agree. Contenders take turns; figures are medians over rounds, with quartiles in brackets, and only
ratios within a run mean much. The time of an SVM runs from tokens to multipliers, and for attsvm
its certificate is in it. Targets were set before a row was written; those that are missed are
marked.

The limit of a step is one read of its tokens at the measured speed of memory, plus its two matrix
products at the measured peak, in coordinates of the spans of tokens and of queries.

The set-up is what a run of one step takes beyond a step, once the data are there and everything is
compiled."""


def duration(seconds: float) -> str:
    """Return seconds with three digits and a unit that no line break parts from them."""
    unit, size = next(
        (unit, size)
        for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 0.0))
        if seconds >= size
    )
    return f"{seconds / (size or 1e-9):.3g}\N{NO-BREAK SPACE}{unit}"


def brackets(spread: list[float] | None) -> str:
    if spread is None:
        return ""
    lower, median, upper = spread
    return f"{median:.3g}" + (f" [{lower:.3g}, {upper:.3g}]" if upper > lower else "")


def _target(target: dict[str, Any]) -> str:
    bound, names = target["bound"], target["figure"].split("|")
    titles = [CONTENDERS[name].title if name in CONTENDERS else name for name in names]
    texts = {
        "seconds": f"≤ {duration(bound)}",
        "limit": f"≤ {bound:g} times the limit",
        "setup_reads": f"set-up ≤ {bound:g} reads of the tokens + 0.2 ms",
        "flat": f"equal within {100 * (bound - 1):.0f} %",
        "gap": f"gap ≤ {bound:g}",
        "peak": f"under {bound / _GIB:g} GiB",
    }
    return texts.get(target["figure"], f"≥ {bound:g} times as fast as {' or '.join(titles)}")


def _got(target: dict[str, Any]) -> str:
    if target["got"] is None:
        return "not measured"
    value, times = target["got"][1], brackets(target["got"])
    texts = {
        "seconds": duration(value),
        "limit": f"{times} times the limit",
        "setup_reads": f"set-up of {times} reads + 0.2 ms",
        "flat": f"within {100 * (value - 1):.0f} %",
        "gap": f"gap {value:.1e}",
        "peak": f"{value / _GIB:.2f} GiB",
    }
    text = texts.get(target["figure"], f"{'≥ ' * target['lower_bound']}{times} times")
    return text if target["met"] else f"{text} (missed)"


def _setup(contender: dict[str, Any]) -> str:
    """Return the set-up, which is lost in the noise of steps where it is not above zero."""
    spread = contender["setup"]
    return duration(spread[1]) if spread and spread[1] > 0 else ""


def _accuracy(contender: dict[str, Any]) -> str:
    return ", ".join(
        f"{value / 1e9:.3g} {_RATES[name]}"
        if name in _RATES
        else f"{100 * value:.0f} % same tokens"
        if name == "same tokens"
        else f"{name} {value:.1e}"
        for name, value in contender["accuracy"].items()
    )


def _table(rows: Iterable[dict[str, str]]) -> list[str]:
    """Return a Markdown table, the keys of the rows its heads."""
    table = pd.DataFrame(rows).fillna("").replace(r"([|*_$])", r"\\\1", regex=True)
    lines = [table.columns, ["---"] * len(table.columns), *table.to_numpy()]
    return [f"| {' | '.join(line)} |" for line in lines]


def summary(record: dict[str, Any]) -> dict[str, str]:
    """Return the line of a row in the first table."""
    ours, peer = record["contenders"][0], best_peer(record)
    found = [one["accuracy"] for one in record["contenders"] if "difference" in one["accuracy"]]
    worst = max((accuracy["difference"] for accuracy in found), default=None)
    equal = {None: "", 0.0: "equal bits"}.get(
        worst, f"answers equal to {worst:.0e}" if worst else ""
    )
    return {
        "work": ROWS[record["name"]].title,
        "attsvm": duration(ours["seconds"][1]) if ours["seconds"] else ours["status"],
        "set-up": _setup(ours),
        "target": "; ".join(map(_target, record["targets"])),
        "measured": "; ".join(map(_got, record["targets"])),
        "best peer, times attsvm's": f"{brackets(peer['ratio'])} ({peer['title']})" if peer else "",
        "accuracy": _accuracy(ours) or equal,
    }


def _contenders(record: dict[str, Any]) -> list[str]:
    row = ROWS[record["name"]]
    time = f"time per {row.unit}"
    rows = [
        {
            "contender": one["title"] + (f" ({one['reason']})" if one["role"] == "limit" else ""),
            time: duration(one["seconds"][1]),
            "times attsvm's": brackets(one["ratio"]) if one["role"] == "peer" else "",
            "accuracy": _accuracy(one) + ("" if one["enough"] else " (short of the gap)"),
            "set-up": _setup(one),
            "conversion, compilation": duration(one["preparation"]),
            "peak memory": f"{one['peak'] / _GIB:.2f} GiB" if one["peak"] else "",
        }
        if one["seconds"]
        else {"contender": one["title"], time: f"{one['status']}: {one['reason']}"}
        for one in record["contenders"]
    ]
    for name, reason in row.left_out.items():
        rows.append({"contender": name, time: f"left out: {reason}"})
    return _table(rows)


def _not_measured(results: dict[str, Any]) -> list[str]:
    """Return a line on rows that were added since a run of all rows."""
    measured = {record["name"] for record in results["rows"]}
    titles = [row.title for name, row in ROWS.items() if name not in measured]
    if not titles or "Some rows" in results["selection"]:
        return []
    return [f"Rows that this run does not have yet: {'; '.join(titles)}.", ""]


def markdown(results: dict[str, Any]) -> str:
    """Return the page of results."""
    hardware = results["hardware"]
    lines = [
        "# Speed of attsvm beside other libraries",
        "",
        f"{hardware['processor']}, {hardware['processors']} processors, instruction set "
        f"{hardware['attsvm']['isa']}; {results['date']}, in {results['seconds']:.0f} s. "
        f"{results['selection']}",
        "",
        f"{results['load']}\n",
        _INTRODUCTION,
        "",
        *_table(map(summary, results["rows"])),
        "",
        *_not_measured(results),
        *(["![Time per step against n, T and d](scaling.png)", ""] * bool(results["scaling"])),
        "## Row by row",
    ]
    for record in results["rows"]:
        row = ROWS[record["name"]]
        lines += ["", f"### {row.title}", "", row.about, "", *_contenders(record)]
        if record["limit"]:
            lines += ["", f"attsvm takes {brackets(record['limit'])} times the limit."]
        if row.note:
            lines += ["", row.note]
        if record["processors_busy_with_others"] > 0.1:
            busy = record["processors_busy_with_others"]
            lines += ["", f"Other programs kept {busy:.2f} processors busy meanwhile."]
    lines += ["", "## Versions", ""]
    versions = results["versions"].items()
    lines += [", ".join(f"{name} {version or 'not installed'}" for name, version in versions) + "."]
    return "\n".join(lines) + "\n"


def write(results: dict[str, Any], folder: Path) -> None:
    """Write results.json, results.md and, where sizes were varied, scaling.png."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1, ensure_ascii=False)
    # A line for a contender, which holds lists and one level of objects, and for what is smaller.
    for small in (r"\{([^{}]|\{[^{}]*\})*\}", r"\[[^][{}]*\]"):
        text = re.sub(small, lambda found: re.sub(r"\n *", " ", found[0]), text)
    (folder / "results.json").write_text(text + "\n")
    (folder / "results.md").write_text(markdown(results))
    if results["scaling"]:
        draw(results["scaling"], folder / "scaling.png")


def draw(points: list[dict[str, Any]], path: Path) -> None:
    """Draw the time of a step against each size, both axes logarithmic."""
    from matplotlib.figure import Figure

    styles = {
        "torch": ("PyTorch, by hand", GREY, "s-"),
        "jax": ("jax.jit", ORANGE, "^-"),
        "attsvm": ("attsvm", BLUE, "o-"),
        "limit": ("limit of the hardware", INK, "--"),
    }
    table = pd.DataFrame(points)
    table["limit"] = table["read"] + table["products"]
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    groups = table.groupby("variable", sort=False)
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for panel, (variable, curve) in zip(panels, groups, strict=True):
        for name, (label, colour, style) in styles.items():
            x, y = curve[variable], 1e3 * curve[name].astype(float)
            panel.loglog(x, y, style, color=colour, label=label, markersize=4)
        panel.set_xlabel(variable)
        rest = [size for size in ("n", "T", "d") if size != variable]
        panel.set_title(", ".join(f"{size} = {curve[size].iloc[0]}" for size in rest), fontsize=10)
        panel.grid(which="major", alpha=0.3)
    panels[0].set_ylabel("time per step [ms]")
    panels[0].legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    write(json.loads((HERE / "results.json").read_text()), HERE)
