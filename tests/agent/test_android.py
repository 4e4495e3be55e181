"""What a phone hides: psutil, /proc/stat, sensors; and a battery that does not answer. Real processes throughout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_world import World, images

from agent.adapters import resources
from agent.adapters.resources import Machine
from transfer.preprocess import encode_png

pytestmark = pytest.mark.spec("13.1")

HANGING = """#!/bin/sh
# As Termux's own: a script, with a child that waits for an app that is not there.
echo $$ >> "$ASKED"
sleep 600
"""
HIDDEN = "mount --bind {closed} /proc/stat && mount -t tmpfs none /sys/class && exec setpriv {drop} {command}"
DROP = "--bounding-set=-dac_override,-dac_read_search"


@pytest.fixture
def phone(tmp_path: Path) -> dict[str, str]:
    """An environment without psutil, with a battery command that hangs."""
    tools, modules = tmp_path / "bin", tmp_path / "modules"
    tools.mkdir()
    modules.mkdir()
    (tools / resources.TERMUX_BATTERY).write_text(HANGING)
    (tools / resources.TERMUX_BATTERY).chmod(0o755)
    (modules / "psutil.py").write_text("raise ImportError('there is no wheel of psutil for android')\n")
    root = Path(__file__).resolve().parents[2]
    return {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PYTHONPATH": f"{modules}:{root}",
        "ASKED": str(tmp_path / "asked"),
    }


@pytest.fixture
def hide(tmp_path: Path) -> Callable[[list[str]], list[str]]:
    """Makes a command run where /proc/stat is for others and /sys/class is empty, as Android's rules make it."""
    tools = ("unshare", "setpriv")
    if os.geteuid() != 0 or any(shutil.which(tool) is None for tool in tools):
        pytest.skip("hiding /proc/stat needs root, unshare and setpriv (apt install util-linux)")
    closed = tmp_path / "closed"
    closed.write_text("")
    closed.chmod(0)

    def wrapped(command: list[str]) -> list[str]:
        script = HIDDEN.format(closed=closed, drop=DROP, command=" ".join(command))
        return ["unshare", "--mount", "sh", "-c", script]

    probe = wrapped(["cat", "/proc/stat"])
    tried = subprocess.run(probe, capture_output=True, text=True, check=False)
    if "ermission denied" not in tried.stderr:
        pytest.skip(f"this machine does not let us hide /proc/stat: {tried.stderr.strip()}")
    return wrapped


@pytest.fixture
def config(tmp_path: Path, world: World) -> Path:
    (tmp_path / "in").mkdir()
    path = tmp_path / "agent.yaml"
    sections = {
        "device": {"name": "phone", "state_dir": str(tmp_path / "state")},
        "source": {"folder": str(tmp_path / "in"), "rescan_s": 0.5},
        "model": {"bundle": str(world.student), "trusted_keys": [world.public]},
        "budget": {"sample_s": 0.2, "require_power": True},
    }
    path.write_text(yaml.safe_dump({"profile": "pixel2-termux", **sections}))
    return path


@pytest.fixture
def run_daemon(config: Path, phone: dict[str, str]) -> Iterator[Callable[[list[str]], Any]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(command: list[str]) -> subprocess.Popen[bytes]:
        log = (config.parent / "daemon.log").open("wb")
        started.append(subprocess.Popen(command, env=phone, stdout=log, stderr=log, cwd=config.parent))
        return started[-1]

    yield start
    for process in started:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()


def status(config: Path, phone: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "agent", "status", "--config", str(config), "--json"]
    ran = subprocess.run(command, env=phone, capture_output=True, text=True, check=False)
    return dict(json.loads(ran.stdout)) if ran.returncode == 0 else {}


def await_true(said: Callable[[], object], what: str) -> None:
    until_s = time.monotonic() + 60
    while not said():
        assert time.monotonic() < until_s, what
        time.sleep(0.1)


@pytest.mark.parametrize("hidden", [False, True], ids=["psutil is missing", "/proc/stat and /sys are hidden, too"])
def test_the_daemon_serves_and_says_what_it_can(
    hidden: bool,
    config: Path,
    phone: dict[str, str],
    run_daemon: Callable[[list[str]], Any],
    request: pytest.FixtureRequest,
) -> None:
    command = [sys.executable, "-m", "agent", "run", "--config", str(config)]
    daemon = run_daemon(request.getfixturevalue("hide")(command) if hidden else command)
    predictions = config.parent / "state" / "predictions.jsonl"
    (config.parent / "in" / "a.png").write_bytes(encode_png(images("teal", 1)[0]))
    await_true(lambda: predictions.exists() and "teal" in predictions.read_text(), "no verdict")
    # Readings come although the battery is being waited for, and then was not heard of.
    await_true(lambda: status(config, phone).get("reading", {}).get("available_mib"), "no reading")
    reading = status(config, phone)["reading"]
    assert reading["battery_percent"] is None and reading["on_power"] is None and reading["cpu_percent"] is None
    assert reading["own_rss_mib"] > 1 and reading["disk_free_mib"] > 1
    asked = Path(phone["ASKED"]).read_text().split()
    assert len(asked) == 1, "asked once a minute"
    assert daemon.poll() is None


def test_a_battery_that_hangs_is_given_up_with_its_children(
    phone: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Android allows an app 32 processes; a hanging one each minute would use them up in half an hour."""
    monkeypatch.setenv("PATH", phone["PATH"])
    monkeypatch.setenv("ASKED", phone["ASKED"])
    monkeypatch.setattr(resources, "TERMUX_TIMEOUT_S", 0.5)
    machine = Machine(tmp_path)
    reading = machine.sample()
    (asked,) = map(int, Path(phone["ASKED"]).read_text().split())
    assert (reading.battery_percent, reading.on_power) == (None, None)
    await_true(lambda: not in_group(asked), "its child lives on")


def in_group(group: int) -> list[str]:
    """Processes of a group that are not dead."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(stat.parent.name)
    return found


def test_the_doctor_works_there_and_says_what_is_missing(
    config: Path, phone: dict[str, str], hide: Callable[[list[str]], list[str]]
) -> None:
    doctor = hide([sys.executable, "-m", "agent", "doctor", "--config", str(config), "--json"])
    ran = subprocess.run(doctor, env=phone, capture_output=True, text=True, timeout=100, check=False)
    said = json.loads(ran.stdout)
    found = {finding["what"]: finding for finding in said["findings"]}
    assert found["memory"]["state"] == found["TFLite"]["state"] == found["bundle"]["state"] == "works"
    assert "Termux:API" in found["sensors"]["advice"]
    assert said["ok"] and ran.returncode == 0, ran.stderr
