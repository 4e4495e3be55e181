"""Files come in by every way there is; each is delivered once, or rejected with its reason."""

from __future__ import annotations

import hashlib
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.adapters import folder_notices, watcher
from agent.adapters.intake import Frame, IntakeError
from agent.adapters.seen import SeenFiles
from agent.adapters.watcher import FolderWatcher
from transfer.preprocess import encode_png
from transfer.spec import InputSpec

SPEC = InputSpec(8, 8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
WAIT_S = 20.0
QUIET_S = 0.3


def png(seed: int) -> bytes:
    """Noise: any cut of 60 bytes or more leaves pixels out."""
    return encode_png(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8))


class Watch:
    """A watcher on a folder and what came out of it."""

    def __init__(self, state: Path, folder: Path, **options: float) -> None:
        self.frames: queue.Queue[Frame] = queue.Queue()
        self.rejected: queue.Queue[tuple[Path, IntakeError]] = queue.Queue()
        self.reports: queue.Queue[str] = queue.Queue()
        self.seen = SeenFiles(state / "seen.db")
        self.watcher = FolderWatcher(
            folder,
            spec=SPEC,
            deliver=self.deliver,
            reject=lambda path, error: self.rejected.put((path, error)),
            seen=self.seen,
            report=self.reports.put,
            settle_s=0.02,
            **options,  # type: ignore[arg-type]
        )

    def deliver(self, frame: Frame) -> None:
        self.frames.put(frame)

    def start(self) -> Watch:
        self.watcher.start()
        return self

    def origins(self, count: int) -> list[str]:
        return [self.frames.get(timeout=WAIT_S).origin for _ in range(count)]

    def quiet(self) -> bool:
        """Nothing more comes within a moment."""
        time.sleep(QUIET_S)
        return self.frames.empty() and self.rejected.empty()

    def close(self) -> None:
        self.watcher.close()
        self.seen.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def watch(tmp_path: Path, folder: Path) -> Iterator[Callable[..., Watch]]:
    made: list[Watch] = []

    def make(**options: float) -> Watch:
        made.append(Watch(tmp_path, folder, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(params=["inotify", "polling"])
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to notice. Polling is what is left where inotify_simple is absent."""
    if request.param == "polling":
        monkeypatch.setitem(sys.modules, "inotify_simple", None)
        monkeypatch.setattr(folder_notices.Polling, "rescan_within_s", 0.02)
    elif not sys.platform.startswith("linux"):
        pytest.skip("inotify is Linux")
    return str(request.param)


def until(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + WAIT_S
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_a_folder_can_be_the_label_of_what_lies_in_it(watch: Callable[..., Watch], folder: Path) -> None:
    watched = watch(labelled=True).start()
    for number, place in enumerate(["boat", "boat/2024/may", "", "x" * 65, "tr\nam"]):
        (folder / place).mkdir(parents=True, exist_ok=True)
        (folder / place / f"{number}.png").write_bytes(png(number))
    frames = [watched.frames.get(timeout=WAIT_S) for _ in range(5)]
    given = {frame.origin.rpartition("/")[2]: frame.given for frame in frames}
    assert given == {"0.png": "boat", "1.png": "boat", "2.png": "", "3.png": "", "4.png": ""}


def test_an_image_moved_into_the_folder_of_its_category_comes_again_with_its_label(
    watch: Callable[..., Watch], folder: Path
) -> None:
    watched = watch(labelled=True).start()
    (folder / "boat").mkdir()
    (folder / "a.png").write_bytes(png(1))
    first = watched.frames.get(timeout=WAIT_S)
    (folder / "a.png").rename(folder / "boat" / "a.png")
    second = watched.frames.get(timeout=WAIT_S)
    assert (first.sample_id, first.given) == (second.sample_id, "") and second.given == "boat"


def test_unless_it_is_asked_for_a_folder_says_nothing(watch: Callable[..., Watch], folder: Path) -> None:
    (folder / "boat").mkdir()
    (folder / "boat" / "a.png").write_bytes(png(1))
    assert watch().start().frames.get(timeout=WAIT_S).given == ""


def test_files_are_delivered_however_they_come(watch: Callable[..., Watch], folder: Path, mode: str) -> None:
    (folder / "before").mkdir()
    (folder / "before" / "there.png").write_bytes(png(1))
    w = watch().start()
    assert w.watcher.mode == mode
    assert w.origins(1) == ["before/there.png"]
    (folder / "written.png").write_bytes(png(2))
    assert w.origins(1) == ["written.png"]
    (folder.parent / "x").write_bytes(png(3))
    (folder.parent / "x").rename(folder / "moved.png")
    assert w.origins(1) == ["moved.png"]
    (folder / "new" / "deep").mkdir(parents=True)
    (folder / "new" / "deep" / "sub.png").write_bytes(png(4))
    assert w.origins(1) == ["new/deep/sub.png"]
    (folder / "new" / "deep" / "second.png").write_bytes(png(5))
    assert w.origins(1) == ["new/deep/second.png"]
    (folder.parent / "tree").mkdir()
    (folder.parent / "tree" / "in-tree.png").write_bytes(png(6))
    (folder.parent / "tree").rename(folder / "tree")
    assert w.origins(1) == ["tree/in-tree.png"]
    assert w.quiet() and w.watcher.healthy()


def test_a_rewritten_file_is_delivered_again_and_a_touched_reader_is_not(
    watch: Callable[..., Watch], folder: Path, mode: str
) -> None:
    path = folder / "a.png"
    path.write_bytes(png(1))
    w = watch().start()
    first = w.frames.get(timeout=WAIT_S)
    path.read_bytes()
    with path.open("ab"):
        pass  # opened to write and closed, with nothing written: a notice, but no other version
    assert w.quiet()
    (folder / ".a.png").write_bytes(png(2))
    (folder / ".a.png").replace(path)
    assert w.frames.get(timeout=WAIT_S).sample_id != first.sample_id


@pytest.mark.spec("9.2", "9.4")
def test_bad_files_are_rejected_once_and_good_ones_go_on(watch: Callable[..., Watch], folder: Path, mode: str) -> None:
    old = (time.time() - 1000,) * 2
    for name, content in (("empty", b""), ("text.png", b"hello"), ("half.png", png(1)[:-60]), ("good.png", png(2))):
        (folder / name).write_bytes(content)
        os.utime(folder / name, old)
    os.mkfifo(folder / "fifo")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "folder-link").symlink_to(folder)
    w = watch().start()
    assert w.origins(1) == ["good.png"]
    rejected = {path.name: error.code for path, error in (w.rejected.get(timeout=WAIT_S) for _ in range(6))}
    assert rejected == {
        "empty": "empty",
        "text.png": "not_an_image",
        "half.png": "truncated",
        "fifo": "unreadable",
        "dangling": "vanished",
        "folder-link": "unreadable",
    }
    assert w.quiet() and w.watcher.healthy()


def test_what_is_still_on_its_way_is_left_alone(watch: Callable[..., Watch], folder: Path, mode: str) -> None:
    w = watch().start()
    (folder / ".hidden").mkdir()
    for name in (".a.png", "b.png.tmp", "c.PART", ".hidden/d.png"):
        (folder / name).write_bytes(png(1))
    (folder / "b.png.tmp").rename(folder / "b.png")
    assert w.origins(1) == ["b.png"]
    assert w.quiet()


@pytest.mark.spec("9.1")
def test_a_file_written_slowly_is_delivered_when_it_is_whole(
    watch: Callable[..., Watch], folder: Path, mode: str
) -> None:
    content = png(3)
    w = watch(retries=40, rescan_s=0.02).start()
    with (folder / "slow.png").open("wb", buffering=0) as file:
        for piece in (content[:5], content[5:60], content[60:-60], content[-60:]):
            time.sleep(0.03)
            file.write(piece)
    assert w.frames.get(timeout=WAIT_S).sample_id == hashlib.sha256(content).hexdigest()
    assert w.quiet()


@pytest.mark.spec("9.2")
def test_a_file_that_never_becomes_whole_is_rejected_after_its_retries(
    watch: Callable[..., Watch], folder: Path, mode: str
) -> None:
    w = watch(retries=2).start()
    (folder / "half.png").write_bytes(png(1)[:-60])
    path, error = w.rejected.get(timeout=WAIT_S)
    assert (path, error.code) == (folder / "half.png", "truncated")
    assert w.quiet()
    (folder / "half.png").write_bytes(png(1))
    assert w.origins(1) == ["half.png"]


@pytest.mark.spec("9.2")
def test_what_is_no_image_is_not_tried_again_unless_it_changes(watch: Callable[..., Watch], folder: Path) -> None:
    (folder / "text.png").write_bytes(b"hello")
    first = watch(retries=0).start()
    first.rejected.get(timeout=WAIT_S)
    first.close()
    second = watch(retries=0, rescan_s=0.02).start()
    assert second.quiet()
    (folder / "text.png").write_bytes(b"hello again")
    assert second.rejected.get(timeout=WAIT_S)[0].name == "text.png" and second.quiet()


def test_nothing_is_seen_twice_across_restarts(watch: Callable[..., Watch], folder: Path) -> None:
    for n in range(5):
        (folder / f"{n}.png").write_bytes(png(n))
    first = watch().start()
    first.origins(5)
    first.close()
    (folder / "later.png").write_bytes(png(9))
    second = watch().start()
    assert second.origins(1) == ["later.png"]
    assert second.quiet()


def test_they_come_in_the_order_of_time_then_name(watch: Callable[..., Watch], folder: Path) -> None:
    for name, mtime in (("c", 300), ("b", 100), ("d", 100), ("a", 200)):
        (folder / name).write_bytes(png(1))
        os.utime(folder / name, (mtime, mtime))
    assert watch().start().origins(4) == ["b", "d", "a", "c"]


def test_a_slow_receiver_holds_the_watcher_up_and_loses_nothing(watch: Callable[..., Watch], folder: Path) -> None:
    w = watch()
    gate = threading.Semaphore(0)

    def slow(frame: Frame) -> None:
        gate.acquire()
        w.frames.put(frame)

    w.watcher._deliver = slow
    w.start()
    for n in range(50):
        (folder / f"{n:02}.png").write_bytes(png(n))
    assert w.frames.empty()
    for _ in range(50):
        gate.release()
    assert sorted(w.origins(50)) == [f"{n:02}.png" for n in range(50)]


@pytest.mark.spec("9.3")
def test_after_a_real_overflow_everything_is_found(watch: Callable[..., Watch], folder: Path) -> None:
    """While the receiver blocks, the kernel's queue runs over, and of the images after that no word comes."""
    pytest.importorskip("inotify_simple")
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 50_000:
        pytest.skip(f"the queue holds {limit} events here; set fs.inotify.max_queued_events to its default, 16384")
    w = watch(rescan_s=3600)
    gate = threading.Event()

    def blocked(frame: Frame) -> None:
        w.frames.put(frame)
        gate.wait(WAIT_S)

    w.watcher._deliver = blocked
    w.start()
    assert until(w.watcher.healthy)
    (folder / "first.png").write_bytes(png(0))
    assert w.origins(1) == ["first.png"]
    for n in range(limit // 2 + 10):  # a link made and moved is two events, and no two in a row are alike
        (folder / f".{n % 2}").symlink_to("x")
        (folder / f".{n % 2}").rename(folder / ".moved")
    for n in range(20):
        (folder / f"{n:02}.png").write_bytes(png(n))
    gate.set()
    assert sorted(w.origins(20)) == [f"{n:02}.png" for n in range(20)]


@pytest.mark.parametrize(
    ("took_s", "cpu_s", "pause"),
    [(0.01, 0.01, 30.0), (0.05, 0.05, 30.0), (0.1, 0.1, 50.0), (1.0, 1.0, 500.0), (3.0, 0.01, 60.0)],
)
def test_a_large_tree_is_scanned_seldom(took_s: float, cpu_s: float, pause: float) -> None:
    """However large it is: 0.2 % of a core; slow without work for us (a network share): 5 % of the time."""
    assert watcher.pause_s(30.0, took_s, cpu_s, folder_notices.Inotify.scan_share) == pytest.approx(pause)


def test_every_file_of_a_large_tree_is_found(
    watch: Callable[..., Watch], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "LOOKED_UP_AT_ONCE", 3)
    for number in range(10):
        place = folder / f"{number % 2}"
        place.mkdir(exist_ok=True)
        (place / f"{number}.png").write_bytes(png(number))
    (folder / "gone.png").symlink_to(folder / "nowhere")
    w = watch(retries=0).start()
    assert sorted(w.origins(10)) == sorted(f"{number % 2}/{number}.png" for number in range(10))
    assert w.rejected.get(timeout=WAIT_S)[0].name == "gone.png" and w.quiet()


@pytest.mark.spec("9.3")
def test_lost_notices_are_made_up_for_by_the_rescan(
    watch: Callable[..., Watch], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("inotify_simple")
    monkeypatch.setattr(folder_notices.Inotify, "watch", lambda self, folder: None)
    w = watch(rescan_s=0.05).start()
    (folder / "a.png").write_bytes(png(1))
    assert w.origins(1) == ["a.png"]


def test_out_of_watches_it_goes_over_to_polling(
    watch: Callable[..., Watch], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("inotify_simple")
    (folder / "sub").mkdir()
    real = folder_notices.Inotify.watch

    def limited(self: folder_notices.Inotify, path: str) -> None:
        if path != str(folder):
            raise OSError(28, "No space left on device")
        real(self, path)

    monkeypatch.setattr(folder_notices.Inotify, "watch", limited)
    monkeypatch.setattr(folder_notices.Polling, "rescan_within_s", 0.02)
    w = watch().start()
    assert until(lambda: w.watcher.mode == "polling")
    (folder / "sub" / "a.png").write_bytes(png(1))
    assert w.origins(1) == ["sub/a.png"]


@pytest.mark.spec("9.5")
@pytest.mark.parametrize("loss", ["removed", "moved", "late"])
def test_a_folder_that_vanishes_and_returns(
    watch: Callable[..., Watch], folder: Path, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    monkeypatch.setattr(watcher, "UNREADABLE_RETRY_S", 0.02)
    w = watch()
    if loss == "late":
        folder.rmdir()
        w.start()
    else:
        w.start()
        assert until(w.watcher.healthy)
        if loss == "removed":
            folder.rmdir()
        else:
            folder.rename(folder.parent / "elsewhere")
    assert until(lambda: not w.watcher.healthy())
    assert "No such file or directory; it is waited for" in w.reports.get(timeout=WAIT_S)
    folder.mkdir()
    (folder / "a.png").write_bytes(png(1))
    assert w.origins(1) == ["a.png"]
    assert until(w.watcher.healthy)
    assert "it is there again" in w.reports.get(timeout=WAIT_S)
    (folder / "b.png").write_bytes(png(2))
    assert w.origins(1) == ["b.png"]
    assert w.reports.empty(), "each is said once"


@pytest.mark.spec("9.5")
def test_a_stick_is_taken_out_and_put_in_again(watch: Callable[..., Watch], folder: Path, tmp_path: Path) -> None:
    """A real file system, mounted over the folder. The bare folder beneath it can be read, and is empty."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a file system; run this test as root")
    stick, place = tmp_path / "stick", str(folder)
    stick.mkdir()
    (stick / "1.png").write_bytes(png(1))
    mount = ["mount", "--bind", str(stick), place]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting is not allowed here, even for root: a container without CAP_SYS_ADMIN")
    try:
        w = watch(rescan_s=0.05).start()
        assert w.origins(1) == ["1.png"]
        subprocess.run(["umount", place], check=True)
        assert "another folder took its place" in w.reports.get(timeout=WAIT_S)
        (stick / "2.png").write_bytes(png(2))  # on another machine
        subprocess.run(mount, check=True)
        assert w.origins(1) == ["2.png"], "and 1.png is not read again"
        assert "another folder took its place" in w.reports.get(timeout=WAIT_S)
        (folder / "3.png").write_bytes(png(3))
        assert w.origins(1) == ["3.png"] and w.quiet()
    finally:
        subprocess.run(["umount", place], capture_output=True)


def test_what_was_removed_is_forgotten_but_not_because_the_folder_is_empty(
    watch: Callable[..., Watch], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "PRUNE_EVERY_S", 0.02)
    monkeypatch.setattr(watcher, "FLUSH_EVERY_S", 0.02)
    stamps = {}
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(png(1))
        status = (folder / name).stat()
        stamps[name] = (folder / name, status.st_size, status.st_mtime_ns, status.st_ino)
    w = watch(rescan_s=0.02).start()
    w.origins(2)
    (folder / "a.png").unlink()
    assert until(lambda: not w.seen.contains(*stamps["a.png"]))
    (folder / "b.png").unlink()
    assert w.quiet()
    assert w.seen.contains(*stamps["b.png"])  # an empty folder may be a share that is not mounted


@pytest.mark.spec("9.4")
def test_a_name_that_is_no_text_is_delivered_under_a_safe_one(watch: Callable[..., Watch], folder: Path) -> None:
    (folder / os.fsdecode(b"\xff\n.png")).write_bytes(png(1))
    (origin,) = watch().start().origins(1)
    assert origin.isprintable() and origin.endswith(".png")


def test_close_is_quick_and_stops(watch: Callable[..., Watch], folder: Path) -> None:
    w = watch().start()
    assert until(w.watcher.healthy)
    w.close()
    assert not w.watcher.healthy() and not w.watcher._thread.is_alive()
    (folder / "a.png").write_bytes(png(1))
    assert w.quiet()


@pytest.mark.spec("9.4")
def test_two_thousand_files_at_once_all_arrive(watch: Callable[..., Watch], folder: Path) -> None:
    for n in range(2000):
        (folder / f"{n:04}.png").write_bytes(png(n))
    w = watch().start()
    assert sorted(w.origins(2000)) == [f"{n:04}.png" for n in range(2000)]


@pytest.mark.spec("9.4")
def test_where_little_may_wait_still_all_arrive_once(
    watch: Callable[..., Watch], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By scans and by notices, new folders and files that have not settled among them."""
    monkeypatch.setattr(watcher, "MOST_WAITING", 7)
    monkeypatch.setattr(watcher, "LOOKED_UP_AT_ONCE", 3)
    old = (time.time() - 1000,) * 2
    names = [f"{n % 5}/{n:03}.png" for n in range(300)]
    for number, name in enumerate(names[:150]):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(png(number))
        os.utime(folder / name, old)
    w = watch(rescan_s=3600).start()
    for number, name in enumerate(names[150:], start=150):
        (folder / name).write_bytes(png(number))
    assert sorted(w.origins(300)) == sorted(names)
    assert w.quiet() and len(w.watcher._pending) == 0


@pytest.mark.spec("9.4")
def test_of_a_hundred_thousand_files_little_is_held_in_memory(watch: Callable[..., Watch], folder: Path) -> None:
    """They are there, and the receiver takes its time: what the watcher holds does not grow with them."""
    for place in range(10):
        (folder / f"{place}").mkdir()
        first = folder / f"{place}" / "00000.png"
        first.write_bytes(png(place))
        os.utime(first, (1_000_000_000, 1_000_000_000))
        for n in range(1, 10_000):
            os.link(first, folder / f"{place}" / f"{n:05}.png")
    w = watch()
    taken = threading.Semaphore(0)

    def slow(frame: Frame) -> None:
        taken.release()
        w.watcher._stop.wait(WAIT_S)

    w.watcher._deliver = slow
    tracemalloc.start()
    try:
        w.start()
        assert taken.acquire(timeout=60)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(w.watcher._pending) <= watcher.MOST_WAITING
    assert peak_bytes < 6 * 2**20, f"{peak_bytes / 2**20:.1f} MiB; a hundred thousand paths alone are 15"


@pytest.mark.spec("9.4")
def test_a_storm_of_renames_loses_no_image(watch: Callable[..., Watch], folder: Path, mode: str) -> None:
    w = watch(rescan_s=0.2).start()
    contents = [png(n) for n in range(12)]
    places = [folder / f"{n}.png" for n in range(12)]
    for place, content in zip(places, contents, strict=True):
        place.write_bytes(content)
    for turn in range(60):
        for n, place in enumerate(places):
            places[n] = place.rename(folder / (f"{n}-{turn}.png.tmp" if turn % 3 else f"{turn}-{n}.png"))
    for n, place in enumerate(places):
        place.rename(folder / f"last-{n}.png")
    heard: dict[str, str] = {}
    assert until(lambda: all(f"last-{n}.png" in heard for n in range(12)) or heard.update(arrived(w)) or False)
    assert {heard[f"last-{n}.png"] for n in range(12)} == {hashlib.sha256(content).hexdigest() for content in contents}
    assert w.rejected.empty() and w.watcher.healthy()


def arrived(w: Watch) -> dict[str, str]:
    """Name -> id of the frames that are there."""
    frames = [w.frames.get_nowait() for _ in range(w.frames.qsize())]
    return {frame.origin: frame.sample_id for frame in frames}


@pytest.mark.spec("9.4")
def test_loops_of_links_and_deep_folders_end(watch: Callable[..., Watch], folder: Path, mode: str) -> None:
    deep = folder
    for _ in range(40):
        deep = deep / "deeper"
        deep.mkdir()
        (deep / "up").symlink_to(folder)
        (deep / "here").symlink_to(".")
    (folder / "ring-a").symlink_to("ring-b")
    (folder / "ring-b").symlink_to("ring-a")
    (deep / "a.png").write_bytes(png(1))
    w = watch(retries=0).start()
    assert w.origins(1)[0].endswith("deeper/a.png")
    refused = {w.rejected.get(timeout=WAIT_S)[0].name for _ in range(82)}
    assert refused == {"up", "here", "ring-a", "ring-b"} and w.quiet() and w.watcher.healthy()


@pytest.mark.spec("9.4")
def test_a_file_that_breaks_the_decoder_stops_nothing(
    watch: Callable[..., Watch], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = watcher.read_image

    def brittle(path: Path, *arguments: object, **options: object) -> Frame:
        if path.name == "evil.png":
            raise RecursionError("deep")
        return real(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(watcher, "read_image", brittle)
    w = watch(retries=1).start()
    (folder / "evil.png").write_bytes(png(1))
    (folder / "good.png").write_bytes(png(2))
    assert w.origins(1) == ["good.png"]
    _, error = w.rejected.get(timeout=WAIT_S)
    assert error.code == "unreadable" and "RecursionError" in error.message and w.watcher.alive()
