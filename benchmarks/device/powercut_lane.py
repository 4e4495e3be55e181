"""One device under load that is killed again and again: a life, the kill, perhaps the power cut, the look after it."""

from __future__ import annotations

import json
import queue
import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.device import unsynced
from benchmarks.device.commit_points import Plan, folder_for_journals
from benchmarks.device.lives import Beginning, Lives
from benchmarks.device.powercut_load import KEPT, Load, configuration
from benchmarks.device.promises import Promises, look
from demo.operator import Operator
from transfer import signing, wire

STEP_S = 0.03
LONGEST_LIFE_S = 4.0
LONGEST_WAIT_S = 25.0
"""For a commit point in the middle of a round to be reached."""
PEACE_S = 90.0
"""In which a life in peace has to get on: to have fewer triggers or images left to deal with than ever."""
AT_RANDOM = 0.25
"""So many of the kills come at no commit point."""
OFTEN = 3
"""A point that is passed so many times in a life is sometimes passed before it is killed at."""
DAMAGED = ("database_quarantined", "state_quarantined", "file_not_usable", "egress_ledger_unreadable", "command_failed")
"""Events in the daemon's log that say that a kill has damaged its files, or led it into a defect."""


@dataclass
class Tally:
    """What became of the lives. `passed`, `hits`: by commit point, how often it was reached, and killed at; `lost`: by
    kind, what was taken back after the kills that were `cuts`."""

    kills: int = 0
    starts: int = 0
    cuts: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    corrupt: list[str] = field(default_factory=list)
    no_active_model: list[str] = field(default_factory=list)
    hits: Counter[str] = field(default_factory=Counter)
    passed: Counter[str] = field(default_factory=Counter)


class Lane:
    """`folder` gets its state folder, inbox, configuration and journals. After about every second kill the power is
    cut."""

    def __init__(self, folder: Path, number: int, bundle: Path, key_file: Path, port: int, seed: int) -> None:
        self._folder, self._random = folder, random.Random(seed)
        self._state, self._log, self._config = folder / "state", folder / "log", folder / "agent.yaml"
        topics = wire.Topics("understudy", f"lane-{number}", "device")
        trusted = signing.public_key_hex(signing.load_key(key_file))
        self._config.write_text(json.dumps(configuration(topics, folder, bundle, trusted, port)))
        self.promises, self.tally = Promises(), Tally()
        self._operator = Operator(port, topics)
        self._load = Load(folder, topics, key_file, port, self.promises, self._random)
        self._lives = Lives(folder / "lives.log")
        self._log_at = self._lines_at = 0
        self._aimed = Counter[str]()
        self._only_at_birth: set[str] = set()
        self._next = ""
        self._started = self._closed = False

    def close(self) -> None:
        """Once or more."""
        if self._closed:
            return
        self._closed = True
        self._lives.close()
        self._load.close()
        self._operator.close()

    def explore(self, seconds: float) -> None:
        """A first life, in which a round, a promotion and a roll back show the commit points that there are."""
        self._begin()
        heard = self.promises.heard
        self._work(seconds, until=lambda: heard["promoted"] > 0 and heard["rolled_back"] > 0)
        self._lives.kill()
        self._only_at_birth = self._after()

    def live_and_die(self, label: str | None = None) -> None:
        """A life that ends at a commit point or at a random instant; the next one that starts is looked at. `label`:
        the point, "" for none; by default it is chosen."""
        label = self._target() if label is None else label
        often = self.tally.passed[label] > OFTEN * self.tally.kills
        self._begin(label, self._random.choice((1, 1, 2, 5)) if often else 1)
        longest_s = LONGEST_WAIT_S if label else self._random.uniform(0.1, LONGEST_LIFE_S)
        self._work(longest_s, until=lambda: False)
        ended = self._lives.ended(0) is not None
        self._lives.kill()
        self.tally.kills += 1
        self.tally.hits[label] += bool(label) and ended
        # What the next life is to find would be lost with the power.
        self._only_at_birth -= self._after(cut=self._random.random() < 0.5 and not self._next)

    def only_at_birth(self) -> list[str]:
        """Commit points that only a device passes that has never lived before."""
        return sorted(self._only_at_birth)

    def rest(self) -> None:
        """A last life in peace, until every order has ended and every image has its verdict; then a proper end."""
        self._begin()
        least, until_s = float("inf"), 0.0
        while self._lives.ended(STEP_S) is None:
            left = self._left()
            if self._started and not left:
                break
            if self._random.random() < 0.1:
                self._load.show_one()  # images end a probation
            self._listen()
            if left < least:  # short lives may have left thousands of images lying
                least, until_s = left, time.monotonic() + PEACE_S
            elif time.monotonic() > until_s:
                break
        if status := self._lives.terminate():
            last = " | ".join(self._log.read_text(errors="replace").splitlines()[-3:])
            self.tally.corrupt.append(f"the daemon ended with {status} on SIGTERM: {last}")
        self._listen()
        self._check()
        self.promises.finish()

    def _left(self) -> int:
        """Triggers without an end and images without a verdict."""
        promises = self.promises
        return len(promises.published - promises.endings.keys()) + len(promises.shown - promises.judged)

    def _target(self) -> str:
        """The commit point that was aimed at least often, whether or not it was reached; now and then none. For one
        where something left over is removed, a life comes first that leaves it."""
        if self._next:
            target, self._next = self._next, ""
            return target
        passed = sorted(self.tally.passed.keys() - self._only_at_birth)
        if not passed or self._random.random() < AT_RANDOM:
            return ""
        least = min(self._aimed[label] for label in passed)
        target = self._random.choice([label for label in passed if self._aimed[label] == least])
        self._aimed[target] += 1
        before = leaves(target, self.tally.passed)
        if before:
            self._next = target
        return before or target

    def _begin(self, label: str = "", visit: int = 1) -> None:
        aside, journal = folder_for_journals(self._folder / "aside"), self._folder / "journal"
        journal.write_bytes(b"")
        self._started = False
        plan = Plan(str(self._state), str(journal), str(aside), label, visit)
        self._lives.begin(Beginning(str(self._config), str(self._log), plan))

    def _work(self, seconds: float, until: Callable[[], bool]) -> None:
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s and not until() and self._lives.ended(STEP_S) is None:
            self._listen()
            self._load.show_one()
            # Before its first subscription the broker keeps nothing for it.
            if self._started and self.promises.heard["online"]:
                self._load.order_something()

    def _after(self, *, cut: bool = False) -> set[str]:
        """Of the dead: what it said and wrote, the commit points it passed, which are returned; then the power cut."""
        self._listen()
        journal = self._folder / "journal"
        passed = unsynced.labels(journal)
        self.tally.passed.update(passed)
        if cut:
            self.tally.cuts += 1
            self.tally.lost.update(unsynced.lose(self._state, unsynced.read(journal), self._random))
            log = self._state / "predictions.jsonl"
            self._lines_at = min(self._lines_at, log.stat().st_size if log.exists() else 0)
        return set(passed)

    # ------------------------------------------------------------------------------------------------ looking

    def _listen(self) -> None:
        with suppress(queue.Empty):
            while True:
                self.promises.hear(self._operator.messages.get_nowait())
        for line in self._new_lines(self._state / "predictions.jsonl", "_lines_at"):
            with suppress(ValueError, KeyError):  # torn by a cut
                told = json.loads(line)
                self.promises.judged.add(told["origin"])
                if told.get("given") == KEPT:
                    self.promises.samples.add(told["sample_id"])
        for line in self._new_lines(self._log, "_log_at"):
            if is_damage(line):
                self.tally.corrupt.append(line[:500])
            if '"event": "started"' in line and not self._started:
                self._started = True
                self.tally.starts += 1
                self._check()

    def _new_lines(self, file: Path, place: str) -> list[str]:
        """Whole lines beyond what was read already, up to the attribute `place`."""
        if not file.exists():
            return []
        with file.open("rb") as opened:
            opened.seek(getattr(self, place))
            text = opened.read()
        whole = text.rfind(b"\n") + 1
        setattr(self, place, getattr(self, place) + whole)
        return text[:whole].decode(errors="replace").splitlines()

    def _check(self) -> None:
        found = look(self._state)
        self.tally.corrupt += found.corrupt
        if found.active is None:
            self.tally.no_active_model.append("; ".join(found.corrupt) or "the pointer names none")
        self.promises.check(found)


def leaves(label: str, passed: Collection[str]) -> str:
    """The commit point at which a kill leaves what is removed at `label`; "" where that is removed in any life."""
    kind, _, name = label.partition(" ")
    if kind not in ("remove", "rmdir") or ".tmp" not in name or "discarded" in name:
        return ""
    return next((before for how in ("sync", "sync folder", "link") if (before := f"{how} {name}") in passed), "")


def is_damage(line: str) -> bool:
    """Whether a line of the daemon's log says that something was broken. Leftovers that it removes are not."""
    try:
        told = json.loads(line)
    except ValueError:
        return "Traceback" in line
    event = told.get("event") if isinstance(told, dict) else None
    repaired = event == "model_store_repaired" and not str(told.get("what")).startswith("removed ")
    return event in DAMAGED or repaired


def together(lanes: Sequence[Lane]) -> Tally:
    """The tallies of all lanes as one."""
    whole = Tally()
    for tally in (lane.tally for lane in lanes):
        whole.kills, whole.starts, whole.cuts = (
            whole.kills + tally.kills,
            whole.starts + tally.starts,
            whole.cuts + tally.cuts,
        )
        whole.corrupt += tally.corrupt
        whole.no_active_model += tally.no_active_model
        whole.lost += tally.lost
        whole.hits += tally.hits
        whole.passed += tally.passed
    return whole
