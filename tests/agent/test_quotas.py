"""Everything that grows on the device has a bound: one test each."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from tiny_world import NEW, World, images

from agent.adapters.intake import IntakeError, Quarantine
from agent.adapters.job_folder import JobFolders
from agent.adapters.model_store import ModelStore
from agent.adapters.outbox import Outbox
from agent.adapters.prediction_log import PredictionLog
from agent.adapters.sample_store import SampleStore
from agent.adapters.sqlite_file import KEPT_CORRUPT_FILES, MAX_WAL_BYTES
from agent.adapters.teacher_shelf import TeacherShelf
from agent.home import Home
from transfer import bundle

pytestmark = pytest.mark.spec("5.1")


def size(folder: Path) -> int:
    """Bytes of all files below it; those with two names count once."""
    files = {(s.st_ino, s.st_size) for path in folder.rglob("*") if path.is_file() for s in (path.stat(),)}
    return sum(length for _, length in files)


def test_samples(tmp_path: Path) -> None:
    quota = 200_000
    store = SampleStore(tmp_path / "samples.db", max_bytes=quota)
    noise = np.random.default_rng(0).integers(0, 256, (300, 24, 24, 3), np.uint8)
    for n, image in enumerate(noise):
        assert store.add(f"{n}", image, np.zeros(8, np.float32), 0.0, "a", 0.0)
    assert size(tmp_path) <= 1.5 * quota + MAX_WAL_BYTES
    store.close()
    assert size(tmp_path) <= 1.5 * quota


def test_outbox(tmp_path: Path) -> None:
    quota = 200_000
    outbox = Outbox(tmp_path / "outbox.db", max_bytes=quota)
    for n in range(300):
        outbox.add(f"{n}", "t", b"x" * 2000, "operational")
    assert outbox.size()[1] <= quota
    outbox.close()
    assert size(tmp_path) <= 2.5 * quota  # a small message has a page of the file to itself


def test_the_log_of_predictions(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "predictions.jsonl", max_bytes=10_000, keep=2)
    for n in range(1000):
        log.append({"n": n, "text": "x" * 100})
    assert size(tmp_path) <= 3 * 10_000 and len(list(tmp_path.iterdir())) == 3


def test_quarantine_also_of_what_a_cut_left_behind(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "quarantine", max_files=5, max_bytes=50_000)
    for n in range(30):
        path = tmp_path / f"{n}.png"
        path.write_bytes(os.urandom(20_000))
        quarantine.add(path, IntakeError("not_an_image", path, "no", False))
        if n % 3 == 0:  # the power went before the evidence was there
            next(p for p in quarantine.directory.iterdir() if p.suffix != ".json").unlink()
        path.unlink()
    assert size(quarantine.directory) <= 50_000 and len(list(quarantine.directory.iterdir())) <= 10


def test_teachers(tmp_path: Path, world: World) -> None:
    one = size(world.teacher)
    shelf = TeacherShelf(tmp_path / "teachers", (world.public,), max_bytes=int(2.5 * one))
    teacher = bundle.load(world.teacher, trusted=None)
    digests = []
    for n in range(5):
        manifest = bundle.save(
            tmp_path / f"made {n}",
            bundle.Manifest(
                kind="teacher",
                name=f"teacher {n}",
                labels=teacher.manifest.labels,
                input=teacher.manifest.input,
                net=teacher.manifest.net,
            ),
            {bundle.WEIGHTS: teacher.read(bundle.WEIGHTS)},
            world.key,
        )
        assert manifest.name == f"teacher {n}"
        digests.append(bundle.load(tmp_path / f"made {n}", trusted=None).digest)
        shelf.take_in(bundle.pack(tmp_path / f"made {n}"), digests[-1])
    assert [shelf.find(digest) is not None for digest in digests] == [False, False, False, True, True]
    assert size(tmp_path / "teachers") <= 2.5 * one


def test_jobs(tmp_path: Path, world: World) -> None:
    """One round at a time, of at most what the buffer holds; what crashes have left goes at the next start."""
    folders = JobFolders(tmp_path / "jobs")
    for n in range(1, 5):
        world.job(tmp_path / "jobs", images(NEW, 4), job_id=f"job-{n:06}")
    (tmp_path / "jobs" / ".job-000009.tmp").mkdir()
    folders.remove_all_but("job-000003", "job-000004")
    assert sorted(p.name for p in (tmp_path / "jobs").iterdir()) == ["job-000003", "job-000004"]


def test_generations(tmp_path: Path, world: World) -> None:
    """Active, previous, what the previous would go back to, and the newest three, however many rounds have failed."""
    models = ModelStore(tmp_path)
    for _ in range(3):
        models.promote(models.import_bundle(world.student, [world.public]))
    for _ in range(6):
        models.import_bundle(world.student, [world.public])
    models.collect_garbage()
    assert models.numbers() == [1, 2, 3, 7, 8, 9]


def test_databases_that_were_put_aside(tmp_path: Path) -> None:
    for _ in range(5):
        (tmp_path / "samples.db").write_bytes(b"no database at all" * 100)
        store = SampleStore(tmp_path / "samples.db")
        assert store.quarantined is not None
        store.close()
    assert len(list(tmp_path.glob("*corrupt*"))) == KEPT_CORRUPT_FILES


def test_what_writes_that_were_cut_off_have_left(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    for number in range(20):
        (tmp_path / f".state.json.{number}.tmp").write_bytes(b"half")
        (tmp_path / "models" / f".pointer.json.{number}.tmp").write_bytes(b"half")
    (tmp_path / "state.json").write_bytes(b"{}")
    Home(tmp_path).take()
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["lock", "models", "state.json"]
