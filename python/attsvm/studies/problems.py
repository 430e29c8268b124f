"""Problems of a study: each drawn from a separate random stream, or read from a file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from attsvm._arrays import Float64Array
from attsvm._validation import in_words, nearest
from attsvm.data import AttentionData, load
from attsvm.datasets import digits, gaussian_classes, near_orthogonal, signal_noise, unit_sphere
from attsvm.descent.blocks import as_blocks

FIRST_TOKENS = "first tokens"
NO_QUERIES = "none"
"""Queries of data that have none, as results say: where the logits take some, and not."""
TRAINED_VALUE = "trained, from zero"
"""Value of data that have none, as results say."""
_MAY_LACK = ("value", "queries")
_PATCH = 4
_STRIDES = {4: 4, 9: 2, 25: 1}
"""Stride between the 4×4 patches of a digit, by the number T of patches that it makes."""
_OF_START, _OF_STEPS, _OF_TEST = range(2**31, 2**31 + 3)
"""Last words of spawn keys that are not those of data: no generator spawns as many children."""


@dataclass(frozen=True)
class DataKind:
    """A generator of problems."""

    text: str  # description for the reader of the results, with options in braces
    generator: Callable[..., AttentionData]  # of n, T, d, options, batch and rng
    options: Mapping[str, Any]  # settings that this kind has beside n, T and d, and their defaults
    # Raises `ValueError` for settings of a cell that make no problem.
    check: Callable[[Mapping[str, Any]], None] = lambda settings: None
    # What it has of a "value" v, and with it scores and optimal tokens, "queries", a "test", and
    # "kinds" of tokens.
    has: tuple[str, ...] = ("value", "queries")

    def describe(self, settings: Mapping[str, Any]) -> str:
        """Describe the problems of these settings, the values of an axis with strokes between."""
        words = {name: in_words(settings[name]) for name in self.options}
        if "classes" in words:  # a pair, and no axis
            words["classes"] = words["classes"].replace("/", " and ")
        return self.text.format(**words)

    def generate(
        self, settings: Mapping[str, Any], count: int, rng: np.random.Generator
    ) -> AttentionData:
        """Draw a batch of so many problems of a cell."""
        options = {name: settings[name] for name in self.options}
        return self.generator(*_sizes(settings), **options, batch=count, rng=rng)


@dataclass(frozen=True)
class FileOfProblems:
    """An ``.npz`` file of a problem or of a batch of them."""

    path: Path  # absolute
    sha256: str  # of its bytes
    sizes: Mapping[str, int]  # n, T, d and the number of problems
    lacks: tuple[str, ...] = ()  # of a "value" v and "queries" z
    # The problems, with a batch axis; None for a file that only its results tell of.
    data: AttentionData | None = field(default=None, repr=False, compare=False)

    @classmethod
    def read(cls, path: str) -> FileOfProblems:
        """Read a file, and check that it holds problems of attention."""
        where = Path(path)
        if where.suffix.lower() != ".npz" and not where.exists():
            kinds = ", ".join(map(repr, KINDS))
            raise ValueError(
                f"data: expected one of {kinds} or an .npz file, got {path!r}{nearest(path, KINDS)}"
            )
        data = load(where)
        if not isinstance(data, AttentionData):
            raise ValueError(f"data: {where}: expected tokens and labels, got next-token data")
        sizes = {"n": data.n, "T": data.T, "d": data.d, "problems": data.batch or 1}
        digest = hashlib.sha256(where.read_bytes()).hexdigest()
        lacks = tuple(name for name in _MAY_LACK if getattr(data, name) is None)
        return cls(where.resolve(), digest, sizes, lacks, data.batched())

    @property
    def has(self) -> tuple[str, ...]:
        """What the problems have of a "value" v and "queries" z."""
        return tuple(name for name in _MAY_LACK if name not in self.lacks)

    def take(self, problems: range) -> AttentionData:
        """Return the problems of these numbers, as a batch."""
        if self.data is None:
            raise ValueError(f"data: expected the problems of {self.path}, got their results only")
        return self.data.take(np.array(problems))


def draw(settings: Mapping[str, Any], problems: range) -> AttentionData:
    """Draw the problems of these numbers of a cell, as a batch.

    Problem k comes from ``SeedSequence(seed, spawn_key=(n, T, d, k))``.
    """
    sequence = np.random.SeedSequence(
        settings["seed"], spawn_key=_sizes(settings), n_children_spawned=problems.start
    )
    kind = KINDS[settings["data"]]
    return kind.generate(settings, len(problems), np.random.default_rng(sequence))


def draw_test(settings: Mapping[str, Any]) -> AttentionData:
    """Draw the test of a cell, without flipped labels, from a separate stream: one problem."""
    of_test = {**settings, "n": settings["test"], "label_noise": 0.0}
    sequence = np.random.SeedSequence(settings["seed"], spawn_key=(*_sizes(of_test), _OF_TEST))
    return KINDS[settings["data"]].generate(of_test, 1, np.random.default_rng(sequence)).problem(0)


def identity(settings: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the settings of a cell that its problems depend on."""
    kind = KINDS.get(settings["data"])
    options = () if kind is None else tuple(settings[name] for name in kind.options)
    return (settings["data"], settings["seed"], *_sizes(settings), *options)


def filled(data: AttentionData, count: int) -> AttentionData:
    """Return a batch of at least `count` problems: these, the last one repeated."""
    batch = data.batch or 1
    return data if batch >= count else data.take(np.minimum(np.arange(count), batch - 1))


def start_of_factors(
    settings: Mapping[str, Any], problems: range, d: int
) -> dict[str, Float64Array]:
    """Draw the start of two factors, such as K and Q (B, d, d), as `attsvm.train` names it.

    Those of problem k are drawn from a separate stream, whatever the batch.
    """
    blocks = as_blocks(settings["parameter"])
    starts = []
    for k in problems:
        sequence = np.random.SeedSequence(
            settings["seed"], spawn_key=(*_sizes(settings), k, _OF_START)
        )
        generator = np.random.default_rng(sequence)
        starts.append(blocks.draw_start(settings["init"], blocks.shapes(d, d, d), generator))
    return {name: np.stack([start[name] for start in starts]) for name in starts[0]}


def generator_of_steps(settings: Mapping[str, Any]) -> np.random.Generator:
    """Return the generator that draws mini-batches: the same for all problems of a cell."""
    sequence = np.random.SeedSequence(settings["seed"], spawn_key=(*_sizes(settings), _OF_STEPS))
    return np.random.default_rng(sequence)


def _sizes(settings: Mapping[str, Any]) -> tuple[int, int, int]:
    return settings["n"], settings["T"], settings["d"]


def _digits(n: int, T: int, d: int, **options: Any) -> AttentionData:
    return digits(n, d, patch=_PATCH, stride=_STRIDES[T], **options)


def _check_digits(settings: Mapping[str, Any]) -> None:
    if settings["T"] not in _STRIDES:
        raise ValueError(f"T: expected 4, 9 or 25 patches of a digit, got {settings['T']}")
    # Results of the digits can be reported without scikit-learn; `run` asks for it.
    if find_spec("sklearn") is not None:
        digits(settings["n"], 1, classes=settings["classes"], rng=0)


def _check_signals(settings: Mapping[str, Any]) -> None:
    near_orthogonal(2, 2, settings["d"], signals=settings["signals"], rng=0)


def _check_signal_noise(settings: Mapping[str, Any]) -> None:
    given = {name: settings[name] for name in ("signal", "weak")}
    signal_noise(1, settings["T"], settings["d"], **given, rng=0)


_SIGNALS = MappingProxyType({"signals": "antipodal", "noise": 0.0, "label_noise": 0.0})
_OF_SIGNALS = "{signals} signals, noise {noise}, label noise {label_noise}"

KINDS: Mapping[str, DataKind] = MappingProxyType(
    {
        "sphere": DataKind(
            "random unit-norm tokens, {attention}-attention", unit_sphere, {"attention": "cross"}
        ),
        "digits": DataKind(
            "digits {classes}, random features of 4x4 patches",
            _digits,
            {"classes": (3, 8)},
            _check_digits,
        ),
        "near_orthogonal": DataKind(
            f"near-orthogonal tokens, {_OF_SIGNALS}",
            near_orthogonal,
            _SIGNALS,
            _check_signals,
            ("value", "queries", "test"),
        ),
        "gaussian_classes": DataKind(
            f"Gaussian classes, {_OF_SIGNALS}",
            gaussian_classes,
            _SIGNALS,
            _check_signals,
            ("queries", "test"),
        ),
        "signal_noise": DataKind(
            "signals of length {signal} in Gaussian noise, weak ones {weak}, label noise "
            "{label_noise}",
            signal_noise,
            {"signal": 20.0, "weak": 0.1, "label_noise": 0.0},
            _check_signal_noise,
            ("value", "test", "kinds"),
        ),
    }
)
"""Generators of problems, by the name that a declaration gives as its data."""
