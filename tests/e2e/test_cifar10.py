"""The loop on real CIFAR-10 with published weights, where they are at hand (see UNDERSTUDY_SHARED)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from real_fleet import Fleet, Models, learn

from cloud_teacher.cifar import cifar10
from cloud_teacher.compress import compress
from cloud_teacher.distil import Recipe
from cloud_teacher.train import Schedule
from cloud_teacher.zoo import load_teacher
from demo.broker import Broker
from transfer import signing

pytestmark = pytest.mark.e2e

NEW = "truck"
PER_CLASS = 200


@pytest.mark.timeout(400)
def test_a_truck_is_learned_from_its_own_images_alone(
    shared_dir: Path, tmp_path: Path, mosquitto: Broker, make_fleet: Callable[..., Fleet]
) -> None:
    """A short compression on a small part of the data: the figures proper are the benchmarks' business."""
    weights = shared_dir / "teachers" / "resnet20-12fca82f.th"
    if not weights.exists():
        pytest.skip(f"no published weights at {weights}")
    whole = cifar10(shared_dir / "data", tmp_path)
    rows = np.concatenate([np.flatnonzero(whole.train_targets == k)[:PER_CLASS] for k in range(10)])
    data = dataclasses.replace(whole, train_images=whole.train_images[rows], train_targets=whole.train_targets[rows])
    key = tmp_path / "cloud.key"
    recipe = Recipe(
        known=tuple(label for label in data.labels if label != NEW),
        schedule=Schedule(epochs=1, learning_rate=1e-3),
        depth=3,
        views=1,
    )
    compress(load_teacher(weights), data, recipe, out_dir=tmp_path / "student", key=signing.generate(key))
    fleet = make_fleet(
        mosquitto,
        of=(Models(tmp_path / "student", weights, key), data, NEW),
        # 200 images judge the old categories: at least two of them may fall by chance.
        gate={"max_old_drop": 0.03},
        novelty={"buffer_share": 0.3},
        training={"threads": 1, "nice": 0, "epochs": 4},
    )
    fleet.start_worker()
    fleet.start_agent()
    learn(fleet, noticed=0.3, recognised=0.7)
