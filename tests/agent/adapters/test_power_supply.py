"""Power supplies as kernels of several machines show them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.adapters.power_supply import Power, read_power

Supplies = dict[str, dict[str, str]]

LAPTOP = {
    "AC": {"type": "Mains", "online": "0"},
    "BAT0": {"type": "Battery", "present": "1", "capacity": "80", "status": "Discharging"},
}
PHONE = {
    "battery": {"type": "Battery", "capacity": "64", "status": "Charging", "present": "1"},
    "usb": {"type": "USB", "online": "1"},
    "wireless": {"type": "Wireless", "online": "0"},
}
UPS_BOARD = {"max17040": {"type": "Battery", "capacity": "55"}, "charger": {"type": "Mains", "online": "1"}}
JETSON = {"ucsi-source-psy-1-0008": {"type": "USB", "online": "0", "scope": "Unknown"}}
WITH_MOUSE = {"hidpp_battery_0": {"type": "Battery", "scope": "Device", "capacity": "5", "status": "Discharging"}}


def build(folder: Path, supplies: Supplies) -> Path:
    for name, attributes in supplies.items():
        (folder / name).mkdir(parents=True)
        for attribute, text in attributes.items():
            (folder / name / attribute).write_text(text + "\n")
    return folder


@pytest.mark.spec("16.1")
@pytest.mark.parametrize(
    ("supplies", "expected"),
    [
        (LAPTOP, Power(80.0, False)),
        ({**LAPTOP, "AC": {"type": "Mains", "online": "1"}}, Power(80.0, False)),  # a charger that is too weak
        (PHONE, Power(64.0, True)),
        (UPS_BOARD, Power(55.0, True)),
        ({**UPS_BOARD, "charger": {"type": "Mains", "online": "0"}}, Power(55.0, False)),
        (JETSON, Power(None, None)),  # a socket that nothing hangs on is no battery
        (WITH_MOUSE, Power(None, None)),
        ({**LAPTOP, **WITH_MOUSE}, Power(80.0, False)),
        ({**LAPTOP, "BAT1": {"type": "Battery", "capacity": "20", "status": "Not charging"}}, Power(50.0, False)),
        ({"BAT0": {"type": "Battery", "capacity": "80", "status": "Full"}}, Power(80.0, True)),
        ({"BAT0": {"type": "Battery", "present": "0", "capacity": "0", "status": "Unknown"}}, Power(None, None)),
        ({}, Power(None, None)),
    ],
)
def test_batteries_and_chargers(tmp_path: Path, supplies: Supplies, expected: Power) -> None:
    assert read_power(build(tmp_path, supplies)) == expected


@pytest.mark.spec("16.1")
@pytest.mark.parametrize("capacity", ["-1", "101", "1e9", "nan", "", "full", "x" * 5000])
def test_a_figure_that_no_battery_can_have_is_none(tmp_path: Path, capacity: str) -> None:
    battery = {"BAT0": {"type": "Battery", "capacity": capacity, "status": "Discharging"}}
    assert read_power(build(tmp_path, battery)) == Power(None, False)


def test_what_cannot_be_read_is_not_there(tmp_path: Path) -> None:
    folder = build(tmp_path, LAPTOP)
    (folder / "BAT0" / "capacity").unlink()
    (folder / "BAT0" / "status").unlink()
    (folder / "BAT0" / "status").mkdir()  # a driver whose attribute answers with an error
    (folder / "stray").write_text("no folder")
    assert read_power(folder) == Power(None, False)
    assert read_power(tmp_path / "none") == Power(None, None)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.sampled_from(["type", "capacity", "status", "online", "scope"]), st.binary(max_size=12)))
def test_no_bytes_stop_it(attributes: dict[str, bytes]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        supply = Path(name) / "BAT0"
        supply.mkdir()
        for attribute, data in attributes.items():
            (supply / attribute).write_bytes(data)
        level = read_power(Path(name)).battery_percent
        assert level is None or 0 <= level <= 100
