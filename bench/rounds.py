"""How times are taken: equal answers first, then rounds in which the contenders take turns.

A round visits every contender once, in an order that is reversed from round to round. The time of a
step is the difference of a long and a short run, over the difference of their steps, so that set-up
is not in it. Contenders are compared within a round: the figure is the median over rounds of the
ratio of the two times, with its quartiles.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

from bench.contenders import CONTENDERS, ContenderError, Team

__all__ = ["Entry", "Pace", "Spread", "Timed", "prepare", "ratios", "take_turns"]

# A long run that takes less time than a short one was disturbed; it is measured so often at most.
_TRIES = 5

# Idle threads of some pools spin for some milliseconds before they sleep.
_PAUSE = 0.02


@dataclass(frozen=True)
class Pace:
    """How much time a row may take.

    Attributes
    ----------
    rounds : int
    run : float
        Seconds that a long run aims at.
    budget : float
        Seconds of all rounds of one contender; a slower one takes part in fewer rounds.
    patience : float
        Seconds after which a run is given up.
    """

    rounds: int = 7
    run: float = 0.25
    budget: float = 5.0
    patience: float = 100.0


@dataclass(frozen=True)
class Entry:
    """A contender with a task in a row.

    Attributes
    ----------
    key : str
        Its name in the row's asks.
    contender : str
        Of `bench.contenders.CONTENDERS`.
    kind : {"descent", "svm", "figure", "read", "products"}
        What the module of the contender is called for.
    task : object
        Of `bench.tasks`.
    role : {"ours", "other", "peer", "limit"}
        "other" is attsvm too, in another setting.
    title : str
    problems : int
        Problems in the task; times are for one of them.
    most_steps : int
        Longest run of descent.
    steps : (int, int), optional
        Steps of the short and of the long run; chosen by their times where not given.
    memory : int, optional
        Bytes of address space that the process may take.
    """

    key: str
    contender: str
    kind: str
    task: Any = field(repr=False)
    role: str = "peer"
    title: str = ""
    problems: int = 1
    most_steps: int = 20_000
    steps: tuple[int, int] | None = None
    memory: int | None = None

    @property
    def name(self) -> str:
        return self.title or CONTENDERS[self.contender].title

    @property
    def stepwise(self) -> bool:
        return self.kind in ("descent", "read", "products")


@dataclass
class Timed:
    """What became of an entry.

    Attributes
    ----------
    entry : Entry
    place : str
        Which of the processes of its contender it has.
    status : {"measured", "not available", "failed"}
    reason : str
        Why it was not measured.
    setup : float
        Seconds of conversion and compilation.
    first : float
        Seconds of the first run.
    steps : (int, int), optional
        Steps of the short and of the long run.
    rounds : dict
        Seconds of a unit (a step, or a problem solved) by round.
    units : float
        Seconds of a run's step are multiplied by it: for limits, whose steps are of their own size.
    accuracy : dict
        What was found of its answer.
    peak : int, optional
        Largest resident bytes while it was timed.
    """

    entry: Entry
    place: str = "0"
    status: str = "measured"
    reason: str = ""
    setup: float = 0.0
    first: float = 0.0
    steps: tuple[int, int] | None = None
    rounds: dict[int, float] = field(default_factory=dict)
    units: float = 1.0
    accuracy: dict[str, float | None] = field(default_factory=dict)
    peak: int | None = None

    @property
    def measured(self) -> bool:
        return self.status == "measured"

    @property
    def unit(self) -> float:
        """Median seconds of a unit."""
        return median(self.rounds.values())

    def give_up(self, error: ContenderError) -> None:
        self.status = "not available" if error.missing else "failed"
        if error.kind == "NotAvailable":
            self.reason = error.message
        elif error.kind == "ModuleNotFoundError":
            self.reason = f"peer missing ({error.message})"
        else:
            self.reason = str(error)


@dataclass(frozen=True)
class Spread:
    """Median and quartiles; the quartiles are None with fewer than three values."""

    median: float
    lower: float | None
    upper: float | None

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        if len(values) < 3:
            return cls(median(values), None, None)
        lower, middle, upper = quantiles(values, n=4, method="inclusive")
        return cls(middle, lower, upper)


def prepare(team: Team, entries: list[Entry], pace: Pace, check_steps: int) -> list[Timed]:
    """Hand out the tasks and make the runs whose answers are compared."""
    used: dict[str, int] = {}
    timed = []
    for entry in entries:
        place = used.get(entry.contender, 0)
        used[entry.contender] = place + 1
        one = Timed(entry, str(place))
        timed.append(one)
        arguments = (check_steps,) if entry.stepwise else ()
        try:
            one.setup = _ask(team, one, pace, "prepare", entry.kind, entry.task, entry.memory)
            _ask(team, one, pace, "peak", True)
            one.first = _ask(team, one, pace, "time", *arguments)
        except ContenderError as error:
            one.give_up(error)
    return timed


def take_turns(team: Team, timed: list[Timed], pace: Pace) -> None:
    """Time the entries in rounds."""
    turns: dict[int, int] = {}
    for index, one in enumerate(timed):
        if not one.measured:
            continue
        try:
            cost = _calibrate(team, one, pace) if one.entry.stepwise else one.first
        except ContenderError as error:
            one.give_up(error)
            continue
        turns[index] = max(1, min(pace.rounds, int(pace.budget / cost)))
        if not one.entry.stepwise and 2 * one.first > pace.budget:
            one.rounds[0] = one.first / one.entry.problems
            turns[index] = 0
    order = list(turns)
    for number in range(pace.rounds):
        for index in order if number % 2 == 0 else reversed(order):
            one = timed[index]
            if number < turns[index] and one.measured:
                time.sleep(_PAUSE)
                try:
                    one.rounds[number] = _unit(team, one, pace)
                except ContenderError as error:
                    one.give_up(error)
    for index in order:
        if timed[index].measured:
            timed[index].peak = _ask(team, timed[index], pace, "peak", False)


def ratios(ours: Timed, other: Timed) -> list[float]:
    """How many times as long `other` takes, by round."""
    return [
        seconds / ours.rounds[number]
        for number, seconds in other.rounds.items()
        if number in ours.rounds
    ]


def _ask(team: Team, one: Timed, pace: Pace, command: str, *arguments: Any) -> Any:
    return team.ask(one.entry.contender, one.place, pace.patience, command, *arguments)


def _calibrate(team: Team, one: Timed, pace: Pace) -> float:
    """Choose the steps of the short and the long run; seconds that a round will take."""

    def quickest(steps: int, tries: int) -> float:
        return min(float(_ask(team, one, pace, "time", steps)) for _ in range(tries))

    if one.entry.steps is not None:
        one.steps = one.entry.steps
        return sum(quickest(steps, 1) for steps in one.steps)
    least = quickest(1, 3)
    target = max(pace.run, 2.0 * least)  # what varies in a long set-up must not drown the steps
    more = 1
    while (longer := quickest(1 + more, 2) - least) < 0.25 * target:
        if 8 * more > one.entry.most_steps:
            break
        more *= 8
    step = max(longer / more, target / (16 * more))
    fewest = 5 if step < pace.run else 2
    long = max(fewest, min(one.entry.most_steps, round(target / step)))
    short = max(1, long // 10)
    one.steps = (short, long)
    return 2 * least + (short + long) * step


def _unit(team: Team, one: Timed, pace: Pace) -> float:
    """Seconds of a step of one problem, or of one problem solved."""
    if one.steps is None:
        repeats = max(1, min(100, int(0.2 * pace.run / max(one.first, 1e-9))))
        total = sum(_ask(team, one, pace, "time") for _ in range(repeats))
        return float(total / repeats / one.entry.problems)
    short, long = one.steps
    for _ in range(_TRIES):
        begin = _ask(team, one, pace, "time", short)
        end = _ask(team, one, pace, "time", long)
        if end > begin:
            break
    else:
        message = "others compute so much that a long run took less time than a short one"
        raise ContenderError("Disturbed", message, "")
    return float(one.units * (end - begin) / (long - short) / one.entry.problems)
