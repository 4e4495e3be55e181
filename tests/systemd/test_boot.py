"""Our units under a real systemd that was booted for it: ready, watched, confined, drained, brought back."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tiny_world
import yaml
from machine import Machine, Unit, why_not
from tiny_world import NEW, OLD, World

from transfer import signing
from transfer.preprocess import encode_png

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),  # the first one may have to make the base
    pytest.mark.skipif(why_not() != "", reason=why_not()),
]

STATE = "/var/lib/understudy"
CONFIG = "/etc/understudy/agent.yaml"
IMAGES = "/srv/images"
COME_BACK_S = 60.0
XNNPACK = "INFO: Created TensorFlow Lite XNNPACK delegate for CPU."
"""LiteRT says this once a start, past every logger; all else is ours."""
PROBE = """
import json, os, pathlib, socket
def tried(do):
    try:
        do()
        return "done"
    except OSError as error:
        return os.strerror(error.errno)
def write(path):
    return tried(lambda: pathlib.Path(path).write_text("x"))
group = pathlib.Path("/sys/fs/cgroup/system.slice/understudy-probe.service")
def own_group():
    (group / "trainer").mkdir()
    (group / "trainer" / "cgroup.procs").write_text(str(os.getpid()))
print(json.dumps({
    "uid": os.getuid(),
    "/usr": write("/usr/x"),
    "/etc/understudy": write("/etc/understudy/x"),
    "state": write(os.environ["STATE_DIRECTORY"] + "/x"),
    "/tmp": write("/tmp/x"),
    "home": tried(lambda: os.listdir("/root")),
    "kernel": write("/proc/sys/kernel/hostname"),
    "other group": tried(lambda: (group.parent / "x").mkdir()),
    "own group": tried(own_group),
    "name": socket.getaddrinfo("localhost", 1883)[0][4][0],
    "nice": tried(lambda: os.setpriority(os.PRIO_PROCESS, 0, 10)),
    "others": sorted(p.name for p in pathlib.Path("/proc").iterdir() if p.name == "1"),
    "devices": sorted(p.name for p in pathlib.Path("/dev").iterdir() if p.is_block_device()),
}))
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return tiny_world.make(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def machine(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    for path in (world.folder, *world.folder.rglob("*")):  # a dynamic user has to read it
        path.chmod(0o755 if path.is_dir() else 0o644)
    signing.generate(world.folder / "operator.key")
    booted = Machine(world.folder, tmp_path_factory.mktemp("log") / "machine.log")
    yield booted
    booted.close()


@pytest.fixture
def agent(machine: Machine, world: World) -> Iterator[Unit]:
    """Installed with a configuration, no state and no images; its waits shortened."""
    unit = Unit(machine, "understudy-agent")
    configure(machine, world)
    unit.change("RestartSec=1")
    yield unit
    machine.run("systemctl", "stop", unit.name, check=False)
    machine.run("rm", "-rf", "/var/lib/private/understudy", STATE, IMAGES)
    machine.run("systemctl", "reset-failed", check=False)


def configure(machine: Machine, world: World, **sections: dict[str, Any]) -> None:
    operator = signing.public_key_hex(signing.load_key(world.folder / "operator.key"))
    document: dict[str, Any] = {
        "device": {"name": "edge-1", "fleet": "home"},
        "source": {"folder": IMAGES, "folder_labels": True},
        "model": {"bundle": "/srv/scene/student", "trusted_keys": [world.public]},
        "mqtt": {"host": "localhost", "operator_keys": [operator]},
        "budget": {"max_cpu_percent": 100.0, "min_available_mib": 50.0, "max_load_per_core": 100.0, "sample_s": 0.5},
    }
    machine.path("/etc/understudy").mkdir(exist_ok=True)
    machine.path(IMAGES).mkdir(exist_ok=True)
    machine.path(CONFIG).write_text(yaml.safe_dump(document | sections))


def drop(machine: Machine, label: str, count: int, seed: int) -> None:
    """Made beside and moved in: half a file is no image."""
    folder, beside = machine.path(f"{IMAGES}/{label}"), machine.path("/srv/new.png")
    folder.mkdir(exist_ok=True)
    for number, image in enumerate(tiny_world.images(label, count, seed)):
        beside.write_bytes(encode_png(image))
        beside.rename(folder / f"{seed}-{number}.png")


def await_served(machine: Machine, count: int) -> list[dict[str, Any]]:
    path = machine.path("/var/lib/private/understudy/predictions.jsonl")

    def lines() -> list[str]:
        return path.read_text().splitlines() if path.exists() else []

    machine.until(lambda: len(lines()) >= count, COME_BACK_S, f"{count} images were not classified")
    return [json.loads(line) for line in lines()]


def status(machine: Machine) -> dict[str, Any]:
    told = machine.run("/opt/understudy/bin/understudy", "agent", "status", "--json", "--config", CONFIG, check=False)
    return dict(json.loads(told.stdout))


@pytest.mark.spec("17.1")
def test_started_means_serving_as_nobody_and_seen_by_nobody(machine: Machine, agent: Unit) -> None:
    agent.start()
    assert (agent.shows("ActiveState"), agent.shows("SubState")) == ("active", "running")
    drop(machine, OLD[0], 3, seed=1)
    assert {line["label"] for line in await_served(machine, 3)} == {OLD[0]}
    state = machine.path("/var/lib/private/understudy")
    assert state.stat().st_mode & 0o777 == 0o700
    owner = state.stat().st_uid
    assert owner >= 61184, "not one of systemd's dynamic users (0xEF00 and up)"
    assert {path.stat().st_uid for path in state.rglob("*")} == {owner}
    assert all(path.stat().st_mode & 0o077 == 0 for path in state.rglob("*") if path.is_file())
    assert f"\nUid:\t{owner}\t" in machine.path(f"/proc/{agent.main_pid}/status").read_text()
    assert status(machine)["serving"] is True
    for line in agent.journal():
        if line == XNNPACK:
            continue
        assert line.startswith("{") and json.loads(line)["event"], line


@pytest.mark.spec("17.1")
def test_a_daemon_that_hangs_is_killed_and_serves_again(machine: Machine, agent: Unit) -> None:
    agent.change("RestartSec=1", "WatchdogSec=5")
    agent.start()
    first = agent.main_pid
    machine.run("kill", "-STOP", str(first))
    machine.until(lambda: agent.shows("NRestarts") == "1", COME_BACK_S, "the watchdog did not bite")
    machine.until(lambda: agent.shows("SubState") == "running", COME_BACK_S, "it did not come back")
    assert agent.main_pid != first
    said = "\n".join(agent.journal(f"--unit={agent.name}"))
    assert "Watchdog timeout" in said and "Fatal Python error: Aborted" in said, "the stacks are not in the journal"
    drop(machine, OLD[1], 1, seed=2)
    await_served(machine, 1)


@pytest.mark.spec("13.2")
def test_killed_with_all_its_children_it_comes_back_by_itself(machine: Machine, agent: Unit) -> None:
    agent.start()
    machine.run("systemctl", "kill", "--kill-whom=all", "--signal=SIGKILL", agent.name)
    machine.until(lambda: agent.shows("NRestarts") == "1", COME_BACK_S, "it was not started again")
    machine.until(lambda: agent.shows("SubState") == "running", COME_BACK_S, "it did not come back")
    drop(machine, OLD[2], 1, seed=3)
    await_served(machine, 1)


@pytest.mark.spec("17.1", "11.2")
def test_what_the_unit_lets_a_process_do(machine: Machine, agent: Unit) -> None:
    """A process in the agent's place tries it all."""
    unit = machine.path("/etc/systemd/system/understudy-probe.service")
    lines = [
        line
        for line in machine.path(str(agent.own)).read_text().splitlines()
        if not line.startswith(("Type=", "ExecStart=", "WatchdogSec=", "Restart=", "StateDirectory=", "NotifyAccess="))
    ]
    own = ["Type=exec", "StateDirectory=understudy-probe", "ExecStart=/usr/bin/python3 /opt/probe.py"]
    unit.write_text("\n".join(lines).replace("[Service]", "\n".join(["[Service]", *own])))
    machine.path("/opt/probe.py").write_text(PROBE)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "understudy-probe")
    probe = ["--unit=understudy-probe", "_TRANSPORT=stdout"]
    machine.until(lambda: len(agent.journal(*probe)) > 0, 20, "the probe said nothing")
    found = json.loads(agent.journal(*probe)[-1])
    assert found.pop("uid") >= 61184
    assert found == {
        "/usr": "Read-only file system",
        "/etc/understudy": "Permission denied",
        "state": "done",
        "/tmp": "done",
        "home": "Permission denied",
        "kernel": "Read-only file system",
        "other group": "Read-only file system",
        "own group": "done",  # Delegate= and ReadWritePaths=: the trainer gets limits of its own
        "name": "127.0.0.1",
        "nice": "done",
        "others": [],
        "devices": [],
    }
    assert not machine.path("/tmp/x").exists(), "its /tmp is its own"


@pytest.mark.spec("17.2")
def test_stopped_in_a_round_it_goes_on_in_the_next_life(machine: Machine, agent: Unit, world: World) -> None:
    pytest.importorskip("torch", reason="only torch's tiers have checkpoints; pip install torch")
    configure(
        machine, world, training={"tier": "sparse", "epochs": 1000, "nice": 0, "learning_rate": 1e-4, "min_samples": 8}
    )
    agent.start()
    drop(machine, NEW, 400, seed=4)
    await_served(machine, 400)
    understudy = "/opt/understudy/bin/understudy"
    machine.run(
        *(understudy, "fleet", "trigger", "--fleet", "home", "--category", NEW, "--samples", "300"),
        *("--key", "/srv/scene/operator.key", "--id", "t1", "--json"),
    )
    checkpoint = machine.path("/var/lib/private/understudy/jobs/job-000001/checkpoint.safetensors")
    machine.until(lambda: epochs(machine) >= 3, 120, "training did not begin")
    agent.stop()
    assert agent.shows("Result") == "success" and agent.shows("ExecMainStatus") == "0"
    assert json.loads(agent.journal()[-1])["event"] == "stopped"
    assert not machine.run("pgrep", "--full", "agent.trainer", check=False).stdout, "the trainer outlived the stop"
    assert checkpoint.exists()
    agent.start()
    machine.until(lambda: epochs(machine) >= 0, 120, "the round did not go on")
    assert epochs(machine) >= 3, "training began anew instead of from its checkpoint"


def epochs(machine: Machine) -> int:
    """Done in the training under way; -1 while there is none."""
    progress = status(machine).get("progress") or {}
    return int(progress["done"]) if progress.get("stage") == "train" else -1


@pytest.mark.spec("17.1")
def test_a_faulty_configuration_is_said_and_not_tried_again(machine: Machine, agent: Unit) -> None:
    machine.path(CONFIG).write_text("source: {folder: /srv/images, colour: blue}\n")
    assert machine.run("systemctl", "start", agent.name, check=False).returncode != 0
    assert (agent.shows("ActiveState"), agent.shows("ExecMainStatus")) == ("failed", "2")
    assert "source.colour" in "\n".join(agent.journal(f"--unit={agent.name}"))
    # Were it to be started again, that would have been in a second.
    machine.run("sleep", "2")
    assert (agent.shows("ActiveState"), agent.shows("NRestarts")) == ("failed", "0")


def test_the_teacher_is_ready_watched_and_drained(machine: Machine) -> None:
    pytest.importorskip("torch", reason="the teacher needs torch")
    unit = Unit(machine, "understudy-teacher")
    machine.path("/var/lib/understudy-teacher").mkdir()
    machine.run("cp", "--recursive", "/srv/scene/teacher", "/var/lib/understudy-teacher/teacher")
    unit.change("RestartSec=1", "WatchdogSec=5")
    unit.start()
    machine.until(
        lambda: unit.shows("StatusText") == "answering at mqtt://localhost:1883", COME_BACK_S, "it did not connect"
    )
    assert machine.path("/var/lib/private/understudy-teacher").stat().st_mode & 0o777 == 0o700
    machine.run("kill", "-STOP", str(unit.main_pid))
    machine.until(lambda: unit.shows("NRestarts") == "1", COME_BACK_S, "the watchdog did not bite")
    machine.until(
        lambda: unit.shows("StatusText") == "answering at mqtt://localhost:1883", COME_BACK_S, "it did not come back"
    )
    unit.stop()
    assert unit.shows("Result") == "success"
    last = json.loads(unit.journal()[-1])
    assert last["event"] == "stopped" and np.isfinite(last["seconds"])
    assert signal.Signals(int(unit.shows("WatchdogSignal"))) is signal.SIGABRT
