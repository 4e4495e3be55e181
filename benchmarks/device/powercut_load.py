"""What a device is kept busy with: images, some in folders that name their category, triggers, local orders."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.adapters import control
from benchmarks.device.model import SIDE, images
from benchmarks.device.promises import Promises
from cloud_teacher import fleet
from cloud_teacher.broker_link import BrokerLink, parse_broker
from transfer import signing, wire
from transfer.preprocess import encode_png

NEW, KEPT = "novelty", "keepsake"
"""Labels that images come with. One is learned, again and again; for the other nobody ever asks: its samples stay."""
WANTED = 12
REPEATED = 0.5
"""So many of the triggers are published again and again until they end; the others must not be lost."""
AGAIN_S = 0.5
"""Between two publications: a device that rejects what it knows must not be flooded with triggers."""

Picture = npt.NDArray[np.uint8]


class Load:
    """Puts images into `folder`/inbox and orders to the device, and notes in `promises` what it has done."""

    def __init__(
        self,
        folder: Path,
        topics: wire.Topics,
        key_file: Path,
        port: int,
        promises: Promises,
        rng: random.Random,
        *,
        first: int = 0,
    ) -> None:
        """`first`: where the images' numbers begin."""
        self._folder, self._inbox = folder, folder / "inbox"
        self._topics, self._promises, self._random = topics, promises, rng
        for label in (NEW, KEPT):
            (self._inbox / label).mkdir(parents=True, exist_ok=True)
        self._key = signing.load_key(key_file)
        self._link = BrokerLink(parse_broker(f"mqtt://127.0.0.1:{port}"))
        self._link.connect()
        self._plain = images(20, rng.randrange(2**32))
        self._made = first
        self._trigger: wire.Trigger | None = None
        self._repeated = False
        self._published_at_s = 0.0

    def close(self) -> None:
        self._link.close()

    def show_one(self) -> None:
        """An image, whole and under its name by a rename, as a careful program does it. No two are the same."""
        self._made += 1
        label = self._random.choice(("", NEW, NEW, KEPT))
        name = f"{self._made:07}.png"
        made = self._folder / name
        made.write_bytes(encode_png(self._picture(label)))
        made.rename(self._inbox / label / name)
        self._promises.shown.add(f"{label}/{name}" if label else name)

    def _picture(self, label: str) -> Picture:
        noise = np.random.default_rng(self._made).normal(0, 8, (SIDE, SIDE, 3))
        ground = {NEW: 250.0, KEPT: 5.0}.get(label, self._plain[self._made % len(self._plain)])
        picture: Picture = np.clip(ground + noise, 0, 255).astype(np.uint8)
        return picture

    def order_something(self) -> None:
        """A new trigger when the last one has ended, or the last one once more; a roll back of what was learned.

        Where nobody knows which model is active, both have their turn: a device with nothing to undo refuses the one,
        and one that has learned it already the other, for ever.
        """
        ended = self._trigger is None or self._trigger.id in self._promises.endings
        active = self._promises.expected
        if self._trigger is not None and ended and active != 1 and (active or self._random.random() < 0.5):
            if self._random.random() < 0.3:
                self._order_here("rollback")
        elif time.monotonic() - self._published_at_s > AGAIN_S and self._random.random() < 0.3:
            if ended or self._repeated:
                self._publish(anew=ended)
        elif self._random.random() < 0.005:
            self._order_here("cancel")

    def _publish(self, *, anew: bool) -> None:
        if anew or self._trigger is None:
            self._repeated = self._random.random() < REPEATED
            now_utc = time.time()
            self._trigger = fleet.trigger([NEW], self._key, now_utc=now_utc, expires_s=36_000.0, samples=WANTED)
        self._published_at_s = time.monotonic()
        self._promises.published.add(self._trigger.id)
        self._link.publish(self._topics.trigger, fleet.checked(self._trigger), timeout_s=30)

    def _order_here(self, action: str) -> None:
        if action == "rollback":
            self._promises.uncertain()
        answer = control.ask(self._folder / "state" / "control.sock", {"do": action}, timeout_s=6.0)
        if answer is not None and "order" in answer:
            back = answer["previous"] if action == "rollback" else None
            self._promises.ordered(answer["order"], rollback_to=back)


def configuration(
    topics: wire.Topics, folder: Path, bundle: Path, trusted: str, port: int
) -> dict[str, dict[str, Any]]:
    """Nothing of the machine or of the toy network keeps a round from its end."""
    return {
        "device": {"name": topics.device, "fleet": topics.fleet, "state_dir": str(folder / "state")},
        "source": {"folder": str(folder / "inbox"), "folder_labels": True, "rescan_s": 2.0},
        "model": {"bundle": str(bundle), "trusted_keys": [trusted]},
        "mqtt": {"host": "127.0.0.1", "port": port, "operator_keys": [trusted]},
        "novelty": {"buffer_mib": 10_000.0},
        "training": {"tier": "head", "threads": 1, "nice": 0, "min_samples": 4, "backoff_s": 0.0, "attempts": 100}
        | {"failures": 1000},
        "budget": {"max_cpu_percent": 100.0, "max_load_per_core": 1000.0, "min_available_mib": 50.0, "sample_s": 0.1}
        | {"min_disk_free_mib": 10.0, "max_temperature_c": 150.0, "min_battery_percent": 0.0},
        "gate": {"max_old_drop": 1.0, "max_category_drop": 1.0, "min_new": 0.0},
        "probation": {"frames": 3, "min_frames": 1, "max_novel_share": 1.0, "min_confidence": 0.0}
        | {"max_probe_misses": 1.0},
        "log": {"format": "json", "predictions_mib": 1000.0},
    }
