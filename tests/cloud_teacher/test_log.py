from __future__ import annotations

import json

import pytest

from cloud_teacher.log import logger


def test_json_lines_name_the_event(capsys: pytest.CaptureFixture[str]) -> None:
    log = logger(json=True)
    log.info("ready", protocol="5")
    log.debug("not worth a line")
    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert (told["event"], told["protocol"], told["level"]) == ("ready", "5", "info")
    assert told["timestamp"].endswith("Z")


def test_lines_for_a_person_hold_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    logger(json=False).warning("busy", topic="a/b")
    out = capsys.readouterr().out
    assert "busy" in out and "topic=a/b" in out
