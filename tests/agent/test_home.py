"""The state folder: one owner at a time, one key for ever, a session number that only grows."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.home import Home, HomeError
from transfer import signing


def test_it_is_made_on_first_use(tmp_path: Path) -> None:
    home = Home(tmp_path / "a" / "state")
    home.take()
    assert home.folder.is_dir()
    assert home.folder.stat().st_mode & 0o007 == 0


def test_two_daemons_cannot_hold_it(tmp_path: Path) -> None:
    Home(tmp_path).take()
    with pytest.raises(HomeError, match="another daemon is using this state folder"):
        Home(tmp_path).take()


def test_it_is_free_again_when_its_daemon_is_dead(tmp_path: Path, root: Path) -> None:
    script = (
        f"from pathlib import Path; from agent.home import Home; Home(Path({str(tmp_path)!r})).take(); print('held')"
    )
    subprocess.run([sys.executable, "-c", script], cwd=root, check=True)
    Home(tmp_path).take()


def test_a_place_that_cannot_be_a_folder_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeError, match=r"device\.state_dir"):
        Home(tmp_path / "file" / "state").take()


def test_the_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    first = Home(tmp_path).key()
    again = Home(tmp_path).key()
    assert signing.public_key_hex(first) == signing.public_key_hex(again)
    assert (tmp_path / "device.key").stat().st_mode & 0o077 == 0


def test_the_session_grows_with_every_start(tmp_path: Path) -> None:
    assert [Home(tmp_path).next_session() for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff\xfe"])
def test_a_spoiled_session_number_begins_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "session").write_bytes(content)
    assert Home(tmp_path).next_session() == 1


def test_everything_lies_inside(tmp_path: Path) -> None:
    home = Home(tmp_path)
    names = ("state", "samples", "seen", "outbox", "predictions", "jobs", "teachers", "quarantine", "control", "ledger")
    places = [getattr(home, name) for name in names]
    assert len(set(places)) == len(names) and all(place.parent == tmp_path for place in places)


@pytest.mark.spec("4.1")
def test_a_damaged_key_is_put_aside_for_another(tmp_path: Path) -> None:
    first = signing.public_key_hex(Home(tmp_path).key())
    (tmp_path / "device.key").write_bytes(b"")
    home = Home(tmp_path)
    second = signing.public_key_hex(home.key())
    assert second != first and home.damaged == ["device.key"]
    assert (tmp_path / "device.key.corrupt").exists()
    assert signing.public_key_hex(Home(tmp_path).key()) == second


def test_a_key_that_is_open_to_others_is_for_a_person_to_decide(tmp_path: Path) -> None:
    Home(tmp_path).key()
    (tmp_path / "device.key").chmod(0o644)
    with pytest.raises(signing.KeyFileError, match="chmod 600"):
        Home(tmp_path).key()


@pytest.mark.spec("5.4")
def test_a_full_disk_keeps_nobody_from_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Home(tmp_path).next_session() == 1

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    home = Home(tmp_path)
    assert home.next_session() == 2 and home.damaged == ["session"]
    assert (tmp_path / "session").read_bytes() == b"1\n"
