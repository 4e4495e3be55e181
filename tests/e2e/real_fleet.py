"""A small fleet of real processes on digits: a teacher worker and an agent at a real broker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml

from cloud_teacher.datasets import Dataset
from demo.feed import Feed, accuracy
from demo.operator import Operator
from demo.processes import Child, run_with_progress
from transfer import signing, wire
from transfer.preprocess import encode_png

ROOT = Path(__file__).resolve().parent.parent.parent
NEW = "nine"
TWO_NEW = ("eight", "nine")
TOPICS = wire.Topics("understudy", "test", "edge-1")


@dataclass(frozen=True)
class Models:
    """Bundles of a teacher that knows ten digits and a student that knows nine, and the cloud's key."""

    student: Path
    teacher: Path
    key: Path


@dataclass
class Fleet:
    """One broker, one worker, one agent. `agent_port` may be a tap in front of the broker."""

    scene: Path
    models: Models
    data: Dataset
    broker_port: int
    agent_port: int
    operator_key: Path
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    new: str = NEW
    children: list[Child] = field(default_factory=list)
    agent_under: tuple[str, ...] = ()
    """What the agent is started by: a network namespace, another clock."""

    def __post_init__(self) -> None:
        self.inbox, self.state = self.scene / "inbox", self.scene / "state"
        self.inbox.mkdir()
        self.state.mkdir()
        self.url = f"mqtt://127.0.0.1:{self.broker_port}"
        self.operator = Operator(self.broker_port, TOPICS)
        self.feed = Feed(self.inbox, self.state / "predictions.jsonl")
        self.starts = 0

    @property
    def config(self) -> Path:
        document: dict[str, dict[str, Any]] = {
            "device": {"name": TOPICS.device, "fleet": TOPICS.fleet, "state_dir": str(self.state)},
            "source": {"folder": str(self.inbox), "rescan_s": 2.0},
            "model": {
                "bundle": str(self.models.student),
                "trusted_keys": [signing.public_key_hex(signing.load_key(self.models.key))],
            },
            "mqtt": {
                "host": "127.0.0.1",
                "port": self.agent_port,
                "operator_keys": [signing.public_key_hex(signing.load_key(self.operator_key))],
            },
            "privacy": {"mode": "upload", "consent_to_upload": True, "share_predictions": True},
            "budget": {
                "max_cpu_percent": 100.0,
                "max_load_per_core": 1_000.0,
                "min_available_mib": 50.0,
                "min_disk_free_mib": 10.0,
                "sample_s": 0.5,
            },
            "training": {"threads": 1, "nice": 0, "backoff_s": 1.0},
            "probation": {"frames": 20, "min_frames": 10},
            "log": {"format": "json"},
        }
        for section, values in self.overrides.items():
            document.setdefault(section, {}).update(values)
        path = self.scene / "agent.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    def start_worker(self) -> Child:
        arguments = ["teacher", "serve", "--teacher", str(self.models.teacher), "--broker", self.url]
        arguments += ["--prefix", TOPICS.prefix, "--fleet", TOPICS.fleet, "--threads", "1", "--json"]
        worker = Child("worker", "cloud_teacher", arguments, self.scene / "worker.log")
        self.children.append(worker)
        worker.wait_for("ready", 60)
        return worker

    def start_agent(self, awaiting: str = '"link_up"') -> Child:
        self.starts += 1
        log = self.scene / f"agent-{self.starts}.log"
        agent = Child("agent", "agent", ["run", "--config", str(self.config)], log, self.agent_under)
        self.children.append(agent)
        agent.wait_for('"started"', 60)
        agent.wait_for(awaiting, 60)
        return agent

    def images(self, label: str, *, test: bool) -> npt.NDArray[np.uint8]:
        target = self.data.labels.index(label)
        if test:
            return self.data.test_images[self.data.test_targets == target]
        return self.data.train_images[self.data.train_targets == target]

    def drop_labelled(self, stage: str, label: str, images: npt.NDArray[np.uint8]) -> None:
        """Into the folder that is named after the label. Made elsewhere and moved: half a file is no image."""
        folder = self.inbox / label
        folder.mkdir(exist_ok=True)
        for number, image in enumerate(images):
            made = self.scene / f"{stage}-{number}.png"
            made.write_bytes(encode_png(image))
            made.rename(folder / made.name)

    def drop(self, stage: str, label: str, images: npt.NDArray[np.uint8]) -> list[str]:
        return [self.feed.put(stage, image, label) for image in images]

    def await_served(self, names: list[str], timeout_s: float = 60) -> None:
        until_s = time.monotonic() + timeout_s
        while not set(names) <= self.feed.said.keys():
            self.feed.read()
            assert time.monotonic() < until_s, f"{len(set(names) - self.feed.said.keys())} images were not classified"
            self.check()
            time.sleep(0.05)

    def check(self) -> None:
        for child in self.children:
            if child.process.returncode is None:
                child.check()

    def trigger(self, wanted: int, identity: str = "trigger-1", categories: Sequence[str] = ()) -> None:
        arguments = ["fleet", "trigger", "--broker", self.url, "--fleet", TOPICS.fleet]
        arguments += [part for category in categories or (self.new,) for part in ("--category", category)]
        arguments += ["--samples", str(wanted), "--key", str(self.operator_key), "--id", identity, "--json"]
        run_with_progress("cloud_teacher", arguments, lambda *_: None, self.scene / "trigger.log")

    def hear(self, until: Callable[[Any], bool], timeout_s: float = 90) -> Any:
        """The first message of the fleet for which `until` holds."""
        until_s = time.monotonic() + timeout_s
        heard = []
        while time.monotonic() < until_s:
            self.check()
            try:
                message = self.operator.messages.get(timeout=0.2)
            except Exception:  # queue.Empty
                continue
            heard.append(message)
            if until(message):
                return message
        pytest.fail(f"not heard within {timeout_s} s; the last of {len(heard)} messages: {heard[-5:]}")

    def await_end(self, timeout_s: float = 90) -> wire.JobUpdate:
        ending: wire.JobUpdate = self.hear(
            lambda m: isinstance(m, wire.JobUpdate) and m.state not in ("QUEUED", "IN_PROGRESS"), timeout_s
        )
        return ending

    def keep_feeding(self) -> None:
        """Enough known images for the probation to end."""
        label = next(label for label in self.data.labels if label != self.new)
        self.drop("later", label, self.images(label, test=True)[:30])

    def status(self) -> dict[str, Any]:
        told = self.command("status")
        return dict(json.loads(told.stdout))

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "agent", *arguments, "--config", str(self.scene / "agent.yaml"), "--json"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def close(self) -> None:
        for child in reversed(self.children):
            child.stop()
        self.operator.close()


def learn(fleet: Fleet, *, noticed: float = 0.5, recognised: float = 0.8) -> Any:
    """Drop new images, trigger, feed on until the round has ended well; the new category is then recognised."""
    train = fleet.images(fleet.new, test=False)[:200]
    fleet.await_served(fleet.drop("new", fleet.new, train))
    kept = sum(said.kept for said in fleet.feed.of_stage("new"))
    assert kept >= noticed * len(train), "the new category was not noticed"
    fleet.trigger(int(kept * 0.8))
    fleet.hear(lambda m: isinstance(m, wire.Event) and m.kind == "swapped")
    fleet.keep_feeding()
    ending = fleet.await_end()
    assert ending.state == "SUCCEEDED", ending
    tested = fleet.drop("tested", fleet.new, fleet.images(fleet.new, test=True)[:200])
    fleet.await_served(tested)
    assert accuracy(fleet.feed.of_stage("tested")) >= recognised
    assert len(fleet.feed.said) == fleet.feed.dropped_in, "an image was dropped"
    return ending
