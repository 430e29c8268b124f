"""NextTokenData: contexts of ids; and where they come from: draws and text."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import attsvm
from attsvm import NextTokenData, load, save
from attsvm.datasets import next_token, text, texts
from attsvm.functional import loss_and_grad
from attsvm.heads import LinearScores

FIELDS = ("embeddings", "contexts", "labels", "lengths", "last", "vocabulary")
ONE_DIRECTORY = [HealthCheck.function_scoped_fixture]


def ragged() -> NextTokenData:
    return NextTokenData(np.eye(4), [[0, 1, 1], [2], [3, 0]], [1, 2, 2])


def test_contexts_of_different_length_are_padded():
    data = ragged()
    assert (data.K, data.d, data.n, data.T, data.batch) == (4, 4, 3, 3, None)
    assert data.lengths.tolist() == [3, 1, 2]
    assert data.contexts[data.valid].tolist() == [0, 1, 1, 2, 3, 0]
    assert data.last.tolist() == [1, 2, 0]
    assert data.realizable.tolist() == [True, True, False]
    assert data.label_scores.tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 0]]
    assert repr(data) == (
        "NextTokenData(K=4, d=4, n=3, T=3, dtype=float64, lengths 1..3, "
        "1 of 3 labels not in their context)"
    )


def test_padding_is_not_read():
    one = NextTokenData(np.eye(3), [[0, 1, 2], [1, 2, 1]], [1, 1], lengths=[2, 2])
    assert one.realizable.tolist() == [True, True]
    assert one.label_scores[1].tolist() == [1, 0, 0]
    assert one.last.tolist() == [1, 2]


def test_arrays_are_read_only_and_ids_of_any_integer_type():
    data = NextTokenData(np.eye(3, dtype=np.float32), np.array([[0, 1]], np.uint8), [2])
    assert data.dtype == np.float32
    assert data.contexts.dtype == np.int64
    for name in FIELDS[:-1]:
        assert not getattr(data, name).flags.writeable
    assert not pickle.loads(pickle.dumps(data)).labels.flags.writeable


@pytest.mark.parametrize("shared", [True, False])
def test_a_batch_has_tables_of_its_own_or_shares_one(shared):
    rng = np.random.default_rng(0)
    tables = rng.standard_normal((5, 3) if shared else (2, 5, 3))
    contexts = rng.integers(0, 5, (2, 4, 3))
    data = NextTokenData(tables, contexts, contexts[..., 0])
    assert data.batch == 2
    attention = data.as_attention()
    for b, problem in enumerate(data.problems()):
        table = tables if shared else tables[b]
        np.testing.assert_array_equal(problem.embeddings, table)
        np.testing.assert_array_equal(attention.tokens[b], table[contexts[b]])
        np.testing.assert_array_equal(attention.queries[b], table[contexts[b, :, -1]])
    assert data.problem(-1).contexts.tolist() == contexts[1].tolist()


def test_the_looked_up_problem_has_the_loss_by_hand():
    """Two tokens of logits 1 and 0, the label the first: -log softmax is log1p(1/e)."""
    data = NextTokenData(np.eye(2), [[0, 1]], [0])
    W = np.array([[0.0, 1.0], [0.0, 0.0]])
    head = LinearScores(data.label_scores)
    loss, _ = loss_and_grad(data.as_attention(), {"W": W}, head=head, loss="log")
    assert float(loss) == pytest.approx(np.log1p(np.exp(-1)), rel=1e-15)


def test_a_query_may_be_outside_its_context():
    data = NextTokenData(np.eye(3), [[0, 1]], [0], last=[2])
    assert data.as_attention().queries.tolist() == [[0.0, 0.0, 1.0]]


def test_a_vocabulary_may_be_an_array_of_objects():
    words = np.array(["a", "b\0c"], dtype=object)
    data = NextTokenData(np.eye(2), [[0, 1], [1, 1]], [0, 1], vocabulary=words)
    assert data.vocabulary.tolist() == ["a", "b\0c"]


def test_subset_keeps_the_vocabulary():
    data = NextTokenData(np.eye(2), [[0, 1], [1, 1]], [0, 1], vocabulary=["a", "b"])
    some = data.subset([False, True])
    assert some.contexts.tolist() == [[1, 1]]
    assert some.vocabulary.tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1.0], [[0]], [0]), ValueError, r"^embeddings: expected shape \(K, d\)"),
        ((np.eye(2), [[0.0]], [0]), TypeError, r"^contexts: expected integers"),
        ((np.eye(2), [[0, 2]], [0]), ValueError, r"^contexts: expected 0..1, got 2 at \[0, 1\]"),
        ((np.eye(2), [[0, -1]], [0]), ValueError, r"^contexts: expected 0..1, got -1"),
        ((np.eye(2), [[0], []], [0, 0]), ValueError, r"^contexts\[1\]: expected at least"),
        ((np.eye(2), [[0], [0.5, 1]], [0, 0]), TypeError, r"^contexts\[1\]: expected integers"),
        ((np.eye(2), [[0, 1]], [2]), ValueError, r"^labels: expected 0..1, got 2"),
        ((np.eye(2), [[0, 1]], [0, 1]), ValueError, r"^labels: expected shape \(n,\) = \(1,\)"),
        ((np.ones((3, 2, 2)), [[0, 1]], [0]), ValueError, r"^embeddings: expected shape \(B, K"),
        ((np.full((2, 2), np.nan), [[0, 1]], [0]), ValueError, r"^embeddings: expected finite"),
    ],
)
def test_what_is_wrong_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        NextTokenData(*arguments)


@pytest.mark.parametrize(
    ("option", "error", "message"),
    [
        ({"lengths": [3]}, ValueError, r"^lengths: expected 1..2, got 3"),
        ({"lengths": [0]}, ValueError, r"^lengths: expected 1..2, got 0"),
        ({"last": [2]}, ValueError, r"^last: expected 0..1, got 2"),
        ({"vocabulary": ["a"]}, ValueError, r"^vocabulary: expected shape \(K,\) = \(2,\)"),
        ({"vocabulary": [1, 2]}, TypeError, r"^vocabulary: expected K strings"),
        ({"vocabulary": np.array(["a", 2], object)}, TypeError, r"^vocabulary: expected K strings"),
        ({"vocabulary": ["a", "a\0"]}, ValueError, r"^vocabulary: .* without NUL at the end, got"),
    ],
)
def test_wrong_options_are_named(option, error, message):
    with pytest.raises(error, match=message):
        NextTokenData(np.eye(2), [[0, 1]], [0], **option)


@st.composite
def problems(draw: st.DrawFn) -> NextTokenData:
    dtype = draw(st.sampled_from([np.float64, np.float32]))
    lead = draw(st.sampled_from([(), (1,), (3,)]))
    n, T, K, d = (draw(st.integers(1, 3)) for _ in range(4))
    per_problem = draw(st.booleans())
    width = 8 * np.dtype(dtype).itemsize
    numbers = st.floats(allow_nan=False, allow_infinity=False, width=width)

    def ids(low: int, high: int, *shape: int) -> np.ndarray:
        return draw(hnp.arrays(np.int32, (*lead, *shape), elements=st.integers(low, high)))

    return NextTokenData(
        draw(hnp.arrays(dtype, ((*lead, K, d) if per_problem else (K, d)), elements=numbers)),
        ids(0, K - 1, n, T),
        ids(0, K - 1, n),
        lengths=ids(1, T, n),
        last=ids(0, K - 1, n) if draw(st.booleans()) else None,
        vocabulary=["a", "längere", "\n"][:K] if draw(st.booleans()) else None,
    )


@settings(suppress_health_check=ONE_DIRECTORY)
@given(data=problems())
def test_what_was_saved_is_loaded_bit_for_bit(tmp_path: Path, data: NextTokenData):
    save(tmp_path / "problem.npz", data)
    again = load(tmp_path / "problem.npz")
    assert isinstance(again, NextTokenData)
    for name in FIELDS:
        first, second = getattr(data, name), getattr(again, name)
        if first is None:
            assert second is None
        else:
            np.testing.assert_array_equal(first, second, strict=True)


def test_a_file_of_next_token_data_lacks_no_field(tmp_path: Path):
    np.savez(tmp_path / "x.npz", embeddings=np.eye(2), contexts=[[0, 1]])
    with pytest.raises(ValueError, match=r"x\.npz: expected the field labels, got"):
        load(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", embeddings=np.eye(2), contexts=[[0]], labels=[0], queries=[0])
    with pytest.raises(ValueError, match=r"expected the fields embeddings, .* got 'queries'"):
        load(tmp_path / "x.npz")


def components(data: NextTokenData) -> list[int]:
    """Sizes of all strongly connected components, by reachability: a power of the adjacency."""
    sizes = []
    for k in range(data.K):
        way = np.eye(data.K, dtype=bool)
        for x, y, last in zip(data.contexts, data.labels, data.last, strict=True):
            if last == k and y in x:
                way[y, x] = True
        for _ in range(data.K):
            way = way @ way
        mutual = way & way.T
        sizes += [int(row.sum()) for row in np.unique(mutual, axis=0)]
    return sizes


@pytest.mark.parametrize("kind", ["acyclic", "cyclic"])
def test_drawn_problems_are_of_the_kind_asked_for(kind):
    data = next_token(6, 4, 6, 8, kind=kind, batch=50, rng=0)
    for problem in data.problems():
        assert (max(components(problem)) > 1) == (kind == "cyclic")


def test_draws_of_any_kind_are_of_both():
    data = next_token(6, 4, 6, 8, batch=50, rng=0)
    cyclic = [max(components(problem)) > 1 for problem in data.problems()]
    assert 0 < sum(cyclic) < 50


@given(T=st.integers(1, 9), seed=st.integers(0, 99))
def test_ids_are_distinct_as_far_as_the_vocabulary_goes(T, seed):
    data = next_token(5, T, 6, 3, rng=seed)
    assert data.realizable.all()
    for row in data.contexts:
        assert len(set(row[:6].tolist())) == min(T, 6)


def test_labels_are_uniform_among_the_tokens():
    """4,000 draws of one of 4 places: each share is within 5 sigma of 1/4."""
    data = next_token(4000, 4, 8, 2, rng=0)
    place = (data.contexts == data.labels[:, None]).argmax(axis=1)
    shares = np.bincount(place) / 4000
    assert np.abs(shares - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / 4000)


@pytest.mark.parametrize(
    ("embedding", "inner"), [("random", None), ("orthonormal", 0.0), ("equicorrelated", 0.5)]
)
def test_embeddings_have_their_inner_products(embedding, inner):
    data = next_token(2, 2, 5, 7, embedding=embedding, batch=3, rng=0)
    gram = data.embeddings @ np.swapaxes(data.embeddings, 1, 2)
    np.testing.assert_allclose(np.diagonal(gram, axis1=1, axis2=2), 1, atol=1e-14)
    if inner is not None:
        np.testing.assert_allclose(gram[:, ~np.eye(5, dtype=bool)], inner, atol=1e-14)
    assert data.orthonormal == (embedding == "orthonormal")


def test_a_problem_is_the_same_whatever_the_size_of_its_batch():
    many = next_token(4, 3, 5, 6, kind="acyclic", batch=4, rng=7)
    one = next_token(4, 3, 5, 6, kind="acyclic", rng=7)
    for name in ("embeddings", "contexts", "labels"):
        np.testing.assert_array_equal(getattr(one, name), getattr(many, name)[0])


def test_a_kind_that_never_comes_is_an_error():
    with pytest.raises(ValueError, match=r"^kind: expected one that random contexts are, got 'cyc"):
        next_token(1, 3, 5, 6, kind="cyclic", rng=0)
    with pytest.raises(ValueError, match=r"^d: expected at least K = 5 for orthonormal"):
        next_token(1, 3, 5, 4, embedding="orthonormal")


def test_text_is_cut_into_windows_of_characters():
    data = text("abcab", context=3, realizable=False)
    letters = data.vocabulary
    assert ["".join(row) for row in letters[data.contexts]] == ["abc", "bca"]
    assert letters[data.labels].tolist() == ["a", "b"]
    assert text("abcab", context=2, realizable=False).realizable.tolist() == [False, False, False]


def test_words_leave_out_white_space_and_what_is_rare():
    source = "It's a dog.\nA dog, a DOG!"
    data = text(source, unit="word", context=2, realizable=False)
    assert data.vocabulary.tolist()[:2] == ["a", "dog"]
    assert "it's" in data.vocabulary
    few = text(source, unit="word", context=2, vocabulary=2, realizable=False)
    assert few.vocabulary[few.contexts[0]].tolist() == ["a", "dog"]
    assert few.K == 2


def test_only_contexts_with_their_label_are_kept(tmp_path: Path):
    path = tmp_path / "text"
    path.write_text("ä b ä c ä b ä d", encoding="utf-8")
    data = text(path, unit="word", context=3)
    assert data.realizable.all()
    every = text(path, unit="word", context=3, realizable=False)
    assert data.n == every.realizable.sum() < every.n
    assert text(path, unit="word", context=3, most=1).n == 1
    np.testing.assert_array_equal(data.embeddings, np.eye(4))
    drawn = text(path, unit="word", context=3, embedding="random", d=3, rng=0)
    assert drawn.embeddings.shape == (4, 3)


def test_text_that_is_none_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"^source: expected text of more than 16 characters"):
        text("short")
    with pytest.raises(ValueError, match=r"^source: expected text with a label in its context"):
        text("abcdef", context=2)
    (tmp_path / "x").write_bytes(b"\xff\xfe" * 20)
    with pytest.raises(ValueError, match=r"x: expected UTF-8 text"):
        text(tmp_path / "x")
    with pytest.raises(FileNotFoundError):
        text(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"^source: expected the path of a file as a pathlib.Path"):
        text(str(tmp_path / "x"))
    assert text("ab" * 100_000).n == 199_984


@pytest.mark.parametrize("unit", ["word", "character"])
def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path, unit):
    story = "the cat sat on the mat and the dog sat on the cat "
    (tmp_path / "marked").write_text(story, encoding="utf-8-sig")
    data = text(tmp_path / "marked", unit=unit, context=4)
    assert data.vocabulary.tolist() == text(story, unit=unit, context=4).vocabulary.tolist()


def test_words_keep_their_combining_marks():
    data = text("नमस्ते दुनिया, e\u0301te\u0301 नमस्ते e\u0301te\u0301 " * 3, unit="word", context=6)
    assert set(data.vocabulary) == {"नमस्ते", "दुनिया", "e\u0301te\u0301", ","}


def test_texts_that_cannot_be_kept_are_refused(tmp_path: Path, monkeypatch):
    with pytest.raises(ValueError, match="source: expected text without NUL"):
        text("a\0b\0a\0b\0" * 6, context=3)
    with pytest.raises(TypeError, match=r"source: expected text or a pathlib\.Path, got bytes"):
        text(b"some bytes of text")
    with pytest.raises(ValueError, match="/dev/zero: expected a file or a pipe, got a device"):
        text(Path("/dev/zero"))
    monkeypatch.setattr(texts, "memory_size", lambda: 1000)
    with pytest.raises(ValueError, match=r"vocabulary: expected characters .* got 12 of them"):
        text("abcdefghijkl" * 6, context=12)
    assert text("abcdefghijkl" * 6, vocabulary=3, context=3).K == 3


def test_training_needs_the_label_in_the_context():
    with pytest.raises(ValueError, match=r"^data: expected every label in its context .* got 1"):
        attsvm.train(ragged(), steps=1)
