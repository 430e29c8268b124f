"""One row: its answers compared, its times taken, its asks answered."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np

from bench.accuracy import frobenius_accuracy, nuclear_accuracy, relative_difference
from bench.contenders import ContenderError, Team
from bench.machine import Bystanders
from bench.rounds import Entry, Pace, Spread, Timed, prepare, ratios, take_turns
from bench.rows import Ask, Row
from bench.tasks import Machine

__all__ = ["Answer", "Measured", "measure"]


@dataclass(frozen=True)
class Answer:
    """An ask and what came of it; `got` is None where the row could not tell."""

    ask: Ask
    got: float | None
    spread: Spread | None = None
    lower_bound: bool = False

    @property
    def met(self) -> bool | None:
        if self.got is None:
            return None
        if self.ask.figure == "speedup":
            return self.got >= self.ask.bound
        return self.got <= self.ask.bound


@dataclass(frozen=True)
class Measured:
    """A row with everything found out about it.

    Attributes
    ----------
    row : Row
    timed : list of Timed
        Ours first.
    limit : Spread or None
        Our time over the machine's least.
    others : float or None
        Processors that were busy with something else during the rounds.
    """

    row: Row
    timed: list[Timed]
    limit: Spread | None
    others: float | None

    @property
    def ours(self) -> Timed:
        return self.timed[0]

    @property
    def peers(self) -> list[Timed]:
        return [one for one in self.timed if one.entry.role == "peer"]

    def counts(self, one: Timed) -> bool:
        """Whether it is measured and as accurate as the row asks."""
        gap = one.accuracy.get("gap")
        reached = self.row.gap is None or (gap is not None and gap <= self.row.gap)
        return one.measured and reached

    def best_peer(self, keys: tuple[str, ...] = ()) -> Timed | None:
        """The fastest that counts; if none does, the fastest."""
        measured = [
            one for one in self.peers if one.measured and (not keys or one.entry.key in keys)
        ]
        counting = [one for one in measured if self.counts(one)]
        return min(counting or measured, key=lambda one: one.unit, default=None)

    def speedup(self, other: Timed) -> Spread | None:
        if not (self.ours.measured and other.measured):
            return None
        shared = ratios(self.ours, other)
        return Spread.of(shared) if shared else None

    def answers(self) -> list[Answer]:
        return [self._answer(ask) for ask in self.row.asks]

    def _answer(self, ask: Ask) -> Answer:
        if not self.ours.measured:
            return Answer(ask, None)
        if ask.figure == "seconds":
            return Answer(ask, self.ours.unit, Spread.of(list(self.ours.rounds.values())))
        if ask.figure == "limit":
            return Answer(ask, self.limit.median if self.limit else None, self.limit)
        if ask.figure == "speedup":
            others = {one.entry.key: one for one in self.timed if one.entry.role == "other"}
            against = others.get(ask.against[0]) or self.best_peer(ask.against)
            if against is None or (spread := self.speedup(against)) is None:
                return Answer(ask, None)
            weaker = against.entry.role == "peer" and not self.counts(against)
            return Answer(ask, spread.median, spread, lower_bound=weaker)
        own = [one for one in self.timed if one.entry.role in ("ours", "other")]
        if not all(one.measured for one in own):
            return Answer(ask, None)
        if ask.figure == "flat":
            # Within rounds, as everywhere: what changes from round to round is the machine.
            times = [median(ratios(self.ours, one)) for one in own]
            return Answer(ask, max(times) / min(times))
        if ask.figure == "peak":
            peaks = [one.peak for one in own if one.peak is not None]
            return Answer(ask, max(peaks) if peaks else None)
        return Answer(ask, self.ours.accuracy.get(ask.figure))

    def record(self) -> dict[str, Any]:
        """Everything, for the file of results."""
        return {
            "name": self.row.name,
            "title": self.row.title,
            "unit": self.row.unit,
            "asks": [
                {
                    **asdict(answer.ask),
                    "got": answer.got,
                    "met": answer.met,
                    "lower_bound": answer.lower_bound,
                }
                for answer in self.answers()
            ],
            "times_the_limit": asdict(self.limit) if self.limit else None,
            "processors_busy_with_others": self.others,
            "left_out": dict(self.row.left_out),
            "note": self.row.note,
            "contenders": [self._record(one) for one in self.timed],
        }

    def _record(self, one: Timed) -> dict[str, Any]:
        speedup = self.speedup(one) if one is not self.ours else None
        return {
            "key": one.entry.key,
            "title": one.entry.name,
            "role": one.entry.role,
            "status": one.status,
            "reason": one.reason,
            "problems": one.entry.problems,
            "setup_seconds": one.setup,
            "steps": one.steps,
            "seconds": one.unit if one.rounds else None,
            "seconds_by_round": list(one.rounds.values()),
            "times_ours": asdict(speedup) if speedup else None,
            "accuracy": one.accuracy,
            "peak_bytes": one.peak,
        }


def measure(team: Team, row: Row, pace: Pace, peers: Collection[str] | None = None) -> Measured:
    """Measure a row, of its peers only those named if any are.

    A contender whose answer is not the others' is not timed.
    """
    entries = [
        entry
        for entry in row.entries()
        if entry.role != "peer" or not peers or entry.contender in peers
    ]
    timed = prepare(team, entries, pace, row.check_steps)
    if timed[0].measured:
        _compare_answers(team, row, timed)
    bystanders = Bystanders(team.pids())
    if timed[0].measured:
        take_turns(team, timed, pace)
    else:
        for one in timed[1:]:
            if one.measured:
                one.status, one.reason = "not timed", "nothing of attsvm to compare with"
    return Measured(row, timed, _limit(timed), bystanders.share(team.pids()))


def _compare_answers(team: Team, row: Row, timed: list[Timed]) -> None:
    reference: Any = None
    for one in timed:
        entry = one.entry
        if not one.measured:
            continue
        try:
            answer = team.ask(entry.contender, one.place, 60.0, "result")
        except ContenderError as error:
            one.give_up(error)
            continue
        if entry.role == "limit":
            one.reason, one.units = answer.pop("by"), answer.pop("units")
            one.accuracy = answer
        elif entry.kind == "svm":
            one.accuracy = _machine_accuracy(entry, answer)
        elif entry.kind == "figure":
            reference = answer if reference is None else reference
            agree = np.mean(answer == reference[:, : answer.shape[1]])
            one.accuracy = {"same tokens": float(agree)}
        elif reference is None:
            reference = answer
        elif "=" not in entry.key:  # other sizes in a row have answers of their own
            theirs = reference[0] if answer.ndim < reference.ndim else reference
            difference = relative_difference(answer, theirs)
            one.accuracy = {"difference": difference}
            if not difference <= row.tolerance:
                one.status = "failed"
                one.reason = f"its answer differs by {difference:.1e}, relative"


def _machine_accuracy(entry: Entry, answer: Any) -> dict[str, float | None]:
    task: Machine = entry.task
    found = (frobenius_accuracy if task.norm == "fro" else nuclear_accuracy)(task, answer)
    return asdict(found)


def _limit(timed: list[Timed]) -> Spread | None:
    """Our time over the sum of the limits, by round."""
    limits = [one for one in timed if one.entry.role == "limit"]
    if not limits or not all(one.measured for one in (timed[0], *limits)):
        return None
    shared = set(timed[0].rounds).intersection(*(one.rounds for one in limits))
    return Spread.of(
        [
            timed[0].rounds[number] / sum(one.rounds[number] for one in limits)
            for number in sorted(shared)
        ]
    )
