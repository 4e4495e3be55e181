"""Watches a folder tree and delivers the image in every file that comes into it, each version of a file once.

The kernel's notices make it quick; the scans, at start, at intervals and whenever notices may have been lost, make it
complete. `seen` makes it once. Nothing is dropped: `deliver` may block for as long as it likes. Memory is bounded: of a
hundred thousand files only the paths of a few thousand are held, and the rest is found when those are done.
"""

from __future__ import annotations

import errno
import itertools
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from agent.adapters.folder_notices import NoticeSource, Polling, open_notices
from agent.adapters.intake import MIB, Frame, IntakeError, printable, read_image
from agent.adapters.seen import SeenFiles, Stamp, stamp_of
from transfer.spec import InputSpec

IGNORED_SUFFIXES = (".tmp", ".part")
FLUSH_EVERY_S = 5.0
PRUNE_EVERY_S = 3600.0
SCAN_SHARE = 0.05
LOOKED_UP_AT_ONCE = 500
MOST_WAITING = 4_096
"""Paths held in memory that are to be read, and as many that are to be tried again."""
MAX_LABEL = 64
"""Characters of a folder's name that may be a label: as many as the wire carries."""
UNREADABLE_RETRY_S = 2.0


class FolderWatcher:
    """Delivers frames in the order of their files' times, then names, as far as several are waiting.

    Hidden files and folders, *.tmp and *.part are left alone: they are on their way to their real names. Links to
    folders are not followed (loops). A file that only a scan has found must have rested for `settle_s`; one that gives
    no image but may still be in the making is tried again `retries` times, from `settle_s` on, each wait twice the
    last; then `reject` gets it. A file that vanished is nobody's loss and is not reported. `mode` is inotify, or
    polling where the system has no inotify (left). With `labelled`, a file in a subfolder comes with the label that
    the subfolder (of the folder itself, however deep below the file lies) is named after. `report` gets a sentence
    when the folder goes, comes, or is another one.
    """

    def __init__(
        self,
        folder: Path,
        *,
        spec: InputSpec,
        deliver: Callable[[Frame], None],
        reject: Callable[[Path, IntakeError], None],
        seen: SeenFiles,
        report: Callable[[str], None] = lambda text: None,
        rescan_s: float = 30.0,
        labelled: bool = False,
        settle_s: float = 0.2,
        retries: int = 3,
        max_bytes: int = 32 * MIB,
        max_pixels: int = 50_000_000,
    ) -> None:
        self.folder = folder
        self._spec = spec
        self._deliver = deliver
        self._reject = reject
        self._seen = seen
        self._report = report
        self._rescan_s = rescan_s
        self._labelled = labelled
        self._settle_s = settle_s
        self._retries = retries
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels
        self._pending: set[str] = set()
        self._told: set[str] = set()  # the pending files whose writers are known to be done
        self._later: dict[str, tuple[int, float]] = {}  # path -> (attempts made, when to try again)
        self._readable = True  # the folder itself, at the last scan
        self._unreadable_why = ""
        self._said_gone = False
        self._identity: tuple[int, int] | None = None  # the folder's, by which a stick's folder differs from none
        self._complete = True  # nothing had to be left out of the last walk
        self._scan: Iterator[str] | None = None  # under way; it stops while enough is waiting
        self._scan_took_s = self._scan_cpu_s = 0.0
        self._next_scan_at = self._next_flush_at = 0.0
        self._again_at = math.inf  # a scan that was asked for before the next one is due
        self._next_prune_at = time.monotonic() + self._rescan_s
        self._stop = threading.Event()
        self._notices: NoticeSource = open_notices(folder)
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)

    @property
    def mode(self) -> str:
        return self._notices.mode

    def start(self) -> None:
        self._thread.start()

    def alive(self) -> bool:
        """The thread lives: a folder that is away is waited for."""
        return self._thread.is_alive()

    def healthy(self) -> bool:
        """The thread lives and the folder could be read."""
        return self._thread.is_alive() and self._readable

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._notices.wake()
            self._thread.join(5)
        if not self._thread.is_alive():
            self._notices.close()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._scan_on()
                self._take_up_later()
                self._handle_pending()
                self._keep_seen()
                self._listen(self._idle_s())
        finally:
            self._seen.flush()

    def _idle_s(self) -> float:
        due = [self._next_scan_at, self._again_at, self._next_flush_at, *(at for _, at in self._later.values())]
        return 0.0 if self._pending or self._scan else max(0.001, min(due) - time.monotonic())

    def _listen(self, timeout_s: float) -> None:
        """Take in the notices; also called between two frames, so that the kernel's queue does not overflow."""
        notices = self._notices.wait(timeout_s)
        for path in filter(self._wanted, notices.files):
            if not self._wait_for(path):
                break
            self._told.add(path)
        for folder in filter(self._wanted, notices.folders):
            all(map(self._wait_for, self._unseen(folder)))  # written before we watched it
        if notices.look_again:
            self._scan_again(self._scan_took_s)  # however often it is asked for, half of the time is left for images

    def _wait_for(self, path: str) -> bool:
        """Put `path` among those to be read. False where there are enough already: a scan will find it again."""
        if len(self._pending) >= MOST_WAITING and path not in self._pending:
            self._scan_again(self._settle_s)
            return False
        self._pending.add(path)
        return True

    def _take_up_later(self) -> None:
        now = time.monotonic()
        self._pending.update(path for path, (_, at) in self._later.items() if at <= now)

    def _try_later(self, path: str, attempts: int, wait_s: float) -> None:
        if len(self._later) >= MOST_WAITING:
            self._scan_again(self._settle_s)
        else:
            self._later[path] = (attempts, time.monotonic() + wait_s)

    def _scan_again(self, within_s: float) -> None:
        self._again_at = min(self._again_at, time.monotonic() + within_s)

    def _wanted(self, path: str) -> bool:
        return all(map(_wanted_name, os.path.relpath(path, self.folder).split(os.sep)))

    def _scan_on(self) -> None:
        """Begin the scan that is due, or go on with the one under way; it stops where enough is waiting."""
        began_at, began_cpu_s = time.monotonic(), time.thread_time()
        if self._scan is None:
            if began_at < min(self._next_scan_at, self._again_at):
                return
            self._again_at = math.inf
            self._scan_took_s = self._scan_cpu_s = 0.0
            self._readable = True
            self._scan = self._unseen(str(self.folder))
        for path in self._scan:
            if path not in self._later:
                self._pending.add(path)
            if len(self._pending) >= MOST_WAITING:
                break
        else:
            self._scan = None
        now = time.monotonic()
        self._scan_took_s += now - began_at
        self._scan_cpu_s += time.thread_time() - began_cpu_s
        if self._scan is None:
            self._end_scan(now)

    def _end_scan(self, now: float) -> None:
        wait_s = pause_s(
            min(self._rescan_s, self._notices.rescan_within_s),
            self._scan_took_s,
            self._scan_cpu_s,
            self._notices.scan_share,
        )
        # A folder that is gone may be back soon.
        self._next_scan_at = now + (wait_s if self._readable else min(wait_s, UNREADABLE_RETRY_S))
        self._say_what_became_of_the_folder()

    def _say_what_became_of_the_folder(self) -> None:
        name = printable(self.folder)
        was_gone, self._said_gone = self._said_gone, not self._readable
        if not self._readable:
            if not was_gone:
                self._report(f"{name}: {self._unreadable_why}; it is waited for")
            return
        try:
            status = os.stat(self.folder)
        except OSError:
            return
        before, self._identity = self._identity, (status.st_dev, status.st_ino)
        if was_gone:
            self._report(f"{name}: it is there again")
        elif before not in (None, self._identity):
            self._report(f"{name}: another folder took its place (mounted, unmounted or made anew)")

    def _unseen(self, top: str) -> Iterator[str]:
        """Every file below `top` that was not handled; watches the folders on the way."""
        files = self._walk(top)
        while some := list(itertools.islice(files, LOOKED_UP_AT_ONCE)):
            stamped: list[tuple[str, Stamp]] = []
            for path, entry in some:
                try:
                    stamped.append((path, stamp_of(entry.stat())))
                except OSError:
                    yield path  # a broken or endless link: reading it will say so
            yield from self._seen.new_among(stamped)

    def _walk(self, top: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        self._complete = True
        folders = [top]
        while folders and not self._stop.is_set():
            folder = folders.pop()
            try:
                self._watch(folder)  # before it is read, so that nothing falls between
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if not _wanted_name(entry.name):
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
                        else:
                            yield entry.path, entry
            except OSError as error:
                self._complete = False
                if folder == str(self.folder):
                    self._readable, self._unreadable_why = False, error.strerror or str(error)

    def _watch(self, folder: str) -> None:
        try:
            self._notices.watch(folder)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.ENOMEM):
                raise
            self._notices.close()  # the system's watches are used up (fs.inotify.max_user_watches)
            self._notices = Polling()

    def _handle_pending(self) -> None:
        batch = sorted(self._pending, key=_age)
        self._pending.clear()
        for path in batch:
            if self._stop.is_set():
                return
            self._handle(path)
            self._keep_seen()
            self._listen(0)

    def _handle(self, path: str) -> None:
        attempts, _ = self._later.pop(path, (0, 0.0))
        told = path in self._told
        self._told.discard(path)
        try:
            status = os.stat(path)
        except OSError:
            try:
                status = os.lstat(path)
            except OSError:
                return
        stamp = stamp_of(status)
        if self._seen.contains(path, *stamp):
            return
        if not told and abs(time.time() - status.st_mtime) < self._settle_s:
            self._try_later(path, attempts, self._settle_s)
            return
        try:
            frame = self._read(path)
        except IntakeError as error:
            if error.code == "vanished" and not os.path.islink(path):
                return
            if error.retry and attempts < self._retries:
                self._try_later(path, attempts + 1, self._settle_s * 2**attempts)
                return
            self._reject(Path(path), error)
        else:
            self._deliver(frame)
        self._seen.add(path, *stamp)

    def _read(self, path: str) -> Frame:
        """Raises IntakeError, whatever one file does to a decoder: the next one is to be read."""
        relative = os.path.relpath(path, self.folder)
        try:
            return read_image(
                Path(path),
                self._spec,
                origin=printable(relative),
                given=_label_of(relative) if self._labelled else "",
                max_bytes=self._max_bytes,
                max_pixels=self._max_pixels,
            )
        except IntakeError:
            raise
        except Exception as defect:
            raise IntakeError("unreadable", Path(path), f"unexpected: {defect!r}", True) from defect

    def _keep_seen(self) -> None:
        now = time.monotonic()
        if now >= self._next_flush_at:
            self._seen.flush()
            self._next_flush_at = now + FLUSH_EVERY_S
        if now >= self._next_prune_at:
            self._next_prune_at = now + PRUNE_EVERY_S
            self._seen.prune(self._existing())

    def _existing(self) -> Iterator[str]:
        """Every file there is. Raises OSError where that cannot be said for sure: what a share that is not mounted
        now does not show must not be forgotten."""
        empty = True
        for path, _ in self._walk(str(self.folder)):
            empty = False
            yield path
        if empty or self._stop.is_set() or not self._complete:
            raise InterruptedError(f"{self.folder} could not be listed whole")


def pause_s(wanted_s: float, took_s: float, cpu_s: float, cpu_share: float) -> float:
    """Until the next scan: longer than wanted where scanning, however large the tree, would take more than a small
    share of the time or `cpu_share` of a core."""
    return max(wanted_s, took_s / SCAN_SHARE, cpu_s / cpu_share)


def _wanted_name(name: str) -> bool:
    return not name.startswith(".") and not name.lower().endswith(IGNORED_SUFFIXES)


def _label_of(relative: str) -> str:
    """The first folder of a path below the watched folder; "" for a file in none, or in one that can be no label."""
    first, *rest = relative.split(os.sep)
    return first if rest and len(first) <= MAX_LABEL and first.isprintable() else ""


def _age(path: str) -> tuple[int, str]:
    try:
        return os.stat(path).st_mtime_ns, path
    except OSError:
        return 0, path
