"""The profiles: each loads, names known keys only, and says the reason of every value."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from agent.config import Budget, Config
from agent.config_file import PROFILE_NOTES, load, profile_names

PROFILES = Path(__file__).resolve().parents[2] / "firmware_profiles"
NAMES = (
    "generic-arm64",
    "generic-x86",
    "jetson-nano",
    "jetson-orin-nano",
    "pixel2-termux",
    "raspberry-pi-4",
    "raspberry-pi-5",
    "raspberry-pi-zero-2w",
)
EACH = pytest.mark.parametrize("name", NAMES)


def read(name: str) -> dict[str, object]:
    document = yaml.safe_load((PROFILES / f"{name}.yaml").read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


@pytest.fixture
def minimal(tmp_path: Path) -> Path:
    path = tmp_path / "agent.yaml"
    path.write_text("source:\n  folder: /srv/images\n", encoding="utf-8")
    return path


def test_these_are_all_the_profiles_there_are() -> None:
    assert tuple(profile_names()) == NAMES


@EACH
def test_it_loads_with_a_minimal_file_on_top_and_changes_what_it_names(name: str, minimal: Path) -> None:
    config = load(minimal, flags={"profile": name})
    for section, values in read(name).items():
        if section in PROFILE_NOTES:
            continue
        assert isinstance(values, dict)
        for key, value in values.items():
            wanted = tuple(value) if isinstance(value, list) else value
            assert getattr(getattr(config, section), key) == wanted, f"{section}.{key}"


@EACH
def test_it_names_known_keys_only(name: str) -> None:
    known = {
        section.name: {field.name for field in dataclasses.fields(section.default_factory)}  # type: ignore[arg-type]
        for section in dataclasses.fields(Config)
    }
    for section, values in read(name).items():
        if section not in PROFILE_NOTES:
            assert isinstance(values, dict) and set(values) <= known[section]


@EACH
def test_it_says_what_it_is_for(name: str) -> None:
    about = read(name)["about"]
    assert isinstance(about, str) and 20 < len(about) < 200


@EACH
def test_every_value_has_its_reason_above_it(name: str) -> None:
    before, section = "", ""
    for number, line in enumerate((PROFILES / f"{name}.yaml").read_text(encoding="utf-8").splitlines(), 1):
        section = line.partition(":")[0] if line[:1].isalpha() else section
        if line.startswith("  ") and not line.lstrip().startswith("#") and section not in PROFILE_NOTES:
            assert before.lstrip().startswith("# "), f"{name}.yaml:{number}: {line.strip()} has no reason above it"
        before = line


@EACH
def test_it_decides_about_every_budget(name: str) -> None:
    """A default chosen for no device in particular must not slip in unseen, nor a new key be forgotten."""
    budget = read(name)["budget"]
    assert isinstance(budget, dict) and set(budget) == {field.name for field in dataclasses.fields(Budget)}
    training = read(name)["training"]
    assert isinstance(training, dict) and {"tier", "threads", "cpu_percent"} <= set(training)


@EACH
def test_it_names_what_it_assumes_of_the_hardware(name: str) -> None:
    hardware = read(name)["hardware"]
    assert isinstance(hardware, dict)
    assert tuple(hardware) == ("processor", "thermal", "power", "camera", "delegate")
    assert all(isinstance(text, str) and 10 < len(text) < 130 for text in hardware.values())


@EACH
def test_its_limits_leave_room_for_each_other(name: str, minimal: Path) -> None:
    config = load(minimal, flags={"profile": name})
    training, budget = config.training, config.budget
    if budget.max_rss_mib:
        assert budget.max_rss_mib >= max(training.memory_mib, 2 * 60), "the trainer is ended before its own limit"
    assert budget.max_temperature_c * (1 - budget.margin) > 50, "no board that works is cooler than that"


@pytest.mark.parametrize("name", [n for n in NAMES if n != "generic-x86"])
def test_what_runs_from_flash_has_a_budget_of_writes_above_what_serving_needs(name: str, minimal: Path) -> None:
    """An image a second was measured to write about 390 MB a day: a smaller budget would stop what it is there for."""
    config = load(minimal, flags={"profile": name})
    assert config.budget.max_written_mib_a_day > 390 * config.source.fps


def test_the_file_wins_over_the_profile(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("profile: raspberry-pi-zero-2w\nsource:\n  folder: /srv/images\n  fps: 3\n", encoding="utf-8")
    config = load(path)
    assert config.source.fps == 3 and config.training.tier == "head"


def test_half_a_gibibyte_is_not_enough_for_torch() -> None:
    zero = read("raspberry-pi-zero-2w")["training"]
    assert isinstance(zero, dict) and zero["tier"] == "head"


def test_a_phone_trains_on_its_charger_only_and_writes_where_it_may(minimal: Path) -> None:
    phone = load(minimal, flags={"profile": "pixel2-termux"})
    assert phone.budget.require_power is True
    assert phone.device.state_dir.startswith("~/")


@EACH
def test_no_profile_decides_about_privacy(name: str) -> None:
    """What may leave a device is its owner's to say, never its hardware's."""
    assert not {"privacy", "mqtt.operator_keys"} & set(read(name))
    assert "trusted_keys" not in str(read(name)) and "operator_keys" not in str(read(name))
