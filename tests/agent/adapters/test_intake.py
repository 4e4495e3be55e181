"""One file, one checked image: whatever a folder may hold ends in a Frame or in an IntakeError that says why."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.adapters import intake
from agent.adapters.intake import IntakeError, Quarantine, printable, read_image
from transfer.preprocess import encode_png
from transfer.spec import InputSpec

SPEC = InputSpec(8, 8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
IMAGE = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
PNG = encode_png(IMAGE)


def refusal(path: Path, **limits: int) -> IntakeError:
    with pytest.raises(IntakeError) as caught:
        read_image(path, SPEC, **limits)
    assert caught.value.path == path
    return caught.value


def png_of_size(width: int, height: int) -> bytes:
    """A few bytes that claim to be an image of any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_an_image_becomes_a_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    frame = read_image(path, SPEC)
    assert frame.sample_id == hashlib.sha256(PNG).hexdigest()
    assert frame.origin == "a.png"
    assert np.array_equal(frame.image, IMAGE)


def test_an_image_of_another_size_is_fitted(tmp_path: Path) -> None:
    path = tmp_path / "big.png"
    path.write_bytes(encode_png(np.zeros((40, 60, 3), np.uint8)))
    assert read_image(path, SPEC).image.shape == (8, 8, 3)


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "picture.txt"
    path.write_bytes(PNG)
    assert np.array_equal(read_image(path, SPEC).image, IMAGE)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty"),
        (b"hello, I am no picture", "not_an_image"),
        (PNG[:-60], "truncated"),
        (png_of_size(9_000, 9_000), "too_large"),
    ],
    ids=["empty", "not_an_image", "truncated", "too_large"],
)
def test_bad_content_is_refused_with_its_code(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    error = refusal(path)
    assert error.code == code
    assert "bad.png" in str(error)


def test_what_is_broken_may_be_in_the_making_only_while_it_is_fresh(tmp_path: Path) -> None:
    path = tmp_path / "half.png"
    path.write_bytes(PNG[:-60])
    assert refusal(path).retry
    os.utime(path, (1_000_000, 1_000_000))
    assert not refusal(path).retry


def test_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.truncate(2**40)
    error = refusal(path, max_bytes=1000)
    assert (error.code, error.retry) == ("too_big_file", False)


def test_a_missing_file_has_vanished(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone.png").code == "vanished"


@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "loop"])
@pytest.mark.spec("9.4")
def test_what_is_no_regular_file_is_refused_without_blocking(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "odd.png"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.symlink_to(path)
    assert refusal(path).code == "unreadable"


def test_a_fifo_slipped_in_between_look_and_open_does_not_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "trap.png"
    path.write_bytes(PNG)
    real_open = os.open

    def open_after_the_swap(target: Path, flags: int) -> int:
        path.unlink()
        os.mkfifo(path)
        return real_open(target, flags)

    monkeypatch.setattr(intake.os, "open", open_after_the_swap)
    assert refusal(path).code == "unreadable"


def test_a_link_to_a_regular_file_is_fine(tmp_path: Path) -> None:
    (tmp_path / "real.png").write_bytes(PNG)
    (tmp_path / "link.png").symlink_to("real.png")
    assert np.array_equal(read_image(tmp_path / "link.png", SPEC).image, IMAGE)


@pytest.mark.parametrize("change", ["grow", "replace", "rewrite"])
@pytest.mark.spec("9.1")
def test_a_file_that_changes_while_it_is_read_is_to_be_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    path = tmp_path / "moving.png"
    path.write_bytes(PNG)
    os.utime(path, (1_000_000, 1_000_000))
    real_read = os.read

    def read_and_change(descriptor: int, limit: int) -> bytes:
        monkeypatch.setattr(intake.os, "read", real_read)
        data = real_read(descriptor, limit)
        if change == "grow":
            with path.open("ab") as file:
                file.write(b"more")
        elif change == "replace":
            other = path.with_name("other")
            other.write_bytes(PNG)
            os.utime(other, (1_000_000, 1_000_000))
            other.replace(path)
        else:
            path.write_bytes(PNG)
        return data

    monkeypatch.setattr(intake.os, "read", read_and_change)
    error = refusal(path)
    assert (error.code, error.retry) == ("changed_while_read", True)


def test_no_permission_is_unreadable(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    path = tmp_path / "secret.png"
    path.write_bytes(PNG)
    path.chmod(0)
    assert refusal(path).code == "unreadable"


@pytest.mark.spec("9.1")
def test_a_writer_at_work_never_yields_half_an_image(tmp_path: Path) -> None:
    """A thread rewrites the file all the time: every frame is one of its whole versions."""
    path = tmp_path / "live.png"
    versions = [encode_png(np.full((64, 64, 3), shade, np.uint8)) for shade in range(20)]
    path.write_bytes(versions[0])
    done = threading.Event()

    def rewrite() -> None:
        while not done.is_set():
            for version in versions:
                path.write_bytes(version)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        known = {hashlib.sha256(version).hexdigest() for version in versions}
        for _ in range(300):
            with contextlib.suppress(IntakeError):
                assert read_image(path, SPEC).sample_id in known
    finally:
        done.set()
        writer.join()


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(lambda tail: PNG[:50] + tail)))
def test_any_bytes_give_a_frame_or_an_intake_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any"
    path.write_bytes(content)
    with contextlib.suppress(IntakeError):
        assert read_image(path, SPEC).image.shape == (8, 8, 3)


@given(name=st.binary(min_size=1, max_size=400))
def test_printable_is_safe_text(name: bytes) -> None:
    text = printable(os.fsdecode(name))
    assert text.isprintable() and len(text) <= 255
    text.encode("utf-8")


def broken(path: Path, content: bytes = b"junk") -> IntakeError:
    path.write_bytes(content)
    return IntakeError("not_an_image", path, "no picture", False)


@pytest.mark.spec("9.2")
def test_quarantine_keeps_evidence_and_reason(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "q")
    path = tmp_path / "bad.png"
    assert quarantine.add(path, broken(path))
    (note,) = (tmp_path / "q").glob("*.json")
    reason = json.loads(note.read_bytes())
    assert reason["what"] == "not_an_image" and reason["where"] == str(path)
    assert reason["message"] == "no picture" and reason["when_utc"].endswith("+00:00")
    assert note.with_suffix("").read_bytes() == b"junk"


@pytest.mark.spec("9.2")
def test_quarantine_is_bounded_in_files_and_bytes(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "q", max_files=3, max_bytes=5000)
    for n in range(6):
        path = tmp_path / f"bad{n}.json"
        quarantine.add(path, broken(path))
    kept = {json.loads(note.read_bytes())["where"] for note in (tmp_path / "q").glob("*.json")}
    assert kept == {str(tmp_path / f"bad{n}.json") for n in (3, 4, 5)}
    big = tmp_path / "big"
    quarantine.add(big, broken(big, b"x" * 4000))
    assert sum(file.stat().st_size for file in (tmp_path / "q").iterdir()) <= 5000


def test_quarantine_takes_a_mebibyte_at_most(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    error = broken(path, b"x" * (3 * 1024 * 1024))
    assert Quarantine(tmp_path / "q").add(path, error)
    (note,) = (tmp_path / "q").glob("*.json")
    assert note.with_suffix("").stat().st_size == 1024 * 1024


def test_quarantine_writes_once_for_a_path(tmp_path: Path) -> None:
    quarantine, path = Quarantine(tmp_path / "q"), tmp_path / "log"
    for n in range(5):
        assert quarantine.add(path, broken(path, b"junk %d" % n))
    (note,) = (tmp_path / "q").glob("*.json")
    assert note.with_suffix("").read_bytes() == b"junk 0"


def test_quarantine_of_what_cannot_be_copied_keeps_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    assert Quarantine(tmp_path / "q").add(path, IntakeError("unreadable", path, "a fifo", False))
    assert [file.suffix for file in (tmp_path / "q").iterdir()] == [".json"]


def test_quarantine_without_a_disk_says_no(tmp_path: Path) -> None:
    (tmp_path / "q").write_bytes(b"a file where the folder should be")
    path = tmp_path / "bad"
    assert not Quarantine(tmp_path / "q").add(path, broken(path))
