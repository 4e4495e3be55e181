"""A camera, a network stream or a video file, through PyAV (the `camera` extra), imported when first needed."""

from __future__ import annotations

import hashlib
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from agent.adapters.intake import Frame
from transfer.preprocess import fit
from transfer.spec import InputSpec

OPEN_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 10.0
MAX_PIXELS = 50_000_000
FULL_WAIT_S = 0.02

Kind = Literal["device", "stream", "file"]


def kind_of(url: str) -> Kind:
    """A V4L2 device (/dev/video0), a stream (anything with ://) or a video file."""
    if "://" in url:
        return "stream"
    path = Path(url)
    if url.startswith("/dev/") or (path.exists() and stat.S_ISCHR(path.stat().st_mode)):
        return "device"
    return "file"


def without_password(url: str) -> str:
    """The URL as logs may show it."""
    parts = urlsplit(url) if "://" in url else None
    if parts is None or "@" not in parts.netloc:
        return url
    return parts._replace(netloc="***@" + parts.netloc.rpartition("@")[2], query="").geturl()


class CameraSource:
    """Offers `fps` frames a second to `deliver`, from a thread of its own.

    `deliver` must not block; it answers False when it has no room. A live frame is then dropped (`dropped`), because a
    later one is better; a frame of a video file waits. A live source that ends or fails is opened again, after
    `backoff_s`[0] seconds doubled each time up to `backoff_s`[1]; a file is played once, at its own pace with
    `realtime`, then `finished` is set. `report` gets a sentence whenever the source comes or goes.
    """

    def __init__(
        self,
        url: str,
        *,
        spec: InputSpec,
        deliver: Callable[[Frame], bool],
        report: Callable[[str], None],
        fps: float = 1.0,
        realtime: bool = False,
        backoff_s: tuple[float, float] = (1.0, 60.0),
    ) -> None:
        self.kind: Kind = kind_of(url)
        self.delivered = 0
        self.dropped = 0
        self.finished = threading.Event()
        self._url = url
        self._name = without_password(url)
        self._spec = spec
        self._deliver = deliver
        self._report = report
        self._period_s = 1.0 / fps
        self._realtime = realtime
        self._backoff_s = backoff_s
        self._count = 0
        self._streaming = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def alive(self) -> bool:
        """The thread lives, or has nothing more to do: a camera that is away is waited for."""
        return self._thread.is_alive() or self.finished.is_set()

    def healthy(self) -> bool:
        """Frames are coming, or a file has been played to its end."""
        return self._streaming or self.finished.is_set()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _run(self) -> None:
        try:
            import av
        except (ImportError, OSError) as error:
            self._report(f"cameras need PyAV ({error}); install it with: pip install 'understudy[camera]'")
            self.finished.set()
            return
        first_s, last_s = self._backoff_s
        wait_s = first_s
        while not self._stop.is_set():
            before = self._count
            why = self._play(av)
            self._streaming = False
            if self.kind == "file":
                self._report(f"{self._name}: {why}")
                self.finished.set()
                return
            wait_s = first_s if self._count > before else wait_s
            if not self._stop.is_set():
                self._report(f"{self._name}: {why}; opened again in {wait_s:g} s")
                self._stop.wait(wait_s)
                wait_s = min(wait_s * 2, last_s)

    def _play(self, av: Any) -> str:
        """Play until the source ends or fails; returns why."""
        try:
            with av.open(
                self._url, timeout=(OPEN_TIMEOUT_S, READ_TIMEOUT_S), **_options(self.kind, self._url)
            ) as source:
                if not source.streams.video:
                    return "there is no video in it"
                self._decode(source)
            return "ended"
        except (av.FFmpegError, OSError) as error:
            return f"failed: {getattr(error, 'strerror', None) or type(error).__name__}"  # not str: it holds the URL
        except Exception as error:  # whatever a broken stream does to its decoder, it is opened again
            return f"cannot be decoded: {type(error).__name__}"

    def _decode(self, source: Any) -> None:
        began_at, next_s = time.monotonic(), 0.0
        start_s: float | None = None
        for picture in source.decode(video=0):
            if self._stop.is_set():
                return
            if not self._streaming:
                self._streaming = True
                self._report(f"{self._name}: playing, {picture.width} x {picture.height}")
            if self.kind == "file":
                # A file's clock is its own; frames without a time follow each other at the pace asked for.
                time_s = picture.time if picture.time is not None else next_s + (start_s or 0.0)
                start_s = time_s if start_s is None else start_s
                elapsed_s = time_s - start_s
            else:
                elapsed_s = time.monotonic() - began_at
            if elapsed_s + 1e-6 < next_s:
                continue
            next_s += self._period_s
            if next_s <= elapsed_s:  # after a gap: what was missed is not caught up with
                next_s = elapsed_s + self._period_s
            if self.kind == "file" and self._realtime:
                self._stop.wait(max(0.0, began_at + elapsed_s - time.monotonic()))
            if picture.width * picture.height <= MAX_PIXELS:
                self._offer(picture)

    def _offer(self, picture: Any) -> None:
        image = fit(picture.to_ndarray(format="rgb24"), self._spec)
        self._count += 1
        frame = Frame(hashlib.sha256(image.tobytes()).hexdigest(), f"camera:{self._count}", image, time.monotonic())
        while not self._stop.is_set():
            if self._deliver(frame):
                self.delivered += 1
                return
            if self.kind != "file" or self._realtime:
                self.dropped += 1
                return
            self._stop.wait(FULL_WAIT_S)


def _options(kind: Kind, url: str) -> dict[str, Any]:
    if kind == "device":
        return {"format": "v4l2"}
    # Over UDP, the default, a lost packet smears the picture until the next key frame.
    return {"options": {"rtsp_transport": "tcp"}} if url.startswith(("rtsp://", "rtsps://")) else {}
