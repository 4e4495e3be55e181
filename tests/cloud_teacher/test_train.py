from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cloud_teacher.augmentation import augment
from cloud_teacher.datasets import Dataset
from cloud_teacher.train import Schedule, default_plan, one_cycle, optimise, train_teacher
from transfer.networks import Network, weights_of
from transfer.spec import resnet_cifar

SPEC = resnet_cifar(8, 4, widths=(4, 6, 8))
SCHEDULE = Schedule(epochs=4, batch_size=16)


def test_a_teacher_learns(dataset: Dataset) -> None:
    told: list[tuple[int, int]] = []
    _, accuracy = train_teacher(
        dataset,
        resnet_cifar(14, 4, widths=(8, 12, 16)),
        Schedule(epochs=5, batch_size=16),
        report=lambda stage, done, total, detail="": told.append((done, total)),
    )
    assert accuracy >= 0.9
    assert told[0] == (0, 50) and told[-1] == (50, 50)


class Crash(Exception):
    pass


def test_training_resumes_after_the_last_finished_epoch_as_if_nothing_had_happened(
    dataset: Dataset, tmp_path: Path
) -> None:
    whole, _ = train_teacher(dataset, SPEC, SCHEDULE, cache_dir=tmp_path / "whole")

    def crash(stage: str, done: int, total: int, detail: str = "") -> None:
        if done == 25:  # in the third epoch of ten steps
            raise Crash

    with pytest.raises(Crash):
        train_teacher(dataset, SPEC, SCHEDULE, cache_dir=tmp_path / "cut", report=crash)
    starts: list[int] = []
    resumed, _ = train_teacher(
        dataset, SPEC, SCHEDULE, cache_dir=tmp_path / "cut", report=lambda s, done, t, d="": starts.append(done)
    )
    assert starts[0] == 20
    for name, array in weights_of(whole).items():
        assert np.allclose(array, weights_of(resumed)[name], atol=1e-4), name


def test_a_checkpoint_of_another_training_is_not_taken_up(dataset: Dataset, tmp_path: Path) -> None:
    train_teacher(dataset, SPEC, replace(SCHEDULE, epochs=1), cache_dir=tmp_path)
    (made,) = tmp_path.iterdir()
    checkpoint = made.rename(tmp_path / "checkpoint-something else.pt")  # where the other training looks for its own
    net = Network(SPEC)
    starts: list[int] = []

    def train(identity: str) -> None:
        optimise(
            net,
            32,
            lambda rows, epoch, random: net(torch.zeros(len(rows), 3, 16, 16)).logits.square().mean(),
            replace(SCHEDULE, epochs=1),
            stage="s",
            cache_dir=tmp_path,
            identity=identity,
            report=lambda stage, done, total, detail="": starts.append(done),
        )

    train("something else")
    assert starts[0] == 0
    checkpoint.write_bytes(b"damaged")
    starts.clear()
    train("something else")
    assert starts[0] == 0
    starts.clear()
    train("something else")
    assert starts == [2], "nothing is left to do"


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    net = Network(SPEC)

    def broken(rows: object, epoch: int, random: np.random.Generator) -> Tensor:
        return net(torch.zeros(2, 3, 16, 16)).logits.sum() * float("nan")

    with pytest.raises(FloatingPointError, match="no longer a number in epoch 1"):
        optimise(net, 16, broken, SCHEDULE, stage="s")


@settings(deadline=None)
@given(st.floats(0, 1))
def test_the_rate_stays_between_nothing_and_its_peak(progress: float) -> None:
    assert 0 <= one_cycle(progress) <= 1


def test_the_rate_rises_then_falls_to_nothing() -> None:
    rates = [one_cycle(step / 100) for step in range(101)]
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1]) and rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[peak] == pytest.approx(1) and rates[-1] == pytest.approx(0)


def test_augmentation_shifts_and_mirrors_whole_images() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    image[6:9, 3:5] = (10, 20, 30)
    many = augment(np.repeat(image[None], 200, axis=0), np.random.default_rng(0), flip=True)
    assert many.shape == (200, 16, 16, 3) and many.dtype == np.uint8
    assert (many.reshape(200, -1).sum(axis=1) == image.sum()).all(), "the patch is moved, never changed"
    columns = {int(np.flatnonzero(one.any(axis=(0, 2)))[0]) for one in many}
    assert columns == {1, 2, 3, 4, 5, 9, 10, 11, 12, 13}, "two pixels either way, of the image and of its mirror"
    upright = augment(np.repeat(image[None], 200, axis=0), np.random.default_rng(0), flip=False)
    assert {int(np.flatnonzero(one.any(axis=(0, 2)))[0]) for one in upright} == {1, 2, 3, 4, 5}


def test_the_default_teacher_fits_its_data(dataset: Dataset) -> None:
    for name in ("digits", "cifar10", "folder-x"):
        spec, schedule = default_plan(replace(dataset, name=name))
        assert spec.classes == 4 and schedule.epochs > 0
