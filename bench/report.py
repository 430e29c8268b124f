"""The file of results and the table made of it."""

from __future__ import annotations

from typing import Any

from bench.contenders import CONTENDERS
from bench.measure import Answer, Measured
from bench.rounds import Spread, Timed

__all__ = ["markdown", "row_line"]

_NO = "-"


def duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9)):
        if seconds >= size or unit == "ns":
            return f"{seconds / size:.3g} {unit}"
    raise AssertionError


def ratio(spread: Spread | None) -> str:
    if spread is None:
        return _NO
    if spread.lower is None or spread.upper is None:
        return f"{spread.median:.3g}"
    return f"{spread.median:.3g} [{spread.lower:.3g}, {spread.upper:.3g}]"


def asked(answer: Answer) -> str:
    ask = answer.ask
    names = [CONTENDERS[key].title if key in CONTENDERS else key for key in ask.against]
    against = f"the best of {', '.join(names)}" if len(names) > 1 else "".join(names)
    return {
        "seconds": f"≤ {duration(ask.bound)}",
        "limit": f"≤ {ask.bound:g} x limit",
        "speedup": f"≥ {ask.bound:g} x faster than {against}",
        "flat": f"equal within {100 * (ask.bound - 1):.0f} %",
        "gap": f"gap ≤ {ask.bound:g}",
        "peak": f"under {ask.bound / 2**30:g} GiB",
    }[ask.figure]


def got(answer: Answer) -> str:
    value = answer.got
    if value is None:
        return _NO
    text = {
        "seconds": lambda: duration(value),
        "limit": lambda: f"{ratio(answer.spread)} x limit",
        "speedup": lambda: f"{'≥ ' * answer.lower_bound}{ratio(answer.spread)} x",
        "flat": lambda: f"{value:.3f} x",
        "gap": lambda: f"gap {value:.1e}",
        "peak": lambda: f"{value / 2**30:.2f} GiB",
    }[answer.ask.figure]()
    return text if answer.met else f"{text} (missed)"


def accuracy(one: Timed) -> str:
    names = {"bytes_per_second": "GB/s", "flops_per_second": "GFLOP/s"}
    parts = []
    for name, value in one.accuracy.items():
        if value is None:
            continue
        if name in names:
            parts.append(f"{value / 1e9:.3g} {names[name]}")
        elif name == "same tokens":
            parts.append(f"{100 * value:.1f} % same tokens")
        else:
            parts.append(f"{name} {value:.1e}")
    return ", ".join(parts) or _NO


def row_line(measured: Measured) -> str:
    """The row in the main table."""
    answers = measured.answers()
    best = measured.best_peer()
    worst = max(
        (
            one.accuracy["difference"] or 0.0
            for one in measured.timed
            if "difference" in one.accuracy
        ),
        default=None,
    )
    if not measured.ours.measured:
        own = f"{measured.ours.status}: {measured.ours.reason}"
        figures = ""
    else:
        own = "; ".join(
            [
                duration(measured.ours.unit),
                *(
                    f"{one.entry.name}: {one.status}"
                    for one in measured.timed
                    if one.entry.role == "other" and not one.measured
                ),
            ]
        )
        figures = "; ".join(map(got, answers))
    against = _NO
    if best is not None and (spread := measured.speedup(best)) is not None:
        against = f"{ratio(spread)} ({best.entry.name})"
    right = accuracy(measured.ours)
    if worst is not None:
        right = f"outputs equal to {worst:.0e}"
    cells = (
        measured.row.title,
        "; ".join(map(asked, answers)),
        own,
        figures or _NO,
        against,
        right if measured.ours.measured else _NO,
    )
    return "| " + " | ".join(cells) + " |"


def markdown(facts: dict[str, Any], rows: list[Measured]) -> str:
    """The page of results."""
    lines = [
        "# Speed of attsvm next to its peers",
        "",
        f"{facts['machine']['processor']}, {facts['machine']['processors']} processors, "
        f"{facts['machine']['attsvm']['isa']}; {facts['date']}, in {facts['seconds']:.0f} s. "
        f"{facts['how']}",
        "",
        *(f"**{warning}**\n" for warning in facts["warnings"]),
        "| work | ask | attsvm | got | times as long as attsvm takes: best peer | accuracy |",
        "|---|---|---|---|---|---|",
        *map(row_line, rows),
        "",
        "The limit of a step is one read of its tokens at the measured speed of memory, plus its "
        "two matrix products at the measured peak, in coordinates of the spans of tokens and of "
        "queries. Brackets: quartiles over rounds.",
        "",
        "## Every contender",
    ]
    for measured in rows:
        lines += ["", f"### {measured.row.title}", "", *_contenders(measured)]
    lines += ["", "## Versions", ""]
    lines += [f"- {name}: {version}" for name, version in facts["versions"].items()]
    return "\n".join(lines) + "\n"


def _contenders(measured: Measured) -> list[str]:
    unit = measured.row.unit
    lines = [
        f"| contender | time per {unit} | times attsvm's | accuracy | set-up | peak memory |",
        "|---|---|---|---|---|---|",
    ]
    for one in measured.timed:
        if not one.measured or not one.rounds:
            lines.append(f"| {one.entry.name} | {one.status}: {one.reason} | | | | |")
            continue
        compared = one is measured.ours or one.entry.role == "limit"
        spread = None if compared else measured.speedup(one)
        short = "" if measured.counts(one) or one.entry.role == "limit" else " (short of the gap)"
        name = f"{one.entry.name} ({one.reason})" if one.reason else one.entry.name
        peak = f"{one.peak / 2**30:.2f} GiB" if one.peak is not None else _NO
        lines.append(
            f"| {name} | {duration(one.unit)} | {ratio(spread)} | {accuracy(one)}{short} "
            f"| {duration(one.setup)} | {peak} |"
        )
    for name, reason in measured.row.left_out.items():
        lines.append(f"| {name} | left out: {reason} | | | | |")
    if measured.limit is not None:
        lines += ["", f"attsvm takes {ratio(measured.limit)} times the limit."]
    if measured.row.note:
        lines += ["", measured.row.note]
    if measured.others is not None and measured.others > 0.1:
        lines += ["", f"Others kept {measured.others:.2f} processors busy meanwhile."]
    return lines
