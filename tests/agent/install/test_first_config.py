"""The first configuration: good as it is written, and plain about what is still missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config import ConfigError
from agent.config_file import chosen_profile, load, profile_names
from agent.install.first_config import complete, first_config
from agent.recognise import Recognised

PI = Recognised("Raspberry Pi 4 Model B", "raspberry-pi-4", "device tree: brcm,bcm2711")


@pytest.mark.parametrize("profile", profile_names())
def test_it_is_good_with_every_profile(profile: str, tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(first_config(PI, profile, {"source.folder": "/srv/images"}, "/srv/student"))
    config = load(path)
    assert config.source.folder == "/srv/images" and not complete(config)
    assert chosen_profile(path) == profile


def test_it_says_where_the_profile_comes_from_and_what_is_still_to_be_done() -> None:
    text = first_config(PI, "raspberry-pi-4", {"source.folder": "/srv/images"}, "/srv/student")
    assert "# Raspberry Pi 4 Model B: device tree: brcm,bcm2711\nprofile: raspberry-pi-4\n" in text
    assert "#  bundle: /srv/student" in text and "#mqtt:" in text
    assert "as asked for" in first_config(PI, "generic-arm64", {"source.folder": "/srv"}, "/srv/student")


def test_what_was_set_is_in_it_as_values_of_their_kind(tmp_path: Path) -> None:
    settings = {
        "source.folder": "/srv/images",
        "model.bundle": "/srv/student",
        "model.trusted_keys": f"{'ab' * 32},{'cd' * 32}",
        "mqtt.host": "broker.lan",
        "mqtt.port": "8883",
        "mqtt.tls": "true",
        "mqtt.operator_keys": "ef" * 32,
    }
    text = first_config(PI, "raspberry-pi-4", settings, "/srv/student")
    assert "port: 8883\n" in text and "tls: true\n" in text and "- " + "ab" * 32 in text
    assert "Still to be done" not in text and "#mqtt:" not in text
    (tmp_path / "agent.yaml").write_text(text)
    config = load(tmp_path / "agent.yaml")
    assert not complete(config, tmp_path), "the bundle is not there yet"
    (tmp_path / "srv/student").mkdir(parents=True)
    assert complete(config, tmp_path)


def test_what_is_wrong_is_said_before_anything_is_written() -> None:
    with pytest.raises(ConfigError, match="did you mean 'host'"):
        first_config(PI, "raspberry-pi-4", {"source.folder": "/srv", "mqtt.hots": "x"}, "")


def test_a_device_that_had_a_model_needs_no_bundle(tmp_path: Path) -> None:
    flags = {"source.folder": "/srv", "device.state_dir": str(tmp_path)}
    assert not complete(load(None, flags=flags))
    (tmp_path / "models").mkdir()
    assert complete(load(None, flags=flags))
