"""What was synced stays, what was not may go: told by a real process's journal, whatever the dice say."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.device import unsynced
from benchmarks.device.commit_points import PLAN_VARIABLE, Plan, folder_for_journals, label_of

ROOT = Path(__file__).resolve().parents[3]
PREPARED = """
import os, sys
from pathlib import Path
from benchmarks.device.commit_points import CommitPoints, die_as_daemon, from_environment
plan = from_environment()
CommitPoints(plan, die_as_daemon).install()
root = Path(plan.root)
from transfer.durable import sync_directory, write_atomic
"""


def live(tmp_path: Path, script: str, label: str = "", visit: int = 1) -> tuple[Path, Path]:
    """Run `script` with watched commit points in the state folder `root`; (root, journal)."""
    root, journal = tmp_path / "state", tmp_path / "journal"
    root.mkdir(exist_ok=True)
    plan = Plan(str(root), str(journal), str(folder_for_journals(tmp_path / "aside")), label, visit)
    ended = subprocess.run(
        [sys.executable, "-c", PREPARED + script],
        cwd=ROOT,
        env={**os.environ, PLAN_VARIABLE: plan.encoded()},
        check=False,
    )
    assert ended.returncode == (-9 if label else 0)
    return root, journal


def outcomes(tmp_path: Path, script: str, before: dict[str, bytes], *, label: str = "") -> set[bytes | None]:
    """All that a power cut was seen to leave of the file `a`, over many throws of the dice."""
    found: set[bytes | None] = set()
    for seed in range(25):
        scene = tmp_path / str(seed)
        (scene / "state").mkdir(parents=True)
        for name, content in before.items():
            (scene / "state" / name).write_bytes(content)
        if seed == 0:
            first = live(scene, script, label)[1].read_text()
            after = {p.name: p.read_bytes() for p in (scene / "state").iterdir() if p.is_file()}
            aside = {p.name: p.read_bytes() for p in (scene / "aside").iterdir()}
        else:  # the same life again, without a process
            for name in before.keys() - after.keys():
                (scene / "state" / name).unlink()
            for folder, files in (("state", after), ("aside", aside)):
                (scene / folder).mkdir(exist_ok=True)
                for name, content in files.items():
                    (scene / folder / name).unlink(missing_ok=True)
                    (scene / folder / name).write_bytes(content)
            (scene / "journal").write_text(first.replace(f"{tmp_path}/0/", f"{scene}/"))
        root = scene / "state"
        unsynced.lose(root, unsynced.read(scene / "journal"), random.Random(seed))
        found.add((root / "a").read_bytes() if (root / "a").exists() else None)
    return found


def test_an_atomic_write_survives(tmp_path: Path) -> None:
    assert outcomes(tmp_path, "write_atomic(root / 'a', b'new')", {"a": b"old"}) == {b"new"}


def test_without_the_folders_fsync_the_old_or_the_new_is_there(tmp_path: Path) -> None:
    script = """
with open(root / 'b', 'wb') as file:
    file.write(b'new')
    file.flush()
    os.fsync(file.fileno())
os.replace(root / 'b', root / 'a')
"""
    assert outcomes(tmp_path, script, {"a": b"old"}) == {b"old", b"new"}


def test_without_the_files_fsync_anything_may_be_left_of_it(tmp_path: Path) -> None:
    script = "(root / 'b').write_bytes(b'new'); os.replace(root / 'b', root / 'a'); sync_directory(root)"
    found = outcomes(tmp_path, script, {"a": b"old"})
    assert b"old" not in found and {b"", b"new"} <= found


def test_a_removed_file_may_be_back(tmp_path: Path) -> None:
    assert outcomes(tmp_path, "os.remove(root / 'a')", {"a": b"old"}) == {None, b"old"}
    (tmp_path / "synced").mkdir()
    assert outcomes(tmp_path / "synced", "os.remove(root / 'a'); sync_directory(root)", {"a": b"old"}) == {None}


def test_what_was_appended_may_be_cut_off_but_not_what_was_there(tmp_path: Path) -> None:
    found = outcomes(tmp_path, "open(root / 'a', 'ab').write(b'more')", {"a": b"old"})
    assert all(left is not None and left.startswith(b"old") for left in found) and len(found) > 2


def test_a_killed_process_has_done_what_comes_before_its_point_and_nothing_after(tmp_path: Path) -> None:
    root, journal = live(
        tmp_path, "write_atomic(root / 'a', b'1'); write_atomic(root / 'a', b'2')", "rename a", visit=2
    )
    assert (root / "a").read_bytes() == b"1"
    assert unsynced.labels(journal).count("rename a") == 2
    assert any(name.startswith(".a") for name in os.listdir(root)), "the second one's temporary file was to be left"


def test_a_folder_that_was_renamed_takes_its_unsynced_content_along(tmp_path: Path) -> None:
    script = """
(root / 'x').mkdir()
(root / 'x' / 'file').write_bytes(b'content')
os.rename(root / 'x', root / 'y')
"""
    root, journal = live(tmp_path, script)
    ledger = unsynced.read(journal)
    assert ledger.dirty == {str(root / "y" / "file"): 0}
    unsynced.lose(root, ledger, random.Random(1))
    assert not (root / "x").exists() or not (root / "y").exists()


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("models/generations/000012", "rename models/generations/N"),
        ("models/generations/000012/model.tflite", "rename models/generations/N/*"),
        ("models/generations/.000002.ab12cd_9.tmp", "rename models/generations/.N.X.tmp"),
        (".state.json.4711.tmp", "rename .state.json.N.tmp"),
        ("jobs/job-000003/result.json", "rename jobs/job-N/result.json"),
        ("teachers/" + "0a" * 32, "rename teachers/H"),
    ],
)
def test_points_have_the_same_label_in_every_life(path: str, label: str) -> None:
    assert label_of("rename", path) == label


def test_databases_commits_are_points(tmp_path: Path) -> None:
    script = """
from agent.adapters.sqlite_file import SqliteFile
file = SqliteFile(root / 's.db', 'CREATE TABLE IF NOT EXISTS t (x);', synchronous='FULL')
file.run(lambda db: db.execute('SELECT 1'))
file.run(lambda db: db.execute('INSERT INTO t VALUES (1)'))
"""
    labels = unsynced.labels(live(tmp_path, script)[1])
    assert [label for label in labels if "commit" in label] == ["before commit s.db", "commit s.db"]
