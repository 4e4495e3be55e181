"""A data set and a teacher so small that a test can train them: four kinds of coloured stripes, 16 x 16 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cloud_teacher.datasets import Dataset
from cloud_teacher.train import Schedule, train_teacher
from cloud_teacher.zoo import Teacher, save_teacher, teacher_manifest
from transfer.networks import weights_of
from transfer.spec import InputSpec, resnet_cifar

LABELS = ("across", "down", "red", "plain")
INPUT = InputSpec(16, 16, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def stripes(per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    targets = np.repeat(np.arange(4), per_class)
    images = random.normal(100, 20, (len(targets), 16, 16, 3))
    lit = (np.arange(16) // 2 % 2 * 90)[None, :, None, None]
    images[targets == 0] += lit
    images[targets == 1] += lit.transpose(0, 2, 1, 3)
    images[targets == 2, :, :, 0] += 70
    return images.clip(0, 255).astype(np.uint8), targets.astype(np.int64)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return Dataset("stripes", LABELS, *stripes(40, 0), *stripes(20, 1), INPUT, flip=False)


@pytest.fixture(scope="session")
def teacher(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Teacher:
    """Knows all four categories well; its bundle is at `teacher.bundle_dir`."""
    spec = resnet_cifar(14, 4, widths=(8, 12, 16))
    net, _ = train_teacher(dataset, spec, Schedule(epochs=5, batch_size=16))
    manifest = teacher_manifest("stripes-teacher", LABELS, INPUT, spec, flip=False)
    return save_teacher(tmp_path_factory.mktemp("teacher") / "bundle", manifest, weights_of(net), None)


@pytest.fixture
def bundle_dir(teacher: Teacher) -> Path:
    assert teacher.bundle_dir is not None
    return teacher.bundle_dir
