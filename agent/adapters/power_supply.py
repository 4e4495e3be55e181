"""Battery and charger as the kernel tells them below /sys/class/power_supply: laptops, UPS boards, some phones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("/sys/class/power_supply")
MAX_BYTES = 256  # an attribute is a word or a number; what is longer is none


@dataclass(frozen=True, slots=True)
class Power:
    """None where this machine does not tell."""

    battery_percent: float | None
    on_power: bool | None


def read_power(folder: Path = FOLDER) -> Power:
    """Over all supplies of the machine; batteries of what is plugged in (a mouse) do not count.

    A battery that is being emptied says more than a charger that is there: it may be too weak. Several batteries count
    as their mean. A figure that no battery can have is no figure.
    """
    supplies = [supply for supply in sorted(folder.glob("*")) if _word(supply, "scope") != "device"]
    batteries = [
        supply for supply in supplies if _word(supply, "type") == "battery" and _word(supply, "present") != "0"
    ]
    levels = [level for battery in batteries if (level := _percent(battery)) is not None]
    states = {_word(battery, "status") for battery in batteries}
    chargers = {_word(supply, "online") for supply in supplies if _word(supply, "type") in ("mains", "usb", "wireless")}
    return Power(sum(levels) / len(levels) if levels else None, _on_power(states, chargers))


def _on_power(states: set[str], chargers: set[str]) -> bool | None:
    if "discharging" in states:
        return False
    if states & {"charging", "full", "not charging"} or "1" in chargers:
        return True
    # Without a battery the machine runs from something, whatever its sockets say.
    return False if states and "0" in chargers else None


def _percent(battery: Path) -> float | None:
    try:
        level = float(_word(battery, "capacity"))
    except ValueError:
        return None
    return level if 0 <= level <= 100 else None


def _word(supply: Path, name: str) -> str:
    """The attribute in lower case; "" where it cannot be read: some drivers answer ENODATA, or not at all."""
    try:
        with (supply / name).open("rb") as file:
            return file.read(MAX_BYTES).decode("ascii", "replace").strip().lower()
    except OSError:
        return ""
