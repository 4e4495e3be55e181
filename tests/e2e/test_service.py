"""The daemon as a service manager sees it, and with a camera: ready, watched, drained; no broker at all."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from real_fleet import ROOT, Models

from cloud_teacher.datasets import Dataset
from transfer import signing
from transfer.preprocess import encode_png

pytestmark = pytest.mark.e2e


def configuration(scene: Path, models: Models, **source: Any) -> Path:
    document = {
        "device": {"name": "alone", "state_dir": str(scene / "state")},
        "source": source,
        "model": {
            "bundle": str(models.student),
            "trusted_keys": [signing.public_key_hex(signing.load_key(models.key))],
        },
    }
    path = scene / "agent.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


HANGING = """
import pathlib, sys, time
from agent.adapters.inference import Classifier
classify = Classifier.classify
def hanging(self, images):
    while pathlib.Path(sys.argv[1]).exists():
        time.sleep(0.02)
    return classify(self, images)
Classifier.classify = hanging
from agent.__main__ import main
sys.exit(main(sys.argv[2:]))
"""
"""The daemon, whose model hangs as long as a file is there."""


def start(config: Path, program: Sequence[str] = ("-m", "agent"), **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *program, "run", "--config", str(config)],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


def predictions(scene: Path) -> list[dict[str, Any]]:
    path = scene / "state" / "predictions.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A service manager's end of sd_notify."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(30)
        yield listener


@pytest.mark.spec("17.1", "17.2")
def test_ready_watched_and_drained(tmp_path: Path, models: Models, data: Dataset, manager: socket.socket) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    config = configuration(tmp_path, models, folder=str(inbox))
    daemon = start(config, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="5000000")
    try:
        assert manager.recv(200) == b"READY=1"
        assert manager.recv(200) == b"WATCHDOG=1"
        for number, image in enumerate(data.test_images[:60]):
            (inbox / f"{number:03d}.png").write_bytes(encode_png(image))
        while not predictions(tmp_path):
            time.sleep(0.01)
        daemon.send_signal(signal.SIGTERM)
        said = b""
        while said != b"STOPPING=1":
            said = manager.recv(200)
        assert daemon.wait(30) == 0
    finally:
        daemon.kill()
        daemon.wait()
    first = {line["origin"] for line in predictions(tmp_path)}
    # What was taken in before the end is in the log; the rest is taken in by the next life, nothing twice.
    again = start(config, NOTIFY_SOCKET=str(tmp_path / "notify"))
    try:
        # The first life may have served all: before it is ready, a daemon has no handler of SIGTERM to exit 0 by.
        while manager.recv(200) != b"READY=1":
            pass
        until_s = time.monotonic() + 30
        while len(predictions(tmp_path)) < 60 and time.monotonic() < until_s:
            time.sleep(0.05)
    finally:
        again.terminate()
        assert again.wait(30) == 0
    origins = [line["origin"] for line in predictions(tmp_path)]
    assert first <= set(origins) and sorted(origins) == [f"{number:03d}.png" for number in range(60)]


@pytest.mark.spec("17.1")
def test_the_watchdog_starves_when_the_model_hangs_though_the_loop_turns(
    tmp_path: Path, models: Models, data: Dataset, manager: socket.socket
) -> None:
    inbox, hang = tmp_path / "inbox", tmp_path / "hang"
    inbox.mkdir()
    config = configuration(tmp_path, models, folder=str(inbox))
    daemon = start(config, ("-c", HANGING, str(hang)), NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="4000000")
    try:
        assert [manager.recv(200) for _ in range(2)] == [b"READY=1", b"WATCHDOG=1"]
        hang.touch()
        (inbox / "a.png").write_bytes(encode_png(data.test_images[0]))
        while manager.recv(200) != b"STATUS=not serving: inference":
            pass
        assert told(config)["serving"] is False, "the control socket answers all the while"
        manager.settimeout(2.5)
        with pytest.raises(TimeoutError):
            manager.recv(200)
        hang.unlink()
        manager.settimeout(30)
        assert [manager.recv(200) for _ in range(2)] == [b"STATUS=serving", b"WATCHDOG=1"]
    finally:
        daemon.terminate()
        assert daemon.wait(30) == 0
    assert len(predictions(tmp_path)) == 1


def told(config: Path) -> dict[str, Any]:
    asked = subprocess.run(
        [sys.executable, "-m", "agent", "status", "--json", "--config", str(config)],
        capture_output=True,
        timeout=30,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return dict(json.loads(asked.stdout))


def test_two_daemons_do_not_share_a_state_folder(tmp_path: Path, models: Models) -> None:
    config = configuration(tmp_path, models, folder=str(tmp_path))
    daemon = start(config)
    try:
        until_s = time.monotonic() + 30
        while not (tmp_path / "state" / "control.sock").exists():
            assert time.monotonic() < until_s
            time.sleep(0.02)
        second = subprocess.run(
            [sys.executable, "-m", "agent", "run", "--config", str(config)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert second.returncode == 1 and "another daemon is using this state folder" in second.stderr
    finally:
        daemon.terminate()
        assert daemon.wait(30) == 0


def test_a_video_is_watched_as_a_camera_is(tmp_path: Path, models: Models, data: Dataset) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    path = tmp_path / "gate.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for image in data.test_images[:40]:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(64, 64)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    daemon = start(configuration(tmp_path, models, kind="camera", camera=str(path), fps=10))
    try:
        until_s = time.monotonic() + 40
        while len(predictions(tmp_path)) < 20 and time.monotonic() < until_s:
            time.sleep(0.05)
    finally:
        daemon.terminate()
        assert daemon.wait(30) == 0
    lines = predictions(tmp_path)
    assert len(lines) >= 20
    assert all(line["origin"].startswith("camera:") for line in lines)
    assert len({line["label"] for line in lines}) >= 4
