"""Clock, memory, sensors, disk: real ones here, and the ones of machines that hide or lack them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from agent.config import Budget
from agent.core.facts import Reading
from agent.doctor import machine
from agent.doctor.probe import ask
from agent.recognise import Recognised

PI = Recognised("Raspberry Pi 5 Model B Rev 1.0", "raspberry-pi-5", "device tree: brcm,bcm2712")


@pytest.mark.spec("12.2")
def test_the_device_is_named_with_its_profile() -> None:
    finding = machine.examine_device(PI, None, configured=False)
    assert finding["state"] == "works"
    assert "Raspberry Pi 5 Model B" in finding["detail"] and "profile raspberry-pi-5 (device" in finding["detail"]


@pytest.mark.spec("12.2")
@pytest.mark.parametrize(
    ("chosen", "state"), [("raspberry-pi-5", "works"), (None, "limited"), ("generic-x86", "limited")]
)
def test_another_profile_than_the_devices_own_is_said(chosen: str | None, state: str) -> None:
    finding = machine.examine_device(PI, chosen, configured=True)
    assert finding["state"] == state
    assert ("profile: raspberry-pi-5" in finding["advice"]) == (state == "limited")


def test_a_clock_that_was_never_set_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "never set" not in machine.examine_clock()["detail"]
    monkeypatch.setattr(time, "time", lambda: 86_400.0)
    finding = machine.examine_clock()
    assert finding["state"] == "limited" and "never set" in finding["detail"] and "NTP" in finding["advice"]


def test_the_kernel_says_whether_its_clock_is_held() -> None:
    answer = ask("clock")
    assert answer.died == "" and answer.said["synchronised"] in (True, False, None)


@pytest.mark.parametrize(("answer", "state"), [("yes", "works"), ("no", "limited")])
def test_the_systems_word_on_ntp_is_taken(
    answer: str, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "timedatectl").write_text(f"#!/bin/sh\necho {answer}\n")
    (tmp_path / "timedatectl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.examine_clock()["state"] == state


def test_a_time_service_that_hangs_holds_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "timedatectl").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    (tmp_path / "timedatectl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine, "TIMEDATECTL_TIMEOUT_S", 0.2)
    assert machine.examine_clock()["what"] == "clock"


@pytest.mark.parametrize(
    ("mib", "state", "advice"),
    [(None, "limited", "no effect"), (60, "limited", "end other"), (350, "limited", "tier: head"), (900, "works", "")],
)
def test_memory_decides_about_the_tier(mib: float | None, state: str, advice: str) -> None:
    finding = machine.examine_memory(Reading(available_mib=mib))
    assert finding["state"] == state and advice in finding["advice"]


def test_sensors_are_named(tmp_path: Path) -> None:
    for number, name in enumerate(("cpu-thermal", "gpu-thermal")):
        (tmp_path / f"thermal_zone{number}").mkdir()
        (tmp_path / f"thermal_zone{number}/type").write_text(f"{name}\n")
    finding = machine.examine_sensors(Reading(temperature_c=51.2, battery_percent=80.0, on_power=False), tmp_path)
    assert finding["state"] == "works"
    assert finding["detail"] == "51 °C (cpu-thermal, gpu-thermal); battery 80 %, off the charger"
    assert machine.examine_sensors(Reading(), tmp_path / "none")["state"] == "limited"


@pytest.mark.spec("13.1")
def test_a_phone_whose_battery_does_not_answer_is_told_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / machine.TERMUX_BATTERY).write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / machine.TERMUX_BATTERY).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    finding = machine.examine_sensors(Reading(), tmp_path / "none")
    assert finding["state"] == "limited" and "Termux:API" in finding["advice"]


def test_what_keeps_a_round_from_beginning_is_said() -> None:
    assert machine.examine_budget(Budget(), Reading(available_mib=4000.0))["state"] == "works"
    finding = machine.examine_budget(Budget(max_temperature_c=60), Reading(temperature_c=80.0))
    assert finding["state"] == "limited" and "80" in finding["detail"] and "60" not in finding["advice"]


def test_the_disk_is_tried_where_the_state_will_be(tmp_path: Path) -> None:
    finding = machine.examine_disk(tmp_path / "a" / "b")
    assert finding["state"] in ("works", "limited") and finding["detail"].startswith(f"{tmp_path}: ")
    assert "MB/s" in finding["detail"]
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_a_state_folder_that_cannot_be_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    finding = machine.examine_disk(tmp_path / "file")
    assert finding["state"] == "fails" and "device.state_dir" in finding["advice"]
