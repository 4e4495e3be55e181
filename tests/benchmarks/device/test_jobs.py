"""The random jobs are such as the trainer takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config import Config
from agent.job import Tier, read_job
from agent.trainer.__main__ import run
from benchmarks.device.jobs import NEW, random_job
from benchmarks.device.model import LABELS, bundle_of_half_a_million
from transfer import bundle
from transfer.spec import resnet_cifar


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = resnet_cifar(8, len(LABELS), widths=(4, 6, 8))
    return bundle_of_half_a_million(tmp_path_factory.mktemp("jobs") / "student", spec=spec)


@pytest.mark.parametrize("tier", ["head", "sparse", "transfer"])
def test_the_trainer_learns_from_it(student: Path, tmp_path: Path, tier: Tier) -> None:
    folder = random_job(tmp_path, student, tier, 20, epochs=1)
    result = run(folder)
    assert result.ok and result.tier == tier and set(result.labels) == {NEW} and not result.refused
    assert bundle.load(folder / "candidate", trusted=None).manifest.labels == (*LABELS, NEW)


def test_it_is_the_shipped_configurations(student: Path, tmp_path: Path) -> None:
    job, training = read_job(random_job(tmp_path, student, "sparse", 20)), Config().training
    assert (job.epochs, job.views, job.batch_size) == (training.epochs, training.views, training.batch_size)
    assert job.threads == 1 and len(job.sample_ids) == 20
