"""Real daemons that hit their limits: a trainer that hangs, too many failed rounds, a disk below its floor."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from real_fleet import NEW, Fleet

from demo.broker import Broker
from demo.processes import Child
from transfer import wire

pytestmark = pytest.mark.e2e


def until(condition: Callable[[], Any], timeout_s: float = 60, every_s: float = 0.2) -> Any:
    end_s = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end_s, "it did not come about in time"
        time.sleep(every_s)
    return found


def its_trainer(agent: Child) -> psutil.Process | None:
    children = psutil.Process(agent.process.pid).children()
    return next((child for child in children if "agent.trainer" in child.cmdline()), None)


def job(fleet: Fleet, identity: str, state: str) -> wire.JobUpdate:
    found: wire.JobUpdate = fleet.hear(
        lambda m: isinstance(m, wire.JobUpdate) and m.trigger_id == identity and m.state == state
    )
    return found


@pytest.mark.spec("11.3", "10.6", "16.3")
@pytest.mark.timeout(240)
def test_a_hang_fails_the_round_and_stops_further_ones_until_an_operator_resumes(
    mosquitto: Broker, make_fleet: Callable[..., Fleet]
) -> None:
    training = {"tier": "head", "threads": 1, "nice": 0, "hang_s": 5, "attempts": 1, "failures": 1}
    fleet = make_fleet(mosquitto, training=training)
    agent = fleet.start_agent()
    fleet.drop_labelled("new", NEW, fleet.images(NEW, test=False)[:60])
    until(lambda: fleet.status()["samples"] >= 50)

    fleet.trigger(50, "first")
    trainer = until(lambda: its_trainer(agent), every_s=0.01)
    os.kill(trainer.pid, signal.SIGSTOP)  # what a hang looks like from outside
    assert "hung and was killed" in job(fleet, "first", "FAILED").detail
    assert not trainer.is_running()

    fleet.trigger(50, "second")
    assert "a round has failed, none is begun until `understudy agent resume`" in job(fleet, "second", "QUEUED").detail
    os.kill(agent.process.pid, signal.SIGKILL)
    agent.process.wait()
    fleet.children.remove(agent)
    fleet.start_agent()  # a restart is no reason to try again
    status = until(lambda: (found := fleet.status())["reason"].startswith("a round has failed") and found)
    assert status["phase"] == "idle" and "until `understudy agent resume`" in status["reason"]
    assert "hung and was killed" in status["reason"] and status["waiting_triggers"] == [[NEW]]

    assert fleet.command("resume").returncode == 0
    fleet.hear(lambda m: isinstance(m, wire.Event) and m.kind == "rounds_resumed")
    fleet.hear(lambda m: isinstance(m, wire.Event) and m.kind == "swapped")
    fleet.keep_feeding()
    assert job(fleet, "second", "SUCCEEDED").generation == 2


@pytest.mark.spec("5.3", "16.3")
@pytest.mark.timeout(240)
def test_below_the_floor_of_the_disk_every_image_is_classified_and_nothing_stored(
    mosquitto: Broker, make_fleet: Callable[..., Fleet]
) -> None:
    budget = {"max_cpu_percent": 100.0, "min_available_mib": 50.0, "min_disk_free_mib": 1e9, "sample_s": 0.5}
    fleet = make_fleet(mosquitto, budget=budget)
    fleet.start_agent()
    told = fleet.hear(lambda m: isinstance(m, wire.Event) and m.kind == "writes_suspended")
    assert "free disk" in told.detail["reason"] and "below 1000000000 MiB" in told.detail["reason"]
    fleet.drop_labelled("new", NEW, fleet.images(NEW, test=False)[:30])
    (fleet.inbox / "broken.png").write_bytes(b"no image")
    status = until(
        lambda: (found := fleet.status())["frames"] == 30 and found["not_written"].get("quarantined") and found
    )
    assert status["not_written"] == {"samples": 30, "predictions": 30, "quarantined": 1}
    assert status["samples"] == 0 and "free disk" in status["sparing"]
    assert not (fleet.state / "predictions.jsonl").exists() and not list((fleet.state / "quarantine").glob("*"))
    fleet.trigger(20, "first")
    job(fleet, "first", "QUEUED")  # orders are obeyed and written down
    until(lambda: "keeping no samples: free disk" in fleet.status()["reason"])


@pytest.mark.spec("6.1", "6.2")
@pytest.mark.timeout(240)
def test_beyond_a_days_bytes_the_card_is_spared_also_after_a_restart(
    mosquitto: Broker, make_fleet: Callable[..., Fleet]
) -> None:
    fleet = make_fleet(mosquitto, budget={"max_written_mib_a_day": 1.0})

    def recorded(count: int) -> dict[str, Any] | None:
        """The status when so many images were recorded, on the card or by number only."""
        status, log = fleet.status(), fleet.state / "predictions.jsonl"
        lines = len(log.read_text().splitlines()) if log.exists() else 0
        return status if lines + status["not_written"].get("predictions", 0) == count else None

    agent = fleet.start_agent()
    train = fleet.images(NEW, test=False)
    fleet.drop_labelled("new", NEW, train[:100])  # a start writes its databases; a sample some more
    until(lambda: recorded(100))
    status = until(lambda: (found := fleet.status())["reading"]["disk_free_mib"] and found)
    if not status["reading"]["written_today_mib"]:
        pytest.skip(f"{fleet.state} lies on no disk that the kernel counts (tmpfs?): use --basetemp on a disk")
    status = until(lambda: (found := fleet.status())["sparing"] and found)
    assert "written in a day" in status["sparing"] and status["reading"]["written_today_mib"] > 1.0
    before = status["not_written"]
    fleet.drop_labelled("more", NEW, train[100:120])
    after = until(lambda: recorded(120))
    assert after["not_written"]["predictions"] == before.get("predictions", 0) + 20
    assert after["not_written"]["samples"] > before.get("samples", 0) and after["samples"] == status["samples"]
    agent.stop()
    fleet.children.remove(agent)
    fleet.start_agent()
    assert "written in a day" in until(lambda: fleet.status()["sparing"])
