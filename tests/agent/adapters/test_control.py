"""The local door: one question, one answer, whatever comes in; closed, it leaves nothing."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.adapters.control import MAX_REQUEST_BYTES, Control, ask

Answer = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Callable[[Answer], Path]]:
    opened: list[Control] = []

    def open_door(answer: Answer) -> Path:
        opened.append(Control(tmp_path / "control.sock", answer))
        return tmp_path / "control.sock"

    yield open_door
    for each in opened:
        each.close()


def raw(path: Path, data: bytes) -> bytes:
    """What comes back for these bytes; a socket's address may be short only, so through the folder."""
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(path.name)
    finally:
        os.chdir(before)
    with connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65_536):
            answer += part
    return answer


def test_an_answer_for_a_question(door: Callable[[Answer], Path]) -> None:
    path = door(lambda request: {"heard": request})
    assert ask(path, {"do": "status", "text": "ä"}) == {"heard": {"do": "status", "text": "ä"}}
    assert ask(path, {"n": 2}) == {"heard": {"n": 2}}


def test_only_the_owner_may_enter(door: Callable[[Answer], Path]) -> None:
    assert door(lambda request: {}).stat().st_mode & 0o777 == 0o600


def test_nobody_at_home_is_none(tmp_path: Path) -> None:
    assert ask(tmp_path / "none" / "control.sock", {}) is None
    assert ask(tmp_path / "control.sock", {}) is None
    abandoned = socket.socket(socket.AF_UNIX)
    abandoned.bind(f"/proc/self/fd/{os.open(tmp_path, os.O_RDONLY)}/control.sock")
    assert ask(tmp_path / "control.sock", {}) is None
    abandoned.close()


def test_what_a_killed_daemon_left_is_replaced_and_closing_removes_it(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("left over")
    control = Control(path, lambda request: {"fine": True})
    assert ask(path, {}) == {"fine": True}
    control.close()
    assert not path.exists() and ask(path, {}) is None


def test_a_deep_folder_is_no_obstacle(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    control = Control(deep / "control.sock", lambda request: {"deep": True})
    assert ask(deep / "control.sock", {}) == {"deep": True}
    control.close()


def test_an_answer_may_be_long(door: Callable[[Answer], Path]) -> None:
    labels = [f"category {n:060d}" for n in range(10_000)]
    answer = ask(door(lambda request: {"labels": labels}), {})
    assert answer is not None and answer["labels"] == labels


def test_whatever_goes_wrong_is_answered_and_the_door_stays_open(door: Callable[[Answer], Path]) -> None:
    def reply(request: dict[str, Any]) -> dict[str, Any]:
        if request.get("do") == "fail":
            raise RuntimeError("no such luck")
        return {"unserialisable": object()} if request.get("do") == "object" else {"fine": True}

    path = door(reply)
    assert ask(path, {"do": "fail"}) == {"error": "RuntimeError: no such luck"}
    assert json.loads(raw(path, b"[1]\n"))["error"].startswith("ValueError")
    assert json.loads(raw(path, b"[" * MAX_REQUEST_BYTES))["error"].startswith("RecursionError")
    with contextlib.suppress(ConnectionError):  # hung up on: nobody reads that much
        raw(path, b"{" * (20 * MAX_REQUEST_BYTES))
    answer = ask(path, {"do": "object"})
    assert answer is not None and answer["error"].startswith("TypeError")
    assert ask(path, {}) == {"fine": True}


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=40))
def test_any_bytes_get_an_answer(door: Callable[[Answer], Path], data: bytes) -> None:
    answer = json.loads(raw(door(lambda request: {"fine": True}), data))
    assert "error" in answer or answer == {"fine": True}
