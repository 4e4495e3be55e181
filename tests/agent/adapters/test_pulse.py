"""The watchdog's food against a real datagram socket, as systemd holds one."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import pytest

from agent.adapters.journal import open_journal
from agent.adapters.pulse import SILENCE_S, Pulse, silence_s
from transfer.notify import Notifier

pytestmark = pytest.mark.spec("17.1")


class Chain:
    """Parts that can be made to fail, and a clock that is turned by hand."""

    def __init__(self, listener: socket.socket, notifier: Notifier) -> None:
        self.listener, self.notifier = listener, notifier
        self.at_work = {"source": True, "inference": True, "recorder": True}
        self.now = 100.0

    @cached_property
    def pulse(self) -> Pulse:
        """Made by the test: the log writes to what standard error is when it is opened."""
        log = open_journal("info", "json")
        return Pulse(self.notifier, {part: self.sign(part) for part in self.at_work}, log, lambda: self.now)

    def sign(self, part: str) -> Callable[[], bool]:
        return lambda: self.at_work[part]

    def told(self) -> list[bytes]:
        heard: list[bytes] = []
        while True:
            try:
                heard.append(self.listener.recv(1000))
            except BlockingIOError:
                return heard


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        yield Chain(listener, Notifier(str(tmp_path / "notify"), 60.0))


def test_each_beat_feeds_while_every_part_is_at_work(chain: Chain) -> None:
    chain.pulse.beat()
    chain.pulse.beat()
    assert chain.told() == [b"WATCHDOG=1", b"WATCHDOG=1"]


@pytest.mark.parametrize("part", ["source", "inference", "recorder"])
def test_one_missing_part_is_enough_to_starve_it(chain: Chain, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    chain.at_work[part] = False
    for _ in range(3):
        chain.pulse.beat()
    assert chain.told() == [f"STATUS=not serving: {part}".encode()]
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert not chain.pulse.serving()
    assert [(line["event"], line["missing"]) for line in lines] == [("not_serving", [part])], "said once"
    chain.at_work[part] = True
    chain.pulse.beat()
    assert chain.told() == [b"STATUS=serving", b"WATCHDOG=1"]


def test_a_loop_that_hangs_is_seen_from_outside(chain: Chain) -> None:
    chain.pulse.beat()
    chain.now += SILENCE_S - 1
    assert chain.pulse.serving()
    chain.now += 2
    assert not chain.pulse.serving()


@pytest.mark.parametrize(("watchdog_s", "silent_s"), [(None, 30.0), (60.0, 30.0), (20.0, 10.0), (1.0, 2.0)])
def test_a_part_may_be_silent_for_half_of_what_systemd_waits(watchdog_s: float | None, silent_s: float) -> None:
    assert silence_s(Notifier(None, watchdog_s)) == silent_s
