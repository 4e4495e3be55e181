"""A device without a clock of its own: it starts in 1970 and is set later, or jumps by years while it works."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from another_clock import AnotherClock
from certificates import make_certificate
from real_fleet import Fleet

from demo.broker import Broker
from demo.feed import accuracy
from transfer import wire

pytestmark = pytest.mark.e2e


@pytest.mark.spec("8.2")
@pytest.mark.timeout(400)
def test_a_round_begun_in_1970_while_the_clock_jumps_by_years_either_way(
    mosquitto: Broker, make_fleet: Callable[..., Fleet], tmp_path: Path
) -> None:
    """The trigger, the teacher, the trainer, the swap and the probation, each in another year."""
    clock = AnotherClock(tmp_path)
    fleet = make_fleet(mosquitto, training={"threads": 1, "nice": 0, "teacher_timeout_s": 4.0})
    fleet.agent_under = clock.under
    clock.set(1970)
    worker = fleet.start_worker()
    agent = fleet.start_agent()
    status = fleet.hear(lambda m: isinstance(m, wire.Status) and m.online)
    assert status.at_utc < 86_400, "the device is not in 1970, and this test shows nothing"
    images = fleet.images(fleet.new, test=False)[:120]
    names = fleet.drop("new", fleet.new, images[:60])
    fleet.await_served(names)
    clock.set(2090)
    names += fleet.drop("new", fleet.new, images[60:])
    fleet.await_served(names)
    clock.set(1970)  # so that the trigger is not refused as long expired
    kept = sum(said.kept for said in fleet.feed.of_stage("new"))
    fleet.trigger(int(kept * 0.8))
    fleet.hear(phase("awaiting_teacher"))
    worker.wait_for('"answered"', 60)  # though by its date the question expired in 1970
    clock.set(2001)
    fleet.hear(phase("training"))
    clock.set(2090)
    fleet.hear(lambda m: isinstance(m, wire.Event) and m.kind == "swapped")
    clock.set(1999)
    fleet.keep_feeding()
    ending = fleet.await_end()
    assert ending.state == "SUCCEEDED", ending
    clock.right()
    tested = fleet.drop("tested", fleet.new, fleet.images(fleet.new, test=True)[:60])
    fleet.await_served(tested)
    assert accuracy(fleet.feed.of_stage("tested")) >= 0.7
    assert len(fleet.feed.said) == fleet.feed.dropped_in, "an image was dropped"
    assert fleet.status()["link"] == "5" and fleet.starts == 1
    agent.check()
    log = [json.loads(line) for line in agent.log.read_text().splitlines() if line.startswith("{")]
    assert not [line for line in log if line["level"] == "error"]
    assert sum(line["event"] == "link_up" for line in log) == 1, "no jump took the link for dead"


@pytest.mark.spec("8.2")
@pytest.mark.timeout(400)
def test_before_its_clock_is_set_a_device_trusts_no_certificate_and_says_why(
    start_mosquitto: Callable[..., Broker], make_fleet: Callable[..., Fleet], tmp_path: Path, free_port: int
) -> None:
    """Images are classified all the while; when the clock is set, the link comes up by itself."""
    clock = AnotherClock(tmp_path)
    this_year = time.gmtime().tm_year
    key, certificate = make_certificate(tmp_path, f"{this_year - 1}0101000000Z", f"{this_year + 2}0101000000Z")
    broker = start_mosquitto(f"listener {free_port} 127.0.0.1", f"certfile {certificate}", f"keyfile {key}")
    fleet = make_fleet(broker, mqtt={"port": free_port, "tls": True, "ca_file": str(certificate)})
    fleet.agent_under = clock.under
    clock.set(1970)
    agent = fleet.start_agent(awaiting='"link_down"')
    reason = next(json.loads(line)["reason"] for line in agent.log.read_text().splitlines() if '"link_down"' in line)
    assert "not yet valid; this device's clock says 19" in reason and "set it (NTP)" in reason
    fleet.await_served(fleet.drop("early", "two", fleet.images("two", test=True)[:5]))
    clock.right()
    agent.wait_for('"link_up"', 60)


def phase(name: str) -> Callable[[object], bool]:
    return lambda message: isinstance(message, wire.Status) and message.phase == name
