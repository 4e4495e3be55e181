"""What the kernel tells of a tree, from real files."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.adapters.folder_notices import Inotify, Notices, Polling, open_notices

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="inotify is Linux")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def inotify(tree: Path) -> Iterator[Inotify]:
    notices = Inotify(str(tree))
    notices.watch(str(tree))
    yield notices
    notices.close()


def collect(source: Inotify) -> Notices:
    """Everything up to now: the kernel queues an event before the call that caused it returns."""
    return source.wait(0)


def test_a_file_counts_when_it_is_closed_not_when_it_is_made(inotify: Inotify, tree: Path) -> None:
    with (tree / "a").open("wb") as file:
        file.write(b"half")
        file.flush()
        assert collect(inotify) == Notices()
    assert collect(inotify) == Notices(files={str(tree / "a")})


def test_a_file_moved_in_counts_and_one_moved_out_does_not(inotify: Inotify, tree: Path) -> None:
    outside = tree.parent / "outside"
    outside.write_bytes(b"")
    outside.rename(tree / "b")
    assert collect(inotify) == Notices(files={str(tree / "b")})
    (tree / "b").rename(outside)
    assert collect(inotify) == Notices()


def test_new_folders_are_told_and_can_be_watched(inotify: Inotify, tree: Path) -> None:
    (tree / "sub").mkdir()
    assert collect(inotify) == Notices(folders={str(tree / "sub")})
    inotify.watch(str(tree / "sub"))
    (tree / "sub" / "c").write_bytes(b"")
    assert collect(inotify).files == {str(tree / "sub" / "c")}
    (tree / "sub").rename(tree / "renamed")
    assert collect(inotify).folders == {str(tree / "renamed")}
    inotify.watch(str(tree / "renamed"))
    (tree / "renamed" / "d").write_bytes(b"")
    assert collect(inotify).files == {str(tree / "renamed" / "d")}


@pytest.mark.parametrize("loss", ["removed", "moved"])
def test_the_loss_of_the_root_asks_for_a_scan(inotify: Inotify, tree: Path, loss: str) -> None:
    if loss == "removed":
        tree.rmdir()
    else:
        tree.rename(tree.parent / "elsewhere")
    assert collect(inotify).look_again


def test_the_loss_of_a_subfolder_does_not(inotify: Inotify, tree: Path) -> None:
    (tree / "sub").mkdir()
    inotify.watch(str(tree / "sub"))
    (tree / "sub").rmdir()
    assert not collect(inotify).look_again


def test_an_overflow_asks_for_a_scan(inotify: Inotify, tree: Path) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 50_000:
        pytest.skip(f"the queue holds {limit} events here")
    for n in range(limit // 2 + 10):  # each link is two events (create, moved to), and no two are alike
        (tree / f"{n}").symlink_to("x")
        (tree / f"{n}").rename(tree / f"{n}r")
    assert collect(inotify).look_again


@pytest.mark.parametrize("kind", [Polling, Inotify])
def test_wake_ends_a_wait(tree: Path, kind: type) -> None:
    source = kind(str(tree)) if kind is Inotify else kind()
    began_at = time.monotonic()
    waker = threading.Timer(0.05, source.wake)
    waker.start()
    source.wait(30)
    assert time.monotonic() - began_at < 20
    waker.join()
    source.close()


def test_without_inotify_there_is_polling(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_notices(tree)
    assert source.mode == "inotify"
    source.close()
    monkeypatch.setitem(sys.modules, "inotify_simple", None)  # what an absent package looks like
    source = open_notices(tree)
    assert source.mode == "polling" and source.rescan_within_s == 2.0
    source.close()
