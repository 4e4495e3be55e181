"""What a device has acknowledged, as seen from outside, and which of it is not kept after a power cut.

an image        a line in predictions.jsonl. It need not be handled again; without a line it must be.
a sample        that line's image was labelled: a line is written after its sample is durable.
a trigger       any report of its job at the broker. Once the broker has it, it must come to an end, however often the
                device is killed: the broker keeps it until then.
a local order   the control socket's answer.
a promotion     the event `promoted` at the broker; `rolled_back` likewise.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from agent.adapters.model_store import Pointer
from agent.adapters.start_record import StartRecord
from agent.core.state import State
from transfer import bundle, wire
from transfer.bundle import BundleError

RECENT_IDS = 200
"""Of so many triggers and orders a device must remember that they were carried out; it keeps more than twice that."""
OPEN = ("QUEUED", "IN_PROGRESS")


@dataclass(frozen=True)
class OnDisk:
    """A state folder, read from outside. Raises nothing: what cannot be read is in `corrupt`. `given_up`: the
    generation that the device itself has gone back from, since three starts in a row with it did not settle; the active
    one, where it has taken it again."""

    state: State | None
    active: int | None
    sample_ids: frozenset[str]
    corrupt: tuple[str, ...]
    given_up: int | None = None


def look(folder: Path) -> OnDisk:
    corrupt: list[str] = []
    state: State | None = None
    active: int | None = None
    samples: frozenset[str] = frozenset()
    try:
        if (folder / "state.json").exists():
            state = msgspec.json.decode((folder / "state.json").read_bytes(), type=State)
    except (OSError, msgspec.DecodeError) as error:
        corrupt.append(f"state.json: {error}")
    try:
        pointer = msgspec.json.decode((folder / "models" / "pointer.json").read_bytes(), type=Pointer)
        if pointer.active is not None:
            bundle.load(folder / "models" / "generations" / f"{pointer.active:06d}", trusted=None).statistics()
            active = pointer.active
    except (OSError, msgspec.DecodeError, BundleError) as error:
        corrupt.append(f"the active model: {error}")
    try:
        database = sqlite3.connect(f"file:{folder / 'samples.db'}?mode=ro", uri=True, timeout=10)
        samples = frozenset(row[0] for row in database.execute("SELECT sample_id FROM sample"))
        database.close()
    except sqlite3.Error as error:
        corrupt.append(f"samples.db: {error}")
    started = StartRecord(folder / "start.json").last()
    return OnDisk(state, active, samples, tuple(corrupt), started.instead_of if started else None)


@dataclass
class Promises:
    """`broken` and `repeated` grow while messages are taken in and the disk is looked at; a line each."""

    samples: set[str] = field(default_factory=set)
    shown: set[str] = field(default_factory=set)
    judged: set[str] = field(default_factory=set)
    published: set[str] = field(default_factory=set)
    reported: set[str] = field(default_factory=set)
    endings: dict[str, set[tuple[str, int | None]]] = field(default_factory=lambda: defaultdict(set))
    acknowledged: dict[str, str] = field(default_factory=dict)
    """Triggers and orders, as they came: id -> which of the two."""
    expected: int | None = None
    """The generation that the last promise makes the active one; None where an order may be changing it."""
    pending: bool = False
    """Whether an order that may change it was given and no effect of it was heard of."""
    newest: int = 1
    floor: int = 1
    """No order has gone back below this generation."""
    broken: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    heard: Counter[str] = field(default_factory=Counter)

    def hear(self, message: wire.Status | wire.Event | wire.JobUpdate) -> None:
        if isinstance(message, wire.Status):
            self.heard["online"] += message.online
        elif isinstance(message, wire.JobUpdate):
            self.reported.add(message.trigger_id)
            self.acknowledged.setdefault(message.trigger_id, "trigger")
            if message.state not in OPEN:
                self.heard[message.state] += message.trigger_id not in self.endings
                self.endings[message.trigger_id].add((message.state, message.generation))
                if len(self.endings[message.trigger_id]) > 1:
                    self._repeats(f"{message.trigger_id} ended as {sorted(map(str, self.endings[message.trigger_id]))}")
        elif isinstance(message, wire.Event) and message.kind in ("promoted", "rolled_back"):
            generation = int(message.detail["generation"] or 0)
            if message.kind == "promoted" and generation > self.newest:
                self.newest = generation
                # Heard late, it may be from before an order that has changed it since.
                self.expected = None if self.pending else generation
                self.heard["promoted"] += 1
            elif message.kind == "rolled_back" and self.pending:
                self.expected, self.pending = generation, False
                self.heard["rolled_back"] += 1

    def ordered(self, identity: str, *, rollback_to: int | None = None) -> None:
        """A local order was accepted. Ordering itself makes the active generation uncertain: see `uncertain`."""
        self.acknowledged[identity] = "order"
        if rollback_to is not None:
            self.floor = min(self.floor, rollback_to)

    def uncertain(self) -> None:
        """An order is about to be given that may change the active generation, whether or not it is answered."""
        self.expected, self.pending = None, True

    def check(self, found: OnDisk) -> None:
        """The disk of a device that has just started."""
        lost = self.samples - found.sample_ids
        if lost:
            self._breaks(f"{len(lost)} acknowledged samples are gone")
            self.samples -= lost
        if found.state is None:
            if self.reported:
                self._breaks("there is no state though orders were acknowledged")
                self.reported.clear()
            return
        known = set(found.state.handled_ids)
        for identity in [i for i in list(self.acknowledged)[-RECENT_IDS:] if i not in known]:
            self._breaks(f"{self.acknowledged.pop(identity)} {identity} is forgotten")
        if found.state.rounds_begun > len(self.published):
            self._repeats(f"{found.state.rounds_begun} rounds for {len(self.published)} triggers")
        if self.expected is not None and found.given_up in (self.expected, found.active or self.expected):
            self.expected = found.active  # killed so often that it did not trust a model: as it should
        if found.active is not None:
            self._check_active(found.active)

    def _check_active(self, active: int) -> None:
        if active > self.newest:  # promoted, and killed before anybody was told
            self.newest = active
            self.expected = None if self.pending else active
        if self.expected is not None and active != self.expected and active <= self.newest:
            self._breaks(f"generation {active} is active; {self.expected} was promised, {self.newest} the newest")
            self.expected = active
        if active < self.floor:
            self._repeats(f"generation {active} is active, and nobody has gone back below {self.floor}")

    def finish(self) -> None:
        """After the device was left in peace until all was done."""
        for identity in sorted((self.published | self.reported) - self.endings.keys()):
            self._breaks(f"trigger {identity} was {self._fate(identity)}")
        unjudged = self.shown - self.judged
        if unjudged:
            self._breaks(f"{len(unjudged)} images never got a verdict, such as {sorted(unjudged)[0]}")

    def _fate(self, identity: str) -> str:
        return "acknowledged and never ended" if identity in self.reported else "published and never acknowledged"

    def _breaks(self, line: str) -> None:
        self.broken.append(line)

    def _repeats(self, line: str) -> None:
        if line not in self.repeated:
            self.repeated.append(line)
