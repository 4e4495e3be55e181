"""What the trainer reads is checked before anything is done with it."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import safetensors.numpy
import torch
from safetensors.torch import save_file
from tiny_world import NEW, OLD, World, images

from agent.job import JobError, read_job, write_job
from agent.trainer.inputs import REFUSED, UNLABELLED, read
from transfer import bundle


@pytest.fixture
def job(world: World, tmp_path: Path) -> Path:
    return world.job(tmp_path, images(NEW, 8))


def test_a_whole_job_is_read(world: World, job: Path) -> None:
    inputs = read(job)
    assert inputs.images.shape == (8, 16, 16, 3) and inputs.features.shape == (8, 8)
    assert inputs.train.tolist() == [n % 4 != 0 for n in range(8)]
    assert inputs.model.digest == world.bundle().digest
    assert inputs.activation_files == [] and inputs.teacher_folder is None


def test_labels_are_the_models_and_those_being_learned(world: World, tmp_path: Path) -> None:
    inputs = read(world.job(tmp_path, images(NEW, 8), categories=(NEW, "pink")))
    assert inputs.labels == (*OLD, NEW, "pink") and inputs.known == 3
    assert inputs.given == ("",) * 8
    found = dataclasses.replace(inputs, assigned=np.array([3, 3, REFUSED, UNLABELLED, 3, 4, 1, 3]))
    assert found.of(3).tolist() == [False, True, False, False, False, False, False, True]  # every fourth is held out
    assert np.flatnonzero(found.used).tolist() == [1, 3, 5, 6, 7]


def test_answers_and_a_teacher_are_found(world: World, job: Path) -> None:
    for name in ("b.safetensors", "a.safetensors", "other.txt"):
        (job / "activations" / name).write_text("")
    (job / "teacher").symlink_to(world.teacher)
    inputs = read(job)
    assert [path.name for path in inputs.activation_files] == ["a.safetensors", "b.safetensors"]
    assert inputs.teacher_folder == job / "teacher"


def tensors(images_: np.ndarray, features: np.ndarray) -> bytes:
    return bytes(safetensors.numpy.save({"images": images_, "features": features}))


FEATURES = np.zeros((8, 8), np.float32)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "samples.safetensors"),
        (b"\xff" * 100, "samples.safetensors"),
        (bytes(safetensors.numpy.save({"images": images(NEW, 8)})), "features"),
        (tensors(images(NEW, 7), FEATURES), "images are uint8 (7, 16, 16, 3)"),
        (tensors(images(NEW, 8)[:, :8], FEATURES), "expected 8 of the model's input size"),
        (tensors(images(NEW, 8).astype(np.float32), FEATURES), "images are float32"),
        (tensors(images(NEW, 8), FEATURES[:, :7]), "features are float32 (8, 7)"),
        (tensors(images(NEW, 8), FEATURES.astype(np.float64)), "features are float64"),
    ],
)
def test_samples_that_do_not_fit_are_refused(job: Path, data: bytes, says: str) -> None:
    (job / "samples.safetensors").write_bytes(data)
    with pytest.raises(JobError, match=r"samples\.safetensors") as raised:
        read(job)
    assert says in str(raised.value)


def test_a_type_that_numpy_does_not_know_is_refused(job: Path) -> None:
    save_file({"images": torch.zeros(1, dtype=torch.bfloat16)}, job / "samples.safetensors")
    with pytest.raises(JobError, match=r"samples\.safetensors"):
        read(job)


def test_a_category_that_cannot_be_learned_is_refused_at_once(job: Path) -> None:
    write_job(job, msgspec.structs.replace(read_job(job), categories=("pink", "teal")))
    with pytest.raises(JobError, match="is no new category; the model knows amber, teal, plum"):
        read(job)


def with_model(job: Path, model: Path) -> Path:
    shutil.rmtree(job / "model")
    shutil.copytree(model, job / "model")
    return job


def test_a_model_with_fewer_logits_than_labels_is_refused(world: World, job: Path, tmp_path: Path) -> None:
    labels = (*world.bundle().manifest.labels, "pink")
    model = world.altered(tmp_path / "short", labels=labels, decision="gaussian")
    with pytest.raises(JobError, match="3 logits for 4 labels"):
        read(with_model(job, model))


def test_a_model_that_was_changed_is_refused(world: World, job: Path, tmp_path: Path) -> None:
    with_model(job, world.student)
    (job / "model" / bundle.WEIGHTS).write_bytes(b"other")
    with pytest.raises(bundle.BundleError) as raised:
        read(job)
    assert raised.value.code == "hash_mismatch"


def test_a_folder_without_a_job_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"job\.json"):
        read(tmp_path)
