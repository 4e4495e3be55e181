"""Under Termux's own service script, in a real runit: daemon and trainer killed at once, as Android does it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from real_fleet import NEW, Fleet

from agent.install import termux
from agent.install.program import ROOT, Program
from agent.install.steps import Write, carry_out
from demo.broker import Broker
from transfer import wire

pytestmark = [pytest.mark.e2e, pytest.mark.spec("13.2")]

PREFIX = Path(termux.PREFIX)


@pytest.fixture
def runit() -> Iterator[Callable[[Fleet], subprocess.Popen[bytes]]]:
    """runit(fleet): the service that `install --termux` makes, with this machine's shell, under runsv."""
    if shutil.which("runsv") is None:
        pytest.skip("runit is not installed: apt install runit")
    started: list[subprocess.Popen[bytes]] = []

    def start(fleet: Fleet) -> subprocess.Popen[bytes]:
        program = Program((sys.executable, "-m", "understudy"), str(ROOT))
        steps = termux.plan(program, fleet.config, prefix=PREFIX, home=Path("/home"), root=fleet.scene, start=True)
        for step in steps:
            assert isinstance(step, Write)
            carry_out(step)
        service = termux.service_folder(PREFIX, fleet.scene)
        logs = fleet.scene / "logs"
        for script in (service / "run", service / "finish", service / "log/run"):
            text = script.read_text().replace(termux.SHEBANG, "#!/bin/sh")
            script.write_text(text.replace(str(PREFIX / "var/log/sv" / termux.SERVICE), str(logs)))
        started.append(subprocess.Popen(["runsv", service], env={**os.environ, "UNDERSTUDY_RESTART_S": "0"}))
        return started[-1]

    yield start
    for runsv in started:
        runsv.terminate()  # tells the daemon, and ends after it
        try:
            runsv.wait(30)
        finally:
            runsv.kill()


def descendants(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The daemon and what it has started; not svlogd, which Android would kill, too, and runit start again."""
    found = psutil.Process(process.pid).children(recursive=True)
    return [child for child in found if "python" in child.name()]


@pytest.mark.timeout(300)
def test_killed_with_its_trainer_it_comes_back_by_itself_and_goes_on(
    mosquitto: Broker, make_fleet: Callable[..., Fleet], runit: Callable[[Fleet], subprocess.Popen[bytes]]
) -> None:
    # Without a teacher, and enough epochs that the kill comes in the middle.
    training = {"threads": 1, "nice": 0, "epochs": 30, "learning_rate": 1e-3, "tier": "sparse", "attempts": 6}
    fleet = make_fleet(mosquitto, training=training, privacy={"mode": "local", "share_predictions": False})
    runsv = runit(fleet)
    train = fleet.images(NEW, test=False)
    fleet.await_served(fleet.drop("new", NEW, train))
    fleet.trigger(int(sum(said.novel for said in fleet.feed.of_stage("new")) * 0.8))
    fleet.hear(in_training(at_least=3))
    killed = descendants(runsv)
    assert len(killed) >= 2, "daemon and trainer"
    for process in killed:
        process.send_signal(signal.SIGKILL)
    psutil.wait_procs(killed, timeout=10)
    while not fleet.operator.messages.empty():
        fleet.operator.messages.get()

    first = fleet.hear(in_training(at_least=0))
    assert first.detail["done"] >= 3, "training began anew instead of from its checkpoint"
    fleet.hear(lambda m: isinstance(m, wire.Event) and m.kind == "swapped")
    fleet.keep_feeding()
    ending = fleet.await_end()
    assert ending.state == "SUCCEEDED" and ending.generation == 2, ending
    logged = (fleet.scene / "logs" / "current").read_text()
    assert logged.count('"started"') == 2, "the log says both lives"


def in_training(at_least: int) -> Callable[[object], bool]:
    def is_it(message: object) -> bool:
        if not isinstance(message, wire.Event) or message.kind != "progress":
            return False
        return message.detail["stage"] == "train" and int(message.detail["done"] or 0) >= at_least

    return is_it
