"""load and save: the same bits back, whole files only, and nothing ever unpickled."""

from __future__ import annotations

import io
import os
import pickle
import stat
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from attsvm.data import AttentionData, files, load, save
from attsvm.data.whole_file import whole_file

FIELDS = ("tokens", "labels", "queries", "value", "lengths")
ONE_DIRECTORY = [HealthCheck.function_scoped_fixture]  # every example overwrites the same file


def small() -> AttentionData:
    rng = np.random.default_rng(0)
    return AttentionData(
        rng.standard_normal((2, 3, 4)),
        [1, -1],
        queries=rng.standard_normal((2, 4)),
        value=rng.standard_normal(4),
        lengths=[2, 3],
    )


@st.composite
def problems(draw: st.DrawFn) -> AttentionData:
    dtype = draw(st.sampled_from([np.float64, np.float32]))
    lead = draw(st.sampled_from([(), (1,), (3,)]))
    n, T, d = (draw(st.integers(1, 3)) for _ in range(3))
    width = 8 * np.dtype(dtype).itemsize
    numbers = st.floats(allow_nan=False, allow_infinity=False, width=width)

    def array(*shape: int) -> np.ndarray:
        return draw(hnp.arrays(dtype, (*lead, *shape), elements=numbers))

    return AttentionData(
        array(n, T, d),
        draw(hnp.arrays(np.int8, (*lead, n), elements=st.sampled_from([-1, 1]))),
        queries=array(n, d) if draw(st.booleans()) else None,
        value=array(d) if draw(st.booleans()) else None,
        lengths=draw(hnp.arrays(np.int32, (*lead, n), elements=st.integers(1, T))),
    )


@settings(suppress_health_check=ONE_DIRECTORY)
@given(data=problems())
def test_what_was_saved_is_loaded_bit_for_bit(tmp_path: Path, data: AttentionData):
    save(tmp_path / "problem.npz", data)
    again = load(tmp_path / "problem.npz")
    for name in FIELDS:
        first, second = getattr(data, name), getattr(again, name)
        if first is None:
            assert second is None
        else:
            assert second.dtype == first.dtype
            assert second.shape == first.shape
            assert second.tobytes() == first.tobytes()


@pytest.mark.parametrize("name", ["problem", "problem.npz", "problem.dat", "a b.c.npz", "ü"])
def test_exactly_the_given_path_is_written(tmp_path: Path, name: str):
    save(tmp_path / name, small())
    save(str(tmp_path / name), small())
    assert [path.name for path in tmp_path.iterdir()] == [name]
    load(str(tmp_path / name))


def test_what_numpy_wrote_is_loaded(tmp_path: Path):
    data = small()
    for write in (np.savez, np.savez_compressed):
        write(tmp_path / "own.npz", tokens=data.tokens, labels=np.array([1, -1]))
        again = load(tmp_path / "own.npz")
        np.testing.assert_array_equal(again.tokens, data.tokens)
        assert again.queries is None
        np.testing.assert_array_equal(again.lengths, [3, 3])


@pytest.mark.parametrize("failing", ["write", "rename"])
def test_a_crash_leaves_the_old_file(tmp_path: Path, monkeypatch, failing: str):
    path = tmp_path / "problem.npz"
    save(path, small())
    before = path.read_bytes()

    def half_written(file, **arrays):
        file.write(before[: len(before) // 2])
        raise KeyboardInterrupt

    def refused(self, target):
        raise PermissionError(target)

    if failing == "write":
        monkeypatch.setattr(np, "savez", half_written)
    else:
        monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises((KeyboardInterrupt, PermissionError)):
        save(path, AttentionData(np.zeros((1, 1, 1)), [1]))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch):
    done = []
    monkeypatch.setattr(os, "fsync", lambda file: done.append(os.fstat(file).st_size))
    monkeypatch.setattr(Path, "replace", lambda *paths: done.append(paths))
    save(tmp_path / "problem.npz", small())
    size, (part, path) = done
    assert size == part.stat().st_size > 0
    assert path == tmp_path / "problem.npz"


def test_errors_of_a_file_have_its_name(tmp_path: Path, monkeypatch):
    path = tmp_path / "problem.npz"

    def refused(self, target):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(PermissionError) as caught:
        save(path, small())
    assert caught.value.filename == str(path)
    with pytest.raises(OSError, match=r"^no such format$"), whole_file(tmp_path / "figure.png"):
        raise OSError("no such format")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match=r"^path: expected a directory that can be written"):
        save(path, small())
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_followed_and_permissions_are_the_usual_ones(tmp_path: Path):
    plain = tmp_path / "plain"
    plain.touch()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real")
    save(link, small())
    assert link.is_symlink()
    load(tmp_path / "real")
    assert stat.S_IMODE(link.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_save_says_what_is_wrong(tmp_path: Path):
    with pytest.raises(TypeError, match=r"^data: expected .* NextTokenData, got dict$"):
        save(tmp_path / "x", {"tokens": [1]})
    with pytest.raises(FileNotFoundError, match=r"expected an existing directory, got .*/nowhere$"):
        save(tmp_path / "nowhere" / "x", small())
    with pytest.raises(IsADirectoryError, match=r"expected a file, got the directory"):
        save(tmp_path, small())
    assert list(tmp_path.iterdir()) == []


def written(path: Path, **arrays: object) -> Path:
    with path.open("wb") as file:
        np.savez(file, **arrays)
    return path


def test_load_says_what_is_wrong(tmp_path: Path):
    tokens, labels = np.ones((2, 3, 4)), np.ones(2)
    path = tmp_path / "x.npz"
    with pytest.raises(FileNotFoundError, match=r"x\.npz"):
        load(path)
    for content in [b"", b"text", b"\x93NUMPY\x01\x00"]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"x\.npz: expected an \.npz file"):
            load(path)
    np.save(tmp_path / "x.npy", tokens)
    with pytest.raises(ValueError, match=r"x\.npy: expected an \.npz file"):
        load(tmp_path / "x.npy")
    with pytest.raises(ValueError, match=r"x\.npz: expected the field labels, got \['tokens'\]"):
        load(written(path, tokens=tokens))
    with pytest.raises(ValueError, match=r"x\.npz: expected the fields tokens, .* got 'Tokens'"):
        load(written(path, Tokens=tokens, labels=labels))
    with pytest.raises(ValueError, match=r"x\.npz: labels: expected shape \(n,\) = \(2,\)"):
        load(written(path, tokens=tokens, labels=labels[:1]))
    with pytest.raises(TypeError, match=r"x\.npz: tokens: expected float64"):
        load(written(path, tokens=tokens.astype(complex), labels=labels))


def zipped(path: Path, compression: int = zipfile.ZIP_STORED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def npy(shape: tuple[int, ...], content: bytes) -> bytes:
    """An array in the format of NumPy, whose header may announce more than there is."""
    stream = io.BytesIO()
    header = {"shape": shape, "fortran_order": False, "descr": "<f8"}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + content


def test_arrays_that_are_stored_twice_are_refused(tmp_path: Path):
    tokens, labels = npy((1, 1, 1), bytes(8)), npy((1,), bytes(8))
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for name in ("tokens.npy", "labels.npy", "tokens"):
            archive.writestr(name, labels if name == "labels.npy" else tokens)
    with pytest.raises(ValueError, match=r"x\.npz: expected every array once, got 'tokens' twice"):
        load(tmp_path / "x.npz")


def test_headers_are_checked_before_arrays_are_unpacked(tmp_path: Path, monkeypatch):
    path, labels = tmp_path / "x.npz", npy((1,), bytes(8))
    monkeypatch.setattr(np.lib.format, "read_array", None)  # nothing is to be unpacked
    zipped(path, **{"tokens.npy": npy((10**12, 1, 1), bytes(8)), "labels.npy": labels})
    with pytest.raises(ValueError, match=r"tokens: expected 8000000000000 bytes .*, got 8$"):
        load(path)
    zipped(path, **{"tokens.npy": npy((1,), bytes(8)), "labels.npy": labels})
    with pytest.raises(ValueError, match=r"tokens: expected 3 axes, or one more of a batch, got"):
        load(path)
    bomb = npy((10**5, 10, 10), bytes(8 * 10**7))
    zipped(path, zipfile.ZIP_DEFLATED, **{"tokens.npy": bomb, "labels.npy": labels})
    monkeypatch.setattr(files, "memory_size", lambda: 10**7)
    with pytest.raises(ValueError, match=r"tokens: expected arrays that fit into the memory"):
        load(path)


def test_pipes_and_devices_are_written_to_and_not_replaced(tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    save(pipe, small())
    reader.join()
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    (tmp_path / "copy").write_bytes(read[0])
    np.testing.assert_array_equal(load(tmp_path / "copy").tokens, small().tokens)
    with pytest.raises(OSError, match=r"No space left on device: '/dev/full'$"):
        save("/dev/full", small())
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


@pytest.mark.parametrize("device", ["/dev/zero", "pipe"])
def test_devices_and_pipes_are_not_read(tmp_path: Path, device: str):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="expected a file, got a device or a pipe"):
        load(tmp_path / device)


class Payload:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


def test_nothing_is_ever_unpickled(tmp_path: Path):
    mark = tmp_path / "unpickled"
    objects = np.array([Payload(mark)], dtype=object)
    path = written(tmp_path / "x.npz", tokens=objects, labels=np.ones(1))
    with pytest.raises(ValueError, match=r"x\.npz: tokens: expected an array of numbers"):
        load(path)
    path.write_bytes(pickle.dumps(Payload(mark)))
    with pytest.raises(ValueError, match=r"expected an \.npz file"):
        load(path)
    assert not mark.exists()


@pytest.fixture(scope="module")
def good_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "x.npz"
    save(path, small())
    return path.read_bytes()


@settings(suppress_health_check=ONE_DIRECTORY)
@given(keep=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused(tmp_path: Path, good_bytes: bytes, keep: float):
    path = tmp_path / "x.npz"
    path.write_bytes(good_bytes[: int(keep * len(good_bytes))])
    with pytest.raises(ValueError, match=r"x\.npz: expected an \.npz file"):
        load(path)


@settings(suppress_health_check=ONE_DIRECTORY, max_examples=500)
@given(where=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_file_with_a_damaged_array_is_refused(
    tmp_path: Path, good_bytes: bytes, where: float, flip: int
):
    arrays_end = good_bytes.index(b"PK\x01\x02")  # the zip directory, which repeats what is before
    damaged = bytearray(good_bytes)
    damaged[int(where * arrays_end)] ^= flip
    path = tmp_path / "x.npz"
    path.write_bytes(damaged)
    try:
        again = load(path)
    except ValueError as error:
        again, message = None, str(error)
    if again is None:
        assert str(path) in message
    else:  # a byte of a local header that nobody reads
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(again, name), getattr(small(), name))
