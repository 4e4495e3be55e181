"""Job folders appear whole or not at all, and go without a trace."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from tiny_world import NEW, World, images, sample_ids

from agent.adapters.job_folder import JobFolders
from agent.job import Job, JobError
from agent.trainer import inputs
from transfer import bundle


def job_of(pictures: np.ndarray, **changes: object) -> Job:
    ids = sample_ids(pictures)
    fields = {
        "job_id": "job-000001",
        "categories": (NEW,),
        "tier": "head",
        "sample_ids": ids,
        "holdout": (False,) * len(ids),
    }
    return Job(**{**fields, **changes})  # type: ignore[arg-type]


def test_what_is_written_is_what_the_trainer_reads(world: World, tmp_path: Path) -> None:
    pictures = images(NEW, 6)
    folders, job, samples = JobFolders(tmp_path / "jobs"), job_of(pictures), world.samples(pictures)
    assert not folders.exists(job.job_id)
    folders.make(job, samples, world.student)
    assert folders.exists(job.job_id) and folders.job(job.job_id) == job
    np.testing.assert_array_equal(folders.images(job.job_id), pictures)
    read = inputs.read(folders.path(job.job_id))
    np.testing.assert_array_equal(read.features, [sample.feature for sample in samples])
    assert read.model.digest == world.bundle().digest
    assert (folders.path(job.job_id) / "activations").is_dir()
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == [job.job_id]


def test_the_model_is_linked_where_that_is_possible(world: World, tmp_path: Path) -> None:
    """The same blocks on the card: copying a model for every round would wear it out."""
    source = world.altered(tmp_path / "model")
    folders, pictures = JobFolders(tmp_path / "jobs"), images(NEW, 4)
    folders.make(job_of(pictures), world.samples(pictures), source)
    linked = folders.path("job-000001") / "model" / bundle.MODEL
    assert linked.stat().st_ino == (source / bundle.MODEL).stat().st_ino
    folders.remove("job-000001")
    assert bundle.load(source, trusted=None)


def test_where_it_is_not_it_is_copied(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(source: str, target: str) -> None:
        raise OSError(errno.EPERM, "FAT has no links")

    monkeypatch.setattr(os, "link", no_links)
    folders, pictures = JobFolders(tmp_path / "jobs"), images(NEW, 4)
    folders.make(job_of(pictures), world.samples(pictures), world.student)
    assert bundle.load(folders.path("job-000001") / "model", trusted=None).digest == world.bundle().digest


def test_making_it_again_replaces_what_a_crash_left(world: World, tmp_path: Path) -> None:
    folders, pictures = JobFolders(tmp_path), images(NEW, 4)
    half = tmp_path / ".job-000001.tmp"
    (half / "model").mkdir(parents=True)
    (half / "model" / "junk").write_text("half")
    folders.path("job-000001").mkdir()
    (folders.path("job-000001") / "candidate").mkdir()
    folders.make(job_of(pictures), world.samples(pictures), world.student)
    assert sorted(path.name for path in folders.path("job-000001").iterdir()) == [
        "activations",
        "job.json",
        "model",
        "samples.safetensors",
    ]
    assert not half.exists()


def test_what_fails_on_the_way_leaves_no_job(world: World, tmp_path: Path) -> None:
    folders, pictures = JobFolders(tmp_path), images(NEW, 4)
    with pytest.raises(OSError):
        folders.make(job_of(pictures), world.samples(pictures), tmp_path / "no-such-model")
    assert not folders.exists("job-000001") and list(tmp_path.iterdir()) == []


def test_a_job_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"job\.json"):
        JobFolders(tmp_path).job("job-000009")


def test_removing_follows_no_link(world: World, tmp_path: Path) -> None:
    folders, teacher = JobFolders(tmp_path / "jobs"), tmp_path / "teacher"
    teacher.mkdir()
    (teacher / "weights").write_text("precious")
    folders.path("job-000001").mkdir()
    os.symlink(teacher, folders.path("job-000001") / "teacher")
    folders.remove("job-000001")
    folders.remove("job-000001")
    assert not folders.path("job-000001").exists() and (teacher / "weights").read_text() == "precious"


def test_all_but_one_go_at_the_start(tmp_path: Path) -> None:
    folders = JobFolders(tmp_path)
    for name in ("job-000001", "job-000002", ".job-000003.tmp"):
        (tmp_path / name).mkdir()
    folders.remove_all_but("job-000002")
    assert [path.name for path in tmp_path.iterdir()] == ["job-000002"]
    folders.remove_all_but()
    assert list(tmp_path.iterdir()) == []
