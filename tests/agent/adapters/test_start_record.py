"""Starts that did not settle are counted over crashes, not over reboots."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.adapters import start_record as module
from agent.adapters.start_record import StartRecord, Unsettled, boot_id


def test_a_start_is_remembered_until_it_settles(tmp_path: Path) -> None:
    path = tmp_path / "start.json"
    assert StartRecord(path).last() is None
    StartRecord(path).begin(2, 1)
    assert StartRecord(path).last() == Unsettled(2, 1, boot_id())
    StartRecord(path).begin(1, 2, instead_of=2)
    assert StartRecord(path).last() == Unsettled(1, 2, boot_id(), 2)
    StartRecord(path).settle()
    StartRecord(path).settle()
    assert StartRecord(path).last() is None


def test_a_reboot_in_between_is_not_the_models_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boots = tmp_path / "boot_id"
    monkeypatch.setattr(module, "BOOT_ID", boots)
    boots.write_text("one\n")
    StartRecord(tmp_path / "start.json").begin(2, 2)
    boots.write_text("two\n")
    assert StartRecord(tmp_path / "start.json").last() is None
    boots.unlink()
    StartRecord(tmp_path / "start.json").begin(2, 2)
    assert StartRecord(tmp_path / "start.json").last() == Unsettled(2, 2, "")


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff", b'{"generation": "two", "starts": 1}'])
def test_a_damaged_record_is_none(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "start.json").write_bytes(damage)
    assert StartRecord(tmp_path / "start.json").last() is None


def test_a_disk_that_refuses_stops_no_start(tmp_path: Path) -> None:
    record = StartRecord(tmp_path / "nowhere" / "start.json")
    record.begin(1, 1)
    record.settle()
    assert record.last() is None
