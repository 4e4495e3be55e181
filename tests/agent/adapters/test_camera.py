"""Video files and a stream over HTTP, made and served here. V4L2 devices and RTSP cameras cannot be had in a test."""

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agent.adapters import camera as camera_module
from agent.adapters.camera import CameraSource, kind_of, without_password
from agent.adapters.intake import Frame
from demo.broker import free_port
from transfer.spec import InputSpec

av = pytest.importorskip("av", reason="cameras need PyAV")

SPEC = InputSpec(8, 8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
WAIT_S = 20.0
RATE, FRAMES = 20, 30


def make_video(path: Path) -> Path:
    """A second and a half at twenty frames a second, growing brighter frame by frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n in range(FRAMES):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 + 6 * n, np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("video") / "clip.mp4")


class Camera:
    def __init__(self, url: str, **options: object) -> None:
        self.frames: list[Frame] = []
        self.reports: queue.Queue[str] = queue.Queue()
        self.room = 10_000
        self.source = CameraSource(
            url,
            spec=SPEC,
            deliver=self.deliver,
            report=self.reports.put,
            **options,  # type: ignore[arg-type]
        )
        self.source.start()

    def deliver(self, frame: Frame) -> bool:
        if self.room == 0:
            return False
        self.room -= 1
        self.frames.append(frame)
        return True

    def played(self) -> list[Frame]:
        assert self.source.finished.wait(WAIT_S)
        self.source.close()
        return self.frames


def test_a_file_is_played_once_to_its_end(video: Path) -> None:
    camera = Camera(str(video), fps=RATE)
    frames = camera.played()
    assert [frame.origin for frame in frames] == [f"camera:{n}" for n in range(1, 31)]
    assert all(frame.image.shape == (8, 8, 3) and frame.image.dtype == np.uint8 for frame in frames)
    brightness = [frame.image.mean() for frame in frames]
    assert np.allclose(brightness, [40 + 6 * n for n in range(30)], atol=6)
    assert len({frame.sample_id for frame in frames}) == 30
    assert (camera.source.delivered, camera.source.dropped) == (30, 0)
    assert camera.source.healthy()
    assert "playing, 64 x 48" in camera.reports.get() and camera.reports.get().endswith("clip.mp4: ended")


@pytest.mark.parametrize(("fps", "count"), [(1.0, 2), (2.0, 3), (5.0, 8), (1000.0, 30)])
def test_frames_are_taken_at_the_pace_asked_for(video: Path, fps: float, count: int) -> None:
    assert len(Camera(str(video), fps=fps).played()) == count


def test_the_same_pixels_have_the_same_id(video: Path) -> None:
    first, second = Camera(str(video)).played(), Camera(str(video)).played()
    assert [frame.sample_id for frame in first] == [frame.sample_id for frame in second]


def test_a_file_waits_for_room(video: Path) -> None:
    camera = Camera(str(video), fps=RATE)
    camera.room = min(camera.room, 5)
    time.sleep(0.1)
    camera.room = 10_000
    assert len(camera.played()) == FRAMES and camera.source.dropped == 0


def test_in_real_time_what_finds_no_room_is_dropped(video: Path) -> None:
    camera = Camera(str(video), fps=1000.0, realtime=True)
    began_at = time.monotonic()
    camera.room = 0
    assert camera.source.finished.wait(WAIT_S)
    assert time.monotonic() - began_at > 0.9 * (FRAMES - 1) / RATE
    assert camera.source.dropped + camera.source.delivered == FRAMES and camera.source.dropped >= 25


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("gone.mp4", None, "No such file"),
        ("text.mp4", b"I am no video" * 99, "Invalid data"),
        ("zero.mp4", b"", "failed"),
    ],
)
def test_a_file_that_cannot_be_played_says_why(tmp_path: Path, name: str, content: bytes | None, why: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    camera = Camera(str(tmp_path / name))
    assert camera.played() == []
    report = camera.reports.get(timeout=WAIT_S)
    assert name in report and why in report


def test_a_cut_off_file_gives_what_it_has(tmp_path: Path) -> None:
    path = make_video(tmp_path / "clip.mkv")  # an .mp4 has its index at the end and gives nothing without it
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    assert 0 < len(Camera(str(path), fps=RATE).played()) < FRAMES


@pytest.fixture
def server(video: Path) -> Iterator[str]:
    """The folder of the video over HTTP: to the camera it is a live stream that ends."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(video.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://user:secret@127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


def test_a_stream_that_ends_is_opened_again(server: str) -> None:
    camera = Camera(f"{server}/clip.mp4", fps=1000.0, backoff_s=(0.01, 0.02))
    reports = [camera.reports.get(timeout=WAIT_S) for _ in range(4)]
    camera.source.close()
    assert [("playing" in r, "opened again in 0.01 s" in r) for r in reports] == [(True, False), (False, True)] * 2
    assert not camera.source.finished.is_set() and len(camera.frames) >= 2
    assert not any("secret" in report for report in reports)


def test_a_stream_that_fails_is_tried_with_longer_and_longer_waits(server: str) -> None:
    camera = Camera(f"{server}/none.mp4", backoff_s=(0.01, 0.03))
    reports = [camera.reports.get(timeout=WAIT_S) for _ in range(4)]
    camera.source.close()
    assert [report.rpartition("in ")[2] for report in reports] == ["0.01 s", "0.02 s", "0.03 s", "0.03 s"]
    assert not camera.source.healthy() and not any("secret" in report for report in reports)


class MotionJpeg:
    """What cheap network cameras speak: one JPEG after the other, without end. It can be unplugged, and freeze."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/live"
        self.unplugged = threading.Event()
        self.frozen = threading.Event()
        self._server: http.server.ThreadingHTTPServer | None = None

    def plug_in(self) -> None:
        self.unplugged.clear()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def unplug(self) -> None:
        self.unplugged.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _handler(camera) -> type[http.server.BaseHTTPRequestHandler]:
        picture = io.BytesIO()
        Image.fromarray(np.full((48, 64, 3), 120, np.uint8)).save(picture, "JPEG")
        part = b"--x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(picture.getvalue())

        class Live(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=x")
                self.end_headers()
                with contextlib.suppress(OSError):
                    while not camera.unplugged.wait(0.02):
                        if not camera.frozen.is_set():
                            self.wfile.write(part + picture.getvalue() + b"\r\n")

            def log_message(self, *_: object) -> None:
                pass

        return Live


@pytest.fixture
def motion_jpeg() -> Iterator[MotionJpeg]:
    camera = MotionJpeg()
    yield camera
    camera.unplug()


def await_report(camera: Camera, word: str) -> None:
    while word not in camera.reports.get(timeout=WAIT_S):
        pass


@pytest.mark.spec("9.5")
def test_a_camera_that_is_unplugged_is_waited_for_and_used_again(motion_jpeg: MotionJpeg) -> None:
    camera = Camera(motion_jpeg.url, fps=100.0, backoff_s=(0.05, 0.1))
    await_report(camera, "opened again in 0.1 s")  # it is not there yet
    assert not camera.source.healthy() and camera.source.alive()
    for _ in range(2):
        motion_jpeg.plug_in()
        await_report(camera, "playing, 64 x 48")
        before = camera.source.delivered
        assert until(lambda before=before: camera.source.delivered > before + 3) and camera.source.healthy()
        motion_jpeg.unplug()
        await_report(camera, "opened again")
        assert not camera.source.healthy()
    camera.source.close()


@pytest.mark.spec("9.5")
def test_a_camera_that_freezes_is_opened_again(motion_jpeg: MotionJpeg, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection stands and nothing comes."""
    monkeypatch.setattr(camera_module, "READ_TIMEOUT_S", 0.5)
    motion_jpeg.plug_in()
    camera = Camera(motion_jpeg.url, fps=100.0, backoff_s=(0.05, 0.1))
    await_report(camera, "playing")
    motion_jpeg.frozen.set()
    await_report(camera, "opened again")
    motion_jpeg.frozen.clear()
    await_report(camera, "playing")
    camera.source.close()


def until(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + WAIT_S
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_a_live_frame_without_room_is_dropped(server: str) -> None:
    camera = Camera(f"{server}/clip.mp4", fps=1000.0, backoff_s=(0.01, 0.02))
    camera.room = 0
    for _ in range(4):
        camera.reports.get(timeout=WAIT_S)
    camera.source.close()
    assert camera.source.dropped > 0


def test_close_ends_a_long_wait(tmp_path: Path) -> None:
    camera = Camera("http://127.0.0.1:1/none", backoff_s=(60.0, 60.0))
    camera.reports.get(timeout=WAIT_S)
    camera.source.close()
    assert not camera.source._thread.is_alive()


def test_without_pyav_it_says_what_to_install(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)  # what an absent package looks like
    camera = Camera(str(video))
    assert camera.played() == [] and "understudy[camera]" in camera.reports.get()


def test_kinds(tmp_path: Path) -> None:
    assert kind_of("/dev/video0") == "device"
    assert kind_of("rtsp://cam/1") == "stream"
    assert kind_of(str(tmp_path / "a.mp4")) == "file"


def test_a_url_is_shown_without_its_password() -> None:
    assert without_password("rtsp://me:p@ss@cam:554/live") == "rtsp://***@cam:554/live"
    assert without_password("rtsp://cam/live") == "rtsp://cam/live"
    assert without_password("/dev/video0") == "/dev/video0"
