"""With a broker what is said leaves through the gate and answers come in; without one there is nobody to ask."""

from __future__ import annotations

import queue
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
from tiny_world import World

from agent.adapters.egress import EgressDenied
from agent.adapters.inference import Served
from agent.announcer import Announcer
from agent.config import Config, ConfigError, Mqtt
from agent.core import events as ev
from agent.core.state import Models, State
from agent.home import Home
from agent.network import Network
from agent.storage import Storage
from demo.broker import Broker
from transfer import wire

TOPICS = wire.Topics("understudy", "home", "device")


class Scene:
    def __init__(self, folder: Path, config: Config) -> None:
        self.events: queue.Queue[ev.Event] = queue.Queue()
        self.storage = Storage(Home(folder), config)
        log = structlog.wrap_logger(None, processors=[structlog.testing.LogCapture()])
        state = State(models=Models(active=1))
        self.announcer = Announcer(config, TOPICS, 1, "ab" * 32, log, lambda: (state, Served(0, 0, 0, 0, 0.0)))
        self.network = Network(
            config, TOPICS, self.storage, folder / "teachers", self.announcer, log, self._put, lambda: 7.0
        )

    def _put(self, event: ev.Event, safe: Callable[[], None] | None = None) -> None:
        self.events.put(event)
        if safe is not None:
            safe()


def test_without_a_broker_there_is_no_link_and_nothing_fails(tmp_path: Path) -> None:
    scene = Scene(tmp_path, Config())
    scene.network.start()
    assert scene.network.link is None and scene.announcer.link is None
    scene.network.teacher.forget("job-000001")
    scene.network.close(scene.announcer.status(online=False))
    scene.storage.close()


def test_with_a_broker_it_comes_up_and_says_goodbye(tmp_path: Path, mosquitto: Broker) -> None:
    scene = Scene(tmp_path, Config(mqtt=Mqtt(host="127.0.0.1", port=mosquitto.port)))
    scene.network.start()
    assert scene.events.get(timeout=20) == ev.LinkCame(7.0)
    assert scene.announcer.link is scene.network.link is not None
    scene.network.close(scene.announcer.status(online=False))
    assert not scene.network.link.alive()
    scene.storage.close()


def test_no_image_passes_its_gate_in_the_local_mode(tmp_path: Path, world: World) -> None:
    scene = Scene(tmp_path, Config(mqtt=Mqtt(host="127.0.0.1")))
    request = wire.ActivationRequest(
        request_id="r1",
        reply_topic=TOPICS.teacher_reply,
        expires_utc=0.0,
        teacher="ab" * 32,
        sample_ids=("a",),
        images=(b"\x89PNG secret",),
        views=(0,),
        flip=True,
        blocks=(),
        pool=2,
    )
    assert scene.network.link is not None
    with pytest.raises(EgressDenied):
        scene.network.link.publish(request, TOPICS.teacher_request, durable_key="r1")
    assert scene.storage.outbox.size() == (0, 0)
    scene.storage.close()


def test_a_password_that_cannot_be_read_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mqtt\.password_file"):
        Scene(tmp_path, Config(mqtt=Mqtt(host="127.0.0.1", password_file=str(tmp_path / "nowhere"))))
