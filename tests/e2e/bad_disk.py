"""The real daemon with its state on a file system of its own, that can be filled, emptied and made to fail."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_world import World, images

from agent.adapters.control import ask
from transfer.preprocess import encode_png

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 30.0
BLOCK = 4096


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[Path]:
    """A tmpfs of `mib` MiB at `folder`. Skips where that is not allowed."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mib}m,nr_inodes=400", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a small disk needs the right to mount (run as root): {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Every byte of it; remove the returned file to have them back."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for block in (b"\0" * 2**20, b"\0" * BLOCK):
            while True:
                try:
                    if file.write(block) < len(block):
                        break
                except OSError:
                    break
    assert os.statvfs(disk).f_bavail == 0
    return ballast


class Device:
    """`mqtt`: that section of its configuration; without it, it has no broker. `show` gives it labelled images, which
    it would store."""

    def __init__(self, scene: Path, world: World, state: Path, mqtt: Mapping[str, Any] | None = None) -> None:
        self.scene, self.state = scene, state
        self.inbox = scene / "inbox"
        (self.inbox / "navy").mkdir(parents=True)
        self.shown = self.starts = 0
        self.config = scene / "agent.yaml"
        document = {
            "device": {"name": "small", "state_dir": str(state)},
            "source": {"folder": str(self.inbox), "folder_labels": True, "rescan_s": 1.0},
            "model": {"bundle": str(world.student), "trusted_keys": [world.public]},
            "budget": {"sample_s": 0.5, "min_disk_free_mib": 0.0, "min_free_inodes": 0},
            "log": {"format": "json"},
            **({"mqtt": dict(mqtt)} if mqtt else {}),
        }
        self.config.write_text(yaml.safe_dump(document))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.scene / f"agent-{self.starts}.log"

    def start(self) -> None:
        self.starts += 1
        with self.log.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "agent", "run", "--config", str(self.config)],
                stderr=errors,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        self.until(lambda: self.events("started") != [], "it did not start")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(TIMEOUT_S)
        self.process = None
        return code

    def show(self, count: int) -> None:
        for image in images("navy", count, seed=self.starts * 1000 + self.shown):
            self.shown += 1
            made = self.scene / f"{self.shown:05}.png"
            made.write_bytes(encode_png(image))
            shutil.move(made, self.inbox / "navy" / made.name)

    def status(self) -> dict[str, Any]:
        answer = ask(self.state / "control.sock", {"do": "status"})
        assert answer is not None and "error" not in answer, answer
        return answer

    def await_frames(self, count: int) -> None:
        """Until so many images of this start were classified."""
        self.until(lambda: self.status()["frames"] >= count, f"{count} images were not classified")

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of this start's log of that kind."""
        lines = self.log.read_text(errors="replace").splitlines()
        told = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in told if line["event"] == name]

    def until(self, done: Callable[[], bool], otherwise: str) -> None:
        until_s = time.monotonic() + TIMEOUT_S
        while not done():
            assert self.process is not None and self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < until_s, f"{otherwise}:\n{self.log.read_text()[-3000:]}"
            time.sleep(0.05)

    def sample_ids(self) -> set[str]:
        with sqlite3.connect(f"file:{self.state / 'samples.db'}?mode=ro", uri=True) as database:
            return {row[0] for row in database.execute("SELECT sample_id FROM sample")}

    def lines(self) -> int:
        log = self.state / "predictions.jsonl"
        return log.read_bytes().count(b"\n") if log.exists() else 0
