"""Everything broken that a folder or a broker can bring: named, set aside, and the daemon keeps serving."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.publish as publish
import pytest
from real_fleet import TOPICS, Fleet

from demo.broker import Broker
from transfer import signing, wire
from transfer.preprocess import encode_png

pytestmark = pytest.mark.e2e


def bomb() -> bytes:
    """A PNG that says it has 100 megapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 3_000_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.timeout(180)
def test_broken_files_and_messages_are_refused_and_serving_goes_on(
    mosquitto: Broker, make_fleet: Callable[..., Fleet]
) -> None:
    fleet = make_fleet(mosquitto)
    agent = fleet.start_agent()
    picture = encode_png(fleet.images("one", test=True)[0])
    bad = {
        "truncated.png": picture[: len(picture) // 2],
        "text.jpg": b"no image at all",
        "empty.png": b"",
        "bomb.png": bomb(),
    }
    for name, data in bad.items():
        (fleet.inbox / name).write_bytes(data)
    wait_until(lambda: quarantined(fleet.state / "quarantine") >= {"truncated", "not_an_image", "empty", "too_large"})

    operator = signing.load_key(fleet.operator_key)
    stranger = signing.generate(fleet.scene / "stranger.key")
    now = time.time()

    def trigger(key: Any, **changes: Any) -> bytes:
        fields = {"id": "bad-1", "categories": ("nine",), "issued_utc": now, "expires_utc": now + 60, **changes}
        unsigned = wire.Trigger(**fields)
        message = wire.Trigger(**fields, signature=signing.sign(key, wire.signing_bytes(unsigned)))
        return wire.encode(message)

    messages = {
        "malformed": b"{ not json",
        "unknown_version": trigger(operator).replace(b'"v":2', b'"v":9'),
        "bad_signature": trigger(stranger),
        "expired": trigger(operator, issued_utc=now - 100, expires_utc=now - 50),
    }
    for code, payload in messages.items():
        publish.single(TOPICS.trigger, payload, qos=1, hostname="127.0.0.1", port=mosquitto.port)
        refused = fleet.hear(lambda m: isinstance(m, wire.Event) and m.kind == "message_refused")
        assert refused.detail["code"] == code
        assert refused.detail["topic"] == TOPICS.trigger and refused.detail["error"]
    publish.single(TOPICS.trigger, b"x" * 400_000, qos=1, hostname="127.0.0.1", port=mosquitto.port)
    agent.wait_for("message_too_large", 20)
    publish.single(TOPICS.teacher_reply, b"\xc1garbage", qos=1, hostname="127.0.0.1", port=mosquitto.port)
    refused = fleet.hear(lambda m: isinstance(m, wire.Event) and m.kind == "message_refused")
    assert refused.detail["topic"] == TOPICS.teacher_reply

    fleet.await_served(fleet.drop("still", "one", fleet.images("one", test=True)[:10]))
    status = fleet.status()
    assert status["phase"] == "idle" and status["frames"] == 10 and status["errors"] == 0


@pytest.mark.timeout(60)
def test_a_file_replaced_while_it_is_read_is_served_once_it_rests(
    mosquitto: Broker, make_fleet: Callable[..., Fleet]
) -> None:
    fleet = make_fleet(mosquitto)
    fleet.start_agent()
    picture = encode_png(fleet.images("two", test=True)[0])
    path = fleet.inbox / "slow-000000-two.png"
    with path.open("wb") as file:  # written in pieces, as a slow copy does
        for start in range(0, len(picture), 200):
            file.write(picture[start : start + 200])
            file.flush()
            time.sleep(0.05)
    fleet.await_served([path.name])
    assert not quarantined(fleet.state / "quarantine")


@pytest.mark.parametrize("spoil", ["hash", "signature", "stranger"])
def test_a_bundle_that_is_not_what_it_says_never_becomes_a_model(
    spoil: str, tmp_path: Path, models: Any, mosquitto: Broker, make_fleet: Callable[..., Fleet]
) -> None:
    import shutil

    fleet = make_fleet(mosquitto)
    copy = tmp_path / "spoiled"
    shutil.copytree(models.student, copy)
    if spoil == "hash":
        data = bytearray((copy / "model.tflite").read_bytes())
        data[len(data) // 2] ^= 1
        (copy / "model.tflite").write_bytes(bytes(data))
    elif spoil == "signature":
        (copy / "manifest.json").write_bytes((copy / "manifest.json").read_bytes() + b" ")
    else:
        fleet.overrides["model"] = {"trusted_keys": ["00" * 32]}
    if spoil != "stranger":
        fleet.overrides["model"] = {"bundle": str(copy)}
    ran = subprocess.run(
        [sys.executable, "-m", "agent", "run", "--config", str(fleet.config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 1
    says = {"hash": "model.tflite", "signature": "signature", "stranger": "not trusted"}[spoil]
    assert says in ran.stderr.splitlines()[-1]
    assert "Traceback" not in ran.stderr


def quarantined(folder: Path) -> set[str]:
    """The codes of what has been set aside."""
    notes = folder.glob("*.json") if folder.exists() else []
    return {str(json.loads(note.read_text())["what"]) for note in notes}


def wait_until(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    until_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until_s, "it did not come"
        time.sleep(0.05)
