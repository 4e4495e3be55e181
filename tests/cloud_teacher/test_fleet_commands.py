"""The operator's commands against a real broker."""

from __future__ import annotations

import json
import queue
import stat
from pathlib import Path

import pytest

from cloud_teacher.__main__ import fleet_main
from cloud_teacher.broker_link import BrokerAddress, BrokerLink
from demo.broker import Broker
from transfer import signing, wire

Heard = queue.Queue[tuple[str, bytes]]


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    signing.generate(tmp_path / "operator.key")
    return tmp_path / "operator.key"


def device(broker: Broker) -> tuple[BrokerLink, Heard]:
    heard: Heard = queue.Queue()
    link = BrokerLink(
        BrokerAddress("127.0.0.1", broker.port),
        subscribe=lambda _: ["understudy/#"],
        receive=lambda topic, payload: heard.put((topic, payload)),
    )
    link.connect()
    return link, heard


def test_a_trigger_reaches_the_devices(mosquitto: Broker, key_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link, heard = device(mosquitto)
    arguments = ["trigger", "--broker", f"mqtt://127.0.0.1:{mosquitto.port}", "--category", "nine", "--samples", "80"]
    arguments += ["--category", "ten", "--unseen"]
    assert fleet_main([*arguments, "--key", str(key_file), "--id", "t-1", "--expires-s", "60", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    topic, payload = heard.get(timeout=10)
    trigger = wire.decode(payload, wire.Trigger)
    assert topic == "understudy/v1/home/trigger"
    assert (trigger.id, trigger.categories, trigger.samples_wanted) == ("t-1", ("nine", "ten"), 80)
    assert trigger.unseen
    assert told == {"id": "t-1", "categories": ["nine", "ten"], "expires_utc": trigger.expires_utc, "heard": True}
    public = signing.public_key_hex(signing.load_key(key_file))
    assert signing.verify([public], wire.signing_bytes(trigger), trigger.signature) == public
    link.close()


def test_a_trigger_that_nobody_hears_is_said(
    mosquitto: Broker, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["trigger", "--broker", f"mqtt://127.0.0.1:{mosquitto.port}", "--category", "nine"]
    assert fleet_main([*arguments, "--key", str(key_file)]) == 0
    out, err = capsys.readouterr()
    assert "published trigger-" in out and "no device listens" in err


def test_a_command_goes_to_one_device(mosquitto: Broker, key_file: Path) -> None:
    link, heard = device(mosquitto)
    url = f"mqtt://127.0.0.1:{mosquitto.port}"
    for action in ("rollback", "resume"):
        assert fleet_main(["command", action, "edge-1", "--broker", url, "--key", str(key_file)]) == 0
        topic, payload = heard.get(timeout=10)
        assert topic == "understudy/v1/home/edge-1/cmd"
        assert wire.decode(payload, wire.DeviceCommand).action == action
    link.close()


def test_keygen_writes_a_private_key_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new.key"
    assert fleet_main(["keygen", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["public_key"] == signing.public_key_hex(signing.load_key(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert fleet_main(["keygen", str(path)]) == 1
    assert "exists already" in capsys.readouterr().err


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a command that fails."""
    assert fleet_main(list(arguments)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_mistakes_are_one_line(key_file: Path, free_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    trigger = ["trigger", "--category", "nine", "--key", str(key_file)]
    line = failed(capsys, *trigger, "--broker", f"mqtt://127.0.0.1:{free_port}")
    assert line.startswith("understudy fleet trigger: cannot reach mqtt://127.0.0.1:")
    assert "expected mqtt://" in failed(capsys, *trigger, "--broker", "127.0.0.1")
    assert "cannot be a level of a topic" in failed(capsys, *trigger, "--fleet", "a/b")
    assert "'nine' is named twice" in failed(capsys, *trigger, "--category", "nine")
    assert "samples_wanted" in failed(capsys, *trigger, "--samples", "0")
    assert "cannot be read" in failed(capsys, "trigger", "--category", "nine", "--key", str(key_file) + ".absent")
    key_file.chmod(0o644)
    assert "chmod 600" in failed(capsys, *trigger)
