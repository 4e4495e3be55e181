"""The main job with real processes and real brokers: from images nobody knows to a model that names them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from real_fleet import NEW, ROOT, Fleet, learn

from demo.broker import Broker
from transfer import wire

pytestmark = pytest.mark.e2e


@pytest.mark.timeout(240)
def test_the_demo_on_a_real_mosquitto(mosquitto: Broker, cache: Path, models: object) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "understudy", "demo", "--json", "--cache", str(cache)],
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["ok"] is True
    assert told["new_before"] == 0.0 and told["new_after"] >= 0.90
    assert told["old_after"] >= told["old_before"] - 0.02
    assert told["dropped_frames"] == 0 and told["frames"] > 900
    assert 0 < told["bytes_per_image"] < 20_000
    for key in ("round_s", "swap_gap_ms"):
        assert told[key] > 0
    assert "hot swap to generation 2" in ran.stderr


@pytest.mark.timeout(180)
def test_the_loop_on_a_broker_that_speaks_3_1_1_only(amqtt_broker: Broker, make_fleet: Callable[..., Fleet]) -> None:
    """Nothing depends on MQTT 5: no shared subscriptions, no properties. The teacher comes in chunks."""
    fleet = make_fleet(amqtt_broker, privacy={"mode": "teacher_download", "consent_to_upload": False})
    fleet.start_worker()
    fleet.start_agent()
    learn(fleet)
    assert fleet.status()["link"] == "3.1.1"


@pytest.mark.timeout(120)
@pytest.mark.spec("18.5")
def test_a_device_says_that_something_new_has_begun_to_arrive(
    amqtt_broker: Broker, make_fleet: Callable[..., Fleet]
) -> None:
    """Nobody has asked for anything, and no image leaves."""
    fleet = make_fleet(
        amqtt_broker,
        privacy={"mode": "local", "consent_to_upload": False, "share_predictions": False},
        novelty={"group_images": 50},
    )
    fleet.start_agent()
    for label in ("one", "two", "three", "four", "five"):
        fleet.await_served(fleet.drop("known", label, fleet.images(label, test=True)[:10]))
    assert fleet.status()["noticed"] is None
    fleet.await_served(fleet.drop("new", fleet.new, fleet.images(fleet.new, test=False)[:50]))
    event = fleet.hear(lambda m: isinstance(m, wire.Event) and m.kind == "something_new", 30)
    assert event.detail["images"] == 50 and event.detail["novel"] > 25 and event.detail["chance"] <= 0.01
    status = fleet.status()
    assert status["noticed"]["novel"] == event.detail["novel"] and status["phase"] == "idle"


@pytest.mark.timeout(180)
def test_rollback_gives_the_former_model_back(mosquitto: Broker, make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(
        mosquitto,
        privacy={"mode": "local", "consent_to_upload": False, "share_predictions": False},
        training={"tier": "head"},
    )
    agent = fleet.start_agent()
    first = (fleet.state / "models" / "generations" / "000001" / "manifest.json").read_bytes()
    learn(fleet)
    assert fleet.status()["generation"] == 2
    ordered = fleet.command("rollback")
    assert ordered.returncode == 0, ordered.stderr
    fleet.hear(lambda m: isinstance(m, wire.Event) and m.kind == "rolled_back")
    status = fleet.status()
    assert status["generation"] == 1 and NEW not in status["labels"]
    assert (fleet.state / "models" / "generations" / "000001" / "manifest.json").read_bytes() == first
    names = fleet.drop("back", "two", fleet.images("two", test=True)[:5])
    fleet.await_served(names)
    assert all(said.generation == 1 for said in fleet.feed.of_stage("back"))
    agent.stop()
    assert agent.process.returncode == 0
