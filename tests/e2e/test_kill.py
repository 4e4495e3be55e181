"""SIGKILL at the worst moment: the round goes on from its checkpoint, and nothing acknowledged is lost."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from real_fleet import NEW, Fleet

from demo.broker import Broker
from transfer import wire

pytestmark = pytest.mark.e2e


def trainers() -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if "agent.trainer" in (p.info["cmdline"] or [])]


@pytest.mark.timeout(240)
def test_a_killed_agent_resumes_its_training(mosquitto: Broker, make_fleet: Callable[..., Fleet]) -> None:
    # Enough epochs that the kill comes in the middle; the learning rate is spread over as many.
    fleet = make_fleet(mosquitto, training={"threads": 1, "nice": 0, "epochs": 60, "learning_rate": 1e-3})
    fleet.start_worker()
    agent = fleet.start_agent()
    train = fleet.images(NEW, test=False)
    fleet.await_served(fleet.drop("new", NEW, train))
    wanted = int(sum(said.novel for said in fleet.feed.of_stage("new")) * 0.8)
    before = sample_ids(fleet.state / "samples.db")
    fleet.trigger(wanted)
    fleet.hear(in_training(at_least=3))
    mine = [p for p in trainers() if str(fleet.state) in " ".join(p.info["cmdline"])]
    assert len(mine) == 1
    os.kill(agent.process.pid, signal.SIGKILL)
    agent.process.wait()
    _gone, alive = psutil.wait_procs(mine, timeout=10)
    assert not alive, "the trainer outlived its daemon"
    assert before <= sample_ids(fleet.state / "samples.db"), "an acknowledged sample was lost"
    assert (fleet.state / "jobs" / "job-000001" / "checkpoint.safetensors").exists()
    fleet.children.remove(agent)

    time.sleep(0.2)
    while not fleet.operator.messages.empty():
        fleet.operator.messages.get()
    fleet.start_agent()
    first = fleet.hear(in_training(at_least=0))
    assert first.detail["done"] >= 3, "training began anew instead of from its checkpoint"
    fleet.hear(lambda m: isinstance(m, wire.Event) and m.kind == "swapped")
    fleet.keep_feeding()
    ending = fleet.await_end()
    assert ending.state == "SUCCEEDED", ending
    assert ending.trigger_id == "trigger-1" and ending.generation == 2
    assert fleet.status()["generation"] == 2


def in_training(at_least: int) -> Callable[[object], bool]:
    def is_it(message: object) -> bool:
        if not isinstance(message, wire.Event) or message.kind != "progress":
            return False
        return message.detail["stage"] == "train" and int(message.detail["done"] or 0) >= at_least

    return is_it


def sample_ids(path: Path) -> set[str]:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        return {row[0] for row in db.execute("SELECT sample_id FROM sample")}
