"""The performance page, from `bench/results.json` and what `bounds.md` says of every row."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import generated
from sphinx.errors import ExtensionError

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from bench.report import duration  # noqa: E402

INTRODUCTION = """\
# Performance

`make bench` runs every row of this page beside its peers, after asserting that their answers agree,
and asks of each row what was laid down before it was written. What was asked and missed stands here
as well. Only ratios within a run mean much: contenders take turns, and the figures are medians over
rounds, with quartiles in brackets. Every time of a machine includes its certificate."""


def bounds(file: Path) -> dict[str, str]:
    """What bounds each row, by its name."""
    parts = re.split(r"^## (.+)\n", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name: text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def time(seconds: float) -> str:
    """A duration that no line break parts from its unit."""
    return duration(seconds).replace(" ", "\N{NO-BREAK SPACE}")


def spread(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    if found["lower"] is None:
        return f"{found['median']:.3g}"
    return f"{found['median']:.3g} [{found['lower']:.3g}, {found['upper']:.3g}]"


def asked(ask: dict[str, Any], row: dict[str, Any]) -> str:
    """The ask in words."""
    bound = ask["bound"]
    titles = {one["key"]: one["title"] for one in row["contenders"]}
    against = " or ".join(titles[key] for key in ask["against"])
    return {
        "seconds": f"at most {time(bound)}",
        "limit": f"at most {bound:g} times the limit",
        "speedup": f"{bound:g} times as fast as {against}",
        "flat": f"equal within {100 * (bound - 1):.0f} %",
        "gap": f"gap at most {bound:g}",
        "peak": f"under {bound / 2**30:g} GiB",
    }[ask["figure"]]


def got(ask: dict[str, Any]) -> str:
    value = ask["got"]
    if value is None:
        return "not measured"
    text = {
        "seconds": time(value),
        "limit": f"{value:.2f} times",
        "speedup": f"{'at least ' if ask['lower_bound'] else ''}{value:.3g} times",
        "flat": f"within {100 * (value - 1):.0f} %",
        "gap": f"{value:.1e}",
        "peak": f"{value / 2**30:.2f} GiB",
    }[ask["figure"]]
    return text if ask["met"] else f"**{text}: missed**"


def best_peer(row: dict[str, Any]) -> dict[str, Any] | None:
    """The fastest peer that is as accurate as the row asks."""
    gap = min((ask["bound"] for ask in row["asks"] if ask["figure"] == "gap"), default=None)
    peers = [
        one
        for one in row["contenders"]
        if one["role"] == "peer"
        and one["times_ours"]
        and one["times_ours"]["median"] > 0  # else the round was disturbed
        and (gap is None or one["accuracy"].get("gap", 1.0) <= gap)
    ]
    return min(peers, key=lambda one: one["times_ours"]["median"], default=None)


def section(row: dict[str, Any], bound: str) -> list[str]:
    lines = [f"### {generated.cell(row['title'])}", ""]
    for ask in row["asks"]:
        lines.append(f"- asked: {asked(ask, row)}; got: {got(ask)}")
    if row["times_the_limit"]:
        lines.append(f"- times the limit of the machine: {spread(row['times_the_limit'])}")
    lines += [
        "",
        bound,
        "",
        f"| contender | time per {row['unit']} | times attsvm's | accuracy | peak memory |",
        "|---|--:|--:|---|--:|",
    ]
    for one in row["contenders"]:
        name = one["title"]
        if one["status"] != "measured":
            lines.append(f"| {name} | {one['status']}: {generated.cell(one['reason'])} | | | |")
            continue
        accuracy = ", ".join(
            f"{what} {value:.1e}"
            for what, value in one["accuracy"].items()
            if value is not None and "per_second" not in what
        )
        peak = "" if one["peak_bytes"] is None else f"{one['peak_bytes'] / 2**30:.2f} GiB"
        times = "" if one["role"] == "limit" else spread(one["times_ours"])
        cells = (name, time(one["seconds"]), times, accuracy, peak)
        lines.append(f"| {' | '.join(map(generated.cell, cells))} |")
    for name, reason in row["left_out"].items():
        lines.append(f"| {name} | left out: {generated.cell(reason)} | | | |")
    if row["note"]:
        lines += ["", row["note"]]
    return [*lines, ""]


def write_page(app: Any) -> None:
    results = json.loads((ROOT / "bench" / "results.json").read_text(encoding="utf-8"))
    of_row = bounds(Path(app.srcdir) / "bounds.md")
    names = [row["name"] for row in results["rows"]]
    if sorted(of_row) != sorted(names):
        raise ExtensionError(f"bounds.md: expected the rows {names}, got {list(of_row)}")
    machine = results["machine"]
    lines = [
        *INTRODUCTION.splitlines(),
        "",
        f"These figures: {machine['processor']}, {machine['processors']} processors, instruction "
        f"set {machine['attsvm']['isa']}, {results['date'][:10]}. {results['how']}",
        "",
        *(f":::{{warning}}\n{warning}\n:::\n" for warning in results["warnings"]),
        "| work | attsvm | asked | got | best peer, times attsvm's |",
        "|---|--:|---|---|---|",
    ]
    for row in results["rows"]:
        peer = best_peer(row)
        cells = (
            generated.cell(row["title"]),
            time(row["contenders"][0]["seconds"]),
            "; ".join(asked(ask, row) for ask in row["asks"]),
            "; ".join(map(got, row["asks"])),
            f"{spread(peer['times_ours'])} ({peer['title']})" if peer else "",
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "The limit of a step is one read of its tokens at the measured speed of memory, plus its "
        "two matrix products at the measured peak. Both are measured in the same rounds.",
        "",
        "## Time of a step against n, T and d",
        "",
        "![Time per step against n, T and d](_static/scaling.png)",
        "",
        "## Row by row",
        "",
    ]
    for row in results["rows"]:
        lines += section(row, of_row[row["name"]])
    lines += ["## Versions", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {version} |" for name, version in results["versions"].items()]
    shutil.copyfile(ROOT / "bench" / "scaling.png", Path(app.srcdir) / "_static" / "scaling.png")
    generated.write(Path(app.srcdir) / "performance.md", lines)


def setup(app: Any) -> dict[str, bool]:
    app.connect("builder-inited", write_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
