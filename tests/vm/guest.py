"""What runs in the machine: a broker, the daemon with its state on the disk, the load; every fact goes to the console.

A line is `@@` and JSON: {"disk": ...} what was found after the start, {"message": ...} heard at the broker, {"sample"},
{"published"}, {"order"}, {"uncertain"}. The host keeps the promises, for it survives.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import random
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.device.powercut_load import KEPT, Load, configuration
from benchmarks.device.promises import Promises, look
from demo.broker import start_broker
from demo.operator import Operator
from transfer import signing, wire

DISK = Path("/mnt")
WORK = Path(tempfile.mkdtemp(prefix="guest-"))
LOG = WORK / "agent.log"
START_TIMEOUT_S = 120.0
TOPICS = wire.Topics("understudy", "vm", "device")


def tell(**fact: object) -> None:
    os.write(1, f"@@{json.dumps(fact)}\n".encode())


class Published(set[str]):
    """Told before it is published: a round may begin and the power go before anything else is said."""

    def add(self, identity: str) -> None:
        tell(published=identity)
        super().add(identity)


class Telling(Promises):
    def hear(self, message: wire.Status | wire.Event | wire.JobUpdate) -> None:
        tell(message=base64.b64encode(wire.encode(message)).decode())
        super().hear(message)

    def ordered(self, identity: str, *, rollback_to: int | None = None) -> None:
        tell(order=identity, back=rollback_to)
        super().ordered(identity, rollback_to=rollback_to)

    def uncertain(self) -> None:
        tell(uncertain=True)
        super().uncertain()


def main(scene: Path, boot: int) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    broker = start_broker(WORK / "broker", options=("user root",))
    key = scene / "key"
    trusted = signing.public_key_hex(signing.load_key(key))
    config = WORK / "agent.yaml"
    config.write_text(json.dumps(configuration(TOPICS, DISK, scene / "bundle", trusted, broker.port)))
    promises = Telling(published=Published())
    operator = Operator(broker.port, TOPICS)
    load = Load(DISK, TOPICS, key, broker.port, promises, random.Random(boot), first=boot * 100_000)
    with LOG.open("wb") as log:
        daemon = subprocess.Popen([sys.executable, "-m", "agent", "run", "--config", str(config)], stderr=log)
    until_s = time.monotonic() + START_TIMEOUT_S
    while '"started"' not in LOG.read_text():
        if daemon.poll() is not None or time.monotonic() > until_s:
            tell(failed=LOG.read_text()[-2000:])
            return
        time.sleep(0.02)
    found = look(DISK / "state")
    promises.expected, promises.newest = found.active, found.active or 1
    state = DISK / "state" / "state.json"
    tell(
        disk={
            "state": state.read_text() if state.exists() else None,
            "active": found.active,
            "samples": sorted(found.sample_ids),
            "corrupt": found.corrupt,
        },
        log=LOG.read_text(),
    )
    predictions, place = DISK / "state" / "predictions.jsonl", 0
    if predictions.exists():
        place = predictions.stat().st_size
    while daemon.poll() is None:
        load.show_one()
        load.order_something()
        with suppress(queue.Empty):
            while True:
                promises.hear(operator.messages.get_nowait())
        if predictions.exists():
            with predictions.open("rb") as file:
                file.seek(place)
                for line in file.read().splitlines(keepends=True):
                    if line.endswith(b"\n"):
                        place += len(line)
                        with suppress(ValueError):
                            told = json.loads(line)
                            if told.get("given") == KEPT:
                                tell(sample=told["sample_id"])
        time.sleep(0.03)
    tell(failed=LOG.read_text()[-2000:])


if __name__ == "__main__":
    arguments = dict(word.split("=", 1) for word in sys.argv[2].split() if "=" in word)
    main(Path(sys.argv[1]), int(arguments["boot"]))
