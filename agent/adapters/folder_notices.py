"""Word from the kernel that something happened in a folder tree; where it gives none, scans have to follow closely.

Notices only say where to look. They may repeat themselves and may miss things: `look_again` asks for a full scan.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol


@dataclass(slots=True)
class Notices:
    """`files` were written or moved here; `folders` appeared, with contents unknown; `look_again`: scan all."""

    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    look_again: bool = False


class NoticeSource(Protocol):
    """`rescan_within_s`: scan at least this often for what is not noticed. `scan_share`: of a core's time, at most."""

    mode: Literal["inotify", "polling"]
    rescan_within_s: float
    scan_share: float

    def watch(self, folder: str) -> None:
        """Also hear of this one folder. Raises OSError where the system has no watch left to give."""

    def wait(self, timeout_s: float) -> Notices:
        """What happened since the last call; waits for something to happen unless `timeout_s` is 0."""

    def wake(self) -> None:
        """End a `wait` in another thread."""

    def close(self) -> None: ...


class _Wakeable:
    def __init__(self) -> None:
        self._wake_read, self._wake_write = os.pipe()
        self._closed = False

    def wake(self) -> None:
        with contextlib.suppress(OSError):  # closed meanwhile, because the other thread has gone over to polling
            os.write(self._wake_write, b"w")

    def close(self) -> None:
        if not self._closed:  # a second time, the numbers might be somebody else's files
            self._closed = True
            os.close(self._wake_read)
            os.close(self._wake_write)


class Polling(_Wakeable):
    """Notices nothing."""

    mode: Literal["inotify", "polling"] = "polling"
    rescan_within_s = 2.0
    scan_share = 0.05

    def watch(self, folder: str) -> None:
        pass

    def wait(self, timeout_s: float) -> Notices:
        select.select([self._wake_read], [], [], timeout_s)
        return Notices()


class Inotify(_Wakeable):
    """Linux inotify on every folder of the tree `root`. Raises ImportError or OSError where there is none to be had."""

    mode: Literal["inotify", "polling"] = "inotify"
    rescan_within_s = math.inf
    scan_share = 0.002  # they are for the rare case that a notice is lost, and folders grow for months

    def __init__(self, root: str) -> None:
        import inotify_simple

        self._root = root
        self._flags = inotify_simple.flags
        self._inotify = inotify_simple.INotify()
        self._folders: dict[int, str] = {}
        super().__init__()

    def watch(self, folder: str) -> None:
        f = self._flags
        # DONT_FOLLOW keeps out of links that replace a folder between scan and watch; the root itself may be a link.
        mask = f.CLOSE_WRITE | f.MOVED_TO | f.CREATE | f.MOVE_SELF | f.ONLYDIR
        descriptor = self._inotify.add_watch(folder, mask if folder == self._root else mask | f.DONT_FOLLOW)
        self._folders[descriptor] = folder

    def wait(self, timeout_s: float) -> Notices:
        notices = Notices()
        select.select([self._inotify.fileno(), self._wake_read], [], [], timeout_s)
        for event in self._inotify.read(timeout=0):
            self._note(event.wd, event.mask, event.name, notices)
        return notices

    def close(self) -> None:
        self._inotify.close()
        super().close()

    def _note(self, descriptor: int, mask: int, name: str, notices: Notices) -> None:
        f = self._flags
        if mask & f.Q_OVERFLOW:
            notices.look_again = True
            return
        folder = self._folders.get(descriptor)
        if folder is None:
            return
        if mask & (f.IGNORED | f.MOVE_SELF):  # removed, unmounted or moved away
            if mask & f.IGNORED:
                del self._folders[descriptor]
            notices.look_again |= folder == self._root
        elif mask & f.ISDIR:
            notices.folders.add(os.path.join(folder, name))
        elif mask & (f.CLOSE_WRITE | f.MOVED_TO):
            notices.files.add(os.path.join(folder, name))


def open_notices(root: Path) -> NoticeSource:
    """inotify, or polling where the system has none (left)."""
    try:
        return Inotify(str(root))
    except (ImportError, OSError):
        return Polling()
