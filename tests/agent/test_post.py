"""What comes over the link reaches who it is for, and nothing that comes ends the link's thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
from structlog.testing import LogCapture

from agent.adapters.inbox import Inbox
from agent.adapters.mqtt import Denied, Down, Received, TooLarge, Up
from agent.adapters.receipts import Receipt
from agent.core import events as ev
from agent.post import Post
from transfer import signing, wire

TOPICS = wire.Topics("understudy", "home", "cam")
NOW_UTC = 2_000_000_000.0


@dataclass
class Teacher:
    """Remembers what it was given, or fails as it is told."""

    fails: Exception | None = None
    taken: list[bytes] = field(default_factory=list)

    def take(self, payload: bytes) -> None:
        if self.fails:
            raise self.fails
        self.taken.append(payload)


@dataclass
class Announced:
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def event(self, kind: str, detail: dict[str, Any]) -> None:
        self.events.append((kind, detail))


class Scene:
    def __init__(self, folder: Path) -> None:
        self.operator = signing.generate(folder / "key")
        self.teacher, self.announced, self.log = Teacher(), Announced(), LogCapture()
        self.put: list[ev.Event] = []
        self.safe: list[Callable[[], None] | None] = []
        self.settled: list[Receipt] = []
        keys = (signing.public_key_hex(self.operator),)
        self.post = Post(
            TOPICS,
            Inbox(TOPICS, keys, now=lambda: 7.0, now_utc=lambda: NOW_UTC),
            self.teacher,  # type: ignore[arg-type]
            self.announced,  # type: ignore[arg-type]
            structlog.wrap_logger(None, processors=[self.log]),
            self._put,
            self.settled.append,
            lambda: 7.0,
        )

    def _put(self, event: ev.Event, safe: Callable[[], None] | None = None) -> None:
        self.put.append(event)
        self.safe.append(safe)

    def order(self) -> bytes:
        """What the operator signed: to roll back."""
        order = wire.DeviceCommand(
            id="c1", device="cam", action="rollback", issued_utc=NOW_UTC, expires_utc=NOW_UTC + 60
        )
        signature = signing.sign(self.operator, wire.signing_bytes(order))
        return wire.encode(msgspec.structs.replace(order, signature=signature))

    @property
    def logged(self) -> list[str]:
        return [entry["event"] for entry in self.log.entries]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_the_link_comes_and_goes_as_events(scene: Scene) -> None:
    scene.post.take(Up("MQTTv5"))
    scene.post.take(Down("the network"))
    assert scene.put == [ev.LinkCame(7.0), ev.LinkWent(7.0, "the network")]


def test_what_the_broker_will_not_take_is_said(scene: Scene) -> None:
    scene.post.take(Denied("a/b", 135, "not authorised"))
    scene.post.take(TooLarge("a/b", 500, 100))
    assert scene.logged == ["broker_denied", "message_too_large"] and not scene.put


def test_an_operators_order_becomes_an_event(scene: Scene) -> None:
    scene.post.take(Received(TOPICS.command, scene.order()))
    assert scene.put == [ev.RollbackOrdered(7.0, "c1")]


@pytest.mark.spec("7.1")
def test_the_broker_keeps_an_order_until_what_follows_from_it_is_durable(scene: Scene) -> None:
    receipt = Receipt(5)
    scene.post.take(Received(TOPICS.command, scene.order(), receipt))
    assert not scene.settled
    (safe,) = scene.safe
    assert safe is not None
    safe()
    assert scene.settled == [receipt]


@pytest.mark.parametrize("topic", [TOPICS.command, TOPICS.trigger, TOPICS.teacher_reply, "of somebody else"])
@pytest.mark.parametrize("fails", [None, OSError(28, "No space left"), KeyError("x")])
def test_what_is_no_order_the_broker_may_forget_at_once(scene: Scene, topic: str, fails: Exception | None) -> None:
    """Refused, it would be refused again; and an answer that was not stored is asked for again."""
    scene.teacher.fails, receipt = fails, Receipt(5)
    scene.post.take(Received(topic, b"nonsense", receipt))
    assert scene.settled == [receipt] and not scene.put


def test_a_refused_order_is_said_to_whoever_watches(scene: Scene) -> None:
    scene.post.take(Received(TOPICS.trigger, b"{}"))
    assert not scene.put
    ((kind, detail),) = scene.announced.events
    assert kind == "message_refused" and detail["topic"] == TOPICS.trigger


def test_the_teachers_answer_goes_to_who_asked(scene: Scene) -> None:
    scene.post.take(Received(TOPICS.teacher_reply, b"answer"))
    assert scene.teacher.taken == [b"answer"] and not scene.put


def test_a_full_disk_and_a_defect_do_not_end_the_thread(scene: Scene) -> None:
    for error, name in ((OSError(28, "No space left"), "answer_not_stored"), (KeyError("x"), "link_event_failed")):
        scene.teacher.fails = error
        scene.post.take(Received(TOPICS.teacher_reply, b"answer"))
        assert scene.logged[-1] == name
