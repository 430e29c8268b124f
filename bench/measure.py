"""One row: its answers compared, its times taken in rounds, its targets answered.

A round visits every contender once, in an order that is reversed from round to round. The time of a
step is the difference of a long and a short run, over the difference of their steps, so that set-up
is not in it. Contenders are compared within a round: a figure is the median over rounds of the
ratio of the two times, with its quartiles.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from bench import worker
from bench.accuracy import relative_difference, svm_accuracy
from bench.contenders import CONTENDERS, Process, Processes
from bench.hardware import OtherLoad
from bench.peers import NotAvailable
from bench.rows import Entry, Row
from bench.tasks import SVM, Figure

# A long run that takes less time than a short one was disturbed; it is measured so often at most.
_TRIES = 5

# Idle threads of some pools spin for some milliseconds before they sleep.
_PAUSE = 0.02


@dataclass(frozen=True)
class Pace:
    """Time that a row may take."""

    rounds: int = 7
    run: float = 0.25  # seconds that a long run aims at
    # Seconds of all rounds of one contender; a slower one takes part in fewer rounds.
    budget: float = 5.0
    patience: float = 100.0  # seconds after which a run is given up


@dataclass
class Timed:
    """An entry with its measurements."""

    entry: Entry
    process: Process = field(repr=False)
    pace: Pace
    status: str = "measured"  # or "not available", "failed", "not timed"
    reason: str = ""
    preparation: float = 0.0  # seconds of conversion and compilation
    first: float = 0.0  # seconds of the first run
    steps: tuple[int, int] | None = None  # steps of the short and of the long run
    # Seconds of a unit (a step, or a problem solved) by round.
    seconds: dict[int, float] = field(default_factory=dict)
    single: dict[int, float] = field(default_factory=dict)  # of a run of one step
    # Factor of the seconds of a step: for limits, whose steps have sizes of their own.
    scale: float = 1.0
    accuracy: dict[str, float] = field(default_factory=dict)
    peak: int | None = None

    @property
    def measured(self) -> bool:
        return self.status == "measured"

    def ask(self, command: Callable[..., Any], *arguments: Any) -> Any:
        """Have the process carry out a function; None where it fails, which ends the entry."""
        if not self.measured:
            return None
        try:
            return self.process.ask(self.pace.patience, command, *arguments)
        except NotAvailable as error:
            self.status, self.reason = "not available", str(error)
        except Exception as error:
            missing = isinstance(error, ModuleNotFoundError | MemoryError)
            self.status = "not available" if missing else "failed"
            self.reason = f"{type(error).__name__}: {error}"
        return None

    def run(self, *steps: int) -> float:
        """Return the seconds of a run, nan where it fails."""
        seconds = self.ask(worker.seconds, *steps)
        return np.nan if seconds is None else float(seconds)

    def calibrate(self, most_steps: int) -> float:
        """Choose the steps of the short and the long run; return the seconds of a round."""
        if self.entry.steps is not None:
            self.steps = self.entry.steps
            return sum(map(self.run, self.steps))
        least = min(self.run(1) for _ in range(3))
        target = max(self.pace.run, 2.0 * least)  # the noise of a long set-up must not drown steps
        more = 1
        while (longer := min(self.run(1 + more) for _ in range(2)) - least) < 0.25 * target:
            if 8 * more > most_steps:
                break
            more *= 8
        if not self.measured:
            return np.nan
        step = max(longer / more, target / (16 * more))
        fewest = 5 if step < self.pace.run else 2
        long = max(fewest, min(most_steps, round(target / step)))
        self.steps = (max(1, long // 10), long)
        return 2 * least + sum(self.steps) * step

    def in_a_row(self, most: int, *steps: int) -> list[float]:
        """Return the seconds of at most so many runs, of fewer where they are long."""
        seconds = [self.run(*steps)]
        while len(seconds) < most and sum(seconds) < 0.2 * self.pace.run:
            seconds.append(self.run(*steps))
        return seconds

    def unit(self) -> float:
        """Measure the seconds of a step of one problem, or of one problem solved."""
        if self.steps is None:
            return float(np.mean(self.in_a_row(100))) / self.entry.problems
        short, long = self.steps
        for _ in range(_TRIES):
            begin, end = self.run(short), self.run(long)
            if end > begin:
                return self.scale * (end - begin) / (long - short) / self.entry.problems
        if self.measured:
            self.status = "failed"
            self.reason = "other programs disturbed it: a long run took less time than a short one"
        return np.nan


def measure(
    processes: Processes, row: Row, pace: Pace, peers: Collection[str] | None = None
) -> dict[str, Any]:
    """Measure a row, of its peers only those named if any are; return its record.

    A contender whose answer is not that of the others is not timed.
    """
    timed: list[Timed] = []
    for entry in row.entries():
        if entry.role != "peer" or not peers or entry.contender in peers:
            place = sum(one.entry.contender == entry.contender for one in timed)
            timed.append(Timed(entry, processes.get(entry.contender, place), pace))
    for one in timed:
        contender = CONTENDERS[one.entry.contender]
        module = contender.module, contender.arguments
        one.preparation = one.ask(worker.prepare, *module, one.entry.task, one.entry.memory)
        one.ask(worker.peak, True)
        one.first = one.run(*([row.check_steps] if one.entry.stepwise else []))
    _compare_answers(row, timed)
    others = OtherLoad()
    if timed[0].measured:
        with _busy_processes(row.busy):
            _take_turns(row, timed, pace)
    for one in timed:
        if one.measured and not one.seconds:
            one.status, one.reason = "not timed", "nothing of attsvm to compare with"
    return _record(row, timed, others.processors())


@contextlib.contextmanager
def _busy_processes(count: int) -> Iterator[None]:
    """Keep as many processes busy, with one thread each."""
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _compare_answers(row: Row, timed: list[Timed]) -> None:
    reference: Any = None
    for one in timed:
        entry, answer = one.entry, one.ask(worker.result)
        if answer is None:
            continue
        if entry.role == "limit":
            one.reason, one.scale = answer.pop("by"), answer.pop("scale")
            one.accuracy = answer
        elif isinstance(entry.task, SVM):
            one.accuracy = svm_accuracy(entry.task, answer)
        elif reference is None:
            reference = answer
        elif isinstance(entry.task, Figure):
            agree = np.mean(answer == reference[:, : answer.shape[1]])
            one.accuracy = {"same tokens": float(agree)}
        elif entry.compared:
            own = reference[0] if answer.ndim < reference.ndim else reference
            difference = relative_difference(answer, own)
            one.accuracy = {"difference": difference}
            if not difference <= row.tolerance:
                one.status = "failed"
                one.reason = f"its answer differs by {difference:.1e}, relative"


def _take_turns(row: Row, timed: list[Timed], pace: Pace) -> None:
    """Time the entries in rounds."""
    turns: list[tuple[Timed, int]] = []
    for one in timed:
        cost = one.calibrate(row.most_steps) if one.entry.stepwise else one.first
        if not one.measured:
            continue
        if one.entry.stepwise or 2 * one.first <= pace.budget:
            turns.append((one, max(1, min(pace.rounds, int(pace.budget / cost)))))
        else:
            one.seconds[0] = one.first / one.entry.problems
    for number in range(pace.rounds):
        for one, rounds in turns if number % 2 == 0 else reversed(turns):
            if number < rounds and one.measured:
                time.sleep(_PAUSE)
                one.seconds[number] = one.unit()
                if one.entry.role != "limit" and one.entry.stepwise:
                    one.single[number] = float(np.median(one.in_a_row(9, 1)))
    for one in timed:
        one.peak = one.ask(worker.peak, False)


def spread(values: pd.Series) -> list[float] | None:
    """Return lower quartile, median and upper quartile; of fewer than three the median thrice."""
    values = values.dropna()
    if values.empty:
        return None
    at = [0.25, 0.5, 0.75] if len(values) >= 3 else [0.5, 0.5, 0.5]
    return values.quantile(at).tolist()


def _record(row: Row, timed: list[Timed], busy: float) -> dict[str, Any]:
    """Return the figures of a row: what the file of results and the tables hold.

    The set-up is what a run of one step takes beyond the step, in seconds of the whole task;
    of a few such runs in a row, as they come in a warm process, the median.
    """
    seconds, single = (
        pd.DataFrame(
            {one.entry.name: pd.Series(of(one), dtype=float) for one in timed}
        ).sort_index()
        for of in (lambda one: one.seconds, lambda one: one.single)
    )
    setup = single - seconds * pd.Series({one.entry.name: one.entry.problems for one in timed})
    ours = seconds.iloc[:, 0]
    limits = seconds[[one.entry.name for one in timed if one.entry.role == "limit"]]
    contenders = [
        {
            "name": one.entry.name,
            "title": one.entry.title,
            "role": one.entry.role,
            "status": one.status,
            "reason": one.reason,
            "preparation": one.preparation,
            "setup": spread(setup[one.entry.name]) if one.measured else None,
            "steps": one.steps,
            "rounds": seconds[one.entry.name].dropna().tolist(),
            "seconds": spread(seconds[one.entry.name]) if one.measured else None,
            "ratio": spread(seconds[one.entry.name] / ours) if one.measured else None,
            "accuracy": one.accuracy,
            "enough": row.gap is None or one.accuracy.get("gap", np.inf) <= row.gap,
            "peak": one.peak,
        }
        for one in timed
    ]
    record = {
        "name": row.name,
        "limit": spread(ours / limits.sum(axis=1, skipna=False)) if len(limits.columns) else None,
        "setup_reads": spread((setup.iloc[:, 0] - 2e-4) / limits["read"])
        if "read" in limits
        else None,
        "processors_busy_with_others": busy,
        "contenders": contenders,
    }
    return {**record, "targets": [_answer(*target, record) for target in row.targets.items()]}


def best_peer(record: dict[str, Any], names: Collection[str] = ()) -> dict[str, Any] | None:
    """Return the fastest peer that is as accurate as the row asks; if none is, the fastest."""
    measured = [
        one
        for one in record["contenders"]
        if one["ratio"] and (one["name"] in names if names else one["role"] == "peer")
    ]
    accurate = [one for one in measured if one["enough"]]
    return min(accurate or measured, key=lambda one: one["seconds"][1], default=None)


def _answer(figure: str, bound: float, record: dict[str, Any]) -> dict[str, Any]:
    """Return a target with its figure, None where the row could not tell, and whether it is met.

    `lower_bound`: the peer compared with has a worse answer than the row asks.
    """
    own = [one for one in record["contenders"] if one["role"] == "attsvm"]
    first, against, got = own[0], None, None
    if not all(one["seconds"] for one in own):
        pass
    elif figure == "seconds":
        got = first["seconds"]
    elif figure == "limit":
        got = record["limit"]
    elif figure == "setup_reads":
        got = record["setup_reads"]
    elif figure == "gap":
        got = [first["accuracy"]["gap"]] * 3
    elif figure == "peak":
        got = [max(one["peak"] for one in own)] * 3
    elif figure == "flat":
        ratios = [one["ratio"][1] for one in own]
        got = [max(ratios) / min(ratios)] * 3
    elif against := best_peer(record, figure.split("|")):
        got = against["ratio"]
    met = got and (got[1] >= bound if against else got[1] <= bound)
    return {
        "figure": figure,
        "bound": bound,
        "got": got,
        "met": met,
        "lower_bound": bool(against and not against["enough"]),
    }
