"""Rounds over networks as they are: lost packets, partitions, brokers that die, acknowledgements that never come."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import mqtt_packets
import pytest
from bad_road import BadRoad, open_road
from real_fleet import Fleet
from tcp_tap import Direction, TcpTap

from demo.broker import Broker
from demo.feed import accuracy
from demo.processes import Child
from transfer import wire

pytestmark = pytest.mark.e2e

Start = Callable[..., Broker]
Make = Callable[..., Fleet]


@pytest.fixture
def road() -> Iterator[BadRoad]:
    opened = open_road()
    yield opened
    opened.close()


@pytest.mark.spec("2.4", "3.1")
@pytest.mark.timeout(400)
def test_a_round_with_a_third_of_the_packets_lost_and_across_a_partition(
    road: BadRoad, start_mosquitto: Start, make_fleet: Make, free_port: int
) -> None:
    broker = start_mosquitto(f"listener {free_port} {road.here}")
    fleet = make_fleet(broker, mqtt={"host": road.here, "port": free_port, "keepalive_s": 3}, training=ASK_SOON)
    fleet.agent_under = road.under
    fleet.start_worker()
    agent = fleet.start_agent()
    begin(fleet, lambda: road.lose(30))
    road.lose(100)
    agent.wait_for('"link_down"', 60)  # by our echo or by MQTT's ping, whichever is first
    road.lose(30)
    ended(fleet)
    assert road.lost()


@pytest.mark.spec("2.4")
@pytest.mark.timeout(400)
def test_a_round_over_a_broker_that_is_killed_and_forgets_everything(start_mosquitto: Start, make_fleet: Make) -> None:
    broker = start_mosquitto()
    fleet = make_fleet(broker, training=ASK_SOON)
    fleet.start_worker()
    agent = fleet.start_agent()
    begin(fleet)
    broker.process.kill()
    broker.process.wait()
    agent.wait_for('"link_down"', 30)
    start_mosquitto(port=broker.port)
    ended(fleet)


@pytest.mark.spec("2.2", "2.4")
@pytest.mark.timeout(400)
def test_one_round_though_all_is_doubled_and_acknowledgements_are_lost(
    mosquitto: Broker, make_fleet: Make, tcp_tap: Callable[..., TcpTap]
) -> None:
    """Every message that is to arrive comes twice, either way; of its acknowledgements every other one is lost; and
    the line is cut in the middle. One trigger is one round, one question costs the teacher one answer."""
    tap = tcp_tap(mosquitto.port, Twice())
    fleet = make_fleet(mosquitto, agent_port=tap.port, mqtt={"keepalive_s": 2}, training=ASK_SOON)
    worker = fleet.start_worker()
    fleet.start_agent()
    begin(fleet)
    tap.cut()
    ended(fleet)
    assert tap.connections >= 2
    status = fleet.status()
    assert (status["generation"], status["previous"]) == (2, 1)
    log = lines(fleet.children[-1])
    assert sum(line["event"] == "job" and line["state"] == "SUCCEEDED" for line in log) == 1
    worker.stop()
    told = next(line for line in lines(worker) if line["event"] == "stopped")
    asked = {line["request_id"] for line in lines(worker) if line["event"] == "answered"}
    assert told["requests"] == len(asked) and told["repeats"] > 0


ASK_SOON = {"threads": 1, "nice": 0, "teacher_timeout_s": 4.0, "teacher_attempts": 20}


class Twice:
    """What is changed on the way: see the test."""

    def __init__(self) -> None:
        self._acknowledgements = 0

    def __call__(self, direction: Direction, packet: bytes) -> Iterable[bytes]:
        if mqtt_packets.is_acknowledged(packet):
            return packet, packet
        if mqtt_packets.kind(packet) == mqtt_packets.PUBACK and direction == "down":
            self._acknowledgements += 1
            return (packet,) if self._acknowledgements % 2 else ()
        return (packet,)


def begin(fleet: Fleet, when_noticed: Callable[[], None] = lambda: None) -> None:
    """New images and a trigger; returns when the teacher is being asked."""
    new = fleet.images(fleet.new, test=False)[:120]
    fleet.await_served(fleet.drop("new", fleet.new, new))
    kept = sum(said.kept for said in fleet.feed.of_stage("new"))
    when_noticed()
    fleet.trigger(int(kept * 0.8))
    fleet.hear(lambda m: isinstance(m, wire.Status) and m.phase == "awaiting_teacher")


def ended(fleet: Fleet) -> None:
    """The round ends as it would have; images were classified all the while, none was lost."""
    heard: list[Any] = []
    fleet.hear(lambda m: heard.append(m) or (isinstance(m, wire.Event) and m.kind == "swapped"), 120)
    fleet.keep_feeding()
    fleet.hear(lambda m: heard.append(m) or (isinstance(m, wire.JobUpdate) and m.state == "SUCCEEDED"), 60)
    known = Counter((m.session, m.seq) for m in heard if isinstance(m, wire.Event) and m.kind != "progress")
    assert known, "events have ids by which whoever hears them knows those that come again"
    tested = fleet.drop("tested", fleet.new, fleet.images(fleet.new, test=True)[:60])
    fleet.await_served(tested)
    assert accuracy(fleet.feed.of_stage("tested")) >= 0.7
    assert len(fleet.feed.said) == fleet.feed.dropped_in, "an image was dropped"


def lines(child: Child) -> list[dict[str, Any]]:
    found = (json.loads(line) for line in child.log.read_text().splitlines() if line.startswith("{"))
    return [line for line in found if isinstance(line, dict)]
