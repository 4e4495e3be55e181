"""What a device is kept busy with for hours: images, rounds, swaps and going back, cancellations, broken links, people
who ask. Everything is real and goes on until it is told to stop.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.adapters import control
from benchmarks.device.model import LABELS, SIDE, bundle_of_half_a_million, images
from cloud_teacher import fleet
from cloud_teacher.broker_link import BrokerLink, parse_broker
from demo.broker import start_broker
from demo.operator import Operator
from demo.processes import Child
from transfer import signing, wire
from transfer.preprocess import encode_png
from transfer.spec import resnet_cifar

TOPICS = wire.Topics("understudy", "soak", "edge-1")
SPEC = resnet_cifar(20, len(LABELS))
NEW, WANTED = "novelty", 16
FRAMES_PER_S = 10.0
KEPT_FILES = 50
CANCEL_EVERY = 4
TIMEOUT_S = 120.0

Picture = npt.NDArray[np.uint8]


class SoakError(RuntimeError):
    """The device did not do what it was told; the message says what."""


class Soaked:
    """A device under load. `done` counts rounds, swaps, cancellations, reconnects, requests and frames."""

    def __init__(self, folder: Path, stage: ExitStack) -> None:
        """It serves. `stage` ends all that was started."""
        self._folder, self._inbox, self.state = folder, folder / "inbox", folder / "state"
        (self._inbox / NEW).mkdir(parents=True)
        self.done: Counter[str] = Counter()
        self._key = signing.generate(folder / "key")
        bundle_of_half_a_million(folder / "bundle", "dynamic_int8", key=self._key, spec=SPEC)
        self._options = ("user root",) if os.geteuid() == 0 else ()
        self._broker = start_broker(folder / "broker", options=self._options)
        stage.callback(lambda: self._broker.stop())
        self._operator = Operator(self._broker.port, TOPICS)
        stage.callback(self._operator.close)
        config = folder / "agent.yaml"
        document = _configuration(folder, self._broker.port, signing.public_key_hex(self._key))
        config.write_text(json.dumps(document), encoding="utf-8")
        self._daemon = Child("agent", "agent", ["run", "--config", str(config)], folder / "agent.log")
        stage.callback(self._daemon.stop)
        self._daemon.wait_for('"link_up"', TIMEOUT_S)
        self._closing = threading.Event()
        self._feeder = threading.Thread(target=self._feed, name="feeder", daemon=True)
        self._feeder.start()
        stage.callback(self._stop_feeding)

    @property
    def pid(self) -> int:
        return self._daemon.process.pid

    def status(self) -> dict[str, Any]:
        """As `understudy agent status` asks. Raises SoakError."""
        self._daemon.check()
        answer = control.ask(self.state / "control.sock", {"do": "status"})
        if answer is None or "error" in answer:
            raise SoakError(f"the daemon gave no status: {answer}")
        self.done["requests"] += 1
        return answer

    def cycle(self) -> None:
        """A round, back to the model from before it, now and then one that is cancelled, and another broker."""
        self._learn()
        self._order("rollback")
        self._hear("the roll back", lambda m: isinstance(m, wire.Event) and m.kind == "rolled_back")
        self.done["swaps"] += 1
        if self.done["rounds"] % CANCEL_EVERY == 0:
            self._cancel()
        self._reconnect()

    # ------------------------------------------------------------------------------------------------ orders

    def _learn(self) -> None:
        self._trigger(WANTED)
        ended = self._ending()
        if ended.state != "SUCCEEDED":
            raise SoakError(f"a round ended as {ended.state}: {ended.detail}")
        self.done["rounds"] += 1
        self.done["swaps"] += 1

    def _cancel(self) -> None:
        self._trigger(10 * WANTED)  # more than it has
        self._hear("the trigger's arrival", lambda m: isinstance(m, wire.JobUpdate) and m.state == "QUEUED")
        self._order("cancel")
        if self._ending().state != "CANCELED":
            raise SoakError("a round that was cancelled went on")
        self.done["cancellations"] += 1

    def _trigger(self, samples: int) -> None:
        for _ in range(WANTED):
            self._show(_picture(next(_NUMBERS), 250.0), f"{NEW}/")
        message = fleet.trigger([NEW], self._key, now_utc=time.time(), expires_s=3600.0, samples=samples)
        link = BrokerLink(parse_broker(f"mqtt://127.0.0.1:{self._broker.port}"))
        link.connect()
        try:
            link.publish(TOPICS.trigger, fleet.checked(message), timeout_s=TIMEOUT_S)
        finally:
            link.close()

    def _order(self, action: str) -> None:
        answer = control.ask(self.state / "control.sock", {"do": action})
        if answer is None or "accepted" not in answer:
            raise SoakError(f"{action} was not accepted: {answer}")
        self.done["requests"] += 1

    def _reconnect(self) -> None:
        """The broker ends and another takes its place."""
        links = self._links()
        self._broker.stop()
        self._broker = start_broker(self._folder / "broker", self._broker.port, options=self._options)
        until_s = time.monotonic() + TIMEOUT_S
        while self._links() == links:
            self._daemon.check()
            if time.monotonic() > until_s:
                raise SoakError("the device did not come back to its broker")
            time.sleep(0.2)
        self.done["reconnects"] += 1
        self._hear("its status at the new broker", lambda m: isinstance(m, wire.Status) and m.online)

    def _links(self) -> int:
        return (self._folder / "agent.log").read_text(errors="replace").count('"link_up"')

    def _ending(self) -> wire.JobUpdate:
        over = ("SUCCEEDED", "FAILED", "CANCELED", "TIMED_OUT", "REJECTED")
        found = self._hear("the end of a round", lambda m: isinstance(m, wire.JobUpdate) and m.state in over)
        assert isinstance(found, wire.JobUpdate)
        return found

    def _hear(self, what: str, wanted: Callable[[Any], bool]) -> Any:
        until_s = time.monotonic() + TIMEOUT_S
        while time.monotonic() < until_s:
            self._daemon.check()
            try:
                message = self._operator.messages.get(timeout=0.5)
            except queue.Empty:
                continue
            if wanted(message):
                return message
        raise SoakError(f"{what} was not heard of within {TIMEOUT_S:.0f} s")

    # ------------------------------------------------------------------------------------------------ images

    def _feed(self) -> None:
        """Known images, each a new file; old ones are cleared away, as whoever runs a camera into a folder does."""
        grounds, shown = images(1, 0), list[Path]()
        while not self._closing.wait(1 / FRAMES_PER_S):
            number = next(_NUMBERS)
            shown.append(self._show(_picture(number, grounds[number % len(grounds)])))
            if len(shown) > KEPT_FILES:
                shown.pop(0).unlink(missing_ok=True)

    def _show(self, picture: Picture, folder: str = "") -> Path:
        made = self._folder / f"{time.monotonic_ns()}.png"
        made.write_bytes(encode_png(picture))
        self.done["frames"] += 1
        return made.rename(self._inbox / f"{folder}{made.name}")

    def _stop_feeding(self) -> None:
        self._closing.set()
        self._feeder.join(5)


_NUMBERS = itertools.count()


def _picture(number: int, ground: float | Picture) -> Picture:
    noise = np.random.default_rng(number).normal(0, 8, (SIDE, SIDE, 3))
    picture: Picture = np.clip(ground + noise, 0, 255).astype(np.uint8)
    return picture


def _configuration(folder: Path, port: int, key: str) -> dict[str, dict[str, Any]]:
    """Small quotas, so that all that may grow has grown after minutes; and rounds of seconds."""
    return {
        "device": {"name": TOPICS.device, "fleet": TOPICS.fleet, "state_dir": str(folder / "state")},
        "source": {"folder": str(folder / "inbox"), "folder_labels": True, "rescan_s": 5.0},
        "model": {"bundle": str(folder / "bundle"), "trusted_keys": [key]},
        "mqtt": {"host": "127.0.0.1", "port": port, "operator_keys": [key], "outbox_mib": 1.0},
        "novelty": {"buffer_mib": 0.5},
        "training": {"tier": "head", "threads": 1, "min_samples": 8, "backoff_s": 1.0},
        # The device shares this machine with all that keeps it busy.
        "budget": {"max_cpu_percent": 100.0, "max_load_per_core": 1000.0, "min_available_mib": 50.0, "sample_s": 1.0},
        "gate": {"max_old_drop": 1.0, "max_category_drop": 1.0, "min_new": 0.0},
        "probation": {"frames": 20, "min_frames": 10, "max_novel_share": 1.0, "min_confidence": 0.0}
        | {"probe_every_s": 2.0},
        "log": {"format": "json", "predictions_mib": 0.1, "metrics_file": str(folder / "soak.prom")},
    }
