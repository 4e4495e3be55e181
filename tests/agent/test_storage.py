"""What the state folder holds is opened, reported on and closed together."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import structlog
from structlog.testing import LogCapture

from agent.config import Config, Log, Mqtt, Novelty
from agent.home import Home
from agent.storage import Storage


def reported(storage: Storage) -> list[tuple[str, str]]:
    log = LogCapture()
    storage.report(structlog.wrap_logger(None, processors=[log]))
    return [(entry["event"], entry.get("which", "")) for entry in log.entries]


def test_what_was_stored_is_there_at_the_next_start(tmp_path: Path) -> None:
    home = Home(tmp_path)
    first = Storage(home, Config())
    first.samples.add("a", np.zeros((2, 2, 3), np.uint8), np.zeros(4, np.float32), 1.0, "teal", 0.0)
    first.close()
    second = Storage(home, Config())
    assert second.samples.count() == 1 and reported(second) == []
    second.close()


def test_what_cannot_be_read_is_put_aside_and_said_and_keeps_nobody_from_serving(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for path in (home.samples, home.outbox, home.seen):
        path.write_bytes(b"no database" * 1000)
    home.ledger.write_text("no ledger")
    storage = Storage(home, Config())
    assert reported(storage) == [
        ("database_quarantined", "samples"),
        ("database_quarantined", "outbox"),
        ("database_quarantined", "seen"),
        ("egress_ledger_unreadable", ""),
    ]
    assert storage.samples.count() == 0 and storage.outbox.size() == (0, 0)
    storage.close()


def test_the_quotas_are_those_of_the_configuration(tmp_path: Path) -> None:
    config = Config(novelty=Novelty(buffer_mib=1), mqtt=Mqtt(outbox_mib=0.001), log=Log(predictions_mib=0.001))
    storage = Storage(Home(tmp_path), config)
    noise = np.random.default_rng(0).integers(0, 256, (8, 300, 300, 3), np.uint8)
    for number, image in enumerate(noise):  # 0.27 MB each, whatever they are compressed to
        storage.samples.add(str(number), image, np.zeros(4, np.float32), 1.0, "teal", 0.0)
    assert 1 <= storage.samples.count() < 8
    assert storage.troubles().keys() == {"samples", "outbox", "seen", "predictions"}
    assert {trouble() for trouble in storage.troubles().values()} == {(0, "")}
    storage.close()


def test_a_disk_that_refuses_does_not_keep_it_from_closing(tmp_path: Path) -> None:
    storage = Storage(Home(tmp_path / "state"), Config())
    (tmp_path / "state").rename(tmp_path / "gone")
    storage.close()
    with sqlite3.connect(tmp_path / "gone" / "samples.db") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
