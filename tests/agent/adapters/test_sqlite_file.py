"""A database that breaks is moved aside and replaced; a disk that refuses is an error of its own."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from agent.adapters.sqlite_file import DatabaseUnavailable, SqliteFile

SCHEMA = "CREATE TABLE IF NOT EXISTS t (x INTEGER);"


def open_file(path: Path, version: int = 1) -> SqliteFile:
    return SqliteFile(path, SCHEMA, version=version, synchronous="FULL")


def put(file: SqliteFile, x: int) -> None:
    file.run(lambda db: db.execute("INSERT INTO t VALUES (?)", (x,)))


def all_of(file: SqliteFile) -> list[int]:
    return [x for (x,) in file.run(lambda db: db.execute("SELECT x FROM t ORDER BY x").fetchall())]


def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    file = open_file(tmp_path / "deep" / "a.db")
    put(file, 1)
    file.close()
    put(file, 2)
    assert all_of(open_file(tmp_path / "deep" / "a.db")) == [1, 2]
    assert file.quarantined is None


def test_opening_and_reading_what_is_there_writes_nothing(tmp_path: Path) -> None:
    """A card wears out, and a start has to wait for it."""
    path = tmp_path / "a.db"
    file = open_file(path)
    put(file, 1)
    file.close()  # now all is in the one file
    written = path.read_bytes(), path.stat().st_mtime_ns
    file = open_file(path)
    assert all_of(file) == [1]
    wal = tmp_path / "a.db-wal"
    assert not wal.exists() or wal.stat().st_size == 0
    file.close()
    assert (path.read_bytes(), path.stat().st_mtime_ns) == written


def test_a_schema_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    broken = SqliteFile(tmp_path / "a.db", f"{SCHEMA} CREATE TABLE t (y);", synchronous="FULL")
    with pytest.raises(DatabaseUnavailable, match="already exists"):
        broken.run(lambda db: None)
    whole = open_file(tmp_path / "a.db")
    assert whole.run(lambda db: db.execute("SELECT count(*) FROM sqlite_master").fetchone()) == (1,)
    assert whole.quarantined is None


def test_a_failing_transaction_leaves_nothing(tmp_path: Path) -> None:
    file = open_file(tmp_path / "a.db")

    def half(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO t VALUES (1)")
        raise KeyError("half way")

    with pytest.raises(KeyError):
        file.run(half)
    assert all_of(file) == []


@pytest.mark.parametrize("content", [b"not a database at all", b"SQLite format 3\0" + b"\xff" * 5000])
def test_garbage_is_moved_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(content)
    (tmp_path / "a.db-wal").write_bytes(b"stale")
    file = open_file(path)
    put(file, 7)
    assert all_of(file) == [7]
    assert file.quarantined == tmp_path / "a.db.corrupt-1"
    assert file.quarantined.read_bytes() == content


def test_damage_inside_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    file = open_file(path)
    file.run(lambda db: db.executemany("INSERT INTO t VALUES (?)", ((n,) for n in range(5000))))
    file.close()
    damaged = bytearray(path.read_bytes())
    damaged[4096:12000] = b"\xaa" * (12000 - 4096)
    path.write_bytes(damaged)
    file = open_file(path)
    assert all_of(file) == []
    assert file.quarantined is not None and file.quarantined.read_bytes() == bytes(damaged)


def test_a_file_of_another_version_is_moved_aside(tmp_path: Path) -> None:
    newer = open_file(tmp_path / "a.db", version=2)
    put(newer, 1)
    newer.close()
    older = open_file(tmp_path / "a.db", version=1)
    assert all_of(older) == []
    assert older.quarantined is not None


def test_only_the_last_two_corrupt_files_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    for n in range(4):
        path.write_bytes(b"garbage %d" % n * 100)
        file = open_file(path)
        put(file, n)
        file.close()
    assert sorted(p.name for p in tmp_path.glob("*corrupt*")) == ["a.db.corrupt-3", "a.db.corrupt-4"]
    assert (tmp_path / "a.db.corrupt-4").read_bytes().startswith(b"garbage 3")


def test_an_unusable_disk_is_unavailable_until_it_is_usable(tmp_path: Path) -> None:
    blocked = tmp_path / "folder"
    blocked.write_bytes(b"a file where a folder should be")
    file = open_file(blocked / "a.db")
    with pytest.raises(DatabaseUnavailable, match=r"a\.db"):
        put(file, 1)
    blocked.unlink()
    put(file, 2)
    assert all_of(file) == [2]


def test_a_full_disk_is_unavailable_and_loses_nothing(tmp_path: Path) -> None:
    """SQLite's own page limit raises what a full disk raises (SQLITE_FULL)."""
    file = open_file(tmp_path / "a.db")
    put(file, 1)
    file.run(lambda db: db.execute("SELECT 1"))

    def fill(db: sqlite3.Connection) -> None:
        db.execute("PRAGMA max_page_count = 3")
        db.executemany("INSERT INTO t VALUES (?)", ((n,) for n in range(100_000)))

    with pytest.raises(DatabaseUnavailable, match="full"):
        file.run(fill)
    assert all_of(file) == [1]
    assert file.quarantined is None


def test_several_threads_share_it(tmp_path: Path) -> None:
    file = open_file(tmp_path / "a.db")
    threads = [threading.Thread(target=lambda k=k: [put(file, 100 * k + n) for n in range(20)]) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all_of(file) == sorted(100 * k + n for k in range(4) for n in range(20))


@pytest.mark.spec("4.1")
def test_what_is_moved_aside_takes_its_log_along(tmp_path: Path) -> None:
    """Evidence is whole, and a new file finds no log that is not its own."""
    newer = open_file(tmp_path / "a.db", version=2)
    put(newer, 41)  # it is in the log, and the process dies
    log = (tmp_path / "a.db-wal").read_bytes()
    assert len(log) > 0
    older = open_file(tmp_path / "a.db", version=1)
    assert all_of(older) == []
    assert older.quarantined is not None
    with sqlite3.connect(older.quarantined) as evidence:
        assert evidence.execute("SELECT x FROM t").fetchall() == [(41,)]


def test_refusals_are_counted_until_something_is_written(tmp_path: Path) -> None:
    blocked = tmp_path / "folder"
    blocked.write_bytes(b"a file where a folder should be")
    file = open_file(blocked / "a.db")
    for count in (1, 2):
        with pytest.raises(DatabaseUnavailable):
            put(file, 1)
        assert file.failures == count and "a.db" in file.failure
    blocked.unlink()
    assert all_of(file) == [] and file.failure, "reading proves nothing"
    put(file, 2)
    assert (file.failures, file.failure) == (2, "")
