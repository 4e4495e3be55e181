"""The profiles: each loads, names known keys only, and says the reason of every value."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from agent.config import Config
from agent.config_file import load, profile_names

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
        if section == "about":
            continue
        assert isinstance(values, dict)
        for key, value in values.items():
            assert getattr(getattr(config, section), key) == value, f"{section}.{key}"


@EACH
def test_it_names_known_keys_only(name: str) -> None:
    known = {
        section.name: {field.name for field in dataclasses.fields(section.default_factory)}  # type: ignore[arg-type]
        for section in dataclasses.fields(Config)
    }
    for section, values in read(name).items():
        if section != "about":
            assert isinstance(values, dict) and set(values) <= known[section]


@EACH
def test_it_says_what_it_is_for(name: str) -> None:
    about = read(name)["about"]
    assert isinstance(about, str) and 20 < len(about) < 200


@EACH
def test_every_value_has_its_reason_above_it(name: str) -> None:
    before = ""
    for number, line in enumerate((PROFILES / f"{name}.yaml").read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("  ") and not line.lstrip().startswith("#"):
            assert before.lstrip().startswith("# "), f"{name}.yaml:{number}: {line.strip()} has no reason above it"
        before = line


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
