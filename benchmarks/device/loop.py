"""One learning round in the real processes: a broker, a teacher worker and the device's daemon with its trainer, all
on this machine; and how long each stage of it took, by what the device itself says at the broker.
"""

from __future__ import annotations

import json
import os
import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from agent.adapters.model_store import ModelStore
from agent.job import Tier
from benchmarks.students import Student
from cloud_teacher import fleet
from cloud_teacher.broker_link import BrokerLink, parse_broker
from demo.broker import Broker, start_broker
from demo.feed import Background, Feed
from demo.operator import Operator
from demo.processes import Child
from transfer import bundle, signing, wire
from transfer.bundle import Bundle
from transfer.preprocess import encode_png

if TYPE_CHECKING:
    from nacl.signing import SigningKey

Images = npt.NDArray[np.uint8]
Message = wire.Status | wire.Event | wire.JobUpdate

TOPICS = wire.Topics("understudy", "benchmark", "edge-1")
READY_TIMEOUT_S, SERVED_TIMEOUT_S, ROUND_TIMEOUT_S = 120.0, 600.0, 1800.0
SERVED_PER_S = 5.0
STAGES = ("prepare", "ask", "admit", "load", "prefix", "train", "write", "judge", "swap")


class LoopError(RuntimeError):
    """The round did not end in a swapped model; the text says how it ended."""


@dataclass(frozen=True)
class Lesson:
    """What a device is to learn: `category` from images uint8 [n, h, w, 3]. It goes on being shown `known` images
    meanwhile, of what it knows, SERVED_PER_S a second."""

    student: Student
    teacher: Path
    category: str
    images: Images
    known: Images


@dataclass(frozen=True)
class Lap:
    """A round that ended well: the model that serves now, and seconds from the trigger on, by stage."""

    model: Bundle
    stages: Mapping[str, float]

    @property
    def seconds(self) -> float:
        return sum(self.stages.values())


@contextmanager
def lap(folder: Path, lesson: Lesson, tier: Tier, overrides: Mapping[str, Mapping[str, Any]]) -> Iterator[Lap]:
    """Run a round of `tier` in `folder`; its model can be used until the block ends. The device has its shipped
    configuration, with one thread for training; `overrides` as in a configuration file. Raises LoopError,
    demo.processes.ProcessError, demo.broker.BrokerError."""
    with ExitStack() as stage:
        broker = start_broker(folder / "broker", options=("user root",) if os.geteuid() == 0 else ())
        stage.callback(broker.stop)
        device = _Device(folder, lesson, tier, broker, overrides, stage)
        stages = device.learn(lesson)
        model = ModelStore(folder / "state").active()
        assert model is not None
        yield Lap(bundle.load(model[1], trusted=None), stages)


class _Device:
    """The daemon beside its broker and, in tier transfer, a worker; what runs is stopped by `stage`."""

    def __init__(
        self,
        folder: Path,
        lesson: Lesson,
        tier: Tier,
        broker: Broker,
        overrides: Mapping[str, Mapping[str, Any]],
        stage: ExitStack,
    ) -> None:
        self._key, self._broker, self._stage = signing.generate(folder / "key"), broker, stage
        self._url = f"mqtt://127.0.0.1:{broker.port}"
        self._operator = Operator(broker.port, TOPICS)
        stage.callback(self._operator.close)
        inbox, state = folder / "inbox", folder / "state"
        (inbox / lesson.category).mkdir(parents=True)
        self._inbox, self._aside = inbox, folder / "aside"
        self._aside.mkdir()
        self._feed = Feed(inbox, state / "predictions.jsonl")
        config = folder / "agent.yaml"
        student = _signed(lesson.student.bundle, folder / "student", self._key)
        document = _configuration(folder, student, broker.port, tier, signing.public_key_hex(self._key))
        for section, values in overrides.items():
            document.setdefault(section, {}).update(values)
        config.write_text(json.dumps(document), encoding="utf-8")
        self._children: list[Child] = []
        if tier == "transfer":
            served = ["--teacher", str(lesson.teacher), "--broker", self._url, "--threads", "1"]
            served += ["--prefix", TOPICS.prefix, "--fleet", TOPICS.fleet]
            self._start("worker", "cloud_teacher", ["teacher", "serve", *served], folder, "ready")
        self._start("agent", "agent", ["run", "--config", str(config)], folder, '"link_up"')

    def learn(self, lesson: Lesson) -> dict[str, float]:
        """Show the images, publish the trigger, follow the round to the swap: seconds by stage."""
        for number, image in enumerate(lesson.images):
            made = self._aside / f"{number:04}.png"
            made.write_bytes(encode_png(image))
            made.rename(self._inbox / lesson.category / made.name)
        self._await(lambda: len(self._said()) >= len(lesson.images), SERVED_TIMEOUT_S, "the images were not served")
        around = Background(self._feed, "during", lesson.known, ["known"] * len(lesson.known), SERVED_PER_S)
        self._stage.callback(around.stop)
        began_s = self._trigger(lesson)
        ends: dict[str, float] = {}
        until_s = time.monotonic() + ROUND_TIMEOUT_S
        for message in self._heard(until_s):
            name = stage_ended(message)
            if name is not None:
                ends.setdefault(name, time.monotonic())
            if name == "swap":
                return durations(began_s, ends)
            if isinstance(message, wire.JobUpdate) and message.state not in ("QUEUED", "IN_PROGRESS"):
                raise LoopError(f"the round ended as {message.state}: {message.detail}")
        raise LoopError(f"the round did not end within {ROUND_TIMEOUT_S:.0f} s")

    def _start(self, name: str, module: str, arguments: Sequence[str], folder: Path, needle: str) -> None:
        child = Child(name, module, arguments, folder / f"{name}.log")
        self._children.append(child)
        self._stage.callback(child.stop)
        child.wait_for(needle, READY_TIMEOUT_S)

    def _trigger(self, lesson: Lesson) -> float:
        """Publish the trigger; the moment before."""
        message = fleet.trigger(
            [lesson.category], self._key, now_utc=time.time(), expires_s=3600.0, samples=len(lesson.images)
        )
        link = BrokerLink(parse_broker(self._url))
        link.connect()
        try:
            began_s = time.monotonic()
            link.publish(TOPICS.trigger, fleet.checked(message), timeout_s=READY_TIMEOUT_S)
        finally:
            link.close()
        return began_s

    def _said(self) -> dict[str, Any]:
        self._feed.read()
        return dict(self._feed.said)

    def _heard(self, until_s: float) -> Iterator[Message]:
        while time.monotonic() < until_s:
            for child in self._children:
                child.check()
            try:
                yield self._operator.messages.get(timeout=0.25)
            except queue.Empty:
                continue

    def _await(self, done: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
        until_s = time.monotonic() + timeout_s
        while not done():
            for child in self._children:
                child.check()
            if time.monotonic() > until_s:
                raise LoopError(f"{otherwise} within {timeout_s:.0f} s")
            time.sleep(0.05)


def stage_ended(message: Message) -> str | None:
    """The stage of a round that is over when the device says this; the first time counts."""
    if isinstance(message, wire.Event):
        ended = {"job_prepared": "prepare", "judged": "judge", "swapped": "swap"}
        if message.kind != "progress":
            return ended.get(message.kind)
        begun = {"prefix": "load", "head": "load", "train": "prefix", "write": "train"}
        return begun.get(str(message.detail.get("stage")))
    if isinstance(message, wire.Status):
        return {"admitted": "ask", "training": "admit", "verifying": "write"}.get(message.phase)
    return None


def durations(began_s: float, ends: Mapping[str, float]) -> dict[str, float]:
    """Seconds of each stage that there was, from when each ended: it began when the one before it ended. A message that
    arrives late moves time from one stage to the next, and loses none."""
    lasted, at_s = {}, began_s
    for name in STAGES:
        if name in ends:
            lasted[name] = max(0.0, ends[name] - at_s)
            at_s = max(at_s, ends[name])
    return lasted


def _signed(student: Bundle, folder: Path, key: SigningKey) -> Path:
    """A copy that the device trusts."""
    files = {name: student.read(name) for name in student.manifest.files}
    bundle.save(folder, msgspec.structs.replace(student.manifest, files={}), files, key)
    return folder


def _configuration(folder: Path, student: Path, port: int, tier: Tier, key: str) -> dict[str, dict[str, Any]]:
    return {
        "device": {"name": TOPICS.device, "fleet": TOPICS.fleet, "state_dir": str(folder / "state")},
        "source": {"folder": str(folder / "inbox"), "folder_labels": True},
        "model": {"bundle": str(student), "trusted_keys": [key]},
        "mqtt": {"host": "127.0.0.1", "port": port, "operator_keys": [key]},
        "privacy": {"mode": "upload", "consent_to_upload": True},
        "training": {"tier": tier, "threads": 1},
        # The device shares this machine with a broker, a worker and whatever else it does.
        "budget": {"max_cpu_percent": 100.0, "max_load_per_core": 1000.0},
        "log": {"format": "json"},
    }
