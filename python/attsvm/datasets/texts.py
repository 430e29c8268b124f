"""Text as next-token data: windows over its characters or words."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from unicodedata import category

import numpy as np
import numpy.typing as npt

from attsvm._arrays import FloatArray
from attsvm._validation import as_bool, as_choice, as_float_dtype, as_generator, as_positive_int
from attsvm.data.files import memory_size
from attsvm.data.next_token_data import NextTokenData
from attsvm.datasets.next_tokens import EMBEDDINGS, draw_embeddings


def text(
    source: str | os.PathLike[str],
    *,
    unit: Literal["character", "word"] = "character",
    context: int = 16,
    vocabulary: int | None = None,
    most: int | None = None,
    realizable: bool = True,
    embedding: Literal["random", "orthonormal", "equicorrelated"] = "orthonormal",
    d: int | None = None,
    rng: int | np.random.Generator | None = None,
    dtype: npt.DTypeLike = np.float64,
) -> NextTokenData:
    """Return next-token data from text: every `context` tokens in a row, with the one after them.

    Parameters
    ----------
    source : str or path-like
        The text itself, or the path (a `pathlib.Path`) of a UTF-8 file; an `OSError` where it
        cannot be read.
    unit : {"character", "word"}
        What a token is. Words are taken in lower case, punctuation marks are separate words,
        and white space is left out.
    context : int
        Tokens of a context.
    vocabulary : int, optional
        How many of the most frequent tokens are kept; the others are left out of the text before
        it is cut into contexts. By default all of them.
    most : int, optional
        Number of contexts at most, from the beginning of the text; by default all.
    realizable : bool
        Whether to leave out contexts without their label, which "Mechanics of Next Token Prediction
        with Self-Attention" says nothing about.
    embedding : {"orthonormal", "random", "equicorrelated"}
        "orthonormal" are unit vectors along the axes where d = K; the others are drawn as in
        `next_token`.
    d : int, optional
        Dimension of the embeddings; the size K of the vocabulary by default.
    rng : int or numpy.random.Generator, optional
        Seed or generator for embeddings that are drawn.
    dtype : numpy.float64 or numpy.float32
        Of the embeddings.

    Returns
    -------
    NextTokenData
        With `vocabulary`, the most frequent token first. Ids count from there.

    Examples
    --------
    >>> data = text("to be or not to be", unit="word", context=4)
    >>> data.vocabulary[data.contexts], data.vocabulary[data.labels]
    (array([['to', 'be', 'or', 'not'],
           ['be', 'or', 'not', 'to']], dtype='<U3'), array(['to', 'be'], dtype='<U3'))
    """
    kind = as_choice("unit", unit, ("character", "word"))
    table = as_choice("embedding", embedding, EMBEDDINGS)
    T = as_positive_int("context", context)
    largest = None if vocabulary is None else as_positive_int("vocabulary", vocabulary)
    as_bool("realizable", realizable)
    count = None if most is None else as_positive_int("most", most)
    real = as_float_dtype("dtype", dtype)
    generator = as_generator("rng", rng)
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"source: expected text or a pathlib.Path, got {type(source).__name__}")
    written, named = (source, "source") if isinstance(source, str) else (_read(source), source)
    if "\0" in written:
        raise ValueError(f"{named}: expected text without NUL characters, got some")
    if isinstance(source, str) and os.path.isfile(source):  # noqa: PTH113  # long texts too
        raise ValueError(f"source: expected the path of a file as a pathlib.Path, got {source!r}")
    split = iter if kind == "character" else _words
    counts = Counter(split(written))
    frequent = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:largest]
    ids = {token: j for j, (token, _) in enumerate(frequent)}
    sequence = np.fromiter((ids[token] for token in split(written) if token in ids), np.int64)
    if sequence.size <= T:
        raise ValueError(
            f"{named}: expected text of more than {T} {kind}s (context) of the vocabulary, got "
            f"{sequence.size}"
        )
    windows = np.lib.stride_tricks.sliding_window_view(sequence, T + 1)
    if realizable:
        contained = np.zeros(len(windows), dtype=bool)
        for t in range(T):
            contained |= windows[:, t] == windows[:, T]
        windows = windows[np.flatnonzero(contained)[:count]]
        if len(windows) == 0:
            raise ValueError(f"{named}: expected text with a label in its context, got none")
    windows = windows[:count]
    K = len(ids)
    size = K if d is None else as_positive_int("d", d)
    if table != "random" and size < K:
        raise ValueError(f"d: expected at least K = {K} for {table} embeddings, got {size}")
    if K * size * real.itemsize > memory_size():
        raise ValueError(
            f"vocabulary: expected {kind}s whose embeddings fit into memory, got {K} of them in "
            f"{size} dimensions, {K * size * real.itemsize / 1e9:.0f} GB; keep fewer"
        )
    embeddings: FloatArray
    if table == "orthonormal" and size == K:
        embeddings = np.eye(K, dtype=real)
    else:
        embeddings = draw_embeddings(generator, K, size, table).astype(real, copy=False)
    return NextTokenData(
        embeddings, windows[:, :-1], windows[:, -1], vocabulary=[token for token, _ in frequent]
    )


def _words(text: str) -> Iterator[str]:
    """Yield the words and punctuation marks of a text in lower case."""
    lower = text.lower()
    # Combining marks, which \w leaves out, belong to the word they stand in.
    marks = re.escape("".join(c for c in sorted(set(lower)) if category(c).startswith("M")))
    word = rf"[\w{marks}]+"
    return (m[0] for m in re.finditer(rf"{word}(?:['’]{word})*|[^\w\s{marks}]", lower))


def _read(path: os.PathLike[str]) -> str:
    """Read UTF-8 text from a file or a pipe, without a byte order mark."""
    where = Path(path)
    if where.is_block_device() or where.is_char_device():
        raise ValueError(f"{path}: expected a file or a pipe, got a device")
    try:
        return where.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        wrong = f"byte {error.object[error.start]:#04x} at {error.start}"
        raise ValueError(f"{path}: expected UTF-8 text, got {wrong}") from error
