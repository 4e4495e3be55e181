"""A file is the old one or the new one, and what is refused leaves nothing behind."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from transfer.durable import sync_tree, write_atomic


def test_a_file_is_replaced_whole_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomic(path, b"old")
    before = path.stat().st_ino
    write_atomic(path, b"new", mode=0o600)
    assert path.read_bytes() == b"new" and path.stat().st_ino != before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.spec("7.4")
@pytest.mark.parametrize("step", ["file", "folder"])
def test_where_the_disk_refuses_the_file_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Refused the content, it is the old one; refused the folder's sync only, the new one, which a cut may undo."""
    path = tmp_path / "a"
    write_atomic(path, b"old")
    sync = os.fsync

    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) == (step == "folder"):
            raise OSError(errno.EIO, "Input/output error")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="Input/output"):
        write_atomic(path, b"new")
    assert path.read_bytes() == (b"old" if step == "file" else b"new")
    assert os.listdir(tmp_path) == ["a"]


def test_a_tree_is_synced_with_all_its_files_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "x" / "file").write_bytes(b"1")
    (tmp_path / "x" / "y" / "other").write_bytes(b"2")
    synced: set[int] = set()
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))
    sync_tree(tmp_path / "x")
    assert synced == {path.stat().st_ino for path in (tmp_path / "x", *(tmp_path / "x").rglob("*"))}
