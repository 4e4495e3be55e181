"""The one door: it names its rooms, opens the one asked for and none of the others."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import understudy

ROOT = Path(__file__).resolve().parents[1]


def test_help_names_every_room(capsys: pytest.CaptureFixture[str]) -> None:
    assert understudy.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in understudy.ROOMS) and "understudy demo" in text


def test_without_a_room_there_is_help_and_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert understudy.main([]) == 2
    assert "usage: understudy ROOM" in capsys.readouterr().out


def test_an_unknown_room_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert understudy.main(["attic"]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err == "understudy: there is no 'attic'; the rooms are agent, teacher, fleet, demo\n"


@pytest.mark.parametrize("room", understudy.ROOMS)
def test_every_room_has_a_door_and_help(room: str, capsys: pytest.CaptureFixture[str]) -> None:
    module, function, _ = understudy.ROOMS[room]
    assert callable(getattr(importlib.import_module(module), function))
    with pytest.raises(SystemExit) as ended:
        understudy.main([room, "--help"])
    assert ended.value.code == 0 and f"understudy {room}" in capsys.readouterr().out


def test_what_a_room_says_is_the_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "agent.yaml"
    config.write_text("source: {folder: /in}")
    assert understudy.main(["agent", "check-config", "--config", str(config)]) == 0
    config.write_text("source: {foldr: /in}")
    assert understudy.main(["agent", "check-config", "--config", str(config)]) == 2
    assert "did you mean 'folder'?" in capsys.readouterr().err


def test_as_a_process_only_the_room_asked_for_is_entered() -> None:
    code = (
        "import sys, understudy\n"
        "rooms = lambda: sorted({m.split('.')[0] for m in sys.modules} & {'agent', 'cloud_teacher', 'demo', 'torch'})\n"
        "assert rooms() == [], rooms()\n"
        "understudy.main(['agent', 'check-config'])\n"
        "print(rooms())"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "['agent']\n" and "source.folder: needed" in ran.stderr


def test_a_reader_that_has_read_enough_is_no_error() -> None:
    command = [sys.executable, "-m", "understudy", "agent", "show-config", "--explain", "--set", "source.folder=x"]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    assert writer.stdout is not None and writer.stderr is not None
    writer.stdout.close()  # before it has written anything
    assert writer.wait(30) == 141
    assert writer.stderr.read() == b""
    writer.stderr.close()
