from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.adapters.outbox import CLOCK_SAVE_S, Dropped, Outbox, Uptime, uptime

ROOT = Path(__file__).resolve().parents[3]
DAY_S = 24 * 3600.0


class Machine:
    """A machine's uptime, moved by hand."""

    def __init__(self) -> None:
        self.boot, self.seconds = "boot-1", 1_000.0

    def __call__(self) -> Uptime:
        return Uptime(self.boot, self.seconds)

    def reboot(self, name: str) -> None:
        self.boot, self.seconds = name, 30.0


def add(outbox: Outbox, key: str, payload: bytes = b"x", critical: bool = False) -> bool:
    return outbox.add(key, f"topic/{key}", payload, "operational", critical=critical)


def keys(outbox: Outbox) -> list[str]:
    return [row.key for row in outbox.pending(100)]


def test_rows_come_back_as_they_were_and_in_order(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    assert outbox.add("a", "some/topic", b"\x00\xff", "image", retain=True, until="puback")
    assert add(outbox, "b")
    first, second = outbox.pending()
    assert (first.key, first.topic, first.payload, first.egress) == ("a", "some/topic", b"\x00\xff", "image")
    assert (first.retain, first.until) == (True, "puback")
    assert (second.retain, second.until) == (False, "acknowledged")
    assert outbox.pending(1) == [first]
    assert outbox.pending(5, after_id=first.id) == [second]
    assert outbox.size() == (2, 3)


@pytest.mark.spec("1.1")
def test_rows_survive_reopening(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    add(outbox, "a")
    outbox.close()
    assert keys(Outbox(tmp_path / "outbox.db")) == ["a"]


def test_the_same_key_is_one_row_with_the_newest_content_at_the_end(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    add(outbox, "a", b"old")
    (old,) = outbox.pending()
    add(outbox, "b")
    add(outbox, "a", b"new")
    assert [(row.key, row.payload) for row in outbox.pending()] == [("b", b"x"), ("a", b"new")]
    assert not outbox.delivered(old), "an acknowledgement of the old content must not remove the new"
    assert keys(outbox) == ["b", "a"]


def test_ids_are_never_reused(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    add(outbox, "a")
    (first,) = outbox.pending()
    outbox.done("a")
    add(outbox, "b")
    assert [row.key for row in outbox.pending(after_id=first.id)] == ["b"]


def test_rows_leave_by_key_by_row_and_by_class(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    for key in "abcd":
        outbox.add(key, "t", b"x", "image" if key in "cd" else "operational")
    assert outbox.done("a")
    assert not outbox.done("a")
    (row, *_) = outbox.pending()
    assert outbox.delivered(row)
    assert outbox.remove_egress("image") == 2
    assert outbox.size() == (0, 0)


@pytest.mark.spec("1.2")
def test_the_oldest_uncritical_rows_make_room(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db", max_bytes=100)
    assert add(outbox, "critical", bytes(40), critical=True)
    assert all(add(outbox, key, bytes(20)) for key in "abc")
    assert add(outbox, "d", bytes(30))
    assert keys(outbox) == ["critical", "c", "d"]
    assert outbox.dropped == Dropped(made_room=2)


@pytest.mark.spec("1.2")
def test_what_an_operator_waits_for_goes_last_but_its_oldest_goes_for_its_newest(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db", max_bytes=100)
    for key in ("job-1", "job-2"):
        assert add(outbox, key, bytes(40), critical=True)
    assert add(outbox, "event", bytes(20))
    assert add(outbox, "job-3", bytes(40), critical=True)
    assert keys(outbox) == ["job-2", "job-3"]
    assert not add(outbox, "event-2", bytes(30)), "an event takes no room from reports"
    assert outbox.dropped == Dropped(made_room=2, refused=1)
    assert outbox.pending(critical=False) == [] and len(outbox.pending(critical=True)) == 2


def test_what_cannot_fit_is_refused_and_evicts_nothing(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db", max_bytes=100)
    add(outbox, "critical", bytes(60), critical=True)
    add(outbox, "a", bytes(30))
    assert not add(outbox, "b", bytes(50))
    assert not add(outbox, "a", bytes(50))
    assert [(row.key, len(row.payload)) for row in outbox.pending()] == [("critical", 60), ("a", 30)]
    assert outbox.dropped == Dropped(refused=2)
    assert add(outbox, "a", bytes(40)), "a row makes room for its own successor"


@pytest.mark.spec("1.2")
@settings(deadline=None, max_examples=30)
@given(operations=st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 60), st.booleans()), max_size=15))
def test_the_byte_cap_holds_whatever_is_added(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, int, bool]]
) -> None:
    outbox = Outbox(tmp_path_factory.mktemp("outbox") / "outbox.db", max_bytes=100)
    for key, length, critical in operations:
        accepted = add(outbox, key, bytes(length), critical=critical)
        assert outbox.size()[1] <= 100
        assert not accepted or keys(outbox)[-1] == key
        waiting = outbox.pending(100)
        assert outbox.size() == (len(waiting), sum(len(row.payload) for row in waiting)), "kept as if counted"
    assert outbox.failure == ""
    outbox.close()


def test_a_file_of_an_earlier_version_is_counted_when_it_is_opened(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    add(outbox, "a", bytes(10))
    add(outbox, "b", bytes(7), critical=True)
    outbox._file.run(lambda db: [db.execute(f"DROP {what}") for what in ("TRIGGER outbox_less", "TABLE total")])
    outbox.close()
    again = Outbox(tmp_path / "outbox.db", max_bytes=20)
    assert again.size() == (2, 17)
    assert add(again, "c", bytes(13)) and keys(again) == ["b", "c"]


@pytest.mark.spec("1.3")
def test_rows_expire_by_time_that_surely_passed(tmp_path: Path) -> None:
    machine = Machine()
    outbox = Outbox(tmp_path / "outbox.db", max_age_s=7 * DAY_S, now=machine)
    add(outbox, "old")
    machine.seconds += 6 * DAY_S
    add(outbox, "young")
    machine.seconds += 2 * DAY_S
    assert keys(outbox) == ["young"]
    assert outbox.dropped == Dropped(too_old=1)


@pytest.mark.spec("1.3")
def test_a_short_life_ends_in_time_and_not_at_the_next_write(tmp_path: Path) -> None:
    machine = Machine()
    outbox = Outbox(tmp_path / "outbox.db", max_age_s=5, now=machine)
    add(outbox, "a")
    machine.seconds += 5
    assert keys(outbox) == ["a"]
    machine.seconds += 1
    assert keys(outbox) == []


@pytest.mark.spec("1.3")
def test_rows_grow_old_while_nobody_asks_for_them(tmp_path: Path) -> None:
    """The broker is away for days and nothing new comes; a reboot must not make what waits young again."""
    machine = Machine()
    outbox = Outbox(tmp_path / "outbox.db", max_age_s=DAY_S, now=machine)
    add(outbox, "a")
    machine.seconds += 0.9 * DAY_S
    outbox.expire()
    machine.reboot("boot-2")
    machine.seconds += 0.2 * DAY_S
    outbox.expire()
    assert outbox.size() == (0, 0) and outbox.dropped == Dropped(too_old=1)


def test_with_nothing_waiting_nothing_is_written(tmp_path: Path) -> None:
    machine = Machine()
    outbox = Outbox(tmp_path / "outbox.db", now=machine)
    add(outbox, "a")
    outbox.done("a")
    before = (tmp_path / "outbox.db-wal").read_bytes()
    machine.seconds += 10 * CLOCK_SAVE_S
    outbox.expire()
    assert outbox.pending() == [] and (tmp_path / "outbox.db-wal").read_bytes() == before


def test_what_is_put_last_is_not_made_young(tmp_path: Path) -> None:
    machine = Machine()
    outbox = Outbox(tmp_path / "outbox.db", max_age_s=DAY_S, now=machine)
    add(outbox, "a")
    machine.seconds += 0.9 * DAY_S
    add(outbox, "b")
    outbox.postpone(outbox.pending()[0])
    assert keys(outbox) == ["b", "a"] and outbox.size() == (2, 2)
    machine.seconds += 0.2 * DAY_S
    assert keys(outbox) == ["b"]


def test_time_passes_while_the_agent_does_not_run(tmp_path: Path) -> None:
    machine = Machine()
    outbox = Outbox(tmp_path / "outbox.db", max_age_s=DAY_S, now=machine)
    add(outbox, "a")
    outbox.close()
    machine.seconds += 2 * DAY_S
    assert keys(Outbox(tmp_path / "outbox.db", max_age_s=DAY_S, now=machine)) == []


@pytest.mark.spec("1.3")
@pytest.mark.parametrize("boot", ["boot-2", ""])
def test_a_reboot_expires_nothing_too_early_and_age_adds_up(tmp_path: Path, boot: str) -> None:
    machine = Machine()
    outbox = Outbox(tmp_path / "outbox.db", max_age_s=7 * DAY_S, now=machine)
    add(outbox, "a")
    for day in range(10):
        machine.reboot(f"{boot}{day}" if boot else "")
        assert keys(outbox) == (["a"] if day < 7 else []), f"on day {day}"
        machine.seconds += DAY_S
        outbox.pending()


@pytest.mark.spec("1.3")
def test_setting_the_date_changes_nothing() -> None:
    first, second = uptime(), uptime()
    assert first.boot == second.boot
    assert 0 <= second.seconds - first.seconds < 60
    assert first.seconds < 1e9, "seconds since 1970 would be a clock that somebody can set"


@pytest.mark.parametrize("damage", ["garbage", "truncated", "another schema"])
def test_a_broken_file_is_put_aside(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "outbox.db"
    outbox = Outbox(path)
    for number in range(50):
        add(outbox, str(number), bytes(4_000))
    outbox.close()
    content = path.read_bytes()
    if damage == "garbage":
        path.write_bytes(b"not a database" + content[14:])
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(content[:60] + (99).to_bytes(4, "big") + content[64:])  # user_version
    again = Outbox(path)
    assert again.quarantined is not None
    assert again.quarantined.is_file()
    assert add(again, "fresh")
    assert keys(again) == ["fresh"]


def test_a_disk_that_fails_is_no_exception_and_no_loss(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.write_text("a file where the folder should be")
    outbox = Outbox(folder / "outbox.db")
    assert not add(outbox, "a")
    assert outbox.pending() == []
    assert str(folder) in outbox.failure
    folder.unlink()
    assert add(outbox, "a"), "it works as soon as the disk does"


WRITER = """
import sys
from pathlib import Path
from agent.adapters.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]))
number = 0
while True:
    assert outbox.add(str(number), "t", bytes(2000), "operational")
    print(number, flush=True)
    number += 1
"""


@pytest.mark.spec("1.1")
def test_every_acknowledged_row_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    acknowledged = [process.stdout.readline().strip() for _ in range(25)]
    process.send_signal(signal.SIGKILL)
    acknowledged += process.stdout.read().split()
    process.wait()
    outbox = Outbox(path)
    assert outbox.quarantined is None
    assert set(acknowledged) <= set(row.key for row in outbox.pending(10_000))
    assert len(acknowledged) >= 25
