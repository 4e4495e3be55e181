"""Folders, cameras, bundles: real ones, and broken ones."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from tiny_world import World

from agent.config import Model, Source
from agent.doctor import sources


def test_a_folder_is_there_or_is_waited_for(tmp_path: Path) -> None:
    assert sources.examine_source(Source(folder=str(tmp_path)))["state"] == "works"
    absent = sources.examine_source(Source(folder=str(tmp_path / "none")))
    assert absent["state"] == "limited" and "waits" in absent["advice"]
    (tmp_path / "file").write_text("")
    assert "is no folder" in sources.examine_source(Source(folder=str(tmp_path / "file")))["detail"]


@pytest.mark.spec("12.2")
def test_a_camera_is_opened_and_a_frame_is_read(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'understudy[camera]'")
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as film:
        stream = film.add_stream("mpeg4", rate=5)
        stream.width, stream.height = 64, 48
        for shade in range(5):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * shade, np.uint8), format="rgb24")
            film.mux(stream.encode(picture))
        film.mux(stream.encode())
    finding = sources.examine_source(Source(kind="camera", camera=str(path)))
    assert finding["state"] == "works" and "64 x 48" in finding["detail"]


@pytest.mark.spec("12.2")
def test_a_camera_that_is_not_there_says_what_to_do() -> None:
    pytest.importorskip("av", reason="PyAV is not installed: pip install 'understudy[camera]'")
    finding = sources.examine_source(Source(kind="camera", camera="/dev/video99"))
    assert finding["state"] == "limited" and "plugged in" in finding["advice"], finding


def test_a_cameras_password_is_not_shown() -> None:
    pytest.importorskip("av", reason="PyAV is not installed: pip install 'understudy[camera]'")
    finding = sources.examine_source(Source(kind="camera", camera="rtsp://me:sesame@127.0.0.1:9/x"))
    assert finding["state"] == "limited" and "sesame" not in str(finding)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("cameras need pyav (no module named 'av')", "understudy[camera]"),
        ("/dev/video0: failed: permission denied", "video"),
        ("/dev/video0: failed: device or resource busy", "another program"),
        ("rtsp://x: failed: i/o error", "another player"),
    ],
)
def test_each_failure_of_a_camera_has_its_advice(said: str, advice: str) -> None:
    assert advice in sources._camera_advice(said)


def test_without_a_configuration_cameras_are_listed() -> None:
    finding = sources.examine_cameras()
    assert finding["what"] == "camera" and (finding["state"] == "works") == (finding["advice"] == "")


def test_more_folders_than_watches_are_said(tmp_path: Path) -> None:
    limits = tmp_path / "limits"
    limits.mkdir()
    (limits / "max_user_watches").write_text("2\n")
    for name in ("in/a", "in/b", "in/a/c"):
        (tmp_path / name).mkdir(parents=True)
    pytest.importorskip("inotify_simple")
    finding = sources.examine_inotify(tmp_path / "in", limits=limits)
    assert finding["state"] == "limited" and finding["detail"].startswith("4 folders, but 2 watches")
    assert "max_user_watches=8" in finding["advice"]
    assert sources.examine_inotify(tmp_path / "in/b", limits=limits)["state"] == "works"


def test_inotify_that_is_not_there_means_polling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inotify_simple.py").write_text("raise ImportError('not for this platform')\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    finding = sources.examine_inotify()
    assert finding["state"] == "limited" and "not for this platform: folders are polled" in finding["detail"]


def test_a_bundle_is_verified(world: World) -> None:
    good = sources.examine_bundle(Model(bundle=str(world.student), trusted_keys=(world.public,)))
    assert good["state"] == "works" and "amber" in good["detail"]
    bad = sources.examine_bundle(Model(bundle=str(world.student), trusted_keys=("00" * 32,)))
    assert bad["state"] == "fails" and "model.trusted_keys" in bad["advice"]
