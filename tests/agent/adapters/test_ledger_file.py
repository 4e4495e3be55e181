"""What left the device is counted across restarts, without a write for every heartbeat."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.adapters.ledger_file import LedgerFile


def test_nothing_counted_is_nothing_to_write(tmp_path: Path) -> None:
    file = LedgerFile(tmp_path / "egress.json")
    assert not file.save() and not file.unreadable and not list(tmp_path.iterdir())


def test_a_restart_goes_on_counting(tmp_path: Path) -> None:
    first = LedgerFile(tmp_path / "egress.json")
    first.ledger.allowed("image", 100)
    first.ledger.denied("derived", 7)
    assert first.save() and not first.save()  # the second time there is nothing new
    second = LedgerFile(tmp_path / "egress.json")
    assert second.unreadable == "" and not second.save()
    second.ledger.allowed("image", 11)
    counted = second.ledger.snapshot()
    assert counted["image"]["allowed_messages"] == 2 and counted["image"]["allowed_bytes"] == 111
    assert counted["derived"]["denied_bytes"] == 7


def test_the_heartbeat_alone_is_no_reason_to_write(tmp_path: Path) -> None:
    path = tmp_path / "egress.json"
    file = LedgerFile(path)
    for _ in range(10):
        file.ledger.allowed("operational", 60)
        assert not file.save_unless_idle() and not path.exists()
    file.ledger.denied("image", 9)
    assert file.save_unless_idle()  # and then with the heartbeats that there were
    assert LedgerFile(path).ledger.snapshot()["operational"]["allowed_messages"] == 10
    file.ledger.allowed("operational", 60)
    assert file.save()  # at the end, nothing is left out
    assert LedgerFile(path).ledger.snapshot()["operational"]["allowed_messages"] == 11


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"image": 3}', b'{"image": {"allowed_bytes": "x"}}', b"\xff\x00"])
def test_what_cannot_be_read_is_said_and_counting_begins_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "egress.json").write_bytes(content)
    file = LedgerFile(tmp_path / "egress.json")
    assert file.unreadable and file.ledger.snapshot()["image"]["allowed_messages"] == 0
    file.ledger.allowed("image", 1)
    assert file.save() and LedgerFile(tmp_path / "egress.json").unreadable == ""


def test_a_disk_that_refuses_is_told_and_tried_again(tmp_path: Path) -> None:
    file = LedgerFile(tmp_path / "gone" / "egress.json")
    file.ledger.allowed("image", 1)
    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            file.save()
    (tmp_path / "gone").mkdir()
    assert file.save()
