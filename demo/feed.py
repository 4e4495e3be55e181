"""Puts real images into the watched folder, at a pace, and reads back what the device said about each."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from transfer.preprocess import encode_png


@dataclass(frozen=True)
class Said:
    """One line of the device's prediction log."""

    origin: str
    label: str
    novel: bool
    kept: bool
    generation: int


class Feed:
    """Drops images as `<stage>-<number>-<label>.png`, complete at once (written aside, then renamed)."""

    def __init__(self, folder: Path, predictions: Path) -> None:
        self.folder = folder
        self._aside = folder.parent / "incoming"
        self._aside.mkdir(exist_ok=True)
        self._predictions = predictions
        self._lock = threading.Lock()
        self._read_to = 0
        self._partial = b""
        self.dropped_in = 0
        self.said: dict[str, Said] = {}

    def put(self, stage: str, image: npt.NDArray[np.uint8], label: str) -> str:
        with self._lock:
            number = self.dropped_in
            self.dropped_in += 1
        name = f"{stage}-{number:06d}-{label}.png"
        path = self._aside / name
        path.write_bytes(encode_png(image))
        path.rename(self.folder / name)
        return name

    def read(self) -> list[Said]:
        """What the device has said since the last call."""
        new = []
        for line in self._new_lines():
            told = json.loads(line)
            said = Said(told["origin"], told["label"], told["novel"], told["kept"], told["generation"])
            self.said[said.origin] = said
            new.append(said)
        return new

    def of_stage(self, stage: str) -> list[Said]:
        return [said for name, said in self.said.items() if name.startswith(f"{stage}-")]

    def _new_lines(self) -> Iterator[bytes]:
        try:
            with self._predictions.open("rb") as file:
                file.seek(self._read_to)
                data = self._partial + file.read()
                self._read_to = file.tell()
        except FileNotFoundError:
            return
        *lines, self._partial = data.split(b"\n")
        yield from (line for line in lines if line)


class Background:
    """Keeps dropping images of one stage while something else happens, as a camera would."""

    def __init__(self, feed: Feed, stage: str, images: npt.NDArray[np.uint8], labels: list[str], per_s: float) -> None:
        self._feed, self._stage, self._images, self._labels = feed, stage, images, labels
        self._every_s = 1 / per_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        number, next_at = 0, time.monotonic()
        while not self._stop.wait(max(0.0, next_at - time.monotonic())):
            self._feed.put(
                self._stage, self._images[number % len(self._images)], self._labels[number % len(self._labels)]
            )
            number += 1
            next_at = max(next_at + self._every_s, time.monotonic() - 1)


def accuracy(said: list[Said]) -> float:
    """Share of the images whose label in the name is what the device said."""
    right = [s.label == s.origin.removesuffix(".png").split("-", 2)[2] for s in said]
    return sum(right) / len(right) if right else 0.0
