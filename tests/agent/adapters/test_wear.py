"""What is written to the card in a day, by the kernel's own counters, over restarts and odd clocks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.adapters.wear import HOUR_S, MIB, SAVE_EVERY_S, Wear


class Card:
    """A kernel's tree with counters, a clock that is turned by hand, and where the tally is kept."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.path = folder / "proc", folder / "written.json"
        self.uptime = 50.0
        self.boot("first")

    def boot(self, boot_id: str) -> None:
        (self.proc / "sys/kernel/random").mkdir(parents=True, exist_ok=True)
        (self.proc / "sys/kernel/random/boot_id").write_text(boot_id + "\n")
        self.own = 0
        self.write(0)

    def write(self, mib: float, pid: str = "self") -> None:
        if pid == "self":
            self.own += int(mib * MIB)
        count = self.own if pid == "self" else int(mib * MIB)
        (self.proc / pid).mkdir(parents=True, exist_ok=True)
        (self.proc / pid / "io").write_text(f"rchar: 9\nwchar: 8\nwrite_bytes: {count}\ncancelled_write_bytes: 0\n")

    def wear(self) -> Wear:
        return Wear(self.path, proc=self.proc, uptime_s=lambda: self.uptime)


@pytest.fixture
def card(tmp_path: Path) -> Card:
    return Card(tmp_path)


@pytest.mark.spec("6.1")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's counters are Linux's")
def test_the_kernel_counts_what_is_really_written(tmp_path: Path) -> None:
    """A process of its own, so that nothing else of this one is counted; on tmpfs nothing reaches a disk."""
    script = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).resolve().parents[3])!r})
from pathlib import Path
from agent.adapters.wear import Wear
folder = Path({str(tmp_path)!r})
wear = Wear(folder / "written.json")
before = wear.measure()
with open(folder / "data", "wb") as file:
    file.write(bytes(5 << 20)); file.flush(); os.fsync(file.fileno())
after = wear.measure()
os.system("head -c 3145728 /dev/zero > " + str(folder / "more") + "; sync " + str(folder / "more"))
print(after - before, wear.measure() - after)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    own, reaped = map(float, done.stdout.split())
    if own == 0:
        pytest.skip(f"{tmp_path} lies on no disk that the kernel counts (tmpfs?): use --basetemp on a disk")
    assert 5 <= own < 6 and 3 <= reaped < 4


@pytest.mark.spec("6.1")
def test_a_day_is_the_last_24_hours_and_what_is_older_is_forgotten(card: Card) -> None:
    wear = card.wear()
    card.write(10)
    assert wear.measure() == 10.0
    card.uptime += 12 * HOUR_S
    card.write(5)
    assert wear.measure() == 15.0
    card.uptime += 12 * HOUR_S
    assert wear.measure() == 15.0
    card.uptime += HOUR_S
    assert wear.measure() == 5.0
    card.uptime += 1000 * HOUR_S
    assert wear.measure() == 0.0


@pytest.mark.spec("6.1")
def test_a_running_trainers_writes_count_and_are_not_counted_again_when_it_is_reaped(card: Card) -> None:
    wear = card.wear()
    card.write(1)
    card.write(7, pid="4711")
    assert wear.measure(4711) == 8.0
    assert wear.measure(None) == 8.0  # it has ended, and was not reaped yet
    card.write(7)  # reaped: now it is in our own count
    assert wear.measure(None) == 8.0
    card.write(2)
    assert wear.measure(None) == 10.0


@pytest.mark.spec("6.1", "8.1")
def test_the_tally_survives_restarts_of_the_daemon_and_of_the_machine(card: Card) -> None:
    wear = card.wear()
    card.write(10)
    wear.measure()
    wear.save()
    card.boot("first")  # the same start of the machine, another process
    card.uptime += 2 * HOUR_S
    assert card.wear().measure() == 10.0
    card.boot("second")
    card.uptime = 30.0
    again = card.wear()
    card.write(1)
    assert again.measure() == 11.0
    card.uptime += 25 * HOUR_S
    assert again.measure() == 0.0


@pytest.mark.spec("8.2")
def test_the_time_of_day_has_no_say(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    wear = card.wear()
    card.write(10)
    for now_utc in (0.0, 4e9, -1e6):
        monkeypatch.setattr(time, "time", lambda now_utc=now_utc: now_utc)
        assert wear.measure() == 10.0
    wear.save()
    card.boot("first")
    assert card.wear().measure() == 10.0


def test_an_uptime_that_goes_back_is_no_time_that_passed(card: Card) -> None:
    wear = card.wear()
    card.write(10)
    card.uptime += 40 * HOUR_S
    wear.measure()
    card.uptime -= 39 * HOUR_S
    assert wear.measure() == 10.0


@pytest.mark.spec("6.3")
def test_the_tally_itself_is_written_rarely_and_never_for_nothing(card: Card) -> None:
    wear = card.wear()
    for _ in range(100):
        card.uptime += SAVE_EVERY_S
        wear.measure()
    wear.save()
    assert not card.path.exists()
    card.write(5)
    wear.measure()
    card.uptime += SAVE_EVERY_S
    wear.measure()
    first = card.path.stat().st_ino
    card.write(5)
    wear.measure()
    assert card.path.stat().st_ino == first  # not so soon again
    card.uptime += SAVE_EVERY_S
    card.write(0.001)
    wear.measure()
    assert card.path.stat().st_ino != first


@pytest.mark.spec("16.1")
def test_where_the_kernel_does_not_tell_there_is_no_figure(card: Card) -> None:
    (card.proc / "self" / "io").unlink()
    assert card.wear().measure() is None
    (card.proc / "self" / "io").write_text("Permission denied")
    assert card.wear().measure(12) is None


@pytest.mark.spec("4.1")
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"age_s": -1}',
        b'{"hours": {"1": -5}}',
        b'{"hours": {"1": "x"}}',
        b'{"unknown": 1}',
        b'{"uptime_s": 1e400}',
        b'{"hours": {' + b",".join(b'"%d": 1' % n for n in range(5000)) + b"}}",
        b" " * 100_000,
    ],
)
def test_a_damaged_tally_is_begun_anew_and_said(card: Card, content: bytes) -> None:
    card.path.write_bytes(content)
    wear = card.wear()
    assert wear.unreadable and wear.measure() == 0.0
    card.write(1)
    assert wear.measure() == 1.0
    wear.save()
    card.boot("first")
    assert card.wear().unreadable == ""


def test_a_disk_that_refuses_costs_the_count_only(card: Card) -> None:
    card.path = card.path.parent / "missing" / "written.json"
    wear = card.wear()
    card.write(2)
    wear.measure()
    wear.save()
    assert wear.measure() == 2.0


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 30 * HOUR_S), st.integers(0, 50), st.booleans()), max_size=25))
def test_it_never_forgets_what_was_written_within_a_day_and_never_keeps_it_for_two(
    story: list[tuple[float, int, bool]],
) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        card = Card(Path(name))
        wear, written = card.wear(), []
        for wait_s, mib, restart in story:
            card.uptime += wait_s
            if restart:
                wear.measure()
                wear.save()
                card.boot("first")
                wear = card.wear()
            card.write(mib)
            said = wear.measure()
            written.append((card.uptime, mib))
            assert said is not None
            within = [sum(m for at, m in written if card.uptime - at < hours * HOUR_S) for hours in (24, 25)]
            assert within[0] <= said <= within[1]


def test_reading_it_leaves_nothing_open(card: Card) -> None:
    wear = card.wear()
    before = len(os.listdir("/proc/self/fd")) if sys.platform.startswith("linux") else 0
    for _ in range(20):
        wear.measure(4711)
    after = len(os.listdir("/proc/self/fd")) if sys.platform.startswith("linux") else 0
    assert before == after
