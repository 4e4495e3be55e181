"""The unit files: what the service cannot do without is there, each line says why, and systemd takes them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parents[2] / "systemd"
AGENT, TEACHER = UNITS / "understudy-agent.service", UNITS / "understudy-teacher.service"
BOTH = pytest.mark.parametrize("unit", [AGENT, TEACHER], ids=lambda path: path.stem)
PROGRAM = "/opt/understudy/bin/understudy"


def settings(unit: Path) -> dict[str, list[str]]:
    """Every key of the unit with all its values, in order."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in unit.read_text(encoding="utf-8").splitlines():
        key, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            found[key].append(value)
    return found


def test_the_agent_is_watched_drained_and_outlives_its_trainer() -> None:
    unit = settings(AGENT)
    assert unit["Type"] == ["notify"] and unit["NotifyAccess"] == ["main"]
    assert int(unit["WatchdogSec"][0]) > 0
    assert unit["KillMode"] == ["mixed"], "the trainer must not get SIGTERM before the daemon has asked it to stop"
    assert unit["OOMPolicy"] == ["continue"], "a trainer out of memory must not take the daemon with it"
    assert unit["StateDirectory"] == ["understudy"]


def test_the_agent_starts_with_the_state_folder_that_is_the_configurations_default() -> None:
    from agent.config import Device

    assert Device().state_dir == f"/var/lib/{settings(AGENT)['StateDirectory'][0]}"


def test_the_agents_memory_is_measured_as_its_unit_starts_it() -> None:
    from benchmarks.device.daemon import OF_THE_UNIT

    assert settings(AGENT)["Environment"] == [f"{name}={value}" for name, value in OF_THE_UNIT.items()]


@pytest.mark.spec("11.2")
def test_the_trainer_may_have_a_group_of_its_own_below_the_limits_of_both() -> None:
    unit = settings(AGENT)
    assert unit["Delegate"] == ["cpu memory"]
    assert unit["ReadWritePaths"] == ["-/sys/fs/cgroup/system.slice/%n"], "or Delegate= is of no use: it is read-only"
    assert unit["MemoryMax"] == ["60%"], "a share: the same unit serves boards of 512 MiB and of 16 GiB"
    assert unit["CPUQuota"] == ["350%"]
    assert not any("@resources" in value for value in unit["SystemCallFilter"]), "it could not lower the trainer"


@BOTH
@pytest.mark.spec("17.1")
def test_both_are_ready_when_they_say_so_and_watched(unit: Path) -> None:
    found = settings(unit)
    assert found["Type"] == ["notify"] and found["NotifyAccess"] == ["main"]
    assert int(found["WatchdogSec"][0]) > 0
    assert found["MemoryMax"][0].endswith("%") and found["LimitCORE"] == ["0"]


def test_the_agent_may_see_cameras_and_sensors() -> None:
    unit = settings(AGENT)
    assert unit["DeviceAllow"] == ["char-video4linux rw"] and unit["SupplementaryGroups"] == ["video"]
    assert "PrivateDevices" not in unit, "it would hide /dev/video0"
    assert "ProcSubset" not in unit, "it would hide /proc/meminfo, /proc/vmstat and the boot id"


def test_the_two_do_not_share_a_state_folder() -> None:
    assert settings(AGENT)["StateDirectory"] != settings(TEACHER)["StateDirectory"]


@BOTH
def test_hardening(unit: Path) -> None:
    found = settings(unit)
    for key in ("DynamicUser", "NoNewPrivileges", "ProtectHome", "PrivateTmp", "RestrictNamespaces", "LockPersonality"):
        assert found[key] == ["yes"], key
    assert found["ProtectSystem"] == ["strict"]
    assert found["CapabilityBoundingSet"] == [""]
    assert found["SystemCallFilter"][0] == "@system-service" and "~@privileged" in found["SystemCallFilter"][1]
    assert found["UMask"] == ["0077"]


@BOTH
def test_a_broken_configuration_is_not_tried_for_ever_but_a_crash_is(unit: Path) -> None:
    found = settings(unit)
    assert found["Restart"] == ["on-failure"] and found["StartLimitIntervalSec"] == ["0"]
    assert found["RestartPreventExitStatus"] == ["2"]


@BOTH
def test_every_line_has_its_reason_above_it(unit: Path) -> None:
    """Description= explains itself, After= belongs to the line before it."""
    before = ""
    for line in unit.read_text(encoding="utf-8").splitlines():
        key = line.partition("=")[0]
        if "=" in line and not line.startswith("#") and key not in ("Description", "After"):
            assert before.startswith("#"), f"{unit.name}: {line} has no reason above it"
        before = line


def test_the_command_is_one_that_the_program_knows() -> None:
    for unit in (AGENT, TEACHER):
        words = settings(unit)["ExecStart"][0].split()
        assert words[0] == PROGRAM
        asked = subprocess.run(
            [sys.executable, "-m", "understudy", *words[1:3], "--help"],
            cwd=UNITS.parent,
            capture_output=True,
            text=True,
            check=True,
        )
        for flag in (word for word in words if word.startswith("--")):
            assert flag in asked.stdout, f"{unit.name}: {flag}"


@BOTH
def test_exposure(unit: Path) -> None:
    """At most 1.5 of 10 by systemd's own measure. What remains is the network, cameras and torch's machine code."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=15", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode == 0, f"{judged.stdout[-300:]}{judged.stderr}"


@BOTH
def test_systemd_takes_it(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    copy = tmp_path / unit.name
    # The program is not installed where tests run; `verify` looks for it.
    copy.write_text(unit.read_text(encoding="utf-8").replace(PROGRAM, sys.executable), encoding="utf-8")
    # Without the flag unknown keys are only warnings.
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=yes", str(copy)], capture_output=True, text=True, check=False
    )
    ours = [line for line in verified.stderr.splitlines() if unit.stem in line]
    assert verified.returncode == 0 and not ours, verified.stderr
